//! The store on this machine: the bodies in a log, the newest samples in memory.
//!
//! One thread owns the log. It takes all writes that wait, appends each, syncs once for all of them, and only then puts
//! their samples into the heads and answers; so nothing is acknowledged or shown that a crash could take back, and
//! writes that come together share one fsync. A start reads the log again through the same code.
//!
//! Record of the log: one byte format (1), eight bytes little-endian Unix milliseconds of reception, the body.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    thread,
};

use bytes::Bytes;
use durable_log::{Log, Position};
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{
    HeadLimits, Heads, Labels, Matcher, MetricStore, Sample, Series, StoreError, StoreSize, TimeRange, Write,
    Written,
};
use crate::remote_write::{Decoded, Limits, decode};

/// Writes that wait for the log's thread; more wait with their senders.
const QUEUED_WRITES_MAX: usize = 64;
/// Writes that share one fsync.
const GROUP_MAX: usize = 32;
/// Size of a segment: two of the largest bodies.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Smallest size of the log: two segments.
pub const LOG_BYTES_MIN: u64 = 2 * SEGMENT_BYTES;
/// How far apart the remembered times of the log lie.
const MARK_MS: i64 = 60_000;
const FORMAT: u8 = 1;
/// Format byte and time.
const HEADER_BYTES: usize = 9;

/// Limits of the store.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Of the heads.
    pub heads: HeadLimits,
    /// Of a request.
    pub request: Limits,
    /// How long bodies are kept, milliseconds since reception.
    pub retention_ms: i64,
    /// Size of the log; the oldest bodies go first. At least [`LOG_BYTES_MIN`].
    pub log_bytes_max: u64,
}

/// What a start found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replay {
    /// Bodies whose samples are in memory again.
    pub bodies: u64,
    /// Bodies that could not be read again; each is in the log's own warning.
    pub unreadable: u64,
    /// Bytes of an unfinished write that were cut off.
    pub cut_bytes: u64,
}

enum Command {
    Write(Write, oneshot::Sender<Result<Written, StoreError>>),
    Sweep { now_unix_ms: i64 },
}

/// Handle to the store. Dropping it ends the thread after the writes that wait.
pub struct LocalStore {
    commands: mpsc::Sender<Command>,
    heads: Arc<RwLock<Heads>>,
}

impl LocalStore {
    /// Opens the log in `folder` and reads it into memory. Blocks for as long as that takes.
    ///
    /// # Errors
    /// The folder cannot be used, or another process uses it.
    pub fn open(folder: &Path, options: Options, now_unix_ms: i64) -> anyhow::Result<(Self, Replay)> {
        let limits = durable_log::Options { segment_bytes: SEGMENT_BYTES, max_bytes: options.log_bytes_max };
        let (log, recovery) = Log::open(folder, limits)?;
        let mut writer = Writer {
            log,
            heads: Arc::new(RwLock::new(Heads::new(options.heads))),
            options,
            marks: VecDeque::new(),
        };
        let replay = Replay { cut_bytes: recovery.truncated_bytes, ..writer.replay(now_unix_ms) };
        let heads = Arc::clone(&writer.heads);
        let (commands, queue) = mpsc::channel(QUEUED_WRITES_MAX);
        thread::Builder::new().name("metrics-writer".to_owned()).spawn(move || writer.run(queue))?;
        Ok((Self { commands, heads }, replay))
    }

    /// Forgets what is too old, in memory and on the disk.
    ///
    /// # Errors
    /// The store ended.
    pub async fn sweep(&self, now_unix_ms: i64) -> Result<(), StoreError> {
        self.commands.send(Command::Sweep { now_unix_ms }).await.map_err(|_| StoreError::Closed)
    }

    /// Asks the heads on a blocking thread: going through many series takes longer than a task may.
    fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Heads) -> T + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let heads = Arc::clone(&self.heads);
        let asking = tokio::task::spawn_blocking(move || {
            question(&heads.read().unwrap_or_else(PoisonError::into_inner))
        });
        Box::pin(async move { asking.await.map_err(|_| StoreError::Closed) })
    }
}

impl MetricStore for LocalStore {
    fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, StoreError>> {
        Box::pin(async move {
            let (done, outcome) = oneshot::channel();
            self.commands.send(Command::Write(write, done)).await.map_err(|_| StoreError::Closed)?;
            outcome.await.map_err(|_| StoreError::Closed)?
        })
    }

