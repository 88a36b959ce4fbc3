//! What this service counts. Names of OpenTelemetry's GenAI conventions where they exist:
//! <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/>. Label values are configured names and fixed words,
//! never anything of a request.

use std::time::Duration;

use domain::{fault::Code, inference::Request, pricing::TokenUsage, resilience::breaker::Standing};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram},
};

use crate::{circuit::Condition, route::Route};

/// The instruments.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    duration: Histogram<f64>,
    first_chunk: Histogram<f64>,
    tokens: Histogram<u64>,
    retries: Counter<u64>,
    faults: Counter<u64>,
    breaker: Gauge<u64>,
    failing: Gauge<f64>,
    latency: Gauge<f64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = opentelemetry::global::meter("remote-api-adapter");
        Self {
            duration: meter
                .f64_histogram("gen_ai.client.operation.duration")
                .with_unit("s")
                .with_description("Time of a call to a provider, retries included")
                .build(),
            first_chunk: meter
                .f64_histogram("gen_ai.client.operation.time_to_first_chunk")
                .with_unit("s")
                .with_description("From the call to the first piece of a streamed answer")
                .build(),
            tokens: meter
                .u64_histogram("gen_ai.client.token.usage")
                .with_unit("{token}")
                .with_description("Tokens of a call, as the provider counts them")
                .build(),
            retries: meter
                .u64_counter("remote_api.retries")
                .with_description("Calls to a provider that were repeated, by cause")
                .build(),
            faults: meter
                .u64_counter("remote_api.faults")
                .with_description("Calls that failed for good, by code")
                .build(),
            breaker: meter
                .u64_gauge("remote_api.breaker.state")
                .with_description("Circuit breaker of a deployment: 0 closed, 1 half-open, 2 open")
                .build(),
            failing: meter
                .f64_gauge("remote_api.health.failure_ratio")
                .with_unit("1")
                .with_description("Share of a deployment's calls of the last five minutes that failed")
                .build(),
            latency: meter
                .f64_gauge("remote_api.health.time_to_first_chunk")
                .with_unit("s")
                .with_description("Mean time to the first piece over the last five minutes")
                .build(),
        }
    }

    pub(crate) fn retried(&self, route: &Route, cause: &'static str) {
        let provider = KeyValue::new("gen_ai.provider.name", route.upstream.name.clone());
        self.retries.add(1, &[provider, KeyValue::new("cause", cause)]);
    }

    /// How a deployment stands now.
    pub(crate) fn condition(&self, route: &Route, condition: &Condition) {
        let labels = [
            KeyValue::new("gen_ai.provider.name", route.upstream.name.clone()),
            KeyValue::new("gen_ai.request.model", route.model.to_string()),
        ];
        let state = match condition.standing {
            Standing::Closed => 0,
            Standing::HalfOpen => 1,
            Standing::Open(_) => 2,
        };
        self.breaker.record(state, &labels);
        let summary = condition.summary;
        self.failing.record(f64::from(summary.failures) / f64::from(summary.calls.max(1)), &labels);
        if let Some(latency) = summary.latency {
            self.latency.record(latency.as_secs_f64(), &labels);
        }
    }

    /// One call is over.
    pub(crate) fn ended(&self, route: &Route, request: &Request, ended: &Ended<'_>) {
        let mut labels = vec![
            KeyValue::new("gen_ai.operation.name", operation(request)),
            KeyValue::new("gen_ai.provider.name", route.upstream.name.clone()),
            KeyValue::new("gen_ai.request.model", route.model.to_string()),
        ];
        if let Some(first) = ended.first_chunk {
            self.first_chunk.record(first.as_secs_f64(), &labels);
        }
        if let Some(usage) = ended.usage {
            for (kind, count) in [("input", usage.input), ("output", usage.output)] {
                labels.push(KeyValue::new("gen_ai.token.type", kind));
                self.tokens.record(count.get(), &labels);
                labels.pop();
            }
        }
        if let Some(code) = ended.fault {
            labels.push(KeyValue::new("error.type", code.as_str()));
            self.faults.add(1, &labels);
        }
        self.duration.record(ended.total.as_secs_f64(), &labels);
    }
}

/// How a call went.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) total: Duration,
    /// Of a streamed answer.
    pub(crate) first_chunk: Option<Duration>,
    pub(crate) usage: Option<&'a TokenUsage>,
    pub(crate) fault: Option<Code>,
}

const fn operation(request: &Request) -> &'static str {
    match request {
        Request::Generate(_) | Request::Translate(_) => "chat",
        Request::Transcribe(_) => "transcribe",
        Request::Speak(_) => "speak",
        Request::Embed(_) => "embeddings",
    }
}
