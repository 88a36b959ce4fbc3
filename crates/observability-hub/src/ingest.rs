//! From the usage stream into the ledger.
//!
//! A durable pull consumer of this machine's JetStream delivers batches; each chunk of them is committed to the ledger in
//! one transaction and acknowledged only then, so a kill at any point costs a second delivery, which the ledger counts
//! once. What does not decode becomes a dead letter and is terminated, so that it is not delivered for ever. A server
//! that goes away, and a disk that is full, are waited out.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{self, AckKind, consumer::AckPolicy};
use bus::Bus;
use futures::StreamExt;
use prost::Message as _;
use service_runtime::{Clock, Component};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Role,
    ledger::{Attempt, Batch, DeadLetter, Ledger, LedgerError},
};

/// Messages that are committed together.
const CHUNK_MESSAGES_MAX: usize = 256;
/// Bytes that one pull may bring, so that large batches cannot fill memory.
const PULL_BYTES_MAX: usize = 64 << 20;
/// Delivered and not acknowledged: more than a chunk, so that the next one is under way meanwhile.
const UNACKNOWLEDGED_MAX: i64 = 1_024;
/// After this a message is delivered again: how long the last messages before a crash are late. A commit takes
/// milliseconds; one that has to wait for the disk costs duplicates, which are counted and change nothing.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// How long one pull stays open, and how often the server says that it is.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
const PULL_HEARTBEAT: Duration = Duration::from_secs(2);
/// Pause after a failure, doubled up to the maximum.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why the consumer has to be set up again.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("{doing}: {reason}")]
    Bus { doing: &'static str, reason: String },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn bus_error<E: std::fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> Interrupted {
    move |error| Interrupted::Bus { doing, reason: error.to_string() }
}

/// The loop and what it needs.
pub struct Ingest {
    /// Connection to this machine's server.
    pub bus: Bus,
    /// Where the events go.
    pub ledger: Ledger,
    /// Time of the commits.
    pub clock: Clock,
    /// Which hub of the machine this is.
    pub role: Role,
    /// Told whether events flow.
    pub component: Component,
}

impl Ingest {
    /// Runs until `stop` fires.
    ///
    /// # Errors
    /// The ledger's writer ended; everything else is tried again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), LedgerError> {
        let mut pause = PAUSE_MIN;
        loop {
            let outcome = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                outcome = self.consume(&mut pause) => outcome,
            };
            match outcome {
                Ok(()) => tracing::debug!("usage consumer ended, setting it up again"),
                Err(Interrupted::Ledger(LedgerError::Closed)) => return Err(LedgerError::Closed),
                Err(error) => {
                    tracing::warn!(%error, "usage events are not read, trying again");
                    self.component.set_ready(false, error.to_string());
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn consume(&self, pause: &mut Duration) -> Result<(), Interrupted> {
        let stream = bus::control::usage_stream(&self.bus).await.map_err(bus_error("usage stream"))?;
        let config = jetstream::consumer::pull::Config {
            durable_name: Some(self.consumer_name()),
            description: Some("ledger view of the observability hub".to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: UNACKNOWLEDGED_MAX,
            ..Default::default()
        };
        // Creates it, or brings one of an older version up to date.
        let consumer = stream.create_consumer(config).await.map_err(bus_error("usage consumer"))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(CHUNK_MESSAGES_MAX)
            .max_bytes_per_batch(PULL_BYTES_MAX)
            .expires(PULL_EXPIRES)
            .heartbeat(PULL_HEARTBEAT)
            .messages()
            .await
            .map_err(bus_error("usage pull"))?;
        self.component.set_ready(true, "reading usage events");
        let mut chunks = messages.ready_chunks(CHUNK_MESSAGES_MAX);
        while let Some(chunk) = chunks.next().await {
            let mut messages = Vec::with_capacity(chunk.len());
            let mut interrupted = None;
            for message in chunk {
                match message {
                    Ok(message) => messages.push(message),
                    Err(error) => interrupted = Some(error),
                }
            }
            self.take(messages).await?;
            *pause = PAUSE_MIN;
            if let Some(error) = interrupted {
                return Err(bus_error("usage pull")(error));
            }
        }
        Ok(())
    }

    /// Each hub reads everything, so two on one machine need a consumer each.
    fn consumer_name(&self) -> String {
        match self.role {
            Role::Active => format!("ledger_{}", self.bus.machine()),
            Role::Standby => format!("ledger_{}_standby", self.bus.machine()),
        }
    }

    /// Commits, then acknowledges.
    async fn take(&self, messages: Vec<jetstream::Message>) -> Result<(), LedgerError> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        let kinds: Vec<AckKind> = messages.iter().map(|message| read(message, &mut batch)).collect();
        self.commit(batch).await?;
        for (message, kind) in messages.iter().zip(kinds) {
            // Lost with the connection: the message comes again and is counted as a duplicate.
            if let Err(error) = message.ack_with(kind).await {
                tracing::debug!(%error, "acknowledgement not sent");
            }
        }
        Ok(())
    }

    /// Tries until the ledger takes the batch; dropped by the caller on shutdown.
    async fn commit(&self, batch: Batch) -> Result<(), LedgerError> {
        let batch = Arc::new(batch);
        let mut pause = PAUSE_MIN;
        loop {
            let error = match self.ledger.record(Arc::clone(&batch), self.clock.now_unix_ms()).await {
                Ok(recorded) => {
                    if recorded.dead_letters > 0 {
                        tracing::warn!(
                            count = recorded.dead_letters,
                            "usage events refused, see dead_letter"
                        );
                    }
                    self.component.set_ready(true, "reading usage events");
                    return Ok(());
                }
                Err(LedgerError::Closed) => return Err(LedgerError::Closed),
                Err(error) => error,
            };
            tracing::error!(%error, full = error.is_disk_full(), "usage events not committed, trying again");
            self.component.set_ready(false, error.to_string());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Puts the message's events into the batch; how it is to be acknowledged.
fn read(message: &jetstream::Message, batch: &mut Batch) -> AckKind {
    let (stream_sequence, published_unix_ns) = message.info().map_or((0, 0), |info| {
        let published = info.published.unix_timestamp_nanos();
        (info.stream_sequence, i64::try_from(published).unwrap_or_default())
    });
    let letter = |part, reason: String, payload| DeadLetter {
        stream_sequence,
        published_unix_ns,
        part,
        subject: message.subject.to_string(),
        reason,
        payload,
    };
    let events = match bus::ledger::decode(&message.payload) {
        Ok(events) => events,
        Err(error) => {
            batch.dead_letters.push(letter(None, error.to_string(), message.payload.to_vec()));
            return AckKind::Term;
        }
    };
    for (part, event) in events.into_iter().enumerate() {
        match Attempt::try_from(event.clone()) {
            Ok(attempt) => {
                if let Some(plan) = &event.plan {
                    batch.decisions.push((attempt.request_id.clone(), plan.encode_to_vec()));
                }
                batch.attempts.push(attempt);
            }
            Err(error) => {
                let payload = event.encode_to_vec();
                batch.dead_letters.push(letter(Some(part), error.to_string(), payload));
            }
        }
    }
    AckKind::Ack
}
