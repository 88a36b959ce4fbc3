//! Answers requests from the bus with the engine.

use std::time::Duration;

use bus::executor::{Attempt, Executor, Frames};
use service_runtime::Clock;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use domain::fault::{Code, Fault, Origin};
use domain::id::NodeId;
use domain::inference::{Embed, Request};
use domain::tokens;
use wire::v1;

use super::answer::{self, Deltas};
use super::convert;
use super::energy::EnergyMeter;
use super::report::Reports;
use crate::engine::{self, Engine, Piece};
use crate::protocol::{Event, Finished, Operation};
use crate::settings::ModelConfig;

/// Name of this kind of executor, as in deployments and metrics.
pub const PROVIDER: &str = "llama.cpp";

/// One loaded model on the bus.
pub(super) struct EngineExecutor {
    engine: Engine,
    model: ModelConfig,
    machine: NodeId,
    clock: Clock,
    reports: Reports,
    energy: EnergyMeter,
}

impl EngineExecutor {
    pub(super) const fn new(
        engine: Engine,
        model: ModelConfig,
        machine: NodeId,
        clock: Clock,
        reports: Reports,
        energy: EnergyMeter,
    ) -> Self {
        Self { engine, model, machine, clock, reports, energy }
    }

    fn now(&self) -> OffsetDateTime {
        let seconds = i64::try_from(self.clock.now_unix_ms() / 1000).unwrap_or(0);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// An end with everything that does not depend on the answer.
    fn end(&self, deployment: &str, total: Duration) -> v1::End {
        v1::End {
            deployment: deployment.to_owned(),
            provider: PROVIDER.to_owned(),
            model: self.model.name.to_string(),
            tier: v1::Tier::from(self.model.tier).into(),
            machine: self.machine.to_string(),
            total_ms: milliseconds(total),
            ..v1::End::default()
        }
    }

    async fn generate(
        &self,
        request: engine::Generate,
        streams: bool,
        deployment: &str,
        frames: &Frames,
    ) -> Result<(v1::End, Option<Duration>), Fault> {
        frames.phase("prefill", 0);
        let prompt = request.messages.iter().map(|message| tokens::of_text(&message.content)).sum();
        let energy = self.energy.begin(prompt);
        let mut generation = self.engine.generate(request).await?;
        let (mut deltas, mut unsent) = (Deltas::default(), Piece::default());
        let mut begun = false;
        while let Some(piece) = generation.next().await {
            if !std::mem::replace(&mut begun, true) {
                frames.phase("generating", 0);
            }
            energy.computed(1);
            if streams {
                frames.delta(deltas.item(piece)).await?;
            } else {
                unsent.add(piece);
            }
        }
        let finished = generation.finish().await?;
        unsent.add(finished.rest);
        let items = if unsent.is_empty() { vec![] } else { vec![deltas.item(unsent)] };
        let first_token = finished.time_to_first_token;
        let (energy_millijoules, energy_estimated) = energy.end();
        let end = v1::End {
            energy_millijoules,
            energy_estimated,
            finish_reason: answer::finish_reason(finished.finish).into(),
            usage: Some(answer::usage(finished.usage)),
            time_to_first_token_ms: first_token.map_or(0, milliseconds),
            last_delta: Some(v1::Delta { items }),
            ..self.end(deployment, finished.total)
        };
        Ok((end, first_token))
    }

    async fn embed(
        &self,
        request: Embed,
        deployment: &str,
        cancel: CancellationToken,
    ) -> Result<v1::End, Fault> {
        let own = self.engine.facts().embedding_dimensions;
        if let Some(asked) = request.dimensions.filter(|asked| *asked != own) {
            let text = format!("dimensions is {asked}, the vectors of {} have {own}", self.model.name);
            return Err(Fault::new(Code::Unsupported, Origin::Caller, false, text).in_field("dimensions"));
        }
        let started = Instant::now();
        let energy = self.energy.begin(request.inputs.iter().map(|input| tokens::of_text(input)).sum());
        let embedded = self.engine.embed(request.inputs, cancel).await?;
        let (energy_millijoules, energy_estimated) = energy.end();
        let embeddings = embedded.vectors.into_iter().map(|values| v1::Embedding { values }).collect();
        Ok(v1::End {
            finish_reason: v1::FinishReason::Stop.into(),
            usage: Some(v1::TokenUsage { input: embedded.input.get(), ..v1::TokenUsage::default() }),
            embeddings: Some(v1::Embeddings { embeddings }),
            energy_millijoules,
            energy_estimated,
            ..self.end(deployment, started.elapsed())
        })
    }

    fn report(
        &self,
        request_id: String,
        operation: Operation,
        outcome: &Result<(v1::End, Option<Duration>), Fault>,
        total: Duration,
    ) {
        let (usage, first_token, error) = match outcome {
            Ok((end, first_token)) => (end.usage.unwrap_or_default(), *first_token, ""),
            Err(fault) => (v1::TokenUsage::default(), None, fault.code.as_str()),
        };
        self.reports.send(Event::Finished(Finished {
            request_id,
            operation,
            error: error.to_owned(),
            input_tokens: usage.input,
            cached_tokens: usage.cached_input,
            output_tokens: usage.output,
            first_token_us: first_token.map(microseconds),
            total_us: microseconds(total),
        }));
    }
}

impl Executor for EngineExecutor {
    async fn execute(&self, attempt: Attempt, frames: Frames) -> Result<v1::End, Fault> {
        let started = Instant::now();
        let request_id = attempt.request.envelope().id.to_string();
        self.reports.send(Event::Taken { request_id: request_id.clone() });
        let streams = attempt.request.streams();
        let deployment = attempt.deployment;
        let (operation, outcome) = match attempt.request {
            Request::Generate(request) => {
                let outcome = match convert::generate(&request, &self.model, self.now(), attempt.cancel) {
                    Ok(request) => self.generate(request, streams, &deployment, &frames).await,
                    Err(fault) => Err(fault),
                };
                (Operation::Chat, outcome)
            }
            Request::Translate(request) if self.model.translate => {
                let request = convert::translate(&request, self.now(), attempt.cancel);
                (Operation::Chat, self.generate(request, streams, &deployment, &frames).await)
            }
            Request::Translate(_) => {
                let text = format!("{} is not configured to translate", self.model.name);
                let fault = Fault::new(Code::Unsupported, Origin::Caller, false, text).in_field("model");
                (Operation::Chat, Err(fault))
            }
            Request::Transcribe(_) | Request::Speak(_) => {
                let text = format!("{} is a model of text, which neither hears nor speaks", self.model.name);
                let fault = Fault::new(Code::Unsupported, Origin::Caller, false, text).in_field("model");
                (Operation::Chat, Err(fault))
            }
            Request::Embed(request) => {
                let outcome = self.embed(request, &deployment, attempt.cancel).await;
                (Operation::Embeddings, outcome.map(|end| (end, None)))
            }
        };
        self.report(request_id, operation, &outcome, started.elapsed());
        outcome.map(|(end, _)| end)
    }

    fn refused(&self, request_id: &str) {
        self.reports.send(Event::Refused { request_id: request_id.to_owned() });
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
