//! The thread that owns the log: nothing else touches the disk, and nothing asynchronous waits for it.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    time::{Duration, Instant},
};

use durable_log::{Cursor, Log, Options, Position, Reader};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use wire::v1;

use super::{LedgerError, Outgoing};
use crate::executor::Load;

const CURSOR: &str = "published";
/// Some 90,000 events.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Some six million events; further ones are only in memory and say so.
const LOG_BYTES_MAX: u64 = 1 << 30;
/// Events in one record of the log.
const BATCH: usize = 256;
/// Size at which a message gets no more records; well below the bus's bound.
const MESSAGE_BYTES: usize = 128 << 10;
/// While events come in groups, how long the next group is gathered at most before it is written: a write and an fsync cost
/// more than everything else that a request needs. One that comes alone is never kept waiting.
const GATHER: Duration = Duration::from_millis(2);
/// How often the read position is stored: a crash sends at most so much a second time, and the stream drops it.
const STORE_EVERY: Duration = Duration::from_secs(1);

type Done = oneshot::Sender<Result<(), LedgerError>>;

pub(super) enum Command {
    Record(Box<v1::UsageEvent>, Done),
    Acknowledged(Option<Range<Position>>),
    /// The publisher's clock: time to hand out what has gathered.
    Publish,
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
    /// Acknowledged out of order, behind `acknowledged`: first record to the one after the last.
    ahead: BTreeMap<Position, Position>,
    stored_at: Instant,
    load: Load,
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
        load: Load,
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
            ahead: BTreeMap::new(),
            cursor,
            log,
            stored_at: Instant::now(),
            load,
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
        self.hand_out();
        let mut grouped = false;
        while let Some(first) = commands.blocking_recv() {
            if grouped && matches!(first, Command::Record(..)) {
                self.gather(&commands);
            }
            let mut events = Vec::new();
            let mut waiting = Vec::new();
            let mut publish = false;
            let mut next = Some(first);
            while let Some(command) = next {
                match command {
                    Command::Record(event, done) => {
                        events.push(self.number(*event));
                        waiting.push(done);
                    }
                    Command::Acknowledged(records) => self.acknowledge(records),
                    Command::Publish => publish = true,
                    Command::WhenEmpty(done) => {
                        publish = true;
                        self.when_empty.push(done);
                    }
                }
                next = if events.len() < BATCH { commands.try_recv().ok() } else { None };
            }
            if !events.is_empty() {
                grouped = events.len() > 1;
                let kept = self.keep(events);
                for done in waiting {
                    // the request may be gone; its event is kept all the same
                    done.send(kept.clone()).ok();
                }
            }
            if publish {
                self.hand_out();
            }
            self.settle();
            self.store_position(false);
        }
        self.store_position(true);
    }

    /// Waits for the rest of a group: until every request under way has its event here, see `Ledger::record`.
    fn gather(&self, waiting: &mpsc::Receiver<Command>) {
        let until = Instant::now() + GATHER;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || waiting.len() + 1 >= self.load.in_flight() as usize {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn number(&mut self, mut event: v1::UsageEvent) -> v1::UsageEvent {
        if event.origin_counter > 0 {
            return event;
        }
        self.counter += 1;
        event.event_id = format!("{}-{}", self.instance, self.counter);
        event.origin_instance.clone_from(&self.instance);
        event.origin_counter = self.counter;
        event
    }

    fn keep(&mut self, events: Vec<v1::UsageEvent>) -> Result<(), LedgerError> {
        let id = message_id(&events);
        let payload = v1::UsageBatch { events }.encode_to_vec();
        let kept = self.log.append(&payload).and_then(|_| self.log.sync());
        kept.map_err(|error| {
            tracing::error!(%error, "usage events are not on disk, only in memory");
            self.homeless.push(Outgoing { records: None, id, payload });
            LedgerError::Disk(error.to_string())
        })
    }

    /// Hands out as much as the publisher takes.
    fn hand_out(&mut self) {
        let outgoing = self.outgoing.clone();
        while let Ok(permit) = outgoing.try_reserve() {
            let Some(batch) = self.homeless.pop() else { break };
            self.in_flight_homeless += 1;
            permit.send(batch);
        }
        if self.handed == self.log.synced_position() {
            return;
        }
        self.reader.follow(&self.log);
        while let Ok(permit) = outgoing.try_reserve() {
            let Some(batch) = self.next_message() else { break };
            permit.send(batch);
        }
    }

    /// The next records as one message. Encoded batches that stand one after the other are one batch: that is how protobuf
    /// merges a repeated field.
    fn next_message(&mut self) -> Option<Outgoing> {
        let first = self.handed;
        let mut held = Vec::new();
        let mut payload = Vec::new();
        while payload.len() < MESSAGE_BYTES {
            match self.reader.next() {
                Some(Ok((position, record))) => {
                    // what lies between was damaged; nobody would acknowledge it otherwise
                    self.handed = position.plus(1);
                    match super::decode(&record) {
                        Ok(events) => {
                            held.extend(events);
                            payload.extend_from_slice(&record);
                        }
                        Err(error) => {
                            tracing::error!(%error, "a record of the usage log does not decode and is left out");
                        }
                    }
                }
                Some(Err(error)) => tracing::error!(%error, "usage events on disk are damaged"),
                None => break,
            }
        }
        if payload.is_empty() {
            if first < self.handed {
                self.acknowledge(Some(first..self.handed));
            }
            return None;
        }
        Some(Outgoing { records: Some(first..self.handed), id: message_id(&held), payload })
    }

    fn acknowledge(&mut self, records: Option<Range<Position>>) {
        match records {
            Some(records) => {
                self.ahead.insert(records.start, records.end);
            }
            None => self.in_flight_homeless = self.in_flight_homeless.saturating_sub(1),
        }
    }

    fn settle(&mut self) {
        while let Some(end) = self.ahead.remove(&self.acknowledged) {
            self.acknowledged = end;
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

/// Says what a message holds, from its first event to its last. The first alone would not do: after a crash the same event may
/// begin a longer message, and the stream would drop that as a copy of the shorter one. Of several origins the first and the
/// last do not tell what stands between them: a digest of all does.
fn message_id(events: &[v1::UsageEvent]) -> String {
    let name = |event: Option<&v1::UsageEvent>| event.map(|event| event.event_id.clone()).unwrap_or_default();
    let ends = format!("{}..{}", name(events.first()), name(events.last()));
    let mixed =
        events.windows(2).any(|pair| matches!(pair, [a, b] if a.origin_instance != b.origin_instance));
    if mixed { format!("{ends}~{:016x}", digest(events)) } else { ends }
}

/// FNV-1a of all ids: <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn digest(events: &[v1::UsageEvent]) -> u64 {
    let bytes = events.iter().flat_map(|event| event.event_id.bytes().chain([b'\n']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_several_origins_differ_when_anything_between_their_ends_differs() {
        let event = |origin: &str, counter: u64| v1::UsageEvent {
            event_id: format!("{origin}-{counter}"),
            origin_instance: origin.to_owned(),
            origin_counter: counter,
            ..v1::UsageEvent::default()
        };
        let alone = message_id(&[event("a", 1), event("a", 2)]);
        let mixed = message_id(&[event("a", 1), event("b", 1), event("a", 2)]);
        let other = message_id(&[event("a", 1), event("b", 2), event("a", 2)]);
        assert_eq!(alone, "a-1..a-2");
        assert!(alone != mixed && mixed != other, "{alone} {mixed} {other}");
    }
}
