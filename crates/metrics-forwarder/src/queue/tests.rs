use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config;

const LIMITS: BatchLimits = BatchLimits { samples_max: 10, bytes_max: 1000 };

fn config(dir: &Path) -> config::Queue {
    let log = durable_log::Options { segment_bytes: 256, max_bytes: 1024 };
    config::Queue { dir: dir.to_owned(), log }
}

fn open(dir: &Path) -> Queue {
    Queue::open(&config(dir)).unwrap().0
}

fn batch(samples: u64) -> Batch {
    Batch { samples, bytes: 10, body: vec![samples as u8; 20] }
}

fn counts(taken: &Taken) -> Vec<u64> {
    taken.batches.iter().map(|batch| batch.samples).collect()
}

#[test]
fn batches_that_fit_one_request_are_taken_together_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    queue.push(&[batch(4), batch(5), batch(2), batch(99), batch(1)]).unwrap();
    let mut taken = Vec::new();
    for _ in 0..4 {
        let next = queue.take(LIMITS).unwrap();
        queue.done(next.end).unwrap();
        taken.push(counts(&next));
    }
    assert_eq!(taken, [vec![4, 5], vec![2], vec![99], vec![1]]);
    assert!(queue.take(LIMITS).unwrap().batches.is_empty());
    assert_eq!(queue.backlog().batches, 0);
}

#[test]
fn what_was_not_done_comes_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    queue.push(&[batch(6), batch(7), batch(8)]).unwrap();
    let first = queue.take(LIMITS).unwrap();
    queue.done(first.end).unwrap();
    assert_eq!(counts(&queue.take(LIMITS).unwrap()), [7]);
    drop(queue);
    let queue = open(dir.path());
    assert_eq!(queue.backlog().batches, 2);
    assert_eq!(counts(&queue.take(LIMITS).unwrap()), [7]);
    assert_eq!(counts(&queue.take(LIMITS).unwrap()), [8]);
}

#[test]
fn a_full_queue_drops_the_oldest_and_counts_them() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let (mut pushed, mut dropped) = (0, Dropped::default());
    for _ in 0..100 {
        dropped.add(queue.push(&[batch(3)]).unwrap());
        pushed += 1;
    }
    assert!(dropped.batches > 0);
    assert_eq!(dropped.samples, dropped.batches * 3);
    assert_eq!(queue.backlog().batches, pushed - dropped.batches);
    let mut left = 0;
    while let Some(end) = Some(queue.take(LIMITS).unwrap()).filter(|taken| !taken.batches.is_empty()) {
        left += end.batches.len() as u64;
        queue.done(end.end).unwrap();
    }
    assert_eq!(left, pushed - dropped.batches);
}

#[test]
fn what_the_sender_already_holds_is_not_counted_as_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    queue.push(&[batch(5), batch(6), batch(6)]).unwrap();
    let held = queue.take(LIMITS).unwrap();
    assert_eq!(counts(&held), [5]);
    let mut dropped = Dropped::default();
    while dropped.batches == 0 {
        dropped.add(queue.push(&[batch(6)]).unwrap());
    }
    assert_eq!(dropped.samples, dropped.batches * 6);
    queue.done(held.end).unwrap();
    let next = queue.take(LIMITS).unwrap();
    assert_eq!(next.end.get(), held.end.get() + dropped.batches + 1);
}

#[test]
fn a_damaged_batch_is_counted_and_the_rest_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    for _ in 0..12 {
        queue.push(&[batch(3)]).unwrap();
    }
    let first = dir.path().join("00000000000000000000.log");
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let taken = queue.take(BatchLimits { samples_max: 1000, bytes_max: 100_000 }).unwrap();
    assert!(taken.damaged.batches > 0);
    assert_eq!(taken.damaged.batches + taken.batches.len() as u64, 12);
}

proptest! {
    // Each step waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_is_lost_or_reordered_whenever_the_process_restarts(
        steps in prop::collection::vec((0_u8..4, 1_u64..12), 1..40)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let roomy = config::Queue {
            log: durable_log::Options { segment_bytes: 256, max_bytes: 1 << 20 },
            ..config(dir.path())
        };
        let mut queue = Queue::open(&roomy).unwrap().0;
        let (mut pushed, mut delivered) = (Vec::new(), 0);
        for (step, samples) in steps {
            match step {
                0 => {
                    queue.push(&[batch(samples), batch(samples + 1)]).unwrap();
                    pushed.extend([samples, samples + 1]);
                }
                1 | 2 => {
                    let taken = queue.take(LIMITS).unwrap();
                    prop_assert_eq!(&counts(&taken)[..], &pushed[delivered..delivered + taken.batches.len()]);
                    prop_assert_eq!(taken.batches.is_empty(), delivered == pushed.len());
                    queue.done(taken.end).unwrap();
                    delivered += taken.batches.len();
                }
                _ => {
                    queue.take(LIMITS).unwrap();
                    drop(queue);
                    queue = Queue::open(&roomy).unwrap().0;
                }
            }
            prop_assert_eq!(queue.backlog().batches as usize, pushed.len() - delivered);
        }
    }
}
