//! The writing side: open, append, sync, release.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::cursor::{Cursor, CursorOrigin};
use crate::error::Error;
use crate::medium::Medium;
use crate::reader::{End, Reader};
use crate::segment::{self, Segment};
use crate::{Position, record};

#[cfg(test)]
mod tests;

/// Limits of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Size at which a new segment is started, in bytes; 64 to 1 GiB. Also bounds a record: one append takes at most
    /// this much less the segment's header. Space is released in whole segments.
    pub segment_bytes: u64,
    /// Most bytes on disk, at least twice `segment_bytes`. An append that would exceed it is [`Error::Full`].
    pub max_bytes: u64,
}

impl Options {
    const SEGMENT_BYTES: Range<u64> = 64..(1 << 30) + 1;

    fn check(self) -> Result<(), Error> {
        if !Self::SEGMENT_BYTES.contains(&self.segment_bytes) {
            let expected = "64 to 1073741824".to_owned();
            return Err(Error::InvalidOption {
                field: "segment_bytes",
                value: self.segment_bytes.to_string(),
                expected,
            });
        }
        // With less, a full log could consist of the segment in use alone, and releasing would free nothing.
        let min = self.segment_bytes * 2;
        if self.max_bytes < min {
            let expected = format!("at least {min}, twice segment_bytes");
            return Err(Error::InvalidOption {
                field: "max_bytes",
                value: self.max_bytes.to_string(),
                expected,
            });
        }
        Ok(())
    }
}

/// What opening found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Records in the log. Those of older segments are counted by the segments' names.
    pub records: u64,
    /// The oldest record that is kept.
    pub first: Position,
    /// The number that the next record gets.
    pub next: Position,
    /// Bytes cut off the last segment because they were no whole record; 0 after a clean stop.
    pub truncated_bytes: u64,
    /// The last segment's header was damaged and has been written again; no record was lost by that.
    pub header_repaired: bool,
}

/// Records that were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// The oldest record that was removed.
    pub first: Position,
    /// The first record that is kept.
    pub end: Position,
    /// Bytes that were freed on disk.
    pub bytes: u64,
}

/// An append-only log in a directory of its own.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    options: Options,
    /// Complete segments, oldest first.
    older: VecDeque<Segment>,
    active: Active,
    frame: Vec<u8>,
    /// Held for its lock.
    _lock: File,
}

#[derive(Debug)]
struct Active {
    medium: Medium,
    first: Position,
    /// Number of the next record.
    next: Position,
    /// Length that is in use.
    bytes: u64,
    /// Up to where records are durable.
    synced: Position,
    synced_bytes: u64,
    /// A failed write left bytes behind `bytes` that could not be removed yet.
    dirty: bool,
    /// Nothing more is written here: its successor may exist already, and counts from `next`.
    sealed: bool,
}

impl Active {
    fn new(file: File, first: Position, next: Position, bytes: u64) -> Self {
        let medium = Medium::new(file);
        Self { medium, first, next, bytes, synced: next, synced_bytes: bytes, dirty: false, sealed: false }
    }

    /// Removes what a failed write left behind; kept for the next attempt when even that fails.
    fn cut(&mut self) -> std::io::Result<()> {
        self.dirty = true;
        self.medium.cut(self.bytes)?;
        self.dirty = false;
        Ok(())
    }
}

impl Log {
    /// Opens the log in `dir`, creating it if necessary, and repairs the tail.
    ///
    /// # Errors
    /// The options are out of range, the log is in use, a segment is of another format version, or the file system
    /// refuses. Damage in the data is never an error here.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<(Self, Recovery), Error> {
        options.check()?;
        let dir = dir.as_ref().to_owned();
        fs::create_dir_all(&dir).map_err(Error::at("create", &dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            segment::sync_directory(parent)?;
        }
        let lock = lock(&dir)?;

        let mut older: VecDeque<Segment> = segment::list(&dir)?.into();
        for segment in &older {
            let path = segment::path(&dir, segment.first);
            let mut file = File::open(&path).map_err(Error::at("open", &path))?;
            segment::check(&path, &mut file, segment.first)?;
        }
        let (active, truncated_bytes, header_repaired) = match older.pop_back() {
            Some(last) => {
                let found = segment::recover(&dir, &last)?;
                let next = last.first.plus(found.records);
                (Active::new(found.file, last.first, next, found.bytes), found.cut, found.header_repaired)
            }
            None => {
                let first = Position::default();
                (Active::new(segment::create(&dir, first)?, first, first, segment::HEADER), 0, false)
            }
        };
        let log = Self { dir, options, older, active, frame: Vec::new(), _lock: lock };
        let (first, next) = (log.first_position(), log.next_position());
        let recovery = Recovery { records: next.since(first), first, next, truncated_bytes, header_repaired };
        Ok((log, recovery))
    }

    /// Appends one record. It is durable, and readers see it, after the next successful [`Log::sync`].
    ///
    /// # Errors
    /// See [`Log::append_all`].
    pub fn append(&mut self, record: &[u8]) -> Result<Position, Error> {
        self.append_all(&[record]).map(|positions| positions.start)
    }

    /// Appends records with one write: all of them, or on error none.
    ///
    /// # Errors
    /// [`Error::TooLong`] when they don't fit one segment together, [`Error::Full`], [`Error::NoSpace`], or an answer
    /// of the file system. When a new segment had to be started: [`Error::SyncFailed`], which takes back every record
    /// since the last sync.
    pub fn append_all<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<Range<Position>, Error> {
        let bytes =
            records.iter().fold(0_u64, |sum, record| sum.saturating_add(record::size(record.as_ref().len())));
        let max = self.options.segment_bytes - segment::HEADER;
        if bytes > max {
            return Err(Error::TooLong { bytes, max });
        }
        let rotate = self.active.sealed || self.active.bytes + bytes > self.options.segment_bytes;
        let needed = if rotate { bytes + segment::HEADER } else { bytes };
        let used = self.used_bytes();
        if used.saturating_add(needed) > self.options.max_bytes {
            return Err(Error::Full { used, needed, max: self.options.max_bytes });
        }
        if rotate {
            self.rotate()?;
        }
        self.write(records, bytes)
    }

