//! The ledger view: every attempt once, in SQLite, with sums by hour and by day kept in the same transaction.
//!
//! JetStream carries the events; this file is what is asked. Invariants:
//! - an event id is one row, however often it is delivered, and only its first delivery changes a sum;
//! - `rollup_hour` and `rollup_day` are the sums of `attempt`, because all change in one transaction, and a commit is on the disk before
//!   [`Ledger::record`] returns (WAL, `synchronous=FULL`);
//! - one thread writes through one connection; readers have read-only connections of their own and see whole commits.
//!
//! Money is whole pico-dollars. Sums stop at the largest 64-bit number instead of wrapping.

use std::{path::Path, sync::Arc, thread};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot, watch};

pub mod attempt;
mod counters;
mod energy;
mod query;
mod readers;
mod schema;
mod write;

pub use self::{
    attempt::{Attempt, InvalidEvent, TokenCounts},
    counters::{Counters, PlacementKey, Sums},
    energy::Energy,
    query::{Cursor, Group, Range, Summary},
    write::{Batch, DeadLetter, Recorded},
};
use self::{counters::SharedCounters, readers::Readers};

/// Batches that wait for the writer; [`Ledger::record`] waits where more come.
const QUEUED_BATCHES_MAX: usize = 64;
/// How long a statement waits for another connection's lock.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Why the ledger could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite refused; [`LedgerError::is_disk_full`] tells the one case that passes by itself.
    #[error("the ledger's database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file was written by a newer program.
    #[error("the ledger has schema version {found}, expected at most {newest}")]
    UnknownVersion {
        /// Version in the file.
        found: i64,
        /// Version this program writes.
        newest: i64,
    },
    /// The folder or the writer's thread could not be made.
    #[error("the ledger could not start: {0}")]
    Start(#[source] std::io::Error),
    /// The writer or a reader ended; the process has to restart.
    #[error("the ledger is closed")]
    Closed,
}

impl LedgerError {
    /// Whether there was no space to write.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

struct Command {
    batch: Arc<Batch>,
    now_unix_ms: u64,
    done: oneshot::Sender<Result<Recorded, LedgerError>>,
}

/// Handle to the ledger. Dropping the last one ends the writer after the batches that wait.
#[derive(Clone)]
pub struct Ledger {
    commands: mpsc::Sender<Command>,
    readers: Arc<Readers>,
    counters: SharedCounters,
    commits: watch::Receiver<u64>,
}

impl Ledger {
    /// Opens or creates the file, brings it to the newest schema and starts the writer.
    ///
    /// # Errors
    /// The folder cannot be written, the file is no database, or it was written by a newer program.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(LedgerError::Start)?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        schema::migrate(&mut connection)?;
        let counters = SharedCounters::load(&connection)?;

        let (commands, queue) = mpsc::channel(QUEUED_BATCHES_MAX);
        let (committed, commits) = watch::channel(0);
        let shared = counters.clone();
        thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || write_until_closed(connection, queue, &shared, &committed))
            .map_err(LedgerError::Start)?;
        Ok(Self { commands, readers: Arc::new(Readers::new(path)), counters, commits })
    }

    /// Writes a batch in one transaction and returns once it is on the disk. The batch is shared, so that the caller
    /// can try again with it.
    ///
    /// # Errors
    /// Nothing of the batch was written.
    pub async fn record(&self, batch: Arc<Batch>, now_unix_ms: u64) -> Result<Recorded, LedgerError> {
        let (done, outcome) = oneshot::channel();
        let command = Command { batch, now_unix_ms, done };
        self.commands.send(command).await.map_err(|_| LedgerError::Closed)?;
        outcome.await.map_err(|_| LedgerError::Closed)?
    }

    /// What has been counted since the ledger began.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters.get()
    }

    /// A number that grows with each commit.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// Sums of the attempts that finished in `range`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn summary(&self, range: Range) -> Result<Summary, LedgerError> {
        self.read(move |connection| query::summary(connection, range)).await
    }

    /// The attempts of one request, in order; empty where none is known.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn attempts_of(&self, request_id: String) -> Result<Vec<Attempt>, LedgerError> {
        self.read(move |connection| query::attempts_of(connection, &request_id)).await
    }

    /// Why the request was placed where it was (`llm.v1.Decision`), while that is kept.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn decision_of(&self, request_id: String) -> Result<Option<Vec<u8>>, LedgerError> {
        self.read(move |connection| query::decision_of(connection, &request_id)).await
    }

    /// The attempts that finished last, newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn recent(&self, count_max: u32) -> Result<Vec<Attempt>, LedgerError> {
        self.read(move |connection| query::recent(connection, count_max)).await
    }

    /// The next attempts of `range` behind `after`, oldest first, at most `count_max`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn page(
        &self,
        range: Range,
        after: Option<Cursor>,
        count_max: u32,
    ) -> Result<Vec<Attempt>, LedgerError> {
        self.read(move |connection| query::page(connection, range, after.as_ref(), count_max)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        Arc::clone(&self.readers).read(query).await
    }
}

fn write_until_closed(
    mut connection: Connection,
    mut queue: mpsc::Receiver<Command>,
    counters: &SharedCounters,
    committed: &watch::Sender<u64>,
) {
    while let Some(Command { batch, now_unix_ms, done }) = queue.blocking_recv() {
        let outcome = write::write(&mut connection, &batch, now_unix_ms).map(|(recorded, delta)| {
            counters.add(delta);
            committed.send_modify(|count| *count = count.wrapping_add(1));
            recorded
        });
        // Whoever asked may have gone; the batch is written all the same.
        let _ = done.send(outcome.map_err(LedgerError::from));
    }
}

#[cfg(test)]
mod tests;
