//! The log against a list, under any order of appends, syncs, releases and restarts.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test helpers fail by panicking"
)]

use durable_log::{Error, Log, Options, Position, Reader};
use proptest::prelude::*;

const OPTIONS: Options = Options { segment_bytes: 200, max_bytes: 1200 };

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    AppendAll(Vec<Vec<u8>>),
    Sync,
    /// As a clean stop, or a kill: what was written is in the page cache.
    Reopen,
    /// To a share of what is there, in percent.
    Release(u64),
    ReleaseOldest,
    Follow,
}

fn step() -> impl Strategy<Value = Step> {
    let payload = prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        6 => payload.clone().prop_map(Step::Append),
        2 => prop::collection::vec(payload, 0..5).prop_map(Step::AppendAll),
        3 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => (0..=100_u64).prop_map(Step::Release),
        1 => Just(Step::ReleaseOldest),
        2 => Just(Step::Follow),
    ]
}

#[derive(Default)]
struct Model {
    /// Every record that was ever appended.
    records: Vec<Vec<u8>>,
    /// Released up to here.
    first: usize,
    /// What the reader that follows has given back.
    seen: usize,
}

fn read(reader: &mut Reader) -> Vec<(usize, Vec<u8>)> {
    reader.map(|item| item.unwrap()).map(|(position, payload)| (position.get() as usize, payload)).collect()
}

fn check(log: &Log, model: &Model) {
    let synced = log.synced_position().get() as usize;
    assert_eq!(log.next_position().get() as usize, model.records.len());
    assert_eq!(log.first_position().get() as usize, model.first);
    assert!(log.used_bytes() <= OPTIONS.max_bytes);
    let found = read(&mut log.read_from(Position::default()));
    let expected: Vec<_> =
        (model.first..synced).map(|number| (number, model.records[number].clone())).collect();
    assert_eq!(found, expected);
}

fn append(log: &mut Log, model: &mut Model, records: &[Vec<u8>]) {
    match log.append_all(records) {
        Ok(positions) => {
            assert_eq!(positions.start.get() as usize, model.records.len());
            model.records.extend_from_slice(records);
        }
        Err(Error::Full { used, needed, max }) => assert!(used == log.used_bytes() && used + needed > max),
        Err(Error::TooLong { bytes, max }) => assert!(bytes > max),
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    // Each step waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_log_is_a_list_that_forgets_only_what_was_released(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), OPTIONS).unwrap();
        let mut model = Model::default();
        let mut follower = log.read_from(Position::default());
        for step in steps {
            match step {
                Step::Append(record) => append(&mut log, &mut model, &[record]),
                Step::AppendAll(records) => append(&mut log, &mut model, &records),
                Step::Sync => log.sync().unwrap(),
                Step::Reopen => {
                    drop(log);
                    let (opened, recovery) = Log::open(dir.path(), OPTIONS).unwrap();
                    assert_eq!(recovery.truncated_bytes, 0);
                    assert_eq!(opened.synced_position(), opened.next_position());
                    log = opened;
                }
                Step::Release(percent) => {
                    let end = model.records.len() as u64 * percent / 100;
                    let released = log.release_before(Position::new(end)).unwrap();
                    if let Some(released) = released {
                        assert_eq!(released.first.get() as usize, model.first);
                        assert!(released.end.get() <= end);
                        model.first = released.end.get() as usize;
                    }
                }
                Step::ReleaseOldest => {
                    if let Some(released) = log.release_oldest().unwrap() {
                        model.first = released.end.get() as usize;
                    }
                }
                Step::Follow => {
                    let skipped = follower.follow(&log) as usize;
                    assert_eq!(skipped, model.first.saturating_sub(model.seen));
                    model.seen = model.seen.max(model.first);
                    for (number, payload) in read(&mut follower) {
                        assert_eq!(number, model.seen);
                        assert_eq!(payload, model.records[number]);
                        model.seen += 1;
                    }
                    assert_eq!(model.seen as u64, log.synced_position().get().max(model.first as u64));
                }
            }
            check(&log, &model);
        }
    }
}
