//! From a request to its end: decide, then try the candidates in order.

mod attempt;
mod dry_run;
mod reserve;
#[cfg(test)]
mod tests;
mod usage;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::HeaderMap;
use bus::{Bus, executor::Load, ledger::Ledger};
use domain::{
    fault::{Code, Fault, Origin},
    inference::Request,
    key::Key,
    routing::{Candidate, Decision, Facts, Snapshot, decide},
};
use service_runtime::Clock;
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use wire::{
    subject::{Cancel, ModelCall},
    v1,
    v1::execute_request::Method,
};

use crate::{
    admission::{Gate, Ticket, Visitor},
    ingress::http::audio::Room,
    live::LiveState,
    metrics::Metrics,
    snapshots::Snapshots,
};
use attempt::{Failure, Try};

/// Events a caller may be behind before the executor's frames wait.
const EVENTS_BUFFERED: usize = 256;

/// Bounds of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Time allowed to a request that names none.
    pub(crate) deadline: Duration,
    /// An executor that says nothing for so long is gone.
    pub(crate) silence: Duration,
    /// Candidates tried.
    pub(crate) attempts: usize,
    /// Tokens that an answer may have at most where there are budgets and the caller gives no bound.
    pub(crate) output_when_budgeted: u32,
    /// How long after its deadline a call's last word may come.
    pub(crate) last_word: Duration,
}

/// Numbers reservations.
#[derive(Debug, Default)]
pub(crate) struct Reservations(AtomicU64);

impl Reservations {
    fn next(&self, instance: &str) -> String {
        format!("{instance}-{}", self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A request on its way, as its ingress made it.
pub(crate) struct Asked {
    /// As it goes to an executor.
    pub(crate) method: Method,
    /// The same, checked.
    pub(crate) request: Request,
    /// `http` or `nats`.
    pub(crate) ingress: &'static str,
    /// When it came.
    pub(crate) at: Instant,
    /// Of the message, for the trace; HTTP has none.
    pub(crate) headers: Option<HeaderMap>,
    /// The file that the method names as stored: put there before the first attempt, deleted after the last.
    pub(crate) upload: Option<Upload>,
    /// Who asks.
    pub(crate) visitor: Visitor,
    /// Room in the limits of whoever asks, once there is.
    pub(crate) ticket: Ticket,
}

/// A file on its way into the store.
pub(crate) struct Upload {
    pub(crate) content: axum::body::Bytes,
    /// Room in memory, given back with the request.
    pub(crate) _room: tokio::sync::OwnedSemaphorePermit,
}

impl Asked {
    /// Checks a request whose id has been assigned.
    pub(crate) fn new(
        method: Method,
        ingress: &'static str,
        at: Instant,
        visitor: Visitor,
    ) -> Result<Self, Fault> {
        let request = Request::try_from(method.clone())?;
        Ok(Self {
            method,
            request,
            ingress,
            at,
            headers: None,
            upload: None,
            visitor,
            ticket: Ticket::unlimited(),
        })
    }

    /// Tokens that it counts for until it has ended.
    fn tokens_expected(&self) -> u64 {
        (self.request.input_tokens() + self.request.max_output().unwrap_or_default()).get()
    }
}

/// What a caller is told, in this order: accepted, pieces and heartbeats, one end or error.
#[derive(Debug)]
pub(crate) enum Event {
    Accepted(Arc<Decision>),
    Delta(v1::Delta),
    Heartbeat(v1::Heartbeat),
    End(Box<v1::End>),
    Error(Fault),
}

/// Everything a request needs on its way.
pub(crate) struct Coordinator {
    pub(crate) bus: Bus,
    /// For requests that must stay on the owner's machines; nothing else goes over it.
    pub(crate) private: Bus,
    pub(crate) snapshots: Snapshots,
    pub(crate) live: LiveState,
    pub(crate) ledger: Ledger,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) gate: Gate,
    pub(crate) requests: TaskTracker,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) load: Load,
    pub(crate) reservations: Reservations,
    pub(crate) audio_room: Room,
}

/// Tells the caller; an error is that nobody listens any more.
pub(crate) struct Caller(mpsc::Sender<Event>);

impl Caller {
    async fn tell(&self, event: Event) -> Result<(), Fault> {
        self.0.send(event).await.map_err(|_| caller_left())
    }

    async fn left(&self) {
        self.0.closed().await;
    }
}

fn caller_left() -> Fault {
    Fault::new(Code::Cancelled, Origin::Caller, false, "the caller went away")
}

impl Coordinator {
    /// Starts a request. Dropping the receiver cancels it.
    ///
    /// # Errors
    /// `Busy` when as many requests as are allowed are under way, `RateLimited` or `PermissionDenied` when the caller's key has no
    /// room for it or is not for it.
    pub(crate) fn submit(self: &Arc<Self>, mut asked: Asked) -> Result<mpsc::Receiver<Event>, Fault> {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let message = "as many requests as request-coordinator.requests_max allows are under way";
            return Err(Fault::new(Code::Busy, Origin::Policy, true, message).after(Duration::from_secs(1)));
        };
        asked.ticket = self.admit(&asked).inspect_err(|fault| self.metrics.refused(fault.code))?;
        let (sender, events) = mpsc::channel(EVENTS_BUFFERED);
        let this = Arc::clone(self);
        let span = tracing::info_span!(
            "request",
            otel.kind = "server",
            gen_ai.operation.name = method_name(&asked.request),
            request_id = asked.request.envelope().id.as_str(),
        );
        bus::trace::continue_from(&span, asked.headers.as_ref());
        let work = async move {
            let _slot = slot;
            let _counted = this.load.enter();
            this.run(asked, Caller(sender)).await;
        };
        self.requests.spawn(work.instrument(span));
        Ok(events)
    }

