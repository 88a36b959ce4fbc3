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

use bytes::Bytes;
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

    /// Looks at a request before it takes a slot, and may hand it on elsewhere instead (`true` = done with it).
    fn divert(&self, _request: &v1::ExecuteRequest, _reply: &str) -> impl Future<Output = bool> + Send {
        async { false }
    }
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
    // cancels first: a cancel that comes right after its request must find a listener
    let mut cancels = bus.subscribe(subject::cancels(bus.prefix()), None).await?;
    let name = at.name(bus.prefix());
    let mut requests = bus.subscribe(name.clone(), Some(&at.executor)).await?;
    ready();
    tracing::info!(subject = %name, slots, "executor listens");

    let shared = Shared {
        bus: bus.clone(),
        executor,
        slots: Arc::new(Semaphore::new(slots)),
        running: Running::default(),
        load,
    };
    let tasks = TaskTracker::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(cancel) = cancels.next() => shared.cancel(&cancel.subject),
            request = requests.next() => match request {
                Some(request) => {
                    let shared = shared.clone();
                    let span = tracing::info_span!("execute", otel.kind = "server");
                    crate::trace::continue_from(&span, request.headers.as_ref());
                    tasks.spawn(async move { shared.handle(request).await }.instrument(span));
                }
                None => return Err(PublishError::Closed("the subscription ended".to_owned())),
            },
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
    running: Running,
    load: Load,
}

impl<E> Clone for Shared<E> {
    fn clone(&self) -> Self {
        Self {
            bus: self.bus.clone(),
            executor: Arc::clone(&self.executor),
            slots: Arc::clone(&self.slots),
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

    async fn handle(&self, incoming: Incoming) {
        let Incoming { subject, reply, payload, .. } = incoming;
        let Some(reply) = reply else {
            tracing::warn!(subject, "a request without a reply subject was dropped");
            return;
        };
        // a future of its own: the request as it came takes no room while it runs, which may be minutes
        let received = self.receive(payload, &reply).await;
        match received {
            Received::Diverted => {}
            Received::Admitted(admitted) => run::run(&self.bus, &*self.executor, admitted, &reply).await,
            Received::Refused { id, first_seq, fault } => {
                run::refuse(&self.bus, &reply, id, first_seq, fault).await;
            }
        }
    }

    async fn receive(&self, payload: Bytes, reply: &str) -> Received<'_> {
        let request = match v1::ExecuteRequest::decode(payload) {
            Ok(request) => request,
            Err(error) => {
                let fault =
                    Fault::invalid("payload", format!("the payload is no llm.v1.ExecuteRequest: {error}"));
                return Received::Refused { id: String::new(), first_seq: 0, fault };
            }
        };
        if self.executor.divert(&request, reply).await {
            return Received::Diverted;
        }
        let (id, first_seq) = (request.request_id.clone(), request.first_seq);
        match self.admit(request) {
            Ok(admitted) => Received::Admitted(admitted),
            Err(fault) => Received::Refused { id, first_seq, fault },
        }
    }

    fn admit(&self, request: v1::ExecuteRequest) -> Result<Admitted<'_>, Fault> {
        let Some(method) = request.method else {
            return Err(Fault::invalid(
                "method",
                "method is empty, expected generate, embed, translate, transcribe or speak",
            ));
        };
        let checked = Request::try_from(method)?;
        let Ok(slot) = self.slots.try_acquire() else {
            return Err(Fault::new(Code::Busy, Origin::Local, true, "no slot is free here"));
        };
        let id = request.request_id;
        let Some((entered, cancel)) = self.running.enter(&id) else {
            return Err(Fault::invalid(
                "request_id",
                format!("request_id is {id:?}, which is running here already"),
            ));
        };
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
