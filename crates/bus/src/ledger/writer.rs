//! The thread that owns the log: nothing else touches the disk, and nothing asynchronous waits for it.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use durable_log::{Cursor, Log, Options, Position, Reader};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use wire::v1;

use super::{LedgerError, Outgoing};

const CURSOR: &str = "published";
/// Some 90,000 events.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Some six million events; further ones are only in memory and say so.
const LOG_BYTES_MAX: u64 = 1 << 30;
/// Events in one message; keeps it well below the bus's bound.
const BATCH: usize = 256;
/// How often the read position is stored: a crash sends at most so much a second time, and the stream drops it.
const STORE_EVERY: Duration = Duration::from_secs(1);

type Done = oneshot::Sender<Result<(), LedgerError>>;

pub(super) enum Command {
    Record(Box<v1::UsageEvent>, Done),
    Acknowledged(Option<Position>),
    WhenEmpty(oneshot::Sender<()>),
}

pub(super) struct Writer {
    log: Log,
    reader: Reader,
    cursor: Cursor,
    /// Everything before it is acknowledged.
    acknowledged: Position,
    /// Next record to hand out.
    handed: Position,
    /// Acknowledged out of order, behind `acknowledged`.
    ahead: BTreeSet<Position>,
    stored_at: Instant,
    outgoing: mpsc::Sender<Outgoing>,
    /// Batches the disk refused.
    homeless: Vec<Outgoing>,
    in_flight_homeless: usize,
    instance: String,
    counter: u64,
    when_empty: Vec<oneshot::Sender<()>>,
}

impl Writer {
    pub(super) fn open(
        dir: &Path,
        instance: &str,
        outgoing: mpsc::Sender<Outgoing>,
    ) -> Result<Self, durable_log::Error> {
        let (log, recovery) =
            Log::open(dir, Options { segment_bytes: SEGMENT_BYTES, max_bytes: LOG_BYTES_MAX })?;
        let (cursor, _) = log.cursor(CURSOR)?;
        let left = log.synced_position().since(cursor.position());
        if left > 0 || recovery.truncated_bytes > 0 {
            tracing::info!(
                batches = left,
                truncated_bytes = recovery.truncated_bytes,
                "usage events left by the last run"
            );
        }
        Ok(Self {
            reader: log.read_from(cursor.position()),
            acknowledged: cursor.position(),
            handed: cursor.position(),
            ahead: BTreeSet::new(),
            cursor,
            log,
            stored_at: Instant::now(),
            outgoing,
            homeless: Vec::new(),
            in_flight_homeless: 0,
            instance: instance.to_owned(),
            counter: 0,
            when_empty: Vec::new(),
        })
    }

    /// Until every sender is gone.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.pump();
        while let Some(first) = commands.blocking_recv() {
            let mut events = Vec::new();
            let mut waiting = Vec::new();
            let mut next = Some(first);
            while let Some(command) = next {
                match command {
                    Command::Record(event, done) => {
                        events.push(self.number(*event));
                        waiting.push(done);
                    }
                    Command::Acknowledged(position) => self.acknowledge(position),
                    Command::WhenEmpty(done) => self.when_empty.push(done),
                }
                next = if events.len() < BATCH { commands.try_recv().ok() } else { None };
            }
            if !events.is_empty() {
                let kept = self.keep(events);
                for done in waiting {
                    // the request may be gone; its event is kept all the same
                    done.send(kept.clone()).ok();
                }
            }
            self.pump();
            self.store_position(false);
        }
        self.store_position(true);
    }

    fn number(&mut self, mut event: v1::UsageEvent) -> v1::UsageEvent {
        self.counter += 1;
        event.event_id = format!("{}-{}", self.instance, self.counter);
        event.origin_instance.clone_from(&self.instance);
        event.origin_counter = self.counter;
        event
    }

    fn keep(&mut self, events: Vec<v1::UsageEvent>) -> Result<(), LedgerError> {
        let payload = v1::UsageBatch { events }.encode_to_vec();
        let kept = self.log.append(&payload).and_then(|_| self.log.sync());
        kept.map_err(|error| {
            tracing::error!(%error, "usage events are not on disk, only in memory");
            if let Some(outgoing) = outgoing(None, payload) {
                self.homeless.push(outgoing);
            }
            LedgerError::Disk(error.to_string())
        })
    }

    /// Hands out as much as the publisher takes.
    fn pump(&mut self) {
        while let Ok(permit) = self.outgoing.try_reserve() {
            let Some(batch) = self.homeless.pop() else { break };
            self.in_flight_homeless += 1;
            permit.send(batch);
        }
        self.reader.follow(&self.log);
        while let Ok(permit) = self.outgoing.try_reserve() {
            match self.reader.next() {
                Some(Ok((position, payload))) => {
                    // what lies between was damaged; nobody will acknowledge it
                    self.ahead.extend((self.handed.get()..position.get()).map(Position::new));
                    self.handed = position.plus(1);
                    match outgoing(Some(position), payload) {
                        Some(batch) => permit.send(batch),
                        None => self.ahead.extend([position]),
                    }
                }
                Some(Err(error)) => tracing::error!(%error, "usage events on disk are damaged"),
                None => break,
            }
        }
        self.settle();
    }

    fn acknowledge(&mut self, position: Option<Position>) {
        match position {
            Some(position) => {
                self.ahead.insert(position);
            }
            None => self.in_flight_homeless = self.in_flight_homeless.saturating_sub(1),
        }
        self.settle();
    }

    fn settle(&mut self) {
        while self.ahead.remove(&self.acknowledged) {
            self.acknowledged = self.acknowledged.plus(1);
        }
        let empty = self.acknowledged == self.log.next_position()
            && self.homeless.is_empty()
            && self.in_flight_homeless == 0;
        if empty {
            for done in self.when_empty.drain(..) {
                done.send(()).ok();
            }
        }
    }

    fn store_position(&mut self, now: bool) {
        if self.acknowledged == self.cursor.position() || !(now || self.stored_at.elapsed() >= STORE_EVERY) {
            return;
        }
        self.stored_at = Instant::now();
        let stored =
            self.cursor.advance(self.acknowledged).and_then(|()| self.log.release_before(self.acknowledged));
        if let Err(error) = stored {
            tracing::warn!(%error, "usage log: read position not stored");
        }
    }
}

/// `None` for a record that is no batch: it would never be accepted.
fn outgoing(position: Option<Position>, payload: Vec<u8>) -> Option<Outgoing> {
    match super::decode(&payload) {
        Ok(events) => {
            let id = events.first().map(|event| event.event_id.clone()).unwrap_or_default();
            Some(Outgoing { position, id, payload })
        }
        Err(error) => {
            tracing::error!(%error, "a record of the usage log does not decode and is left out");
            None
        }
    }
}
