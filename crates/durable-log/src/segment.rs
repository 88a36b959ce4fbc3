//! Segment files: their names, their header, and how one is created and recovered.
//!
//! A segment is named by the number of its first record and starts with a header: `magic: 8 bytes | version: u32 LE |
//! first record: u64 LE | crc32: u32 LE over the 20 bytes before`. The header tells formats apart; the records do not
//! depend on it, so a damaged header loses none of them.

use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::Position;
use crate::error::Error;
use crate::record::{self, Found};

/// Bytes before the first record.
pub(crate) const HEADER: u64 = 24;
/// Version that is written, and the only one that is read.
pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"rec-log\n";
const SUFFIX: &str = ".log";
const UNFINISHED: &str = ".tmp";

/// A segment that is complete: never written again.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) first: Position,
    pub(crate) bytes: u64,
}

/// Where the segment with this first record lies.
pub(crate) fn path(dir: &Path, first: Position) -> PathBuf {
    dir.join(format!("{:020}{SUFFIX}", first.get()))
}

/// The segments of a directory in order. Leftovers of a crash while a file was being created are removed.
pub(crate) fn list(dir: &Path) -> Result<Vec<Segment>, Error> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::at("list", dir))? {
        let entry = entry.map_err(Error::at("list", dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(UNFINISHED) {
            fs::remove_file(entry.path()).map_err(Error::at("remove", &entry.path()))?;
        } else if let Some(first) = first_of(name) {
            let bytes = entry.metadata().map_err(Error::at("inspect", &entry.path()))?.len();
            segments.push(Segment { first, bytes });
        }
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

fn first_of(name: &str) -> Option<Position> {
    let digits = name.strip_suffix(SUFFIX)?;
    let valid = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| valid).map(Position::new)
}

/// Creates an empty segment: it appears under its name only when its header is on disk.
pub(crate) fn create(dir: &Path, first: Position) -> Result<File, Error> {
    let path = path(dir, first);
    replace(dir, &path, &header(first))?;
    File::options().read(true).write(true).open(&path).map_err(Error::at("open", &path))
}

/// Puts `contents` in place of what `path` holds, all or nothing, and durable when it returns.
pub(crate) fn replace(dir: &Path, path: &Path, contents: &[u8]) -> Result<(), Error> {
    let mut unfinished = path.to_owned().into_os_string();
    unfinished.push(UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&unfinished, path)).map_err(|source| {
        // The next attempt, or the next open, overwrites or removes what is left of it.
        let _ = fs::remove_file(&unfinished);
        Error::io("create", path, source)
    })?;
    sync_directory(dir)
}

/// Makes created, renamed and removed names durable.
pub(crate) fn sync_directory(dir: &Path) -> Result<(), Error> {
    // Only Unix gives a handle to a directory that can be synced; elsewhere the file system's journal does it.
    #[cfg(unix)]
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(Error::at("sync", dir))?;
    Ok(())
}

fn header(first: Position) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    let mut rest = bytes.as_mut_slice();
    // Writing 20 of 24 bytes into a slice cannot fail.
    let _ = rest.write_all(&MAGIC);
    let _ = rest.write_all(&VERSION.to_le_bytes());
    let _ = rest.write_all(&first.get().to_le_bytes());
    let checksum = crc32fast::hash(bytes.split_at(20).0);
    let _ = bytes.split_at_mut(20).1.write_all(&checksum.to_le_bytes());
    bytes
}

/// What a segment's header says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// As written by this code.
    Sound,
    /// Torn or damaged; the records behind it are judged by their own checksums.
    Damaged,
}

/// Reads the header. A sound header of another version, or for another first record, is an error: that file is not ours
/// to change.
pub(crate) fn check(path: &Path, file: &mut File, first: Position) -> Result<Header, Error> {
    let mut bytes = [0; HEADER as usize];
    file.seek(SeekFrom::Start(0)).map_err(Error::at("read", path))?;
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => return Ok(Header::Damaged),
            Ok(count) => read += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path, error)),
        }
    }
    let (fields, checksum) = bytes.split_at(20);
    if crc32fast::hash(fields).to_le_bytes() != checksum {
        return Ok(Header::Damaged);
    }
    let (magic, fields) = fields.split_at(8);
    let (version, stored) = fields.split_at(4);
    let version = version.try_into().map_or(0, u32::from_le_bytes);
    if magic != MAGIC || version != VERSION {
        return Err(Error::UnsupportedVersion { path: path.to_owned(), version, expected: VERSION });
    }
    let stored = Position::new(stored.try_into().map_or(0, u64::from_le_bytes));
    if stored != first {
        return Err(Error::Misnamed { path: path.to_owned(), stored });
    }
    Ok(Header::Sound)
}

/// The last segment after recovery, ready to be appended to.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) file: File,
    /// Length after the cut.
    pub(crate) bytes: u64,
    /// Whole records in it.
    pub(crate) records: u64,
    /// Bytes behind the last whole record that were cut.
    pub(crate) cut: u64,
    /// The header was damaged and has been written again.
    pub(crate) header_repaired: bool,
}

/// Scans the last segment, cuts what is no whole record, and makes the rest durable: after a crash of the process alone
/// the records are in the page cache, and nobody may have synced them.
pub(crate) fn recover(dir: &Path, segment: &Segment) -> Result<Recovered, Error> {
    let path = path(dir, segment.first);
    let mut file = File::options().read(true).write(true).open(&path).map_err(Error::at("open", &path))?;
    let header_repaired = check(&path, &mut file, segment.first)? == Header::Damaged;
    let length = file.metadata().map_err(Error::at("inspect", &path))?.len();
    if header_repaired {
        file.seek(SeekFrom::Start(0)).map_err(Error::at("repair", &path))?;
        file.write_all(&header(segment.first)).map_err(Error::at("repair", &path))?;
    }

    file.seek(SeekFrom::Start(HEADER)).map_err(Error::at("read", &path))?;
    let mut input = BufReader::new(&file);
    let (mut bytes, mut records, mut payload) = (HEADER, 0, Vec::new());
    while record::decode(&mut input, length.saturating_sub(bytes), &mut payload)
        .map_err(Error::at("read", &path))?
        == Found::Record
    {
        bytes += record::size(payload.len());
        records += 1;
    }
    drop(input);

    let cut = if length < HEADER { length } else { length - bytes };
    file.set_len(bytes).map_err(Error::at("cut", &path))?;
    file.sync_all().map_err(Error::at("sync", &path))?;
    Ok(Recovered { file, bytes, records, cut, header_repaired })
}
