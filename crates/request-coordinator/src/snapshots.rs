//! The routing snapshot as it is now, without asking anybody.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bus::{Bus, control::Control};
use domain::{
    fault::{Code, Fault, Origin},
    routing::Snapshot,
};
use prost::Message;
use service_runtime::{Component, Tasks};
use tokio_util::sync::CancellationToken;
use wire::{subject::snapshot_key, v1};

/// The last good snapshot. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Snapshots(Arc<ArcSwapOption<Snapshot>>);

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
                    Ok(snapshot) => {
                        tracing::debug!(revision = snapshot.revision, "routing snapshot");
                        store.0.store(Some(Arc::new(snapshot)));
                        health.set_ready(true, "");
                    }
                    Err(error) => tracing::error!(%error, "routing snapshot refused, the last one stays"),
                }
            }
            Ok(())
        });
        current
    }

    pub(crate) fn current(&self) -> Result<Arc<Snapshot>, Fault> {
        self.0.load_full().ok_or_else(|| {
            Fault::new(
                Code::Unavailable,
                Origin::Internal,
                true,
                "no routing snapshot yet: model-manager-suite has not come up since this machine's bus is new",
            )
        })
    }
}

fn read(value: &[u8]) -> Result<Snapshot, Fault> {
    v1::RoutingSnapshot::decode(value).map_err(|error| Fault::internal(error.to_string()))?.try_into()
}
