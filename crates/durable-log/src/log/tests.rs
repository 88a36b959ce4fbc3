use super::*;
use crate::{ReadError, Reader};

const SMALL: Options = Options { segment_bytes: 256, max_bytes: 4096 };

fn record(number: u64) -> Vec<u8> {
    format!("record {number} {}", "x".repeat((number % 7) as usize)).into_bytes()
}

fn filled(dir: &Path, records: u64) -> Log {
    let (mut log, _) = Log::open(dir, SMALL).unwrap();
    for number in 0..records {
        assert_eq!(log.append(&record(number)).unwrap().get(), number);
    }
    log.sync().unwrap();
    log
}

/// Positions and contents; damage is skipped.
fn readable(reader: Reader) -> Vec<(u64, Vec<u8>)> {
    reader.flatten().map(|(position, payload)| (position.get(), payload)).collect()
}

fn expected(numbers: Range<u64>) -> Vec<(u64, Vec<u8>)> {
    numbers.map(|number| (number, record(number))).collect()
}

#[test]
fn records_come_back_in_order_across_segments_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 40);
    assert!(log.older.len() > 2);
    assert_eq!(readable(log.read_from(Position::default())), expected(0..40));
    drop(log);
    let (log, recovery) = Log::open(dir.path(), SMALL).unwrap();
    assert_eq!((recovery.records, recovery.truncated_bytes, recovery.header_repaired), (40, 0, false));
    assert_eq!(readable(log.read_from(Position::new(17))), expected(17..40));
}

#[test]
fn a_reader_sees_only_what_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 3);
    log.append(&record(3)).unwrap();
    let mut reader = log.read_from(Position::default());
    assert_eq!(reader.by_ref().count(), 3);
    assert_eq!(reader.follow(&log), 0);
    assert_eq!(reader.by_ref().count(), 0);
    log.sync().unwrap();
    assert_eq!(reader.follow(&log), 0);
    assert_eq!(readable(reader), expected(3..4));
}

#[test]
fn a_second_opening_is_refused_while_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 1);
    assert!(matches!(Log::open(dir.path(), SMALL), Err(Error::Locked { .. })));
    drop(log);
    Log::open(dir.path(), SMALL).unwrap();
}

#[test]
fn options_that_leave_no_room_to_release_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (segment_bytes, max_bytes) in [(63, 4096), (0, 4096), (2 << 30, u64::MAX), (256, 511)] {
        let result = Log::open(dir.path(), Options { segment_bytes, max_bytes });
        assert!(matches!(result, Err(Error::InvalidOption { .. })), "{segment_bytes} {max_bytes}");
    }
}

#[test]
fn a_batch_that_no_segment_holds_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 1);
    assert!(matches!(log.append(&[0; 256]), Err(Error::TooLong { max: 232, .. })));
    assert!(matches!(log.append_all(&[[0_u8; 120], [0; 120]]), Err(Error::TooLong { bytes: 256, .. })));
    assert_eq!(log.append(&[0; 224]).unwrap().get(), 1);
}

#[test]
fn a_full_log_refuses_records_until_old_ones_are_released() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), SMALL).unwrap();
    let error = loop {
        if let Err(error) = log.append(&[7; 100]) {
            break error;
        }
    };
    assert!(matches!(error, Error::Full { max: 4096, .. }), "{error}");
    assert!(error.is_out_of_space());
    assert!(log.used_bytes() <= 4096);
    let before = log.next_position();
    assert_eq!(log.oldest(), Some(Position::new(0)..Position::new(2)));
    let released = log.release_oldest().unwrap().unwrap();
    assert_eq!((released.first.get(), released.end.get(), released.bytes), (0, 2, 240));
    assert_eq!(log.append(&[7; 100]).unwrap(), before);
}

#[test]
fn releasing_keeps_the_segment_of_the_position_and_the_numbering() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 40);
    log.release_before(Position::new(20)).unwrap();
    let first = log.first_position().get();
    assert!((1..=20).contains(&first));
    assert_eq!(readable(log.read_from(Position::default())), expected(first..40));
    log.release_before(log.next_position()).unwrap();
    assert!(log.older.is_empty());
    assert!(log.release_oldest().unwrap().is_none());
    drop(log);
    let (log, recovery) = Log::open(dir.path(), SMALL).unwrap();
    assert_eq!(recovery.next.get(), 40);
    assert_eq!(log.next_position().get(), 40);
}

