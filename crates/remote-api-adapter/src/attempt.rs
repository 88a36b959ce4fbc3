//! One attempt, from its slot to its end: calls until one gets through or trying again makes no sense, pieces, cost.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use domain::{
    fault::{Code, Fault, Origin, Spent},
    inference::Request,
    pricing::TokenUsage,
    resilience::retry::{Cause, Failure, Progress, Verdict},
    routing::Tier,
    tokens::Counter,
    units::{Money, Tokens},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::v1;

use crate::{
    circuit::Pass,
    metrics::{Ended, Metrics},
    provider::{Call, Completion, Failed, Step},
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
    /// A call is under way whose answer the provider may bill.
    sent: bool,
    /// The provider was called at least once.
    called: bool,
    first: Option<Duration>,
    output: Counter,
    /// Bytes of audio that came.
    heard: usize,
    /// Leave to make the call that is under way.
    pass: Option<Pass<'a>>,
    /// Whether the key in use costs nothing.
    free: AtomicBool,
    /// What calls that failed came to: the provider will hardly leave it out of its bill.
    lost: Option<Spent>,
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
            called: false,
            first: None,
            output: Counter::default(),
            heard: 0,
            pass: None,
            free: AtomicBool::new(false),
            lost: None,
        };
        let driven = tokio::select! {
            biased;
            () = order.cancel.cancelled() => None,
            driven = tokio::time::timeout_at(limit, run.drive(pieces, &self.metrics)) => Some(driven),
        };
        let outcome = match driven {
            Some(Ok(outcome)) => outcome.map(|completion| run.end(&self.routes, completion)),
            // the caller was in a hurry: no fault of the provider's
            Some(Err(_)) if limit < started + total => {
                run.broken_off();
                let message = format!("the deadline passed after {} ms", run.elapsed_ms());
                Err(Fault::new(Code::Timeout, Origin::Policy, true, message))
            }
            Some(Err(_)) => {
                run.broken_off();
                let message =
                    format!("{} had no whole answer after {} ms", route.upstream.name, run.elapsed_ms());
                let fault = Fault::new(Code::Timeout, Origin::Provider, true, message);
                if let Some(pass) = run.pass.take() {
                    pass.failed(&fault);
                }
                Err(fault)
            }
            None => {
                let completion =
                    Completion { finish_reason: v1::FinishReason::Cancelled, ..Completion::default() };
                Ok(run.end(&self.routes, completion))
            }
        };
        let outcome = outcome.map_err(|fault| fault.having_spent(run.lost));
        self.count(&run, &outcome);
        outcome
    }

    fn count(&self, run: &Run<'_>, outcome: &Result<v1::End, Fault>) {
        let usage = match outcome {
            Ok(end) => end.usage.map(TokenUsage::from),
            Err(fault) => fault.spent.as_ref().map(|spent| spent.usage),
        };
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
    /// Calls until one gets through, or trying again makes no sense.
    async fn drive<P: Pieces>(&mut self, pieces: &P, metrics: &Metrics) -> Result<Completion, Fault> {
        pieces.phase("waiting-upstream");
        let upstream = &self.route.upstream;
        let (mut retries, mut last) = (0, None::<Fault>);
        loop {
            let failed = match (self.call(pieces).await, last.take()) {
                (Ok(completion), _) => return Ok(completion),
                // the breaker opened or the key rests meanwhile: what the provider said tells more
                (Err(failed), Some(last)) if failed.unsent => {
                    let wait = failed.fault.retry_after.or(last.retry_after);
                    return Err(Fault { retry_after: wait, ..last });
                }
                (Err(failed), _) => failed,
            };
            // what the caller has seen cannot be taken back
            let cause = failed.cause.filter(|_| self.first.is_none());
            let failure = Failure { cause, retry_after: failed.fault.retry_after };
            match upstream.after(failure, Progress { retries, elapsed: self.started.elapsed() }) {
                Verdict::Again(wait) => {
                    let why = cause.map_or("", Cause::as_str);
                    metrics.retried(self.route, why);
                    tracing::debug!(
                        deployment = %self.route.id,
                        code = failed.fault.code.as_str(),
                        cause = why,
                        wait_ms = wait.as_millis(),
                        "call failed, trying again"
                    );
                    tokio::time::sleep(wait).await;
                    (retries, last) = (retries + 1, Some(failed.fault));
                }
                Verdict::GiveUp(reason) => {
                    tracing::debug!(deployment = %self.route.id, ?reason, retries, "call given up");
                    return Err(failed.fault);
                }
            }
        }
    }

    /// One call, if the circuit breaker lets it pass, and what it means for the deployment's health.
    async fn call<P: Pieces>(&mut self, pieces: &P) -> Result<Completion, Failed> {
        let route = self.route;
        let pass = route.circuit.enter().map_err(|stopped| {
            let why = if stopped.why.is_empty() { String::new() } else { format!(" ({})", stopped.why) };
            let wait = stopped.wait;
            let message = format!(
                "{} is left alone after failures{why}: its circuit breaker is open for {} ms",
                route.id,
                wait.as_millis()
            );
            Failed::unsent(Fault::new(Code::Unavailable, Origin::Provider, true, message).after(wait))
        })?;
        self.pass = Some(pass);
        let outcome = self.answer(pieces).await;
        if let Err(failed) = &outcome {
            self.charge(failed);
        }
        if let Some(pass) = self.pass.take() {
            match &outcome {
                Ok(_) => pass.succeeded(),
                Err(failed) if failed.is_outage() => pass.failed(&failed.fault),
                Err(_) => {}
            }
        }
        outcome
    }

    /// One call, from its request to the end of its answer.
    async fn answer<P: Pieces>(&mut self, pieces: &P) -> Result<Completion, Failed> {
        self.sent = true;
        let call = Call { target: &self.route.target, request: self.request };
        let opened = self.route.upstream.provider.open(call, &self.free).await;
        // only what reached the provider earns a part of a retry
        if !self.called && !opened.as_ref().is_err_and(|failed| failed.unsent) {
            self.called = true;
            self.route.upstream.called();
        }
        let mut answer = opened?;
        loop {
            match answer.next().await? {
                Step::Pieces(items) => {
                    if self.first.is_none() {
                        pieces.phase("generating");
                    }
                    self.saw(&items);
                    if let Some(pass) = &mut self.pass {
                        pass.begun();
                    }
                    for item in items {
                        pieces.piece(item).await.map_err(Failed::unsent)?;
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

    /// Notes what a call that failed came to: what the provider counted, or, where an answer had begun, what can be counted
    /// here. What was refused costs nothing.
    fn charge(&mut self, failed: &Failed) {
        let seen = self.output.tokens();
        match failed.used.as_deref().copied() {
            // at the start of a stream hardly any output is counted yet
            Some(used) if used.output < seen => {
                self.lose(TokenUsage { output: seen, estimated: true, ..used });
            }
            Some(used) => self.lose(used),
            None if self.first.is_some() => self.lose(self.estimate()),
            // what is spoken is charged as input, what was never heard of it included
            None if failed.cause == Some(Cause::Cut) => {
                self.lose(self.request.estimate(Tokens::ZERO, self.request.characters()));
            }
            None => {}
        }
        self.sent = false;
    }

    /// The call under way is given up. What the provider made of it is not known; where it streams and has said nothing, it was
    /// not at work yet.
    fn broken_off(&mut self) {
        if self.sent && (self.first.is_some() || !self.request.streams()) {
            self.lose(self.estimate());
        }
        self.sent = false;
    }

    fn lose(&mut self, usage: TokenUsage) {
        let cost = self.cost(&usage);
        let lost = self.lost.get_or_insert_default();
        lost.usage += usage;
        lost.cost = lost.cost + cost;
    }

    fn cost(&self, usage: &TokenUsage) -> Money {
        if self.free.load(Ordering::Relaxed) { Money::ZERO } else { self.route.price.cost(usage) }
    }

    fn saw(&mut self, items: &[v1::DeltaItem]) {
        if self.first.is_none() && !items.is_empty() {
            self.first = Some(self.started.elapsed());
        }
        for item in items {
            self.heard = self.heard.saturating_add(item.audio.len());
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
        let spoken = if self.heard > 0 { self.request.characters() } else { 0 };
        self.request.estimate(self.output.tokens(), spoken)
    }

    fn end(&self, routes: &Routes, completion: Completion) -> v1::End {
        let mut usage = completion.usage.unwrap_or_else(|| self.estimate());
        let mut cost = self.cost(&usage);
        if let Some(lost) = self.lost {
            usage += lost.usage;
            cost = cost + lost.cost;
        }
        let last = (!completion.items.is_empty()).then_some(v1::Delta { items: completion.items });
        v1::End {
            finish_reason: completion.finish_reason.into(),
            usage: Some(usage.into()),
            cost_picodollars: cost.as_picodollars(),
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
            transcript: completion.transcript,
            // Computed elsewhere.
            energy_millijoules: 0,
            energy_estimated: false,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