    fn write<R: AsRef<[u8]>>(&mut self, records: &[R], bytes: u64) -> Result<Range<Position>, Error> {
        let path = self.active_path();
        if self.active.dirty {
            self.active.cut().map_err(Error::at("cut", &path))?;
        }
        self.frame.clear();
        for record in records {
            record::encode(record.as_ref(), &mut self.frame);
        }
        if let Err(source) = self.active.medium.write_at(self.active.bytes, &self.frame) {
            // A failure to cut is remembered in `dirty`; the write's own error is the one to tell.
            let _ = self.active.cut();
            return Err(Error::io("append to", &path, source));
        }
        let start = self.active.next;
        self.active.bytes += bytes;
        self.active.next = start.plus(records.len() as u64);
        Ok(start..self.active.next)
    }

    /// Makes everything appended so far durable and visible to readers.
    ///
    /// # Errors
    /// [`Error::SyncFailed`]: the records since the last successful sync are no longer in the log.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.active.synced == self.active.next {
            return Ok(());
        }
        let path = self.active_path();
        let active = &mut self.active;
        if let Err(source) = active.medium.sync() {
            // After a failed fsync the kernel may have dropped the pages and a second fsync may succeed without them
            // (https://wiki.postgresql.org/wiki/Fsync_Errors), so these records must not be trusted again.
            let discarded = active.next.since(active.synced);
            active.next = active.synced;
            active.bytes = active.synced_bytes;
            let _ = active.cut();
            return Err(Error::SyncFailed { discarded, path, source });
        }
        active.synced = active.next;
        active.synced_bytes = active.bytes;
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), Error> {
        self.sync()?;
        let path = self.active_path();
        if self.active.dirty {
            self.active.cut().map_err(Error::at("cut", &path))?;
        }
        self.active.sealed = true;
        let next = self.active.next;
        let file = segment::create(&self.dir, next)?;
        let full = std::mem::replace(&mut self.active, Active::new(file, next, next, segment::HEADER));
        self.older.push_back(Segment { first: full.first, bytes: full.bytes });
        Ok(())
    }

    /// Removes the segments that hold only records before `position`, and says what that freed. The segment in use
    /// stays, so that numbering continues.
    ///
    /// # Errors
    /// The file system refuses; some segments may be gone.
    pub fn release_before(&mut self, position: Position) -> Result<Option<Released>, Error> {
        let first = self.first_position();
        let mut bytes = 0;
        let result = loop {
            let Some(oldest) = self.oldest().filter(|oldest| oldest.end <= position) else { break Ok(()) };
            let path = segment::path(&self.dir, oldest.start);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    break Err(Error::io("remove", &path, error));
                }
                _ => bytes += self.older.pop_front().map_or(0, |segment| segment.bytes),
            }
        };
        if bytes > 0 {
            segment::sync_directory(&self.dir)?;
        }
        result?;
        let end = self.first_position();
        Ok((end > first).then_some(Released { first, end, bytes }))
    }

    /// Removes the oldest segment whether or not it was read: the way to make room for new records in a full log.
    /// `None` when only the segment in use is left.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn release_oldest(&mut self) -> Result<Option<Released>, Error> {
        self.oldest().map_or(Ok(None), |oldest| self.release_before(oldest.end))
    }

    /// The records that [`Log::release_oldest`] would remove.
    #[must_use]
    pub fn oldest(&self) -> Option<Range<Position>> {
        let end = self.older.get(1).map_or(self.active.first, |second| second.first);
        self.older.front().map(|oldest| oldest.first..end)
    }

    /// A reader of the synced records from `position` on, or from the oldest one kept if that is later. It is
    /// independent of the log: it sees what was synced up to now, and more after [`Reader::follow`].
    #[must_use]
    pub fn read_from(&self, position: Position) -> Reader {
        Reader::new(self.dir.clone(), position.max(self.first_position()), self.readable(), self.end())
    }

    pub(crate) fn readable(&self) -> Vec<Position> {
        self.older.iter().map(|segment| segment.first).chain([self.active.first]).collect()
    }

    pub(crate) fn end(&self) -> End {
        End { position: self.active.synced, offset: self.active.synced_bytes }
    }

    /// The read position that consumer `name` has stored beside the log.
    ///
    /// # Errors
    /// The name is not 1 to 64 of `a`–`z`, `0`–`9` and `-`, or the file system refuses.
    pub fn cursor(&self, name: &str) -> Result<(Cursor, CursorOrigin), Error> {
        Cursor::open(&self.dir, name, self.first_position(), self.synced_position())
    }

    /// The oldest record that is kept; equal to [`Log::next_position`] in an empty log.
    #[must_use]
    pub fn first_position(&self) -> Position {
        self.older.front().map_or(self.active.first, |segment| segment.first)
    }

    /// The number that the next record gets.
    #[must_use]
    pub fn next_position(&self) -> Position {
        self.active.next
    }

    /// The first record that is not durable yet; equal to [`Log::next_position`] after a sync.
    #[must_use]
    pub fn synced_position(&self) -> Position {
        self.active.synced
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.older.iter().fold(self.active.bytes, |sum, segment| sum.saturating_add(segment.bytes))
    }

    /// The limits.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    fn active_path(&self) -> PathBuf {
        segment::path(&self.dir, self.active.first)
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::at("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", &path, source)),
    }
}
