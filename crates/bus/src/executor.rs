//! The loop of an executor: what a service that runs requests has in common with every other.
//!
//! ```text
//! request ─► decode ─► slot free? ─► execute ─► delta* ─► end | error
//!              │           │            ▲  └─ heartbeat each second
//!              └ error     └ busy       └ cancel, deadline
//! ```
//!
//! Invariants: each request gets exactly one `end` or `error`; its frames are numbered without a gap from `first_seq`; a
//! cancelled or overdue request gives its slot back within [`CANCEL_GRACE`], whatever the executor does.

mod frames;
mod run;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use domain::{
    fault::{Code, Fault, Origin},
    inference::Request,
};
use futures::StreamExt;
use prost::Message;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;
use wire::{
    subject::{self, Execute, Subject},
    v1,
};

pub use frames::Frames;

use crate::{Bus, Incoming, PublishError};

/// How long an executor may take to stop after a cancel before it is dropped.
pub const CANCEL_GRACE: Duration = Duration::from_secs(1);
/// Between heartbeats while nothing else is said.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time allowed to a request that says nothing.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);

/// One attempt to answer one request on one deployment.
#[derive(Debug)]
pub struct Attempt {
    /// The request.
    pub request: Request,
    /// The deployment to run, as it was registered.
    pub deployment: String,
    /// Starting at 1.
    pub attempt: u32,
    /// When it is over.
    pub deadline: Instant,
    /// Fires when the caller gives up or the deadline passes.
    pub cancel: CancellationToken,
}

/// What runs requests.
pub trait Executor: Send + Sync + 'static {
    /// Answers one request: pieces through `frames`, the rest as the result. On a cancel it returns soon, with what was used
    /// (`finish_reason` cancelled).
    fn execute(
        &self,
        attempt: Attempt,
        frames: Frames,
    ) -> impl Future<Output = Result<v1::End, Fault>> + Send;

    /// Looks at a request before it takes a slot, and may hand it on elsewhere instead (`true` = done with it). `cancel` fires
    /// when the caller gives up, until this returns.
    fn divert(
        &self,
        _request: &v1::ExecuteRequest,
        _reply: &str,
        _cancel: &CancellationToken,
    ) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// Hears of a request that was refused before [`Executor::execute`].
    fn refused(&self, _request_id: &str) {}
}

/// Counts that the service's heartbeat and metrics show.
#[derive(Debug, Clone, Default)]
pub struct Load(Arc<AtomicU32>);

impl Load {
    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// For a service whose requests are counted elsewhere: so many are in flight now.
    pub fn set(&self, in_flight: u32) {
        self.0.store(in_flight, Ordering::Relaxed);
    }

    /// One more, until the guard is dropped.
    #[must_use]
    pub fn enter(&self) -> InFlight {
        self.0.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }
}

/// A request that is counted in a [`Load`].
#[derive(Debug)]
pub struct InFlight(Load);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Default)]
struct Running(Arc<Mutex<HashMap<String, CancellationToken>>>);

impl Running {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when a request of this id runs already.
    fn enter(&self, id: &str) -> Option<(Entered, CancellationToken)> {
        let mut running = self.lock();
        if running.contains_key(id) {
            return None;
        }
        let token = CancellationToken::new();
        running.insert(id.to_owned(), token.clone());
        drop(running);
        Some((Entered { running: self.clone(), id: id.to_owned() }, token))
    }
}

/// A running request's entry, taken out when dropped.
struct Entered {
    running: Running,
    id: String,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.running.lock().remove(&self.id);
    }
}

/// Serves `at` until `stop` fires; then takes no new request and finishes those in flight (the caller bounds how long).
/// `ready` is called once the server knows the subscriptions.
///
/// At most `slots` requests run at once, and beside them as many that somebody has handed over (`first_seq` > 0), who sees to
/// it that there are no more: those find their place although others came first.
///
/// # Errors
/// [`PublishError::Closed`] when the bus is closed for good.
pub async fn serve<E: Executor>(
    bus: &Bus,
    at: Execute,
    slots: usize,
    executor: Arc<E>,
    load: Load,
    stop: CancellationToken,
    ready: impl FnOnce() + Send,
) -> Result<(), PublishError> {
    // before requests: a cancel that comes right after its request must find a listener
    let mut cancels = bus.subscribe(subject::cancels(bus.prefix()), None).await?;
    let name = at.name(bus.prefix());
    let mut requests = bus.subscribe(name.clone(), Some(&at.executor)).await?;
    ready();
    tracing::info!(subject = %name, slots, "executor listens");

    let shared = Shared {
        bus: bus.clone(),
        executor,
        slots: Arc::new(Semaphore::new(slots)),
        // twice: who hands over hears of an end a moment before its place is free
        handed_over: Arc::new(Semaphore::new(slots.saturating_mul(2))),
        running: Running::default(),
        load,
    };
    let tasks = TaskTracker::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            // before cancels, and known before it is handled: a cancel behind its request is never taken before it
            request = requests.next() => match request {
                Some(request) => {
                    let span = tracing::info_span!("execute", otel.kind = "server");
                    crate::trace::continue_from(&span, request.headers.as_ref());
                    if let Some(arrived) = shared.arrived(request) {
                        let shared = shared.clone();
                        tasks.spawn(async move { shared.handle(arrived).await }.instrument(span));
                    }
                }
                None => return Err(PublishError::Closed("the subscription ended".to_owned())),
            },
            Some(cancel) = cancels.next() => shared.cancel(&cancel.subject),
        }
    }
    drop(requests);
    tasks.close();
    loop {
        tokio::select! {
            () = tasks.wait() => return Ok(()),
            Some(cancel) = cancels.next() => shared.cancel(&cancel.subject),
        }
    }
}

