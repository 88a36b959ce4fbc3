//! One attempt, from its slot to its end: call, retries before the first byte, pieces, cost.

use std::time::Duration;

use domain::{
    fault::{Code, Fault, Origin},
    inference::Request,
    pricing::TokenUsage,
    resilience::retry::{Failure, Progress, Verdict},
    routing::Tier,
    tokens::Counter,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::v1;

use crate::{
    metrics::{Ended, Metrics},
    provider::{Answer, Call, Completion, Step},
    route::{Route, Routes},
};

/// Where the pieces of an answer go.
pub(crate) trait Pieces: Sync {
    /// One piece.
    ///
    /// # Errors
    /// Nobody wants the rest.
    fn piece(&self, item: v1::DeltaItem) -> impl Future<Output = Result<(), Fault>> + Send;

    /// What is going on, for heartbeats.
    fn phase(&self, phase: &'static str);

    /// What is going on and how far it is, percent.
    fn progress(&self, phase: &'static str, _percent: u32) {
        self.phase(phase);
    }
}

impl Pieces for bus::executor::Frames {
    fn piece(&self, item: v1::DeltaItem) -> impl Future<Output = Result<(), Fault>> + Send {
        self.delta(item)
    }

    fn phase(&self, phase: &'static str) {
        self.phase(phase, 0);
    }

    fn progress(&self, phase: &'static str, percent: u32) {
        self.phase(phase, percent);
    }
}

/// Runs attempts.
pub(crate) struct Adapter {
    pub(crate) routes: Routes,
    pub(crate) metrics: Metrics,
}

/// What is asked.
pub(crate) struct Order<'a> {
    pub(crate) deployment: &'a str,
    pub(crate) request: &'a Request,
    pub(crate) deadline: Instant,
    pub(crate) cancel: &'a CancellationToken,
}

impl bus::executor::Executor for Adapter {
    async fn execute(
        &self,
        attempt: bus::executor::Attempt,
        frames: bus::executor::Frames,
    ) -> Result<v1::End, Fault> {
        let order = Order {
            deployment: &attempt.deployment,
            request: &attempt.request,
            deadline: attempt.deadline,
            cancel: &attempt.cancel,
        };
        let outcome = self.run(order, &frames).await;
        if let Err(fault) = &outcome {
            let request_id = attempt.request.envelope().id.as_str();
            tracing::info!(
                request_id,
                attempt = attempt.attempt,
                deployment = %attempt.deployment,
                code = fault.code.as_str(),
                provider_code = %fault.provider_code,
                "attempt failed"
            );
        }
        outcome
    }
}

/// What is known of a running attempt, also after it was broken off.
struct Run<'a> {
    route: &'a Route,
    request: &'a Request,
    started: Instant,
    sent: bool,
    first: Option<Duration>,
    output: Counter,
}

impl Adapter {
    /// Runs one attempt. A cancel ends it with what was used, as a success that says `cancelled`.
    ///
    /// # Errors
    /// Why there is no answer, or not all of it.
    pub(crate) async fn run<P: Pieces>(&self, order: Order<'_>, pieces: &P) -> Result<v1::End, Fault> {
        let route = &*self.routes.get(order.deployment).ok_or_else(|| {
            let message = format!("deployment {:?} is not one of this adapter's", order.deployment);
            Fault::new(Code::NotFound, Origin::Internal, true, message)
        })?;
        if let Some(missing) = route.capabilities.missing(order.request.needs()) {
            let message = format!("{} cannot do what was asked: it lacks {missing}", route.id);
            return Err(Fault::new(Code::Unsupported, Origin::Caller, true, message).in_field("model"));
        }
        let Ok(_slot) = route.slots.try_acquire() else {
            let message = format!("{} has no free slot", route.id);
            return Err(Fault::new(Code::Busy, Origin::Local, true, message));
        };
        let started = Instant::now();
        let total = route.upstream.timeouts.total;
        let limit = order.deadline.min(started + total);
        let mut run = Run {
            route,
            request: order.request,
            started,
            sent: false,
            first: None,
            output: Counter::default(),
        };
        let driven = tokio::select! {
            biased;
            () = order.cancel.cancelled() => None,
            driven = tokio::time::timeout_at(limit, run.drive(pieces, &self.metrics)) => Some(driven),
        };
        let outcome = match driven {
            Some(Ok(outcome)) => outcome.map(|completion| run.end(&self.routes, completion)),
            Some(Err(_)) => {
                let message =
                    format!("{} had no whole answer after {} ms", route.upstream.name, run.elapsed_ms());
                Err(Fault::new(Code::Timeout, Origin::Provider, true, message))
            }
            None => {
                let completion =
                    Completion { finish_reason: v1::FinishReason::Cancelled, ..Completion::default() };
                Ok(run.end(&self.routes, completion))
            }
        };
        self.count(&run, &outcome);
        outcome
    }

