//! The reading side: records in order, from any position.

use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use crate::error::ReadError;
use crate::record::{self, Found};
use crate::{Log, Position, segment};

/// Up to where a reader may read: the end of what is synced, in the newest segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) position: Position,
    pub(crate) offset: u64,
}

/// An iterator over `(position, record)`; see [`Log::read_from`].
///
/// Numbers that are missing are told by one [`ReadError`] and skipped, so that a consumer that logs errors and goes on
/// gets everything that is readable.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    /// Next record to give back.
    position: Position,
    /// First records of the segments, ascending.
    segments: Vec<Position>,
    end: End,
    open: Option<Open>,
    /// After an answer of the file system, until [`Reader::follow`].
    stopped: bool,
}

#[derive(Debug)]
struct Open {
    first: Position,
    input: BufReader<File>,
    /// Of the next record.
    offset: u64,
    /// The record at `offset`.
    position: Position,
}

impl Reader {
    pub(crate) fn new(dir: PathBuf, position: Position, segments: Vec<Position>, end: End) -> Self {
        Self { dir, position, segments, end, open: None, stopped: false }
    }

    /// The next record to be given back.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Takes in what `log` has synced and released since this reader was made, without searching its place again.
    /// Returns how many unread records were released and are skipped.
    pub fn follow(&mut self, log: &Log) -> u64 {
        self.segments = log.readable();
        self.end = log.end();
        self.stopped = false;
        let first = log.first_position();
        let skipped = first.since(self.position);
        if skipped > 0 {
            self.position = first;
            self.open = None;
        }
        // The buffer may hold bytes from before they were synced.
        if let Some(open) = &mut self.open
            && open.input.seek(SeekFrom::Start(open.offset)).is_err()
        {
            self.open = None;
        }
        skipped
    }

    /// First record behind the segment that holds `self.position`, and that segment's first.
    fn bounds(&self) -> (Position, Position) {
        let behind = self.segments.partition_point(|first| *first <= self.position);
        let first = behind.checked_sub(1).and_then(|index| self.segments.get(index)).copied();
        let limit = self.segments.get(behind).copied().unwrap_or(self.end.position);
        (first.unwrap_or_default(), limit)
    }

    fn step(&mut self) -> Result<(Position, Vec<u8>), ReadError> {
        let (first, limit) = self.bounds();
        let path = segment::path(&self.dir, first);
        let mut payload = Vec::new();
        loop {
            let open = match self.open.take().filter(|open| open.first == first) {
                Some(open) => open,
                None => match Open::new(&path, first) {
                    Ok(open) => open,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        let from = self.position;
                        self.position = limit;
                        return Err(ReadError::Released { from, to: limit });
                    }
                    Err(source) => return self.refused(path, source),
                },
            };
            let open = self.open.insert(open);
            match open.read(&mut payload) {
                Err(source) => return self.refused(path, source),
                Ok(true) => {}
                Ok(false) => return self.damaged(path, first, limit),
            }
            if open.position > self.position {
                let position = self.position;
                self.position = open.position;
                return Ok((position, payload));
            }
        }
    }

    fn refused<T>(&mut self, path: PathBuf, source: io::Error) -> Result<T, ReadError> {
        self.stopped = true;
        self.open = None;
        Err(ReadError::Io { path, source })
    }

    fn damaged<T>(&mut self, path: PathBuf, first: Position, limit: Position) -> Result<T, ReadError> {
        let from = self.position;
        self.position = limit;
        // In the newest segment the log knows where the damage ends, and later records follow there.
        let newest = self.segments.last() == Some(&first);
        self.open = self.open.take().filter(|_| newest).and_then(|mut open| {
            open.input.seek(SeekFrom::Start(self.end.offset)).ok()?;
            Some(Open { offset: self.end.offset, position: limit, ..open })
        });
        Err(ReadError::Damaged { from, to: limit, path })
    }
}

impl Iterator for Reader {
    type Item = Result<(Position, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.stopped && self.position < self.end.position).then(|| self.step())
    }
}

impl Open {
    fn new(path: &std::path::Path, first: Position) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(segment::HEADER))?;
        Ok(Self { first, input: BufReader::new(file), offset: segment::HEADER, position: first })
    }

    /// Reads one record; `false` when there is none at this place.
    fn read(&mut self, payload: &mut Vec<u8>) -> io::Result<bool> {
        let length = self.input.get_ref().metadata()?.len();
        let found = record::decode(&mut self.input, length.saturating_sub(self.offset), payload)?;
        if found != Found::Record {
            return Ok(false);
        }
        self.offset += record::size(payload.len());
        self.position = self.position.plus(1);
        Ok(true)
    }
}
