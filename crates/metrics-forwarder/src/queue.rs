//! The one ordered queue between scraping and sending, on disk.
//!
//! ```text
//! scrape ──► push: append, sync ──► log ──► take ──► hub ──► done: store the read position, release segments
//! ```
//!
//! A batch is on disk before the scrape that made it counts as done, and the read position moves on only after the hub
//! answered for the batch. So `kill -9` loses nothing that was pushed, and sends at most the last requests again, in the
//! same order. When the log is full the oldest segment is given up, with a count.
//!
//! Blocking; the scrape loops and the sender call it on blocking threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use durable_log::{Cursor, Log, Position, ReadError, Reader, Recovery};
use prost::Message;

use crate::remote_write::{Batch, BatchLimits};

#[cfg(test)]
mod tests;

/// Name of the read position.
const CURSOR: &str = "sender";

/// The queue. Shared by the scrapers and the sender; each call holds it for the length of its disk access.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: Log,
    cursor: Cursor,
    reader: Reader,
    /// The first batch whose sending has not ended.
    done: Position,
    /// Read, but there was no room for it in what was taken last.
    left_over: Option<(Position, Batch)>,
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Batches that were not sent yet.
    pub batches: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Samples that will never be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Batches.
    pub batches: u64,
    /// Samples in them; those of unreadable batches cannot be counted.
    pub samples: u64,
}

impl Dropped {
    fn add(&mut self, other: Self) {
        self.batches += other.batches;
        self.samples += other.samples;
    }
}

/// What is to be sent next.
#[derive(Debug, Default)]
pub struct Taken {
    /// In order; empty when nothing waits.
    pub batches: Vec<Batch>,
    /// What [`Queue::done`] is told when their sending has ended.
    pub end: Position,
    /// Batches that were damaged on disk, before these.
    pub damaged: Dropped,
}

impl Taken {
    /// Samples in all of them.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.batches.iter().map(|batch| batch.samples).sum()
    }
}

/// Batches that could not be kept: the disk is full or failing.
#[derive(Debug, thiserror::Error)]
#[error("{kept} of the batches were kept: {source}")]
pub struct PushError {
    /// How many of the batches, from the first one, are in the queue.
    pub kept: usize,
    /// Why the others are not.
    pub source: durable_log::Error,
}

impl Queue {
    /// Opens the queue and goes on where the last process stopped.
    ///
    /// # Errors
    /// The log cannot be opened; see [`durable_log::Log::open`].
    pub fn open(config: &crate::config::Queue) -> Result<(Self, Recovery), durable_log::Error> {
        let (log, recovery) = Log::open(&config.dir, config.log)?;
        let (cursor, origin) = log.cursor(CURSOR)?;
        if !matches!(origin, durable_log::CursorOrigin::New | durable_log::CursorOrigin::Stored) {
            tracing::warn!(?origin, position = %cursor.position(), "read position of the queue was repaired");
        }
        let done = cursor.position();
        let reader = log.read_from(done);
        Ok((Self { state: Mutex::new(State { log, cursor, reader, done, left_over: None }) }, recovery))
    }

    /// Appends batches and makes them durable. A full log gives up its oldest segment until there is room; returns what
    /// was given up.
    ///
    /// # Errors
    /// The disk is full or failing. What was kept goes on its way.
    pub fn push(&self, batches: &[Batch]) -> Result<Dropped, PushError> {
        let mut state = self.lock();
        let mut dropped = Dropped::default();
        for (kept, batch) in batches.iter().enumerate() {
            if let Err(source) = state.append(&batch.encode_to_vec(), &mut dropped) {
                let kept = if state.log.sync().is_ok() { kept } else { 0 };
                return Err(PushError { kept, source });
            }
        }
        state.log.sync().map_err(|source| PushError { kept: 0, source })?;
        Ok(dropped)
    }

