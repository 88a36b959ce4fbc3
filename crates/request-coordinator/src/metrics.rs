//! What this service counts.

use std::time::Duration;

use domain::{
    fault::{Code, Fault},
    routing::Decision,
};
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};
use wire::v1;

pub(crate) struct Metrics {
    requests: Counter<u64>,
    decisions: Counter<u64>,
    attempts: Counter<u64>,
    duration: Histogram<f64>,
    first_token: Histogram<f64>,
    tokens: Histogram<u64>,
    ledger_failures: Counter<u64>,
    refused: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("request-coordinator");
        Self {
            requests: meter
                .u64_counter("hybrid_requests")
                .with_description("requests by ingress, method and outcome")
                .build(),
            decisions: meter
                .u64_counter("hybrid_routing_decisions")
                .with_description("decisions by class and first candidate's tier")
                .build(),
            attempts: meter
                .u64_counter("hybrid_attempts")
                .with_description("attempts by tier, provider and outcome")
                .build(),
            duration: meter
                .f64_histogram("gen_ai.server.request.duration")
                .with_unit("s")
                .with_description("from ingress to the last frame")
                .build(),
            first_token: meter
                .f64_histogram("gen_ai.server.time_to_first_token")
                .with_unit("s")
                .with_description("from ingress to the first piece of the answer")
                .build(),
            tokens: meter
                .u64_histogram("gen_ai.client.token.usage")
                .with_unit("{token}")
                .with_description("tokens of a successful attempt")
                .build(),
            ledger_failures: meter
                .u64_counter("hybrid_ledger_write_failures")
                .with_description("usage events that were not on disk when their request ended")
                .build(),
            refused: meter
                .u64_counter("hybrid_key_refused")
                .with_description("requests that their virtual key had no room for or was not for")
                .build(),
        }
    }

    pub(crate) fn request(
        &self,
        ingress: &'static str,
        method: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        let labels = [
            KeyValue::new("ingress", ingress),
            KeyValue::new("gen_ai.operation.name", method),
            KeyValue::new("outcome", outcome),
        ];
        self.requests.add(1, &labels);
        self.duration.record(took.as_secs_f64(), &labels);
    }

    pub(crate) fn refused(&self, code: Code) {
        self.refused.add(1, &[KeyValue::new("code", code.as_str())]);
    }

    pub(crate) fn decision(&self, decision: &Decision) {
        let tier = decision.candidates.first().map_or("none", |first| first.deployment.tier.as_str());
        self.decisions
            .add(1, &[KeyValue::new("class", decision.class.as_str()), KeyValue::new("tier", tier)]);
    }

    pub(crate) fn attempt(&self, tier: &'static str, provider: &str, outcome: Result<&v1::End, &Fault>) {
        let provider = KeyValue::new("gen_ai.provider.name", provider.to_owned());
        let name = match outcome {
            Ok(_) => "ok",
            Err(fault) => fault.code.as_str(),
        };
        self.attempts
            .add(1, &[KeyValue::new("tier", tier), provider.clone(), KeyValue::new("outcome", name)]);
        if let Some(usage) = outcome.ok().and_then(|end| end.usage.as_ref()) {
            self.tokens.record(usage.input, &[provider.clone(), KeyValue::new("gen_ai.token.type", "input")]);
            self.tokens.record(usage.output, &[provider, KeyValue::new("gen_ai.token.type", "output")]);
        }
    }

    pub(crate) fn first_token(&self, tier: &'static str, after: Duration) {
        self.first_token.record(after.as_secs_f64(), &[KeyValue::new("tier", tier)]);
    }

    pub(crate) fn ledger_failed(&self) {
        self.ledger_failures.add(1, &[]);
    }
}
