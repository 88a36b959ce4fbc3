//! Answers for models that are not loaded: keeps the caller informed while the model loads, then hands the request to the
//! engine, which answers to the caller itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::Bus;
use bus::executor::{Attempt, Executor, Frames};
use futures::StreamExt;
use service_runtime::Process;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use domain::fault::{Code, Fault, Origin};
use domain::routing::Plane;
use wire::subject::{self, Execute};
use wire::v1;
use wire::v1::reply_frame::Kind;

use super::register::deployment_id;
use crate::supervisor::{Model, State};

/// Requests that wait for models to load; what comes then is busy.
const WAITING_MAX: usize = 256;
/// Between heartbeats to a caller who waits.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time allowed to a request that says nothing.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);

/// The executor of models that are not loaded.
pub(super) struct Doorman {
    bus: Bus,
    /// By deployment id.
    models: HashMap<String, Model>,
    waiting: Semaphore,
    cancels: Cancels,
}

/// Tokens of the requests that wait.
#[derive(Clone, Default)]
struct Cancels(Arc<Mutex<HashMap<String, CancellationToken>>>);

impl Cancels {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's entry in [`Cancels`], for as long as it waits.
struct Entry<'a> {
    cancels: &'a Cancels,
    id: String,
    token: CancellationToken,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.cancels.lock().remove(&self.id);
    }
}

/// What became of a wait.
enum Outcome {
    Warm,
    Failed(Fault),
}

impl Doorman {
    /// Begins to listen for cancels.
    pub(super) async fn start(bus: Bus, models: Vec<Model>, process: &Process) -> anyhow::Result<Self> {
        let cancels = Cancels::default();
        let mut cancelled = bus.subscribe(subject::cancels(bus.prefix()), None).await?;
        let (listening, prefix, stop) = (cancels.clone(), bus.prefix().clone(), process.shutdown.token());
        process.tasks.spawn("cancels", async move {
            while let Some(Some(message)) = stop.run_until_cancelled(cancelled.next()).await {
                let id = subject::parse_cancel(&prefix, &message.subject);
                let token = id.and_then(|id| listening.lock().get(id).cloned());
                if let Some(token) = token {
                    token.cancel();
                }
            }
            Ok(())
        });
        let models = models.into_iter().map(|model| (deployment_id(bus.machine(), &model.config), model));
        Ok(Self { models: models.collect(), bus, waiting: Semaphore::new(WAITING_MAX), cancels })
    }

    fn enter(&self, id: &str) -> Option<Entry<'_>> {
        let token = CancellationToken::new();
        let mut waiting = self.cancels.lock();
        if waiting.contains_key(id) {
            return None;
        }
        waiting.insert(id.to_owned(), token.clone());
        Some(Entry { cancels: &self.cancels, id: id.to_owned(), token })
    }

    async fn send(&self, request: &v1::ExecuteRequest, reply: &str, seq: &mut u64, kind: Kind) {
        let frame = v1::ReplyFrame { request_id: request.request_id.clone(), seq: *seq, kind: Some(kind) };
        *seq = seq.saturating_add(1);
        if let Err(error) = self.bus.reply(reply, &frame).await {
            tracing::warn!(request_id = %request.request_id, %error, "a frame was not published");
        }
    }

    /// Waits for the model, with heartbeats to the caller.
    async fn wait(
        &self,
        model: &Model,
        (request, reply): (&v1::ExecuteRequest, &str),
        cancel: &CancellationToken,
        (deadline, seq): (Instant, &mut u64),
    ) -> Outcome {
        let mut status = model.status.clone();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Notes the status, so that only a later change wakes.
            let state = status.borrow_and_update().state.clone();
            match state {
                State::Warm(_) => return Outcome::Warm,
                State::Down { reason, retry_at } => return Outcome::Failed(down(model, &reason, retry_at)),
                State::Cold => model.wake(),
                State::Loading => {}
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    return Outcome::Failed(down(model, "the pool ends", Instant::now()));
                },
                () = cancel.cancelled() => {
                    let text = "cancelled by the caller";
                    return Outcome::Failed(Fault::new(Code::Cancelled, Origin::Caller, false, text));
                }
                () = tokio::time::sleep_until(deadline) => {
                    let text = format!("the deadline passed while {} was loading", model.config.name);
                    return Outcome::Failed(Fault::new(Code::Timeout, Origin::Local, true, text));
                }
                _ = heartbeat.tick() => {
                    let beat = v1::Heartbeat { phase: "loading".to_owned(), progress_percent: 0 };
                    self.send(request, reply, seq, Kind::Heartbeat(beat)).await;
                }
            }
        }
    }

    async fn hand_on(&self, model: &Model, request: &v1::ExecuteRequest, reply: &str, entry: Entry<'_>) {
        let allowed = match request.deadline_ms {
            0 => DEFAULT_DEADLINE,
            milliseconds => Duration::from_millis(milliseconds),
        };
        let deadline = Instant::now() + allowed;
        let mut seq = request.first_seq;
        let outcome = self.wait(model, (request, reply), &entry.token, (deadline, &mut seq)).await;
        let fault = match outcome {
            Outcome::Warm => {
                let left = deadline.saturating_duration_since(Instant::now()).as_millis();
                let forwarded = v1::ExecuteRequest {
                    first_seq: seq,
                    deadline_ms: u64::try_from(left).unwrap_or(u64::MAX).max(1),
                    ..request.clone()
                };
                let executor = model.config.executor.clone();
                let at = Execute { plane: Plane::Local, machine: self.bus.machine().clone(), executor };
                match self.bus.forward(&at, &forwarded, reply).await {
                    Ok(()) => return,
                    Err(error) => Fault::from(error),
                }
            }
            Outcome::Failed(fault) => fault,
        };
        self.send(request, reply, &mut seq, Kind::Error(fault.into())).await;
    }
}

fn down(model: &Model, reason: &str, retry_at: Instant) -> Fault {
    let text = format!("{} is down: {reason}", model.config.name);
    let wait = retry_at.saturating_duration_since(Instant::now());
    Fault::new(Code::Unavailable, Origin::Local, true, text).after(wait)
}

impl Executor for Doorman {
    /// Takes every request for a model that is here, unless too many wait: those, and requests for others, are refused by
    /// [`Executor::execute`].
    async fn divert(&self, request: &v1::ExecuteRequest, reply: &str) -> bool {
        let Some(model) = self.models.get(&request.deployment) else { return false };
        let Ok(_waits) = self.waiting.try_acquire() else { return false };
        let Some(entry) = self.enter(&request.request_id) else { return false };
        self.hand_on(model, request, reply, entry).await;
        true
    }

    async fn execute(&self, attempt: Attempt, _frames: Frames) -> Result<v1::End, Fault> {
        let deployment = attempt.deployment;
        Err(match self.models.get(&deployment) {
            None => {
                let text = format!("deployment is {deployment:?}, which is not on this machine");
                Fault::new(Code::NotFound, Origin::Local, true, text).in_field("deployment")
            }
            Some(model) => {
                let text = format!("{} is loading and {WAITING_MAX} requests wait for it", model.config.name);
                Fault::new(Code::Busy, Origin::Local, true, text)
            }
        })
    }
}
