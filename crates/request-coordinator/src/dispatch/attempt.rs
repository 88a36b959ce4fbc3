//! One candidate, from its first frame to its last.

use std::time::Duration;

use bus::{ReplyStream, StreamError};
use domain::{
    fault::{Code, Fault, Origin, Spent},
    inference::Privacy,
    routing::{Candidate, Decision},
    units::{Money, Tokens},
};
use tokio::time::Instant;
use wire::{
    subject::Execute,
    v1::{self, reply_frame::Kind},
};

use super::{
    Asked, Caller, Coordinator, Event,
    reserve::{self, Reserved},
    usage,
};
use crate::live::Outstanding;

/// One try of a request.
pub(super) struct Try<'a> {
    pub(super) asked: &'a Asked,
    pub(super) decision: &'a Decision,
    pub(super) candidate: &'a Candidate,
    /// Starting at 1.
    pub(super) number: u32,
    pub(super) deadline: Instant,
    /// What earlier tries cost, pico-dollars.
    pub(super) spent: i64,
    /// What it may cost has to be set aside.
    pub(super) has_budgets: bool,
}

/// A try that did not end well.
pub(super) struct Failure {
    pub(super) fault: Fault,
    /// The caller has a piece of the answer: no other candidate may start over.
    pub(super) begun: bool,
    pub(super) cost_picodollars: i64,
}

/// What a try has come to so far.
pub(super) struct Progress {
    pub(super) began: Instant,
    pub(super) first_token: Option<Duration>,
    /// Bytes of text the caller has.
    pub(super) bytes: usize,
    /// Bytes of audio the caller has.
    pub(super) audio_bytes: usize,
    /// Millijoules that an executor told of which was stopped, and whether they are estimated.
    pub(super) energy: (u64, bool),
    /// Money that is set aside for it.
    pub(super) reserved: Reserved,
}

enum Ended {
    Done(Box<v1::End>),
    /// The caller went away; what the executor said it came to, if that came in time.
    Left(Option<Spent>),
}

impl Coordinator {
    pub(super) async fn attempt(&self, step: &Try<'_>, caller: &Caller) -> Result<v1::FinishReason, Failure> {
        let deployment = &step.candidate.deployment;
        let outstanding = self.live.enter(deployment);
        let mut progress = Progress {
            began: Instant::now(),
            first_token: None,
            bytes: 0,
            audio_bytes: 0,
            energy: (0, false),
            reserved: Reserved::default(),
        };
        let outcome = match self.reserve(step).await {
            Ok(reserved) => {
                progress.reserved = reserved;
                match self.open(step, &progress.reserved).await {
                    Ok(frames) => self.relay(step, caller, frames, &mut progress).await,
                    Err(fault) => Err(fault),
                }
            }
            Err(fault) => Err(fault),
        };
        match outcome {
            Ok(Ended::Done(end)) => Ok(self.succeeded(step, caller, *end, &progress, &outstanding).await),
            Ok(Ended::Left(spent)) => {
                let fault = super::caller_left().having_spent(spent);
                let event = usage::failed(self, step, &progress, &fault);
                self.account(step, event).await;
                Ok(v1::FinishReason::Cancelled)
            }
            Err(fault) => {
                outstanding.failed(&fault);
                self.metrics.attempt(deployment.tier.as_str(), &deployment.provider, Err(&fault));
                let event = usage::failed(self, step, &progress, &fault);
                let cost_picodollars = event.cost_picodollars;
                self.account(step, event).await;
                Err(Failure { fault, begun: progress.has_begun(), cost_picodollars })
            }
        }
    }

    /// An attempt has ended: its tokens count for its key, its event for the ledger.
    async fn account(&self, step: &Try<'_>, event: v1::UsageEvent) {
        let tokens = event.usage.as_ref().map_or(0, |usage| usage.input.saturating_add(usage.output));
        step.asked.ticket.used(tokens);
        self.record(event).await;
    }

    async fn open(&self, step: &Try<'_>, reserved: &Reserved) -> Result<ReplyStream, Fault> {
        let deployment = &step.candidate.deployment;
        let at = Execute {
            plane: deployment.tier.plane(),
            machine: deployment.machine.clone(),
            executor: deployment.executor.clone(),
        };
        let left = step.deadline.saturating_duration_since(Instant::now());
        let request = v1::ExecuteRequest {
            request_id: step.asked.request.envelope().id.to_string(),
            deployment: deployment.id.to_string(),
            attempt: step.number,
            deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
            first_seq: 0,
            method: Some(reserve::bounded(step.asked.method.clone(), reserved.output_max)),
        };
        // what is private goes where the server lets it: wherever the decision says, it cannot leave the owner's machines
        let bus = match step.asked.request.envelope().profile.privacy {
            Privacy::LocalOnly => &self.private,
            Privacy::Public => &self.bus,
        };
        Ok(bus.open(&at, &request).await?)
    }

