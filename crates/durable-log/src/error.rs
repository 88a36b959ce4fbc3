//! What can go wrong, as far as a caller can act on it.

use std::io;
use std::path::{Path, PathBuf};

use crate::Position;

/// A log that could not be opened, or a change that was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options contradict themselves; nothing was touched.
    #[error("{field} is {value}, expected {expected}")]
    InvalidOption {
        /// The option.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// Another process (or another [`crate::Log`] in this one) has the directory open.
    #[error("the log in {} is in use by another process", .dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A segment was written by another version of this format; it is left alone.
    #[error("{} has format version {version}, expected {expected}", .path.display())]
    UnsupportedVersion {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The version that this code reads and writes.
        expected: u32,
    },
    /// A segment's header names another first record than its file name: somebody renamed it.
    #[error("{} starts with record {stored} by its header", .path.display())]
    Misnamed {
        /// The segment.
        path: PathBuf,
        /// First record by the header.
        stored: Position,
    },
    /// A record, or a batch, does not fit into a segment; it was not appended.
    #[error("the record takes {bytes} bytes, expected at most {max}")]
    TooLong {
        /// Bytes on disk, framing included.
        bytes: u64,
        /// Most bytes that one append can take.
        max: u64,
    },
    /// The log has reached its configured size; nothing was appended. Release records, or drop this one.
    #[error("the log is full: {used} bytes used, {needed} more needed, at most {max}")]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes that the append needed.
        needed: u64,
        /// The limit.
        max: u64,
    },
    /// The disk (or the quota) is full; nothing was appended. The same call works again once space returns.
    #[error("no space left to {action} {}: {source}", .path.display())]
    NoSpace {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The system could not make records durable. The records since the last successful sync were taken back, because
    /// after such a failure nobody knows what of them is on disk; append them again.
    #[error("could not sync {}, {discarded} records taken back: {source}", .path.display())]
    SyncFailed {
        /// Records that are no longer in the log.
        discarded: u64,
        /// The segment.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Any other answer of the file system.
    #[error("could not {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// Sorts an answer of the file system into [`Error::NoSpace`] and [`Error::Io`].
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { action, path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// For `map_err`.
    pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::io(action, path, source)
    }

    /// Whether the same call can succeed later without a change by the caller: the disk or the log was full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Full { .. } | Self::NoSpace { .. } => true,
            Self::SyncFailed { source, .. } => matches!(source.kind(), io::ErrorKind::StorageFull),
            _ => false,
        }
    }
}

/// Records that a reader could not give back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The records `from..to` are damaged on disk; the reader goes on with `to`.
    #[error("records {from} to {to} are damaged in {}", .path.display())]
    Damaged {
        /// First record that is lost.
        from: Position,
        /// First record behind the loss.
        to: Position,
        /// The segment.
        path: PathBuf,
    },
    /// The records `from..to` were released while they were waiting to be read; the reader goes on with `to`.
    #[error("records {from} to {to} were released before they were read")]
    Released {
        /// First record that is gone.
        from: Position,
        /// First record behind them.
        to: Position,
    },
    /// The file system refused. The reader stops; after [`crate::Reader::follow`] it tries the same record again.
    #[error("could not read {}: {source}", .path.display())]
    Io {
        /// The segment.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}