    fn select(
        &self,
        matchers: Vec<Matcher>,
        range: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<Series>, StoreError>> {
        self.read(move |heads| heads.select(&matchers, range))
    }

    fn newest(
        &self,
        matchers: Vec<Matcher>,
        range: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<(Labels, Sample)>, StoreError>> {
        self.read(move |heads| heads.newest(&matchers, range))
    }

    fn labels(
        &self,
        matchers: Vec<Matcher>,
        range: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<Labels>, StoreError>> {
        self.read(move |heads| heads.labels(&matchers, range))
    }

    fn size(&self) -> StoreSize {
        self.heads.read().unwrap_or_else(PoisonError::into_inner).size()
    }
}

/// What the thread owns.
struct Writer {
    log: Log,
    heads: Arc<RwLock<Heads>>,
    options: Options,
    /// Times of reception and where in the log they are, about one a minute, oldest first.
    marks: VecDeque<(i64, Position)>,
}

struct Pending {
    write: Write,
    done: oneshot::Sender<Result<Written, StoreError>>,
    position: Position,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut commands = Vec::with_capacity(GROUP_MAX);
        loop {
            commands.clear();
            if queue.blocking_recv_many(&mut commands, GROUP_MAX) == 0 {
                return;
            }
            self.write_group(commands.drain(..));
        }
    }

    fn write_group(&mut self, commands: impl Iterator<Item = Command>) {
        let mut pending: Vec<Pending> = Vec::new();
        let mut sweep = None;
        for command in commands {
            match command {
                Command::Sweep { now_unix_ms } => sweep = Some(now_unix_ms),
                Command::Write(write, done) => match self.append(&write) {
                    Ok(position) => pending.push(Pending { write, done, position }),
                    Err(error) => {
                        let taken_back = matches!(error, durable_log::Error::SyncFailed { .. });
                        let error = store_error(&error);
                        if taken_back {
                            fail(pending.drain(..), &error);
                        }
                        let _ = done.send(Err(error));
                    }
                },
            }
        }
        match self.log.sync() {
            Ok(()) => pending.drain(..).for_each(|pending| self.show(pending)),
            Err(error) => fail(pending.drain(..), &store_error(&error)),
        }
        if let Some(now_unix_ms) = sweep {
            self.sweep(now_unix_ms);
        }
    }

    /// Appends a body; a log that has reached its size gives up its oldest segment, once.
    fn append(&mut self, write: &Write) -> Result<Position, durable_log::Error> {
        let mut record = Vec::with_capacity(HEADER_BYTES + write.body.len());
        record.push(FORMAT);
        record.extend_from_slice(&write.received_unix_ms.to_le_bytes());
        record.extend_from_slice(&write.body);
        match self.log.append(&record) {
            Err(durable_log::Error::Full { .. }) => {
                if let Some(released) = self.log.release_oldest()? {
                    tracing::warn!(bytes = released.bytes, "metrics log full, oldest segment released");
                }
                self.log.append(&record)
            }
            other => other,
        }
    }

    fn show(&mut self, pending: Pending) {
        let Pending { write, done, position } = pending;
        self.mark(write.received_unix_ms, position);
        let written = self.insert(&write.decoded, write.received_unix_ms);
        // Whoever asked may have gone; the write stays.
        let _ = done.send(Ok(written));
    }

    fn insert(&self, decoded: &Decoded, now_unix_ms: i64) -> Written {
        let mut heads = self.heads.write().unwrap_or_else(PoisonError::into_inner);
        let mut written = Written::default();
        for series in &decoded.series {
            written.samples +=
                heads.insert(&series.labels, &series.samples, now_unix_ms, &mut written.refused);
        }
        written
    }

    /// Remembers where in the log this time is, about once a minute; whether it did.
    fn mark(&mut self, unix_ms: i64, position: Position) -> bool {
        let due = self.marks.back().is_none_or(|(last, _)| unix_ms >= last.saturating_add(MARK_MS));
        if due {
            self.marks.push_back((unix_ms, position));
        }
        due
    }

    fn sweep(&mut self, now_unix_ms: i64) {
        self.heads.write().unwrap_or_else(PoisonError::into_inner).sweep(now_unix_ms);
        let oldest = now_unix_ms.saturating_sub(self.options.retention_ms);
        let mut keep_from = None;
        while let Some((_, position)) = self.marks.front().filter(|(unix_ms, _)| *unix_ms < oldest) {
            keep_from = Some(*position);
            self.marks.pop_front();
        }
        if let Some(position) = keep_from
            && let Err(error) = self.log.release_before(position)
        {
            tracing::warn!(%error, "old metrics could not be removed");
        }
    }

    fn replay(&mut self, now_unix_ms: i64) -> Replay {
        let mut replay = Replay::default();
        let oldest = now_unix_ms.saturating_sub(self.options.heads.age_ms_max);
        for record in self.log.read_from(Position::default()) {
            let (position, record) = match record {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, "metrics lost from the log");
                    replay.unreadable += 1;
                    continue;
                }
            };
            let Some((received_unix_ms, body)) = split(&record) else {
                replay.unreadable += 1;
                continue;
            };
            if self.mark(received_unix_ms, position) {
                // As it went in: series that ended must not count against the bound on series.
                self.heads.write().unwrap_or_else(PoisonError::into_inner).sweep(received_unix_ms);
            }
            if received_unix_ms < oldest {
                continue;
            }
            match decode(&body, self.options.request, received_unix_ms) {
                Ok(decoded) => {
                    self.insert(&decoded, received_unix_ms);
                    replay.bodies += 1;
                }
                Err(_) => replay.unreadable += 1,
            }
        }
        self.sweep(now_unix_ms);
        replay
    }
}

fn split(record: &[u8]) -> Option<(i64, Bytes)> {
    let (header, body) = record.split_at_checked(HEADER_BYTES)?;
    let (format, time) = header.split_first()?;
    let time = i64::from_le_bytes(time.try_into().ok()?);
    (*format == FORMAT).then(|| (time, Bytes::copy_from_slice(body)))
}

fn fail(pending: impl Iterator<Item = Pending>, error: &StoreError) {
    for pending in pending {
        let _ = pending.done.send(Err(error.clone()));
    }
}

fn store_error(error: &durable_log::Error) -> StoreError {
    if error.is_out_of_space() {
        StoreError::OutOfSpace(error.to_string())
    } else {
        StoreError::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests;
