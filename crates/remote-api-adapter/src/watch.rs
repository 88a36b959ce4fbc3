//! What goes on beside the requests: probes of servers that permit them, and keeping what is registered up to date.

use std::{sync::Arc, time::Duration};

use service_runtime::Process;
use tokio::time::{Instant, MissedTickBehavior};
use wire::v1::{Deployment, DeploymentState};

use crate::{
    attempt::Adapter,
    route::{Routes, Upstream},
};

/// Between looks at keys and cooldowns, so that a key that appears brings its deployments up.
const LOOK: Duration = Duration::from_secs(2);
/// Changes that come together are told together.
const SETTLE: Duration = Duration::from_millis(100);
/// Probes in a row that have to fail before a provider counts as down: one may be lost.
const PROBES_FAILED: u32 = 2;

/// Keeps the registration up to date until the shutdown.
pub(crate) fn availability(process: &Process, adapter: &Arc<Adapter>, told: bus::Announcement) {
    let (adapter, stop) = (Arc::clone(adapter), process.shutdown.token());
    process.tasks.spawn("availability", async move {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = Vec::new();
        let mut closes = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = adapter.routes.changed.notified() => tokio::time::sleep(SETTLE).await,
                // nothing happens when a breaker's time is up, and callers have to hear that it may be tried again
                () = tokio::time::sleep(closes.unwrap_or(LOOK)), if closes.is_some() => {}
                _ = look.tick() => {}
            }
            closes = None;
            for route in adapter.routes.all() {
                closes = closes.into_iter().chain(route.circuit.closes_in()).min();
                adapter.metrics.condition(&route, &route.circuit.condition());
            }
            let deployments = adapter.routes.registered();
            tell_changes(&deployments, &mut known);
            told.set_deployments(deployments);
        }
    });
}

/// Probes each provider that has an interval for it, until the shutdown.
pub(crate) fn probes(process: &Process, routes: &Routes) {
    for upstream in &routes.upstreams {
        let Some(every) = upstream.probe_every else { continue };
        let (upstream, changed) = (Arc::clone(upstream), Arc::clone(&routes.changed));
        let stop = process.shutdown.token();
        process.tasks.spawn("probe", async move {
            let mut tick = tokio::time::interval_at(Instant::now() + every, every);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut failed = 0;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = tick.tick() => {}
                }
                if probe(&upstream, &mut failed).await {
                    changed.notify_one();
                }
            }
        });
    }
}

/// One probe; whether what is known of the provider may have changed.
pub(crate) async fn probe(upstream: &Upstream, failed: &mut u32) -> bool {
    match upstream.provider.probe().await {
        Ok(()) => {
            let was_down = *failed >= PROBES_FAILED;
            *failed = 0;
            upstream.probed(None);
            was_down
        }
        Err(problem) => {
            *failed = failed.saturating_add(1);
            if *failed >= PROBES_FAILED {
                upstream.probed(Some(problem));
            }
            *failed == PROBES_FAILED
        }
    }
}

/// Logs each deployment whose state or reason is another than before, once.
fn tell_changes(deployments: &[Deployment], known: &mut Vec<(String, String)>) {
    let was = std::mem::take(known);
    for deployment in deployments {
        let (id, reason) = (&deployment.id, &deployment.state_detail);
        let before = was.iter().find(|(known, _)| known == id).map_or("", |(_, reason)| reason);
        if before != reason {
            if deployment.state() == DeploymentState::Down {
                tracing::warn!(deployment = %id, %reason, "deployment is down");
            } else if reason.is_empty() {
                tracing::info!(deployment = %id, "deployment is well again");
            } else {
                tracing::warn!(deployment = %id, %reason, "deployment is not well");
            }
        }
        known.push((id.clone(), reason.clone()));
    }
}