    fn count(&self, run: &Run<'_>, outcome: &Result<v1::End, Fault>) {
        let usage = outcome.as_ref().ok().and_then(|end| end.usage).map(TokenUsage::from);
        let cancelled = outcome
            .as_ref()
            .is_ok_and(|end| end.finish_reason() == v1::FinishReason::Cancelled)
            .then_some(Code::Cancelled);
        let ended = Ended {
            total: run.started.elapsed(),
            first_chunk: run.first.filter(|_| run.request.streams()),
            usage: usage.as_ref(),
            fault: outcome.as_ref().err().map(|fault| fault.code).or(cancelled),
        };
        self.metrics.ended(run.route, run.request, &ended);
    }
}

impl Run<'_> {
    async fn drive<P: Pieces>(&mut self, pieces: &P, metrics: &Metrics) -> Result<Completion, Fault> {
        pieces.phase("waiting-upstream");
        let mut answer = self.open(metrics).await?;
        loop {
            match answer.next().await? {
                Step::Pieces(items) => {
                    if self.first.is_none() {
                        pieces.phase("generating");
                    }
                    self.saw(&items);
                    for item in items {
                        pieces.piece(item).await?;
                    }
                }
                Step::Phase(phase, percent) => pieces.progress(phase, percent),
                Step::Done(completion) => {
                    self.saw(&completion.items);
                    return Ok(*completion);
                }
            }
        }
    }

    /// Calls until an answer begins or trying again makes no sense.
    async fn open(&mut self, metrics: &Metrics) -> Result<Box<dyn Answer>, Fault> {
        let upstream = &self.route.upstream;
        upstream.called();
        let mut retries = 0;
        loop {
            self.sent = true;
            let call = Call { target: &self.route.target, request: self.request };
            let failed = match upstream.provider.open(call).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let failure = Failure { transient: failed.transient, retry_after: failed.fault.retry_after };
            match upstream.after(failure, Progress { retries, elapsed: self.started.elapsed() }) {
                Verdict::Again(wait) => {
                    metrics.retried(self.route);
                    tracing::debug!(
                        deployment = %self.route.id,
                        code = failed.fault.code.as_str(),
                        wait_ms = wait.as_millis(),
                        "call failed, trying again"
                    );
                    tokio::time::sleep(wait).await;
                    retries += 1;
                }
                Verdict::GiveUp(reason) => {
                    tracing::debug!(deployment = %self.route.id, ?reason, retries, "call given up");
                    return Err(failed.fault);
                }
            }
        }
    }

    fn saw(&mut self, items: &[v1::DeltaItem]) {
        if self.first.is_none() && !items.is_empty() {
            self.first = Some(self.started.elapsed());
        }
        for item in items {
            self.output.add(&item.text);
            self.output.add(&item.reasoning);
            for call in &item.tool_calls {
                self.output.add(&call.name);
                self.output.add(&call.arguments_json);
            }
        }
    }

    fn elapsed_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// What the tokens come to when the provider does not say.
    fn estimate(&self) -> TokenUsage {
        if !self.sent {
            return TokenUsage { estimated: true, ..TokenUsage::default() };
        }
        TokenUsage {
            input: self.request.input_tokens(),
            output: self.output.tokens(),
            estimated: true,
            ..TokenUsage::default()
        }
    }

    fn end(&self, routes: &Routes, completion: Completion) -> v1::End {
        let usage = completion.usage.unwrap_or_else(|| self.estimate());
        let last = (!completion.items.is_empty()).then_some(v1::Delta { items: completion.items });
        v1::End {
            finish_reason: completion.finish_reason.into(),
            usage: Some(usage.into()),
            cost_picodollars: self.route.price.cost(&usage).as_picodollars(),
            deployment: self.route.id.to_string(),
            provider: self.route.upstream.name.clone(),
            model: if completion.model.is_empty() {
                self.route.target.upstream_model.clone()
            } else {
                completion.model
            },
            tier: v1::Tier::from(Tier::RemoteApi).into(),
            machine: routes.machine.to_string(),
            time_to_first_token_ms: self.first.map_or(0, millis),
            total_ms: self.elapsed_ms(),
            attempt: 0,
            last_delta: last,
            embeddings: completion.embeddings,
            request_cost_picodollars: 0,
            provider_request_id: completion.provider_request_id,
            extra_json: completion.extra_json,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
