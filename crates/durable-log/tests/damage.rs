//! Torn and damaged files, at every offset.
#![expect(clippy::unwrap_used, reason = "test helpers fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use durable_log::{CursorOrigin, Log, Options, Position, ReadError, Recovery};

const OPTIONS: Options = Options { segment_bytes: 256, max_bytes: 4096 };
const RECORDS: u64 = 25;
/// Length and checksum.
const FRAMING: usize = 8;
const HEADER: usize = 24;

fn record(number: u64) -> Vec<u8> {
    format!("{number}:{}", "payload".repeat((number % 4) as usize)).into_bytes()
}

/// Segments of a clean log, oldest first, with their contents.
fn clean() -> Vec<(String, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), OPTIONS).unwrap();
    for number in 0..RECORDS {
        log.append(&record(number)).unwrap();
    }
    log.sync().unwrap();
    let mut segments: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name.ends_with(".log"))
        .collect();
    segments.sort();
    assert!(segments.len() >= 3);
    segments
}

fn place(segments: &[(String, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in segments {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn first_record(name: &str) -> u64 {
    name.trim_end_matches(".log").parse().unwrap()
}

/// Whole records of a segment before `offset`.
fn records_before(first: u64, offset: usize) -> u64 {
    let mut end = HEADER;
    let mut count = 0;
    for number in first..RECORDS {
        end += FRAMING + record(number).len();
        if end > offset {
            break;
        }
        count += 1;
    }
    count
}

/// Positions and contents.
type Records = Vec<(u64, Vec<u8>)>;

fn contents(dir: &Path) -> (Records, Vec<ReadError>, Recovery) {
    let (log, recovery) = Log::open(dir, OPTIONS).unwrap();
    let (mut records, mut errors) = (Vec::new(), Vec::new());
    for item in log.read_from(Position::default()) {
        match item {
            Ok((position, payload)) => records.push((position.get(), payload)),
            Err(error) => errors.push(error),
        }
    }
    (records, errors, recovery)
}

fn expected(numbers: impl Iterator<Item = u64>) -> Records {
    numbers.map(|number| (number, record(number))).collect()
}

fn goes_on(dir: &Path) {
    let (mut log, recovery) = Log::open(dir, OPTIONS).unwrap();
    assert_eq!(recovery.truncated_bytes, 0, "a repaired log needs no second repair");
    assert!(!recovery.header_repaired);
    let position = log.append(b"after the repair").unwrap();
    log.sync().unwrap();
    let last = log.read_from(position).next().unwrap().unwrap();
    assert_eq!(last, (position, b"after the repair".to_vec()));
}

#[test]
fn a_last_segment_cut_at_any_length_keeps_every_whole_record() {
    let segments = clean();
    let (name, whole) = segments.last().unwrap().clone();
    let first = first_record(&name);
    for length in 0..=whole.len() {
        let mut torn = segments.clone();
        torn.last_mut().unwrap().1.truncate(length);
        let dir = place(&torn);
        let (records, errors, recovery) = contents(dir.path());
        let kept = if length < HEADER { first } else { first + records_before(first, length) };
        assert_eq!(records, expected(0..kept), "cut at {length}");
        assert!(errors.is_empty());
        let boundary = records_before(first, length) != records_before(first, length.saturating_sub(1));
        assert_eq!(recovery.truncated_bytes == 0, length == 0 || length == HEADER || boundary, "at {length}");
        goes_on(dir.path());
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_last_segment_loses_at_most_that_record_and_what_follows() {
    let segments = clean();
    let (name, whole) = segments.last().unwrap().clone();
    let first = first_record(&name);
    for offset in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = segments.clone();
            flipped.last_mut().unwrap().1[offset] ^= 1 << bit;
            let dir = place(&flipped);
            let (records, errors, recovery) = contents(dir.path());
            let kept = if offset < HEADER { RECORDS } else { first + records_before(first, offset) };
            assert_eq!(records, expected(0..kept), "bit {bit} of byte {offset}");
            assert!(errors.is_empty());
            assert_eq!(recovery.header_repaired, offset < HEADER);
            assert_eq!(recovery.truncated_bytes > 0, offset >= HEADER);
            goes_on(dir.path());
        }
    }
}

#[test]
fn a_flipped_bit_in_an_older_segment_costs_the_rest_of_that_segment_and_is_told() {
    let segments = clean();
    let (first, next) = (first_record(&segments[1].0), first_record(&segments[2].0));
    for offset in HEADER..segments[1].1.len() {
        let mut flipped = segments.clone();
        flipped[1].1[offset] ^= 0x10;
        let dir = place(&flipped);
        let (records, errors, _) = contents(dir.path());
        let lost = first + records_before(first, offset);
        assert_eq!(records, expected((0..lost).chain(next..RECORDS)), "byte {offset}");
        let [ReadError::Damaged { from, to, .. }] = errors.as_slice() else { panic!("{errors:?}") };
        assert_eq!((from.get(), to.get()), (lost, next));
    }
}

#[test]
fn an_older_segment_that_is_missing_or_short_is_told_and_skipped() {
    let segments = clean();
    let (first, next) = (first_record(&segments[1].0), first_record(&segments[2].0));
    for length in [0, HEADER - 1, HEADER, segments[1].1.len() - 1] {
        let mut short = segments.clone();
        short[1].1.truncate(length);
        let (records, errors, _) = contents(place(&short).path());
        assert_eq!(records, expected((0..first + records_before(first, length)).chain(next..RECORDS)));
        assert_eq!(errors.len(), 1);
    }
    let mut missing = segments.clone();
    missing.remove(1);
    let (records, errors, _) = contents(place(&missing).path());
    assert_eq!(records, expected((0..first).chain(next..RECORDS)));
    assert!(matches!(errors.as_slice(), [ReadError::Damaged { .. }]));
}

#[test]
fn files_that_are_no_segments_are_ignored() {
    let dir = place(&clean());
    for name in ["notes.txt", "1.log", "0000000000000000000x.log", "99999999999999999999.log"] {
        fs::write(dir.path().join(name), b"?").unwrap();
    }
    let (records, errors, _) = contents(dir.path());
    assert_eq!((records.len() as u64, errors.len()), (RECORDS, 0));
}

fn cursor_file(dir: &Path) -> PathBuf {
    dir.join("sender.cursor")
}

#[test]
fn a_cursor_is_where_it_was_left() {
    let dir = place(&clean());
    let (log, _) = Log::open(dir.path(), OPTIONS).unwrap();
    let (mut cursor, origin) = log.cursor("sender").unwrap();
    assert_eq!((cursor.position().get(), origin), (0, CursorOrigin::New));
    cursor.advance(Position::new(7)).unwrap();
    let (cursor, origin) = log.cursor("sender").unwrap();
    assert_eq!((cursor.position().get(), origin), (7, CursorOrigin::Stored));
    let (other, _) = log.cursor("other").unwrap();
    assert_eq!(other.position().get(), 0);
}

#[test]
fn a_damaged_cursor_begins_again_with_the_oldest_record() {
    let dir = place(&clean());
    let (log, _) = Log::open(dir.path(), OPTIONS).unwrap();
    log.cursor("sender").unwrap().0.advance(Position::new(7)).unwrap();
    let whole = fs::read(cursor_file(dir.path())).unwrap();
    for offset in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[offset] ^= 1;
        fs::write(cursor_file(dir.path()), &bytes).unwrap();
        let (cursor, origin) = log.cursor("sender").unwrap();
        assert_eq!((cursor.position().get(), origin), (0, CursorOrigin::Damaged));
        fs::write(cursor_file(dir.path()), &whole[..offset]).unwrap();
        assert_eq!(log.cursor("sender").unwrap().1, CursorOrigin::Damaged);
    }
}

#[test]
fn a_cursor_behind_a_cut_tail_does_not_skip_the_records_that_come_next() {
    let mut segments = clean();
    let dir = place(&segments);
    let (log, _) = Log::open(dir.path(), OPTIONS).unwrap();
    log.cursor("sender").unwrap().0.advance(Position::new(RECORDS)).unwrap();
    drop(log);
    let (name, bytes) = segments.last_mut().unwrap();
    fs::write(dir.path().join(name), &bytes[..bytes.len() - 1]).unwrap();
    let (mut log, _) = Log::open(dir.path(), OPTIONS).unwrap();
    let (cursor, origin) = log.cursor("sender").unwrap();
    assert_eq!(cursor.position().get(), RECORDS - 1);
    assert_eq!(origin, CursorOrigin::Moved { from: Position::new(RECORDS) });
    log.append(b"new").unwrap();
    log.sync().unwrap();
    let (cursor, _) = log.cursor("sender").unwrap();
    let next = log.read_from(cursor.position()).next().unwrap().unwrap();
    assert_eq!(next.1, b"new");
}

#[test]
fn a_cursor_name_cannot_leave_the_directory() {
    let dir = place(&clean());
    let (log, _) = Log::open(dir.path(), OPTIONS).unwrap();
    for name in ["", "../x", "a/b", "A", "a.b", &"a".repeat(65)] {
        assert!(log.cursor(name).is_err(), "{name:?}");
    }
}