    async fn relay(
        &self,
        step: &Try<'_>,
        caller: &Caller,
        mut frames: ReplyStream,
        progress: &mut Progress,
    ) -> Result<Ended, Fault> {
        loop {
            let frame = tokio::select! {
                biased;
                () = caller.left() => {
                    self.cancel(step.asked).await;
                    return Ok(Ended::Left(last_word(frames, self.limits.silence, progress).await));
                }
                () = tokio::time::sleep_until(step.deadline) => {
                    self.cancel(step.asked).await;
                    let fault = Fault::new(Code::Timeout, Origin::Policy, false, "the request's deadline passed");
                    return Err(fault.having_spent(last_word(frames, self.limits.silence, progress).await));
                }
                frame = frames.next(self.limits.silence) => frame,
            };
            let kind = match frame {
                Ok(frame) => frame.kind,
                Err(error) => {
                    if let StreamError::Denied(subject) = &error {
                        let deployment = step.candidate.deployment.id.as_str();
                        tracing::error!(
                            deployment,
                            subject,
                            "a request was kept from an executor it has no right to"
                        );
                    }
                    // it may still be at work: it must not go on beside the next candidate
                    self.cancel(step.asked).await;
                    return Err(lost(&error));
                }
            };
            match kind {
                Some(Kind::Delta(delta)) => {
                    progress.saw(&delta);
                    if caller.tell(Event::Delta(delta)).await.is_err() {
                        self.cancel(step.asked).await;
                        return Ok(Ended::Left(last_word(frames, self.limits.silence, progress).await));
                    }
                }
                Some(Kind::Heartbeat(heartbeat)) => drop(caller.tell(Event::Heartbeat(heartbeat)).await),
                Some(Kind::End(end)) => return Ok(Ended::Done(Box::new(end))),
                Some(Kind::Error(error)) => return Err(error.into()),
                Some(Kind::Accepted(_)) | None => {}
            }
        }
    }

    async fn succeeded(
        &self,
        step: &Try<'_>,
        caller: &Caller,
        mut end: v1::End,
        progress: &Progress,
        outstanding: &Outstanding,
    ) -> v1::FinishReason {
        let whole = progress.began.elapsed();
        let output = Tokens::new(end.usage.map_or(0, |usage| usage.output));
        outstanding.succeeded(progress.first_token.unwrap_or(whole), whole, output);
        let deployment = &step.candidate.deployment;
        let tier = deployment.tier.as_str();
        self.metrics.attempt(tier, &deployment.provider, Ok(&end));
        let first_token = progress.first_token.unwrap_or_else(|| progress.began.elapsed());
        self.metrics.first_token(tier, first_token);
        end.attempt = step.number;
        end.tier = v1::Tier::from(deployment.tier).into();
        end.machine = deployment.machine.to_string();
        end.deployment = deployment.id.to_string();
        end.request_cost_picodollars = step.spent.saturating_add(end.cost_picodollars);
        end.time_to_first_token_ms = millis(first_token);
        end.total_ms = millis(step.asked.at.elapsed());
        let finish = end.finish_reason();
        // on disk before the caller hears of it: what the caller was told and what the ledger says cannot differ
        self.account(step, usage::ended(self, step, progress, &end)).await;
        caller.tell(Event::End(Box::new(end))).await.ok();
        finish
    }
}

impl Progress {
    fn saw(&mut self, delta: &v1::Delta) {
        let bytes: usize = delta
            .items
            .iter()
            .map(|item| {
                let calls: usize =
                    item.tool_calls.iter().map(|call| call.name.len() + call.arguments_json.len()).sum();
                item.text.len() + item.reasoning.len() + calls
            })
            .sum();
        self.bytes += bytes;
        self.audio_bytes += delta.items.iter().map(|item| item.audio.len()).sum::<usize>();
        if self.has_begun() && self.first_token.is_none() {
            self.first_token = Some(self.began.elapsed());
        }
    }

    /// Whether the caller has a piece of the answer.
    pub(super) const fn has_begun(&self) -> bool {
        self.bytes > 0 || self.audio_bytes > 0
    }
}

/// What a cancelled executor says at the end that it came to, for the ledger.
async fn last_word(mut frames: ReplyStream, patience: Duration, progress: &mut Progress) -> Option<Spent> {
    let until = Instant::now() + patience;
    while let Ok(frame) = frames.next(until.saturating_duration_since(Instant::now())).await {
        match frame.kind {
            Some(Kind::End(end)) => {
                progress.energy = (end.energy_millijoules, end.energy_estimated);
                let cost = Money::picodollars(end.cost_picodollars);
                return Some(Spent { usage: end.usage.unwrap_or_default().into(), cost });
            }
            Some(Kind::Error(error)) => return Fault::from(error).spent.map(|spent| *spent),
            _ => {}
        }
    }
    None
}

fn lost(error: &StreamError) -> Fault {
    let (code, message) = match error {
        StreamError::NoResponders => {
            (Code::Unavailable, "the executor is gone: nobody listens on its subject".to_owned())
        }
        StreamError::Silent(_) => (Code::Unavailable, format!("the executor is gone: {error}")),
        StreamError::Denied(_) => {
            let message = format!("the request was kept from where it was to go: {error}");
            return Fault::new(Code::PermissionDenied, Origin::Internal, false, message);
        }
        StreamError::Gap { .. } | StreamError::Overrun | StreamError::Decode(_) => {
            (Code::Internal, format!("the answer was lost on the way: {error}"))
        }
    };
    Fault::new(code, Origin::Internal, true, message)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
