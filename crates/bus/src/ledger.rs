//! Usage events on their way to the ledger.
//!
//! ```text
//! record() ─► writer thread: number, append, fsync ─► answered ─► publisher: JetStream, acknowledged ─► cursor
//! ```
//!
//! Invariants: an event that [`Ledger::record`] took is on this machine's disk, whatever dies next, and is published until
//! JetStream has acknowledged it; events that arrive together share an fsync, those of a tenth of a second a message. Nothing
//! here waits for the bus: with the server away the log grows to its bound.

mod follow;
mod writer;

use std::{io, ops::Range, path::Path, sync::Arc, thread::Thread, time::Duration};

use async_nats::jetstream::context::PublishErrorKind;
use durable_log::Position;
use futures::{StreamExt, stream::FuturesUnordered};
use prost::Message;
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{Subject, Usage},
    v1,
};

pub use follow::{FollowError, Followed, follow};

use crate::{Bus, control, executor::Load};
use writer::{Command, Writer};

/// Events waiting for the disk; more callers wait.
const EVENTS_WAITING: usize = 4_096;
/// Messages on their way to JetStream at once.
const IN_FLIGHT: usize = 32;
/// Between looks at what has gathered on disk: events of so long share messages, and the hub sees them so much later.
const GATHER: Duration = Duration::from_millis(100);
/// Before a message that was not acknowledged is sent again.
const RETRY: Duration = Duration::from_millis(500);

/// Why an event is not safe on disk. It is still published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The disk refused.
    #[error("usage event not on disk: {0}")]
    Disk(String),
    /// The ledger has stopped.
    #[error("the ledger has stopped")]
    Stopped,
}

/// Takes usage events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    commands: mpsc::Sender<Command>,
    /// Gathers events while `load` says that more are to come.
    writer: Thread,
    load: Load,
}

/// A batch on its way.
#[derive(Debug)]
struct Outgoing {
    /// Where it stands in the log; `None` when the disk had refused it.
    records: Option<Range<Position>>,
    id: String,
    payload: Vec<u8>,
}

impl Ledger {
    /// Opens the log in `dir` (what a crash left there is published first) and starts the writer and the publisher, which
    /// run on the bus's tasks until [`Ledger::finish`]. `load` counts the requests whose events are still to come.
    ///
    /// # Errors
    /// The log cannot be opened, or the thread cannot be started.
    pub fn open(bus: &Bus, dir: &Path, load: Load, stop: CancellationToken) -> Result<Self, OpenError> {
        let (commands, waiting) = mpsc::channel(EVENTS_WAITING);
        let (outgoing, batches) = mpsc::channel(IN_FLIGHT);
        let writer = Writer::open(dir, bus.instance(), load.clone(), outgoing)?;
        let thread =
            std::thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run(waiting))?;
        let acknowledged = commands.downgrade();
        let publisher = Publisher {
            bus: bus.clone(),
            subject: Usage { machine: bus.machine().clone(), service: bus.service() }
                .name(bus.prefix())
                .into(),
        };
        bus.0.tasks.spawn(async move { publisher.run(batches, acknowledged, stop).await });
        Ok(Self { commands, writer: thread.thread().clone(), load })
    }

    /// Keeps an event; its id, origin and counter are set here. When this returns without an error the event is on disk.
    ///
    /// # Errors
    /// [`LedgerError`]; the event is published nevertheless unless the ledger has stopped.
    pub async fn record(&self, event: v1::UsageEvent) -> Result<(), LedgerError> {
        self.send(v1::UsageEvent { origin_counter: 0, ..event }).await
    }

    /// An event without a counter gets the next of this process.
    async fn send(&self, event: v1::UsageEvent) -> Result<(), LedgerError> {
        let (done, outcome) = oneshot::channel();
        self.commands.send(Command::Record(Box::new(event), done)).await.map_err(|_| LedgerError::Stopped)?;
        if self.commands.max_capacity() - self.commands.capacity() + 1 >= self.load.in_flight() as usize {
            // every request under way waits for this write; the writer holds one of the events already
            self.writer.unpark();
        }
        outcome.await.map_err(|_| LedgerError::Stopped)?
    }

    /// [`Ledger::record`] for an event whose origin numbers its events itself, because it may tell them again after a crash: the
    /// same `origin` and `counter` are the same event, however often they are recorded. Counters begin at 1 and leave none out.
    ///
    /// # Errors
    /// As [`Ledger::record`].
    pub async fn record_numbered(
        &self,
        origin: &str,
        counter: u64,
        event: v1::UsageEvent,
    ) -> Result<(), LedgerError> {
        let event = v1::UsageEvent {
            event_id: format!("{origin}-{counter}"),
            origin_instance: origin.to_owned(),
            origin_counter: counter,
            ..event
        };
        self.send(event).await
    }

    /// Waits until everything recorded so far is acknowledged, or `limit` has passed. `true` when all is.
    pub async fn finish(&self, limit: Duration) -> bool {
        let (done, outcome) = oneshot::channel();
        let asked =
            async { self.commands.send(Command::WhenEmpty(done)).await.is_ok() && outcome.await.is_ok() };
        tokio::time::timeout(limit, asked).await.unwrap_or(false)
    }
}

/// Why a ledger does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log.
    #[error("usage log: {0}")]
    Log(#[from] durable_log::Error),
    /// The thread.
    #[error("usage log thread: {0}")]
    Thread(#[from] io::Error),
}

struct Publisher {
    bus: Bus,
    subject: Arc<str>,
}

impl Publisher {
    async fn run(
        self,
        mut batches: mpsc::Receiver<Outgoing>,
        acknowledged: mpsc::WeakSender<Command>,
        stop: CancellationToken,
    ) {
        let mut sending = FuturesUnordered::new();
        let mut clock = tokio::time::interval(GATHER);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                () = stop.cancelled() => return,
                Some(records) = sending.next(), if !sending.is_empty() => Command::Acknowledged(records),
                _ = clock.tick() => Command::Publish,
                batch = batches.recv(), if sending.len() < IN_FLIGHT => match batch {
                    Some(batch) => {
                        sending.push(self.publish(batch));
                        continue;
                    }
                    None => return,
                },
            };
            let Some(commands) = acknowledged.upgrade() else { return };
            if commands.send(told).await.is_err() {
                return;
            }
        }
    }

    /// Until it is acknowledged; a second copy has the same message id and is dropped by the stream.
    async fn publish(&self, batch: Outgoing) -> Option<Range<Position>> {
        let jetstream = self.bus.jetstream();
        let mut told = false;
        loop {
            let message = async_nats::jetstream::message::PublishMessage::build()
                .payload(batch.payload.clone().into())
                .message_id(&batch.id);
            let sent = match jetstream.send_publish(self.subject.to_string(), message).await {
                Ok(acknowledgement) => acknowledgement.await,
                Err(error) => Err(error),
            };
            let Err(error) = sent else { return batch.records };
            if !told {
                told = true;
                tracing::warn!(%error, "usage events wait for jetstream");
            }
            if error.kind() == PublishErrorKind::StreamNotFound
                && let Err(error) = control::usage_stream(&self.bus).await
            {
                tracing::debug!(%error, "usage stream not there");
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// The events of a message of the usage stream.
///
/// # Errors
/// The payload is no `llm.v1.UsageBatch`.
pub fn decode(payload: &[u8]) -> Result<Vec<v1::UsageEvent>, prost::DecodeError> {
    v1::UsageBatch::decode(payload).map(|batch| batch.events)
}