struct Shared<E> {
    bus: Bus,
    executor: Arc<E>,
    slots: Arc<Semaphore>,
    handed_over: Arc<Semaphore>,
    running: Running,
    load: Load,
}

impl<E> Clone for Shared<E> {
    fn clone(&self) -> Self {
        Self {
            bus: self.bus.clone(),
            executor: Arc::clone(&self.executor),
            slots: Arc::clone(&self.slots),
            handed_over: Arc::clone(&self.handed_over),
            running: self.running.clone(),
            load: self.load.clone(),
        }
    }
}

impl<E: Executor> Shared<E> {
    fn cancel(&self, subject: &str) {
        let id = subject::parse_cancel(self.bus.prefix(), subject);
        if let Some(token) = id.and_then(|id| self.running.lock().get(id).cloned()) {
            token.cancel();
        }
    }

    /// Reads a request, and has it known to cancels from now on.
    fn arrived(&self, incoming: Incoming) -> Option<Arrived> {
        let Incoming { subject, reply, payload, .. } = incoming;
        let Some(reply) = reply else {
            tracing::warn!(subject, "a request without a reply subject was dropped");
            return None;
        };
        let request = v1::ExecuteRequest::decode(payload).map_err(|error| {
            Fault::invalid("payload", format!("the payload is no llm.v1.ExecuteRequest: {error}"))
        });
        let entered = request.as_ref().ok().and_then(|request| self.running.enter(&request.request_id));
        Some(Arrived { reply, request, entered })
    }

    async fn handle(&self, arrived: Arrived) {
        let Arrived { reply, request, entered } = arrived;
        // a future of its own: the request as it came takes no room while it runs, which may be minutes
        let received = self.receive(request, entered, &reply).await;
        match received {
            Received::Diverted => {}
            Received::Admitted(admitted) => run::run(&self.bus, &*self.executor, admitted, &reply).await,
            Received::Refused { id, first_seq, fault } => {
                self.executor.refused(&id);
                run::refuse(&self.bus, &reply, id, first_seq, fault).await;
            }
        }
    }

    async fn receive(
        &self,
        request: Result<v1::ExecuteRequest, Fault>,
        entered: Option<(Entered, CancellationToken)>,
        reply: &str,
    ) -> Received<'_> {
        let request = match request {
            Ok(request) => request,
            Err(fault) => return Received::Refused { id: String::new(), first_seq: 0, fault },
        };
        let (id, first_seq) = (request.request_id.clone(), request.first_seq);
        let Some((entered, cancel)) = entered else {
            let fault =
                Fault::invalid("request_id", format!("request_id is {id:?}, which is running here already"));
            return Received::Refused { id, first_seq, fault };
        };
        if self.executor.divert(&request, reply, &cancel).await {
            return Received::Diverted;
        }
        match self.admit(request, entered, cancel) {
            Ok(admitted) => Received::Admitted(admitted),
            Err(fault) => Received::Refused { id, first_seq, fault },
        }
    }

    fn admit(
        &self,
        request: v1::ExecuteRequest,
        entered: Entered,
        cancel: CancellationToken,
    ) -> Result<Admitted<'_>, Fault> {
        let Some(method) = request.method else {
            return Err(Fault::invalid(
                "method",
                "method is empty, expected generate, embed, translate, transcribe or speak",
            ));
        };
        let checked = Request::try_from(method)?;
        let slots = if request.first_seq > 0 { &self.handed_over } else { &self.slots };
        let Ok(slot) = slots.try_acquire() else {
            return Err(Fault::new(Code::Busy, Origin::Local, true, "no slot is free here"));
        };
        let id = request.request_id;
        let limit = if request.deadline_ms == 0 {
            DEFAULT_DEADLINE
        } else {
            Duration::from_millis(request.deadline_ms)
        };
        let attempt = Attempt {
            request: checked,
            deployment: request.deployment,
            attempt: request.attempt,
            deadline: Instant::now() + limit,
            cancel,
        };
        let held = Held { _entered: entered, _in_flight: self.load.enter(), _slot: slot };
        Ok(Admitted { attempt, id, first_seq: request.first_seq, held })
    }
}

/// A request as it came.
struct Arrived {
    reply: String,
    request: Result<v1::ExecuteRequest, Fault>,
    /// `None`: it does not decode, or its id is at work here.
    entered: Option<(Entered, CancellationToken)>,
}

/// What becomes of a request that came.
enum Received<'a> {
    /// Handed on elsewhere.
    Diverted,
    Admitted(Admitted<'a>),
    Refused {
        id: String,
        first_seq: u64,
        fault: Fault,
    },
}

/// A request that has its slot.
struct Admitted<'a> {
    attempt: Attempt,
    id: String,
    first_seq: u64,
    held: Held<'a>,
}

/// What a request gives back when it is over.
struct Held<'a> {
    _entered: Entered,
    _in_flight: InFlight,
    _slot: SemaphorePermit<'a>,
}