#[test]
fn a_reader_skips_and_tells_what_was_released_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 40);
    let mut slow = log.read_from(Position::default());
    assert!(slow.next().unwrap().is_ok());
    let mut late = log.read_from(Position::default());
    let released = log.release_before(Position::new(30)).unwrap().unwrap();
    assert_eq!(slow.follow(&log), released.end.get() - 1);
    assert_eq!(readable(slow), expected(released.end.get()..40));
    assert!(matches!(late.next(), Some(Err(ReadError::Released { from, .. })) if from.get() == 0));
    assert_eq!(readable(late), expected(released.end.get()..40));
}

#[test]
fn a_write_that_the_disk_cuts_short_leaves_a_usable_log() {
    let dir = tempfile::tempdir().unwrap();
    for written in 0..18 {
        let mut log = filled(&dir.path().join(written.to_string()), 3);
        log.active.medium.faults.write = Some(written);
        assert!(matches!(log.append(&record(3)), Err(Error::NoSpace { .. })));
        assert_eq!(log.append(&record(3)).unwrap().get(), 3);
        log.sync().unwrap();
        assert_eq!(readable(log.read_from(Position::default())), expected(0..4));
        let path = log.active_path();
        assert_eq!(fs::metadata(path).unwrap().len(), log.active.bytes);
    }
}

#[test]
fn what_a_failed_write_left_is_removed_before_the_next_even_if_removing_failed_at_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 3);
    let long = [9; 100];
    log.active.medium.faults.write = Some(90);
    log.active.medium.faults.cut = true;
    assert!(matches!(log.append(&long), Err(Error::NoSpace { .. })));
    log.active.medium.faults.cut = true;
    assert!(matches!(log.append(&record(3)), Err(Error::Io { action: "cut", .. })));
    assert_eq!(log.append(&record(3)).unwrap().get(), 3);
    log.sync().unwrap();
    drop(log);
    let (log, recovery) = Log::open(dir.path(), SMALL).unwrap();
    assert_eq!(recovery.truncated_bytes, 0);
    assert_eq!(readable(log.read_from(Position::default())), expected(0..4));
}

#[test]
fn a_failed_sync_takes_back_what_was_not_durable() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = filled(dir.path(), 3);
    log.append(&record(3)).unwrap();
    log.append(&record(4)).unwrap();
    log.active.medium.faults.sync = true;
    assert!(matches!(log.sync(), Err(Error::SyncFailed { discarded: 2, .. })));
    assert_eq!(log.next_position().get(), 3);
    assert_eq!(log.append(&record(3)).unwrap().get(), 3);
    log.sync().unwrap();
    assert_eq!(readable(log.read_from(Position::default())), expected(0..4));
}

#[test]
fn a_successor_that_could_not_be_created_hides_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), SMALL).unwrap();
    log.append(&[1; 100]).unwrap();
    // A directory in the place of the unfinished successor makes its creation fail.
    let blocker = dir.path().join(format!("{:020}.log.tmp", 1));
    fs::create_dir(&blocker).unwrap();
    log.append(&[2; 200]).unwrap_err();
    fs::remove_dir(&blocker).unwrap();
    // This one would still fit the old segment; it must not go there.
    assert_eq!(log.append(&[3; 10]).unwrap().get(), 1);
    assert_eq!(log.active.first.get(), 1);
    log.sync().unwrap();
    drop(log);
    let (log, _) = Log::open(dir.path(), SMALL).unwrap();
    assert_eq!(readable(log.read_from(Position::default())), [(0, vec![1; 100]), (1, vec![3; 10])]);
}

#[test]
fn a_segment_of_another_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 2);
    let path = log.active_path();
    drop(log);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let checksum = crc32fast::hash(&bytes[..20]).to_le_bytes();
    bytes[20..24].copy_from_slice(&checksum);
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(Log::open(dir.path(), SMALL), Err(Error::UnsupportedVersion { version: 2, .. })));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_renamed_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 2);
    let path = log.active_path();
    drop(log);
    fs::rename(&path, segment::path(dir.path(), Position::new(9))).unwrap();
    assert!(matches!(Log::open(dir.path(), SMALL), Err(Error::Misnamed { .. })));
}
