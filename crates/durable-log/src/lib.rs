//! An append-only log of byte records that survives `kill -9` and loss of power.
//!
//! The log is a directory of segment files. A record gets a number, its [`Position`], that is never used for another
//! record once the record was synced. Producers append and then [`Log::sync`]; readers see what is synced and nothing
//! else, so that nobody acts on a record that a crash could still take back.
//!
//! Invariants:
//! - What was appended before a successful [`Log::sync`] is there after any crash.
//! - Opening never fails because of a torn or damaged tail: the last segment is cut behind its last whole record, and
//!   [`Recovery`] says how much was cut.
//! - A length that was read from disk is compared with what the file can hold before memory is taken for it.
//! - One process has the log open ([`Error::Locked`] for the second).
//!
//! Damage in a segment that is not the last cannot come from a crash (a segment is synced before its successor is
//! created), so it is not repaired at open: the reader yields [`ReadError::Damaged`] once, with the numbers of the
//! records that are lost, and goes on behind them. One bad sector costs the rest of one segment, never the log.
//!
//! The API blocks; asynchronous callers put it on a blocking thread.

mod cursor;
mod error;
mod log;
mod medium;
mod reader;
mod record;
mod segment;

use std::fmt;

pub use cursor::{Cursor, CursorOrigin};
pub use error::{Error, ReadError};
pub use log::{Log, Options, Recovery, Released};
pub use reader::Reader;

/// Number of a record, counted from 0 since the log was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

impl Position {
    /// The position with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position this many records later.
    #[must_use]
    pub const fn plus(self, records: u64) -> Self {
        Self(self.0.saturating_add(records))
    }

    /// Records from `earlier` up to this position; 0 when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
