//! Answers for models that are not loaded: keeps the caller informed while the model loads or waits for its turn, then hands
//! the request to the engine, which answers to the caller itself.
//!
//! A cancel may pass a request on its way to the engine, and be heard by nobody there. So a request that was handed over is
//! followed until its engine says that it has begun: a cancel that came by then is told again.

use std::time::Duration;

use bus::Bus;
use bus::executor::{Attempt, CANCEL_GRACE, Executor, Frames};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use domain::fault::{Code, Fault, Origin};
use domain::id::{ModelName, RequestId};
use domain::lifecycle::Urgency;
use domain::routing::Plane;
use wire::subject::{Cancel, Execute};
use wire::v1::execute_request::Method;
use wire::v1::reply_frame::Kind;
use wire::v1::{self, Level};

use super::desk::{Desk, Word, ended};
use super::register::deployment_id;

/// Requests that wait for models to load; what comes then is busy.
const WAITING_MAX: usize = 256;
/// Between heartbeats to a caller who waits.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time allowed to a request that says nothing.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);

/// The executor of models that are not loaded.
pub(super) struct Doorman {
    bus: Bus,
    desk: Desk,
    waiting: Semaphore,
}

/// A request on its way through here.
struct Visit<'a> {
    model: &'a ModelName,
    request: &'a v1::ExecuteRequest,
    reply: &'a str,
    deadline: Instant,
    seq: u64,
}

impl Doorman {
    pub(super) const fn new(bus: Bus, desk: Desk) -> Self {
        Self { bus, desk, waiting: Semaphore::const_new(WAITING_MAX) }
    }

    /// The model of a deployment, if it is here.
    fn model(&self, deployment: &str) -> Option<ModelName> {
        let statuses = self.desk.statuses.borrow();
        let found = statuses
            .models
            .values()
            .find(|status| deployment_id(self.bus.machine(), &status.config) == deployment);
        found.map(|status| status.config.name.clone())
    }

    async fn send(&self, visit: &mut Visit<'_>, kind: Kind) {
        let request_id = visit.request.request_id.clone();
        let frame = v1::ReplyFrame { request_id, seq: visit.seq, kind: Some(kind) };
        visit.seq = visit.seq.saturating_add(1);
        if let Err(error) = self.bus.reply(visit.reply, &frame).await {
            tracing::warn!(request_id = %visit.request.request_id, %error, "a frame was not published");
        }
    }

    /// Waits for the model's engine to have a place, with heartbeats to the caller: the engine's executor.
    async fn wait(
        &self,
        visit: &mut Visit<'_>,
        words: &mut mpsc::Receiver<Word>,
        cancel: &CancellationToken,
    ) -> Result<String, Fault> {
        let mut statuses = self.desk.statuses.clone();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = "";
        loop {
            let (phase, percent) = statuses
                .borrow_and_update()
                .models
                .get(visit.model)
                .map_or(("queued", 0), super::status::Status::phase);
            if phase != std::mem::replace(&mut told, phase) {
                heartbeat.reset_immediately();
            }
            tokio::select! {
                biased;
                word = words.recv() => match word {
                    Some(Word::HandOver(executor)) => return Ok(executor),
                    Some(Word::Refused(reason, retry_in)) => return Err(down(visit.model, &reason, retry_in)),
                    Some(Word::Taken | Word::Over) => {}
                    None => return Err(ended()),
                },
                () = cancel.cancelled() => {
                    return Err(Fault::new(Code::Cancelled, Origin::Caller, false, "cancelled by the caller"));
                }
                () = tokio::time::sleep_until(visit.deadline) => {
                    let text = format!("the deadline passed while {} was {phase}", visit.model);
                    return Err(Fault::new(Code::Timeout, Origin::Local, true, text));
                }
                _ = heartbeat.tick() => {
                    let beat = v1::Heartbeat { phase: phase.to_owned(), progress_percent: percent };
                    self.send(visit, Kind::Heartbeat(beat)).await;
                }
                Ok(()) = statuses.changed() => {}
            }
        }
    }

