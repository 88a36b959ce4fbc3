//! Audio that is too large for a message: an object store of the machine, in memory, for an hour at most.
//!
//! Whoever asks puts the file there, the executor fetches it before the call, and whoever put it there deletes it when the
//! request is over; what a crash leaves behind goes with its age. Recordings of people never reach a disk this way.

use std::{io::Cursor, time::Duration};

use async_nats::jetstream::{self, object_store, stream::StorageType};
use domain::{
    fault::{Code, Fault, Origin},
    inference::{AUDIO_BYTES_MAX, Audio, Request},
};
use tokio::io::AsyncReadExt as _;
use wire::subject::AUDIO_BUCKET;

use crate::Bus;

/// Above this a file takes the way around messages, so that it does not hold up small ones.
pub const INLINE_BYTES_MAX: usize = 256 * 1024;
/// What all files together may take; the servers' JetStream has 256 MB of memory (`docker/nats/jetstream.conf`).
const BUCKET_BYTES_MAX: i64 = 128 * 1024 * 1024;
/// How long a file outlives a process that did not delete it. Longer than nearly every deadline.
const AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// How long putting or fetching one file may take.
const TRANSFER_MAX: Duration = Duration::from_secs(30);

impl Bus {
    /// Puts a file into the machine's store.
    ///
    /// # Errors
    /// `Unavailable`: JetStream does not answer, or has no room for it now.
    pub async fn put_audio(&self, name: &str, content: &[u8]) -> Result<(), Fault> {
        let put = async {
            let config = object_store::Config {
                bucket: AUDIO_BUCKET.to_owned(),
                max_age: AGE_MAX,
                max_bytes: BUCKET_BYTES_MAX,
                storage: StorageType::Memory,
                num_replicas: 1,
                ..object_store::Config::default()
            };
            let store =
                self.jetstream().create_object_store(config).await.map_err(|error| error.to_string())?;
            let stored = store.put(name, &mut Cursor::new(content)).await;
            stored.map_err(|error| error.to_string())
        };
        let stored = tokio::time::timeout(TRANSFER_MAX, put).await.unwrap_or_else(|_| Err(late()));
        stored.map(drop).map_err(|reason| {
            let message = format!("the audio cannot be stored for its executor now: {reason}");
            Fault::new(Code::Unavailable, Origin::Internal, true, message)
        })
    }

    /// Deletes a file of [`Bus::put_audio`]; one that cannot be deleted goes with its age.
    pub async fn delete_audio(&self, name: &str) {
        let deleted = async {
            let store =
                self.jetstream().get_object_store(AUDIO_BUCKET).await.map_err(|error| error.to_string())?;
            store.delete(name).await.map_err(|error| error.to_string())
        };
        let deleted = tokio::time::timeout(TRANSFER_MAX, deleted).await.unwrap_or_else(|_| Err(late()));
        if let Err(reason) = deleted {
            tracing::warn!(name, reason, "audio stays in its store until it is too old");
        }
    }

    /// Puts the file itself in the place of its name.
    ///
    /// # Errors
    /// `NotFound`: the store has no such file, or one of another size; `Unavailable`: the store does not answer.
    pub(crate) async fn fetch_audio(&self, request: &mut Request) -> Result<(), Fault> {
        let Request::Transcribe(transcribe) = request else { return Ok(()) };
        let Audio::Stored { name, bytes, machine } = &transcribe.audio else { return Ok(()) };
        let content = tokio::time::timeout(TRANSFER_MAX, self.get_audio(name, *bytes, machine)).await;
        let content = content.unwrap_or_else(|_| {
            Err(Fault::new(Code::Unavailable, Origin::Internal, true, format!("stored audio: {}", late())))
        })?;
        transcribe.audio = Audio::Content(content);
        Ok(())
    }

    async fn get_audio(&self, name: &str, bytes: usize, machine: &str) -> Result<Vec<u8>, Fault> {
        let missing = |reason: String| {
            let shown: String = name.chars().take(40).collect();
            let message = format!("stored audio {shown:?}: {reason}");
            Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("stored.name")
        };
        // another machine's JetStream is reached by its domain, which has the machine's name
        let jetstream = if machine.is_empty() || machine == self.machine().as_str() {
            self.jetstream()
        } else {
            jetstream::with_domain(self.0.client.clone(), machine)
        };
        let store =
            jetstream.get_object_store(AUDIO_BUCKET).await.map_err(|error| missing(error.to_string()))?;
        let info = store.info(name).await.map_err(|error| missing(error.to_string()))?;
        if info.deleted || info.options.is_some_and(|options| options.link.is_some()) {
            return Err(missing("it is deleted, or a link".to_owned()));
        }
        if info.size != bytes || bytes > AUDIO_BYTES_MAX {
            return Err(missing(format!("it has {} bytes, expected {bytes}", info.size)));
        }
        let object = store.get(name).await.map_err(|error| missing(error.to_string()))?;
        let mut content = Vec::with_capacity(bytes);
        // its checksum is verified at the end; one byte more than there may be shows that it grew
        let read = object.take(bytes as u64 + 1).read_to_end(&mut content).await;
        read.map_err(|error| missing(error.to_string()))?;
        if content.len() == bytes { Ok(content) } else { Err(missing("it changed".to_owned())) }
    }
}

fn late() -> String {
    format!("not done after {} s", TRANSFER_MAX.as_secs())
}
