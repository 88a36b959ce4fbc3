//! Instruments of the hub. Names, units and labels stand here and nowhere else.
//!
//! Sums of the ledger are observed, not counted: each scrape reads what the ledger has counted since it began, so that
//! `/metrics`, the page and the file agree, also after a restart.

use std::sync::Arc;

use domain::units::Money;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};

use crate::{
    config::Role,
    ledger::{Counters, Ledger},
    metric_store::MetricStore,
    remote_write::Refusals,
};

/// Makes the instruments that are observed.
pub fn observe(meter: &Meter, ledger: &Ledger, store: &Arc<dyn MetricStore>, role: Role) {
    observe_placements(meter, ledger);
    observe_health(meter, ledger);
    let observed = Arc::clone(store);
    meter
        .u64_observable_gauge("hybrid_metric_store_series")
        .with_description("Series that can be asked for.")
        .with_callback(move |gauge| gauge.observe(observed.size().series, &[]))
        .build();
    let observed = Arc::clone(store);
    meter
        .u64_observable_gauge("hybrid_metric_store_samples")
        .with_description("Samples that can be asked for.")
        .with_callback(move |gauge| gauge.observe(observed.size().samples, &[]))
        .build();
    meter
        .u64_observable_gauge("hybrid_hub_role")
        .with_description("1 for the role of this hub.")
        .with_callback(move |gauge| gauge.observe(1, &[KeyValue::new("role", role.name())]))
        .build();
}

fn observe_placements(meter: &Meter, ledger: &Ledger) {
    let observed = ledger.clone();
    meter
        .u64_observable_counter("hybrid_ledger_attempts")
        .with_description("Attempts in the ledger.")
        .with_callback(move |counter| {
            for (key, sums) in observed.counters().placements {
                let labels = [
                    KeyValue::new("tier", key.tier),
                    KeyValue::new("provider", key.provider),
                    KeyValue::new("outcome", key.outcome),
                ];
                counter.observe(sums.attempts.unsigned_abs(), &labels);
            }
        })
        .build();
    let observed = ledger.clone();
    meter
        .u64_observable_counter("hybrid_ledger_tokens")
        .with_description(
            "Tokens in the ledger. input includes cached_input and cache_write, output includes reasoning.",
        )
        .with_callback(move |counter| {
            for ((tier, provider), sums) in by_provider(&observed.counters()) {
                for (kind, count) in sums.tokens.by_kind() {
                    let labels = [
                        KeyValue::new("tier", tier.clone()),
                        KeyValue::new("provider", provider.clone()),
                        KeyValue::new("kind", kind),
                    ];
                    counter.observe(count.unsigned_abs(), &labels);
                }
            }
        })
        .build();
    let observed = ledger.clone();
    meter
        .f64_observable_counter("hybrid_ledger_cost_dollars")
        .with_description("Cost in the ledger, US dollars.")
        .with_callback(move |counter| {
            for ((tier, provider), sums) in by_provider(&observed.counters()) {
                let labels = [KeyValue::new("tier", tier), KeyValue::new("provider", provider)];
                counter.observe(dollars(sums.cost), &labels);
            }
        })
        .build();
}

fn observe_health(meter: &Meter, ledger: &Ledger) {
    let observed = ledger.clone();
    meter
        .u64_observable_counter("hybrid_ledger_dead_letters")
        .with_description("Usage events that did not become a row.")
        .with_callback(move |counter| counter.observe(observed.counters().dead_letters, &[]))
        .build();
    let observed = ledger.clone();
    meter
        .u64_observable_counter("hybrid_ledger_duplicates")
        .with_description("Deliveries of usage events that were there already.")
        .with_callback(move |counter| counter.observe(observed.counters().duplicates, &[]))
        .build();
    let observed = ledger.clone();
    meter
        .u64_observable_gauge("hybrid_ledger_missing_events")
        .with_description("Usage events that their origin numbered and that are not in the ledger.")
        .with_callback(move |gauge| {
            for (machine, missing) in observed.counters().missing_by_machine {
                gauge.observe(missing, &[KeyValue::new("machine", machine)]);
            }
        })
        .build();
    let observed = ledger.clone();
    meter
        .f64_observable_gauge("hybrid_ledger_last_ingest_timestamp_seconds")
        .with_description("When usage events were last committed; 0 = not since the start.")
        .with_callback(move |gauge| {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a double")]
            let seconds = observed.counters().last_commit_unix_ms.unwrap_or_default() as f64 / 1e3;
            gauge.observe(seconds, &[]);
        })
        .build();
}

type ByProvider = std::collections::BTreeMap<(String, String), crate::ledger::Sums>;

fn by_provider(counters: &Counters) -> ByProvider {
    let mut sums = ByProvider::new();
    for (key, more) in &counters.placements {
        let sum = sums.entry((key.tier.clone(), key.provider.clone())).or_default();
        *sum = sum.saturating_add(*more);
    }
    sums
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a double; the ledger has the exact amount")]
fn dollars(money: Money) -> f64 {
    money.as_picodollars() as f64 / Money::PICODOLLARS_PER_DOLLAR as f64
}

/// Counts of remote-write since the start.
#[derive(Debug, Clone)]
pub struct WriteMeters {
    requests: Counter<u64>,
    samples: Counter<u64>,
    refused: Counter<u64>,
}

impl WriteMeters {
    /// Makes the instruments.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let counter = |name, description| meter.u64_counter(name).with_description(description).build();
        Self {
            requests: counter("hybrid_remote_write_requests", "Remote-write requests by answer."),
            samples: counter("hybrid_remote_write_samples", "Samples written."),
            refused: counter("hybrid_remote_write_refused_samples", "Samples refused by reason."),
        }
    }

    /// One request with this answer.
    pub fn request(&self, status: u16) {
        self.requests.add(1, &[KeyValue::new("code", i64::from(status))]);
    }

    /// So many samples written.
    pub fn samples(&self, count: u64) {
        self.samples.add(count, &[]);
    }

    /// Samples that were not.
    pub fn refused(&self, refused: &Refusals) {
        for (reason, count) in refused.by_reason() {
            self.refused.add(count, &[KeyValue::new("reason", reason)]);
        }
    }
}
