//! The control bucket: registrations, flags, routing snapshots, watched rather than asked for.
//!
//! Each machine writes only keys that start with its own name; JetStream of each machine sources the other machines' keys, so a
//! reader finds everything on its own server and goes on reading when a machine is away.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    kv::{Operation, Store},
    stream::{Config, DiscardPolicy, External, Source, StorageType},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::subject::CONTROL_BUCKET;

use crate::Bus;

/// Revisions kept of each key.
const HISTORY: i64 = 4;
/// Size of the bucket; a snapshot with 200 deployments has some 60 KB.
const BUCKET_BYTES_MAX: i64 = 256 * 1024 * 1024;
/// Changes a watcher may have waiting before the watch has to.
const CHANGES_BUFFERED: usize = 256;
/// Between tries when the bucket cannot be reached.
const RETRY: Duration = Duration::from_millis(500);

/// Why the bucket did not take or give something.
#[derive(Debug, thiserror::Error)]
#[error("control bucket, {doing}: {reason}")]
pub struct ControlError {
    doing: &'static str,
    reason: String,
}

/// Why [`Control::update`] did not write.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Somebody else has written the key.
    #[error("control bucket, update: somebody else has written the key")]
    Overtaken,
    /// The bucket did not take it.
    #[error(transparent)]
    Failed(#[from] ControlError),
}

fn failed(doing: &'static str) -> impl FnOnce(&dyn std::fmt::Display) -> ControlError {
    move |reason| ControlError { doing, reason: reason.to_string() }
}

/// A key that changed, or that was there when the watch began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The new value; `None` = deleted.
    pub value: Option<Bytes>,
}

/// The bucket of this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Control {
    store: Store,
}

impl Bus {
    /// Opens the control bucket of this machine, creating it where it does not exist.
    ///
    /// # Errors
    /// [`ControlError`] when JetStream does not answer or refuses.
    pub async fn control(&self) -> Result<Control, ControlError> {
        let jetstream = self.jetstream();
        let me = &self.0.machine;
        let sources: Vec<Source> = self
            .0
            .peers
            .iter()
            .map(|peer| Source {
                name: format!("KV_{CONTROL_BUCKET}"),
                filter_subject: Some(format!("$KV.{CONTROL_BUCKET}.{peer}.>")),
                external: Some(External { api_prefix: format!("$JS.{peer}.API"), delivery_prefix: None }),
                ..Source::default()
            })
            .collect();
        let config = Config {
            name: format!("KV_{CONTROL_BUCKET}"),
            subjects: vec![format!("$KV.{CONTROL_BUCKET}.{me}.>")],
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_messages_per_subject: HISTORY,
            max_bytes: BUCKET_BYTES_MAX,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            num_replicas: 1,
            sources: (!sources.is_empty()).then_some(sources),
            ..Config::default()
        };
        jetstream.get_or_create_stream(config).await.map_err(|error| failed("create")(&error))?;
        let store = jetstream.get_key_value(CONTROL_BUCKET).await.map_err(|error| failed("open")(&error))?;
        Ok(Control { store })
    }

    /// [`Bus::control`], tried until it works or `stop` fires: JetStream may come up after the server.
    ///
    /// # Errors
    /// [`ControlError`] of the last try when stopped.
    pub async fn control_when_ready(&self, stop: &CancellationToken) -> Result<Control, ControlError> {
        let mut told = false;
        loop {
            let error = match self.control().await {
                Ok(control) => return Ok(control),
                Err(error) => error,
            };
            if !told {
                told = true;
                tracing::info!(%error, "waiting for jetstream");
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => return Err(error),
            }
        }
    }
}

