//! The virtual keys of all machines, as they are now, without asking anybody.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use bus::{
    Bus,
    control::{Change, Control},
};
use domain::{fault::Fault, key::Key};
use prost::Message;
use service_runtime::Tasks;
use tokio_util::sync::CancellationToken;
use wire::{subject::VIRTUAL_KEYS, v1};

/// Keys by the name they are kept under. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct VirtualKeys(Arc<ArcSwap<Table>>);

type Table = HashMap<String, (u64, Arc<Key>)>;

impl VirtualKeys {
    /// Follows the control bucket. A key that does not decode is reported and not used.
    pub(crate) fn watch(bus: &Bus, control: &Control, tasks: &Tasks, stop: CancellationToken) -> Self {
        let current = Self::default();
        let mut changes = control.watch(bus, VIRTUAL_KEYS.to_owned(), stop);
        let store = current.clone();
        tasks.spawn("virtual-keys", async move {
            while let Some(change) = changes.recv().await {
                store.apply(change);
            }
            Ok(())
        });
        current
    }

    fn apply(&self, Change { key: kept_under, value }: Change) {
        let mut table = Table::clone(&self.0.load());
        match value.map(read) {
            Some(Ok(key)) => drop(table.insert(kept_under, key)),
            Some(Err(error)) => {
                // what it allowed until now may be just what was taken back
                table.remove(&kept_under);
                tracing::error!(key = kept_under, %error, "a stored virtual key is not used");
            }
            None => drop(table.remove(&kept_under)),
        }
        self.0.store(Arc::new(table));
    }

    /// The key of this id; where two machines have made one, the older.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Key>> {
        let table = self.0.load();
        let named = table.values().filter(|(_, key)| key.id.as_str() == id);
        named.min_by_key(|(created, _)| *created).map(|(_, key)| Arc::clone(key))
    }

    #[cfg(test)]
    pub(crate) fn with(keys: Vec<Key>) -> Self {
        let table: Table = keys
            .into_iter()
            .map(|key| (format!("{}.key.{}", key.machine, key.id), (0, Arc::new(key))))
            .collect();
        Self(Arc::new(ArcSwap::from_pointee(table)))
    }
}

fn read(value: bytes::Bytes) -> Result<(u64, Arc<Key>), Fault> {
    let wire = v1::VirtualKey::decode(value).map_err(|error| Fault::internal(error.to_string()))?;
    Ok((wire.created_unix_ms, Arc::new(wire.try_into()?)))
}