    /// The next batches, as many as fit one request together, at least one if any waits.
    ///
    /// # Errors
    /// The log cannot be read now.
    pub fn take(&self, limits: BatchLimits) -> Result<Taken, ReadError> {
        let mut state = self.lock();
        let state = &mut *state;
        state.reader.follow(&state.log);
        let mut taken = Taken { end: state.done, ..Taken::default() };
        let (mut samples, mut bytes) = (0, 0);
        loop {
            let (position, batch) = match state.left_over.take() {
                Some(left_over) => left_over,
                None => match state.read(&mut taken.damaged) {
                    Ok(Some(read)) => read,
                    Ok(None) => break,
                    Err(error) if taken.batches.is_empty() => return Err(error),
                    Err(_) => break,
                },
            };
            samples += batch.samples;
            bytes += batch.bytes;
            let fits = samples <= limits.samples_max as u64 && bytes <= limits.bytes_max as u64;
            if !fits && !taken.batches.is_empty() {
                state.left_over = Some((position, batch));
                break;
            }
            taken.end = position.plus(1);
            taken.batches.push(batch);
        }
        if taken.batches.is_empty() {
            taken.end = state.reader.position();
        }
        Ok(taken)
    }

    /// Takes note that everything before `end` was delivered or given up, and frees the space.
    ///
    /// # Errors
    /// The position could not be stored: sending goes on from `end`, but after a restart some is sent again.
    pub fn done(&self, end: Position) -> Result<(), durable_log::Error> {
        let mut state = self.lock();
        state.done = state.done.max(end);
        let end = state.done;
        // Both are tried: on a full disk the position cannot be stored before something was released, and a position
        // before the oldest record means the same as one at it.
        let released = state.log.release_before(end).map(|_| ());
        let stored = if state.cursor.position() < end { state.cursor.advance(end) } else { Ok(()) };
        released.and(stored)
    }

    /// How much waits.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let state = self.lock();
        let oldest = state.done.max(state.log.first_position());
        Backlog { batches: state.log.synced_position().since(oldest), bytes: state.log.used_bytes() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next batch that can be read.
    fn read(&mut self, damaged: &mut Dropped) -> Result<Option<(Position, Batch)>, ReadError> {
        loop {
            match self.reader.next() {
                None => return Ok(None),
                Some(Ok((position, record))) => match Batch::decode(record.as_slice()) {
                    Ok(batch) => return Ok(Some((position, batch))),
                    Err(error) => {
                        tracing::error!(%position, %error, "a batch in the queue is not one of ours");
                        damaged.batches += 1;
                    }
                },
                Some(Err(error @ ReadError::Io { .. })) => return Err(error),
                Some(Err(ReadError::Damaged { from, to, path })) => {
                    tracing::error!(%from, %to, path = %path.display(), "batches in the queue are damaged");
                    damaged.batches += to.since(from);
                }
                // Counted by whoever released them.
                Some(Err(ReadError::Released { .. })) => {}
            }
        }
    }

    fn append(&mut self, record: &[u8], dropped: &mut Dropped) -> Result<(), durable_log::Error> {
        loop {
            match self.log.append(record) {
                Ok(_) => return Ok(()),
                Err(full @ durable_log::Error::Full { .. }) => match self.drop_oldest()? {
                    Some(oldest) => dropped.add(oldest),
                    None => return Err(full),
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives up the oldest segment; what of it was already handed to the sender is not lost by that.
    fn drop_oldest(&mut self) -> Result<Option<Dropped>, durable_log::Error> {
        let Some(oldest) = self.log.oldest() else { return Ok(None) };
        let unread = self.left_over.as_ref().map_or(self.reader.position(), |(position, _)| *position);
        let from = unread.max(oldest.start);
        let lost = self.log.read_from(from).flatten().take_while(|(position, _)| *position < oldest.end);
        let samples =
            lost.map(|(_, record)| Batch::decode(record.as_slice()).map_or(0, |batch| batch.samples)).sum();
        self.log.release_oldest()?;
        self.left_over = self.left_over.take().filter(|(position, _)| *position >= oldest.end);
        Ok(Some(Dropped { batches: oldest.end.since(from), samples }))
    }
}
