//! The routing snapshot as it is now, without asking anybody.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use arc_swap::ArcSwapOption;
use bus::{Bus, control::Control};
use domain::{
    fault::{Code, Fault, Origin},
    routing::Snapshot,
};
use prost::Message;
use service_runtime::{Component, Tasks};
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{service, snapshot_key},
    v1,
};

/// The last good snapshot. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Snapshots {
    current: Arc<ArcSwapOption<Snapshot>>,
    /// Coordinators of this machine that are alive.
    coordinators: Arc<AtomicU32>,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { current: Arc::default(), coordinators: Arc::new(AtomicU32::new(1)) }
    }
}

impl Snapshots {
    /// Watches this machine's snapshot. One that does not decode is reported and the last good one stays.
    pub(crate) fn watch(
        bus: &Bus,
        control: &Control,
        tasks: &Tasks,
        stop: CancellationToken,
        health: Component,
    ) -> Self {
        let current = Self::default();
        let mut changes = control.watch(bus, snapshot_key(bus.machine()), stop);
        let store = current.clone();
        health.set_ready(false, "no snapshot yet: is model-manager-suite running?");
        tasks.spawn("snapshots", async move {
            while let Some(change) = changes.recv().await {
                let Some(value) = change.value else { continue };
                match read(&value) {
                    Ok((snapshot, coordinators)) => {
                        tracing::debug!(revision = snapshot.revision, "routing snapshot");
                        store.coordinators.store(coordinators, Ordering::Relaxed);
                        store.current.store(Some(Arc::new(snapshot)));
                        health.set_ready(true, "");
                    }
                    Err(error) => tracing::error!(%error, "routing snapshot refused, the last one stays"),
                }
            }
            Ok(())
        });
        current
    }

    /// Those that share this machine's requests, this one included.
    pub(crate) fn coordinators(&self) -> u32 {
        self.coordinators.load(Ordering::Relaxed)
    }

    pub(crate) fn current(&self) -> Result<Arc<Snapshot>, Fault> {
        self.current.load_full().ok_or_else(|| {
            Fault::new(
                Code::Unavailable,
                Origin::Internal,
                true,
                "no routing snapshot yet: model-manager-suite has not come up since this machine's bus is new",
            )
        })
    }
}

/// The snapshot, and how many coordinators of its machine are alive.
fn read(value: &[u8]) -> Result<(Snapshot, u32), Fault> {
    let wire = v1::RoutingSnapshot::decode(value).map_err(|error| Fault::internal(error.to_string()))?;
    let alive = wire.services.iter().filter(|status| {
        status.alive && status.machine == wire.machine && status.service == service::REQUEST_COORDINATOR
    });
    let coordinators = u32::try_from(alive.count()).unwrap_or(u32::MAX).max(1);
    Ok((wire.try_into()?, coordinators))
}