    fn admit(&self, asked: &Asked) -> Result<Ticket, Fault> {
        if let Some(key) = asked.visitor.key() {
            key.permits_agent(asked.request.envelope().agent.as_ref())?;
        }
        self.gate.admit(&asked.visitor, asked.tokens_expected(), self.snapshots.coordinators())
    }

    async fn run(&self, asked: Asked, caller: Caller) {
        let outcome = self.answer(&asked, &caller).await;
        let name = match &outcome {
            Ok(v1::FinishReason::Cancelled) => "cancelled",
            Ok(_) => "ok",
            Err(fault) => fault.code.as_str(),
        };
        self.metrics.request(asked.ingress, method_name(&asked.request), name, asked.at.elapsed());
        if let Err(fault) = outcome {
            tracing::debug!(request_id = %asked.request.envelope().id, %fault, "request failed");
            // nobody listening is no news
            caller.tell(Event::Error(fault)).await.ok();
        }
    }

    async fn answer(&self, asked: &Asked, caller: &Caller) -> Result<v1::FinishReason, Fault> {
        let snapshot = self.snapshots.current()?;
        let decided = decide(&Facts::of(&asked.request), &snapshot, &self.live.read());
        let decided = decided.and_then(|decision| match asked.visitor.key() {
            Some(key) => key.restrict(decision, &snapshot),
            None => Ok(decision),
        });
        let decision = match decided {
            Ok(decision) => Arc::new(decision),
            Err(fault) => {
                if fault.origin != Origin::Caller {
                    self.record(usage::undecided(self, asked, &fault)).await;
                }
                return Err(fault);
            }
        };
        self.metrics.decision(&decision);
        self.wish(&decision).await;
        caller.tell(Event::Accepted(Arc::clone(&decision))).await?;
        if decision.dry_run {
            return self.dry_run(asked, &decision, caller).await;
        }
        let Some(upload) = &asked.upload else {
            return self.try_candidates(asked, caller, &snapshot, &decision).await;
        };
        let name = asked.request.envelope().id.as_str();
        let stored = self.bus.put_audio(name, &upload.content).await;
        let outcome = match stored {
            Ok(()) => self.try_candidates(asked, caller, &snapshot, &decision).await,
            Err(fault) => {
                self.record(usage::undecided(self, asked, &fault)).await;
                Err(fault)
            }
        };
        self.bus.delete_audio(name).await;
        outcome
    }

    async fn try_candidates(
        &self,
        asked: &Asked,
        caller: &Caller,
        snapshot: &Snapshot,
        decision: &Decision,
    ) -> Result<v1::FinishReason, Fault> {
        let limit = asked.request.envelope().deadline.unwrap_or(self.limits.deadline);
        let deadline = asked.at + limit;
        let mut spent = 0_i64;
        let tried = decision.candidates.iter().take(self.limits.attempts);
        let mut last = None;
        for (number, candidate) in (1_u32..).zip(tried) {
            let has_budgets = snapshot.has_budgets || asked.visitor.key().is_some_and(Key::has_budget);
            let step = Try { asked, decision, candidate, number, deadline, spent, has_budgets };
            let failure = match self.attempt(&step, caller).await {
                Ok(finish) => return Ok(finish),
                Err(failure) => failure,
            };
            if failure.begun || !may_go_on(&failure.fault) || Instant::now() >= deadline {
                return Err(failure.fault);
            }
            spent += failure.cost_picodollars;
            log_fallback(asked, candidate, &failure);
            last = Some(failure.fault);
        }
        Err(last.unwrap_or_else(|| Fault::internal("a decision without a candidate")))
    }

    async fn record(&self, event: v1::UsageEvent) {
        if let Err(error) = self.ledger.record(event).await {
            self.metrics.ledger_failed();
            tracing::error!(%error, "usage event");
        }
    }

    /// Tells the pools to load what would have been first, had it been warm. Nobody waits for it.
    async fn wish(&self, decision: &Decision) {
        for deployment in &decision.to_load {
            let wish = v1::ModelRequest {
                action: v1::ModelAction::Wish.into(),
                model: deployment.model.to_string(),
                install: None,
            };
            if let Err(error) = self.bus.publish(&ModelCall(deployment.machine.clone()), &wish).await {
                tracing::warn!(%error, deployment = %deployment.id, "wish not sent");
            }
        }
    }

    /// Tells whatever executes the request to stop.
    async fn cancel(&self, asked: &Asked) {
        let cancel = Cancel(asked.request.envelope().id.clone());
        if let Err(error) = self.bus.publish(&cancel, &()).await {
            tracing::warn!(%error, "cancel not sent");
        }
    }
}

/// Whether another candidate may do better. The caller's own mistakes are the same everywhere, except for what depends on
/// the model.
fn may_go_on(fault: &Fault) -> bool {
    match fault.code {
        Code::ContextLengthExceeded | Code::Unsupported | Code::NotFound => true,
        Code::Cancelled => false,
        // what costs nothing may serve, if the budget says so
        Code::BudgetExceeded => fault.retryable,
        _ => fault.origin != Origin::Caller,
    }
}

fn log_fallback(asked: &Asked, candidate: &Candidate, failure: &Failure) {
    tracing::info!(
        request_id = %asked.request.envelope().id,
        deployment = %candidate.deployment.id,
        fault = %failure.fault,
        "attempt failed, the next candidate is tried"
    );
}

/// The operation's name in OpenTelemetry's GenAI conventions.
pub(crate) const fn method_name(request: &Request) -> &'static str {
    match request {
        Request::Generate(_) => "chat",
        Request::Embed(_) => "embeddings",
        Request::Translate(_) => "translate",
        Request::Transcribe(_) => "transcribe",
        Request::Speak(_) => "speak",
    }
}
