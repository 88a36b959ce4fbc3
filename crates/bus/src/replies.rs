//! Reply streams: one subscription for all of a process's requests, taken apart by the last token of the subject.
//!
//! Invariants: frames arrive in the order of their numbers or the stream ends with [`StreamError::Gap`]; a reader that does not
//! keep up loses its own stream and nobody else's.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, StatusCode};
use futures::StreamExt;
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire::v1;

use crate::denial::{Denials, Watch};

/// Frames one stream may hold for a reader that is busy: at 100 tokens/s more than half a minute.
const FRAMES_BUFFERED: usize = 4_096;

/// Why a stream has no next frame.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Nobody listens on the subject.
    #[error("nobody listens there")]
    NoResponders,
    /// Neither frame nor heartbeat for too long: the executor or the way to it is gone.
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
    /// Frames were lost.
    #[error("frame {expected} is missing, {got} came")]
    Gap {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// The reader did not keep up.
    #[error("the reader fell {FRAMES_BUFFERED} frames behind")]
    Overrun,
    /// The server did not let the request through: these credentials have no right to the subject.
    #[error("the nats server does not let these credentials publish to {0}")]
    Denied(String),
    /// Not a frame.
    #[error("a frame does not decode: {0}")]
    Decode(#[from] prost::DecodeError),
}

type Readers = Arc<Mutex<HashMap<u64, mpsc::Sender<async_nats::Message>>>>;

#[derive(Debug)]
pub(crate) struct ReplyMux {
    inbox: String,
    readers: Readers,
    denials: Denials,
    next: AtomicU64,
}

impl ReplyMux {
    pub(crate) async fn start(
        client: &Client,
        denials: &Denials,
        tasks: &TaskTracker,
        closing: &CancellationToken,
    ) -> Result<Self, async_nats::SubscribeError> {
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(format!("{inbox}.*")).await?;
        let readers = Readers::default();
        let routed = Arc::clone(&readers);
        let closing = closing.clone();
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = closing.cancelled() => return,
                    message = replies.next() => match message {
                        Some(message) => route(&routed, message),
                        None => return,
                    },
                }
            }
        });
        Ok(Self { inbox, readers, denials: denials.clone(), next: AtomicU64::new(0) })
    }

    /// For the answer to what is about to be published to `asked`.
    pub(crate) fn open(&self, asked: String) -> ReplyStream {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, frames) = mpsc::channel(FRAMES_BUFFERED);
        lock(&self.readers).insert(key, sender);
        let subject = format!("{}.{key}", self.inbox);
        let denial = self.denials.watch(asked);
        ReplyStream { key, subject, frames, denial, readers: Arc::clone(&self.readers), expected: 0 }
    }
}

fn lock(readers: &Readers) -> std::sync::MutexGuard<'_, HashMap<u64, mpsc::Sender<async_nats::Message>>> {
    readers.lock().unwrap_or_else(PoisonError::into_inner)
}

fn route(readers: &Readers, message: async_nats::Message) {
    let key = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
    let Some(key) = key else { return };
    let mut readers = lock(readers);
    // a late frame of a stream that nobody reads any more has no entry
    if readers.get(&key).is_some_and(|reader| reader.try_send(message).is_err()) {
        readers.remove(&key);
    }
}

/// The answer to one request. Dropping it forgets the request; it does not cancel it (see `wire::subject::Cancel`).
#[derive(Debug)]
pub struct ReplyStream {
    key: u64,
    subject: String,
    frames: mpsc::Receiver<async_nats::Message>,
    denial: Watch,
    readers: Readers,
    expected: u64,
}

impl ReplyStream {
    /// Where the answer arrives.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The next frame, heartbeats included.
    ///
    /// # Errors
    /// [`StreamError`]; no frame comes after an error.
    pub async fn next(&mut self, patience: Duration) -> Result<v1::ReplyFrame, StreamError> {
        let heard = async {
            tokio::select! {
                biased;
                frame = self.frames.recv() => Ok(frame),
                subject = self.denial.denied() => Err(StreamError::Denied(subject.to_owned())),
            }
        };
        let message = match tokio::time::timeout(patience, heard).await {
            Err(_) => return Err(StreamError::Silent(patience)),
            Ok(Err(denied)) => return Err(denied),
            Ok(Ok(None)) => return Err(StreamError::Overrun),
            Ok(Ok(Some(message))) => message,
        };
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(StreamError::NoResponders);
        }
        let frame = v1::ReplyFrame::decode(message.payload)?;
        if frame.seq != self.expected {
            return Err(StreamError::Gap { expected: self.expected, got: frame.seq });
        }
        self.expected += 1;
        Ok(frame)
    }
}

impl Drop for ReplyStream {
    fn drop(&mut self) {
        lock(&self.readers).remove(&self.key);
    }
}
