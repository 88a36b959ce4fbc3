//! The control bucket, as far as this service writes it.

use std::time::Duration;

use bus::{Bus, control::Control};
use bytes::Bytes;
use prost::Message;
use service_runtime::Component;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{alias_key, snapshot_key},
    v1,
};

use crate::{keeper::flag_prefix, metrics::Metrics, view::Views};

/// Between tries when the bucket does not answer.
const RETRY: Duration = Duration::from_millis(500);

/// What the bucket holds at the start.
pub(crate) struct Stored {
    /// Revision of the snapshot; 0 = there is none.
    pub(crate) revision: u64,
    /// Registrations of all machines, flags and switched aliases of this one.
    pub(crate) entries: Vec<(String, Bytes)>,
    /// Virtual keys of all machines.
    pub(crate) keys: Vec<(String, Bytes)>,
}

/// Reads the bucket, as often as it takes. `None` when stopped.
pub(crate) async fn read(bus: &Bus, control: &Control, stop: &CancellationToken) -> Option<Stored> {
    let mut told = false;
    loop {
        match read_once(bus, control).await {
            Ok(stored) => return Some(stored),
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "control bucket not read, trying again");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stop.cancelled() => return None,
        }
    }
}

async fn read_once(bus: &Bus, control: &Control) -> Result<Stored, bus::control::ControlError> {
    let flags = flag_prefix(bus);
    let aliases = alias_key(bus.machine());
    let kind = |key: &str, kind: &str| key.split('.').nth(1) == Some(kind);
    let wanted =
        |key: &str| key.starts_with(&flags) || key == aliases || kind(key, "reg") || kind(key, "key");
    let entries = control.entries(wanted).await?;
    let (keys, entries) = entries.into_iter().partition(|(key, _)| kind(key, "key"));
    let snapshot = control.get(&snapshot_key(bus.machine())).await?;
    let revision = snapshot.map_or(0, |bytes| {
        v1::RoutingSnapshot::decode(bytes).map_or_else(
            |error| {
                tracing::error!(%error, "the stored snapshot does not decode, counting from 1 again");
                0
            },
            |snapshot| snapshot.revision,
        )
    });
    Ok(Stored { revision, entries, keys })
}

/// Writes each view until `stop` fires; one that is overtaken while the bucket is away is not written any more. Tells the
/// revision that was written last.
pub(crate) async fn write(
    bus: Bus,
    control: Control,
    mut views: Views,
    written: watch::Sender<u64>,
    health: Component,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let key = snapshot_key(bus.machine());
    let mut told = false;
    loop {
        let writing = async {
            let changed = views.changed().await.is_ok();
            let view = views.borrow_and_update().clone();
            if let Some(view) = view {
                while let Err(error) = control.put(&key, &*view.wire).await {
                    metrics.written(false);
                    health.set_ready(false, format!("not written: {error}"));
                    if !told {
                        told = true;
                        tracing::warn!(%error, "snapshot not written, trying again");
                    }
                    tokio::time::sleep(RETRY).await;
                    if views.has_changed().unwrap_or(false) {
                        return changed;
                    }
                }
                told = false;
                metrics.written(true);
                health.set_ready(true, format!("revision {}", view.wire.revision));
                written.send_replace(view.wire.revision);
            }
            changed
        };
        tokio::select! {
            () = stop.cancelled() => return,
            goes_on = writing => if !goes_on { return },
        }
    }
}

/// Deletes registrations that nobody stands behind any more. One that could not be deleted is found again after a restart.
pub(crate) async fn forget(control: Control, mut keys: mpsc::Receiver<String>, stop: CancellationToken) {
    let deleting = async {
        while let Some(key) = keys.recv().await {
            match control.delete(&key).await {
                Ok(()) => tracing::info!(key, "stale registration deleted"),
                Err(error) => tracing::warn!(key, %error, "stale registration not deleted"),
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = deleting => {}
    }
}