impl Control {
    /// Writes a key of this machine.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn put(&self, key: &str, message: &impl prost::Message) -> Result<u64, ControlError> {
        let value = message.encode_to_vec();
        self.store.put(key, value.into()).await.map_err(|error| failed("put")(&error))
    }

    /// Writes a key of this machine unless somebody else did since revision `last` (0 = the key does not exist). Returns the new
    /// revision.
    ///
    /// # Errors
    /// [`UpdateError::Overtaken`]: read it again; [`UpdateError::Failed`]: it may have been written all the same.
    pub async fn update(
        &self,
        key: &str,
        message: &impl prost::Message,
        last: u64,
    ) -> Result<u64, UpdateError> {
        let value = message.encode_to_vec();
        self.store.update(key, value.into(), last).await.map_err(|error| match error.kind() {
            jetstream::kv::UpdateErrorKind::WrongLastRevision => UpdateError::Overtaken,
            _ => UpdateError::Failed(failed("update")(&error)),
        })
    }

    /// Reads a key and its revision; `None` when it does not exist.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn entry(&self, key: &str) -> Result<Option<(Bytes, u64)>, ControlError> {
        let entry = self.store.entry(key).await.map_err(|error| failed("get")(&error))?;
        Ok(entry.filter(|entry| entry.operation == Operation::Put).map(|entry| (entry.value, entry.revision)))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, ControlError> {
        self.store.get(key).await.map_err(|error| failed("get")(&error))
    }

    /// Deletes a key of this machine.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn delete(&self, key: &str) -> Result<(), ControlError> {
        self.store.delete(key).await.map_err(|error| failed("delete")(&error))
    }

    /// The keys that `keep` wants with their values, as they are now.
    ///
    /// # Errors
    /// [`ControlError`]; nothing is told in part.
    pub async fn entries(&self, keep: impl Fn(&str) -> bool) -> Result<Vec<(String, Bytes)>, ControlError> {
        let keys = self.store.keys().await.map_err(|error| failed("list")(&error))?;
        let keys: Vec<String> = keys.try_collect().await.map_err(|error| failed("list")(&error))?;
        let mut entries = Vec::new();
        for key in keys.into_iter().filter(|key| keep(key)) {
            // a key that was deleted meanwhile is gone
            if let Some(value) = self.get(&key).await? {
                entries.push((key, value));
            }
        }
        Ok(entries)
    }

    /// Everything under `pattern` as it is now, then each change, until `stop` fires or the receiver is dropped. A watch that
    /// breaks starts again and tells the present values once more. Runs on `tasks`.
    #[must_use]
    pub fn watch(&self, bus: &Bus, pattern: String, stop: CancellationToken) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(CHANGES_BUFFERED);
        let store = self.store.clone();
        bus.0.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sender.closed() => return,
                    outcome = watch_once(&store, &pattern, &sender) => {
                        let Err(error) = outcome else { return };
                        tracing::warn!(%error, pattern, "the watch broke and starts again");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        });
        receiver
    }
}

/// `Ok` when nobody listens any more.
async fn watch_once(
    store: &Store,
    pattern: &str,
    changes: &mpsc::Sender<Change>,
) -> Result<(), ControlError> {
    let mut watch = store.watch_with_history(pattern).await.map_err(|error| failed("watch")(&error))?;
    while let Some(entry) = watch.next().await {
        let entry = entry.map_err(|error| failed("watch")(&error))?;
        let value = match entry.operation {
            Operation::Put => Some(entry.value),
            Operation::Delete | Operation::Purge => None,
        };
        if changes.send(Change { key: entry.key, value }).await.is_err() {
            return Ok(());
        }
    }
    Err(failed("watch")(&"the server ended it"))
}

/// The stream that keeps the ledger, of this machine; sources the other machines' events.
///
/// # Errors
/// [`ControlError`] when JetStream does not answer or refuses.
pub async fn usage_stream(bus: &Bus) -> Result<jetstream::stream::Stream, ControlError> {
    use wire::subject::{USAGE_STREAM, USAGE_SUBJECTS, usage_of};
    let sources: Vec<Source> = bus
        .0
        .peers
        .iter()
        .map(|peer| Source {
            name: USAGE_STREAM.to_owned(),
            filter_subject: Some(usage_of(peer)),
            external: Some(External { api_prefix: format!("$JS.{peer}.API"), delivery_prefix: None }),
            ..Source::default()
        })
        .collect();
    let config = Config {
        name: USAGE_STREAM.to_owned(),
        subjects: vec![USAGE_SUBJECTS.to_owned()],
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_bytes: 4 * 1024 * 1024 * 1024,
        duplicate_window: Duration::from_secs(24 * 60 * 60),
        allow_direct: true,
        deny_delete: true,
        num_replicas: 1,
        sources: (!sources.is_empty()).then_some(sources),
        ..Config::default()
    };
    bus.jetstream()
        .get_or_create_stream(config)
        .await
        .map_err(|error| failed("create the usage stream")(&error))
}