    /// Gives the request to the engine, and follows it until that is over.
    async fn hand_over(
        &self,
        visit: &mut Visit<'_>,
        executor: String,
        words: &mut mpsc::Receiver<Word>,
        cancel: &CancellationToken,
    ) -> Result<(), Fault> {
        let left = visit.deadline.saturating_duration_since(Instant::now()).as_millis();
        let forwarded = v1::ExecuteRequest {
            // more than 0, which also says that a place was kept for it
            first_seq: visit.seq.max(1),
            deadline_ms: u64::try_from(left).unwrap_or(u64::MAX).max(1),
            ..visit.request.clone()
        };
        if visit.seq == 0 {
            let beat = v1::Heartbeat { phase: "queued".to_owned(), progress_percent: 0 };
            self.send(visit, Kind::Heartbeat(beat)).await;
        }
        let at = Execute { plane: Plane::Local, machine: self.bus.machine().clone(), executor };
        self.bus.forward(&at, &forwarded, visit.reply).await?;
        let (mut taken, mut cancelled, mut told) = (false, false, false);
        loop {
            if taken && cancelled && !told {
                told = true;
                let id = RequestId::new(&visit.request.request_id).map_err(Fault::from)?;
                if let Err(error) = self.bus.publish(&Cancel(id), &()).await {
                    tracing::warn!(%error, "cancel not told again");
                }
            }
            tokio::select! {
                word = words.recv() => match word {
                    Some(Word::Taken) => taken = true,
                    Some(Word::HandOver(_)) => {}
                    Some(Word::Over | Word::Refused(..)) | None => return Ok(()),
                },
                () = cancel.cancelled(), if !cancelled => cancelled = true,
                () = tokio::time::sleep_until(visit.deadline + CANCEL_GRACE * 2) => return Ok(()),
            }
        }
    }

    async fn visit(
        &self,
        model: &ModelName,
        request: &v1::ExecuteRequest,
        reply: &str,
        cancel: &CancellationToken,
    ) {
        let allowed = match request.deadline_ms {
            0 => DEFAULT_DEADLINE,
            milliseconds => Duration::from_millis(milliseconds),
        };
        let deadline = Instant::now() + allowed;
        let mut visit = Visit { model, request, reply, deadline, seq: request.first_seq };
        let id = request.request_id.clone();
        let (ticket, mut words) = match self.desk.ask(model.clone(), id, urgency(request), deadline).await {
            Ok(asked) => asked,
            Err(fault) => return self.send(&mut visit, Kind::Error(fault.into())).await,
        };
        let outcome = match self.wait(&mut visit, &mut words, cancel).await {
            Ok(executor) => self.hand_over(&mut visit, executor, &mut words, cancel).await,
            Err(fault) => Err(fault),
        };
        self.desk.over(ticket).await;
        if let Err(fault) = outcome {
            self.send(&mut visit, Kind::Error(fault.into())).await;
        }
    }
}

/// How pressing a request is, by what its caller says of it.
fn urgency(request: &v1::ExecuteRequest) -> Urgency {
    let profile = match &request.method {
        Some(Method::Generate(request)) => request.profile.as_ref(),
        Some(Method::Embed(request)) => request.profile.as_ref(),
        Some(Method::Translate(request)) => request.profile.as_ref(),
        Some(Method::Transcribe(request)) => request.profile.as_ref(),
        Some(Method::Speak(request)) => request.profile.as_ref(),
        None => None,
    };
    let Some(profile) = profile else { return Urgency::Normal };
    let (critical, quick) = (profile.criticality(), profile.latency_sensitivity());
    match (critical, quick) {
        (Level::High, _) | (_, Level::High) => Urgency::Urgent,
        (Level::Low, Level::Low | Level::Unspecified) | (Level::Unspecified, Level::Low) => {
            Urgency::Background
        }
        _ => Urgency::Normal,
    }
}

fn down(model: &ModelName, reason: &str, retry_in: Duration) -> Fault {
    let text = format!("{model} is down: {reason}");
    Fault::new(Code::Unavailable, Origin::Local, true, text).after(retry_in)
}

impl Executor for Doorman {
    /// Takes every request for a model that is here, unless too many wait: those, and requests for others, are refused by
    /// [`Executor::execute`].
    async fn divert(&self, request: &v1::ExecuteRequest, reply: &str, cancel: &CancellationToken) -> bool {
        let Some(model) = self.model(&request.deployment) else { return false };
        let Ok(_waits) = self.waiting.try_acquire() else { return false };
        self.visit(&model, request, reply, cancel).await;
        true
    }

    async fn execute(&self, attempt: Attempt, _frames: Frames) -> Result<v1::End, Fault> {
        let deployment = attempt.deployment;
        Err(match self.model(&deployment) {
            None => {
                let text = format!("deployment is {deployment:?}, which is not on this machine");
                Fault::new(Code::NotFound, Origin::Local, true, text).in_field("deployment")
            }
            Some(model) => {
                let text = format!("{model} is not loaded and {WAITING_MAX} requests wait");
                Fault::new(Code::Busy, Origin::Local, true, text)
            }
        })
    }
}
