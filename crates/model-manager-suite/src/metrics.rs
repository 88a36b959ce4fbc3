//! What this service counts. Names, units and labels stand here and nowhere else.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use domain::{budget::Account, units::Money};
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Meter},
};
use wire::{
    convert,
    v1::{self, DeploymentState},
};

use crate::view::Views;

/// The instruments. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    writes: Counter<u64>,
    refused: Counter<u64>,
    reload_ok: Arc<AtomicBool>,
    budget_allowed: Gauge<f64>,
    budget_spent: Gauge<f64>,
    budget_reserved: Gauge<f64>,
}

impl Metrics {
    /// Instruments of the global meter provider; what the snapshot shows is observed at each scrape.
    pub(crate) fn new(views: &Views) -> Self {
        let meter = global::meter("model-manager-suite");
        observe(&meter, views);
        let reload_ok = Arc::new(AtomicBool::new(true));
        let observed = Arc::clone(&reload_ok);
        meter
            .u64_observable_gauge("config_last_reload_successful")
            .with_description("1 when agents and policies were last read without a mistake.")
            .with_callback(move |gauge| gauge.observe(u64::from(observed.load(Ordering::Relaxed)), &[]))
            .build();
        Self {
            writes: meter
                .u64_counter("hybrid_routing_snapshot_writes")
                .with_description("Attempts to write the routing snapshot, by outcome.")
                .build(),
            refused: meter
                .u64_counter("hybrid_registry_refused")
                .with_description(
                    "Registrations, deployments, heartbeats and flags that could not be used, by kind.",
                )
                .build(),
            reload_ok,
            budget_allowed: dollars(
                &meter,
                "hybrid_budget_allowed_dollars",
                "This machine's part of each budget.",
            ),
            budget_spent: dollars(
                &meter,
                "hybrid_budget_spent_dollars",
                "Spent of each budget in its window.",
            ),
            budget_reserved: dollars(
                &meter,
                "hybrid_budget_reserved_dollars",
                "Set aside of each budget for calls under way.",
            ),
        }
    }

    pub(crate) fn budgets(&self, accounts: &[Account]) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        let dollars = |amount: Money| amount.as_picodollars() as f64 / Money::PICODOLLARS_PER_DOLLAR as f64;
        for account in accounts {
            let name = [KeyValue::new("budget", account.budget.name.clone())];
            self.budget_allowed.record(dollars(account.budget.allowed()), &name);
            self.budget_spent.record(dollars(account.spent), &name);
            self.budget_reserved.record(dollars(account.reserved), &name);
        }
    }

    pub(crate) fn written(&self, ok: bool) {
        self.writes.add(1, &[KeyValue::new("outcome", if ok { "ok" } else { "failed" })]);
    }

    pub(crate) fn refused(&self, kind: &'static str) {
        self.refused.add(1, &[KeyValue::new("kind", kind)]);
    }

    pub(crate) fn reloaded(&self, ok: bool) {
        self.reload_ok.store(ok, Ordering::Relaxed);
    }
}

fn dollars(meter: &Meter, name: &'static str, description: &'static str) -> Gauge<f64> {
    meter.f64_gauge(name).with_description(description).build()
}

fn observe(meter: &Meter, views: &Views) {
    gauge(
        meter,
        views,
        "hybrid_routing_snapshot_revision",
        "Revision of the routing snapshot.",
        |snapshot| vec![(snapshot.revision, vec![])],
    );
    gauge(meter, views, "hybrid_deployments", "Deployments by state and tier.", |snapshot| {
        let labels = snapshot.deployments.iter().map(|deployment| {
            let tier = convert::tier(deployment.tier).map_or("unknown", |tier| tier.as_str());
            (state(deployment.state()), tier)
        });
        let label = |(state, tier)| vec![KeyValue::new("state", state), KeyValue::new("tier", tier)];
        counted(labels).into_iter().map(|(key, count)| (count, label(key))).collect()
    });
    gauge(meter, views, "hybrid_instances_alive", "Services that are heard, by service.", |snapshot| {
        let alive = snapshot.services.iter().filter(|status| status.alive);
        let counts = counted(alive.map(|status| status.service.clone()));
        counts.into_iter().map(|(service, count)| (count, vec![KeyValue::new("service", service)])).collect()
    });
    gauge(meter, views, "hybrid_flags", "Flags that are set, by whether they are on.", |snapshot| {
        let counts = counted(snapshot.flags.iter().map(|flag| flag.enabled));
        counts.into_iter().map(|(on, count)| (count, vec![KeyValue::new("enabled", on)])).collect()
    });
}

type Points = Vec<(u64, Vec<KeyValue>)>;

fn gauge(
    meter: &Meter,
    views: &Views,
    name: &'static str,
    description: &'static str,
    points: impl Fn(&v1::RoutingSnapshot) -> Points + Send + Sync + 'static,
) {
    let views = views.clone();
    meter
        .u64_observable_gauge(name)
        .with_description(description)
        .with_callback(move |gauge| {
            let view = views.borrow().clone();
            for (value, labels) in view.map(|view| points(&view.wire)).unwrap_or_default() {
                gauge.observe(value, &labels);
            }
        })
        .build();
}

fn counted<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

const fn state(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::Warm => "warm",
        DeploymentState::Cold => "cold",
        DeploymentState::Loading => "loading",
        DeploymentState::Down | DeploymentState::Unspecified => "down",
    }
}
