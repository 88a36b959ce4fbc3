//! A consumer's read position, kept beside the log.
//!
//! A consumer that handles a record and then advances its cursor handles each record at least once, also across
//! `kill -9`: after a restart it begins with the first record whose handling was not stored.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::{Position, segment};

/// `position: u64 LE | version: u32 LE | crc32: u32 LE over the 12 bytes before`.
const SIZE: usize = 16;
const VERSION: u32 = 1;

/// Where the position of an opened [`Cursor`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorOrigin {
    /// Nothing was stored: the consumer begins with the oldest record.
    New,
    /// As stored.
    Stored,
    /// What was stored is unreadable: the consumer begins with the oldest record, and sees some a second time.
    Damaged,
    /// The stored position is not in the log; the nearest one that is was taken. Before the oldest record: those in
    /// between were released unread. Behind the newest: the log's tail was damaged and cut.
    Moved {
        /// What was stored.
        from: Position,
    },
}

/// A durable read position.
#[derive(Debug)]
pub struct Cursor {
    dir: PathBuf,
    path: PathBuf,
    position: Position,
}

impl Cursor {
    pub(crate) fn open(
        dir: &Path,
        name: &str,
        first: Position,
        end: Position,
    ) -> Result<(Self, CursorOrigin), Error> {
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(valid) {
            return Err(Error::InvalidOption {
                field: "cursor name",
                value: name.chars().take(80).collect(),
                expected: "1 to 64 of a-z, 0-9 and -".to_owned(),
            });
        }
        let path = dir.join(format!("{name}.cursor"));
        let (position, origin) = match fs::read(&path) {
            Ok(bytes) => match decode(&bytes) {
                Some(stored) if stored < first => (first, CursorOrigin::Moved { from: stored }),
                Some(stored) if stored > end => (end, CursorOrigin::Moved { from: stored }),
                Some(stored) => (stored, CursorOrigin::Stored),
                None => (first, CursorOrigin::Damaged),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (first, CursorOrigin::New),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let mut cursor = Self { dir: dir.to_owned(), path, position };
        // Stored at once: were a position behind the log's end left on disk, the numbers in between would be given to
        // new records and a later start would skip them.
        if matches!(origin, CursorOrigin::Moved { .. }) {
            cursor.advance(position)?;
        }
        Ok((cursor, origin))
    }

    /// The first record that was not handled.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Stores that everything before `position` was handled. Durable when it returns.
    ///
    /// # Errors
    /// The file system refuses; the stored position is the old or the new one, never a mixture.
    pub fn advance(&mut self, position: Position) -> Result<(), Error> {
        segment::replace(&self.dir, &self.path, &encode(position))?;
        self.position = position;
        Ok(())
    }
}

fn encode(position: Position) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SIZE);
    bytes.extend_from_slice(&position.get().to_le_bytes());
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Position> {
    let (fields, checksum) = bytes.split_at_checked(12).filter(|_| bytes.len() == SIZE)?;
    let (position, version) = fields.split_at(8);
    let sound = crc32fast::hash(fields).to_le_bytes() == checksum && version == VERSION.to_le_bytes();
    position.try_into().ok().filter(|_| sound).map(|position| Position::new(u64::from_le_bytes(position)))
}
