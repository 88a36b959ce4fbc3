use std::path::PathBuf;

use domain::units::Money;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn attempt(request: &str, number: u32, finished_unix_ms: i64) -> Attempt {
    let event = wire::v1::UsageEvent {
        event_id: format!("{request}.{number}"),
        request_id: request.to_owned(),
        attempt: number,
        finished_unix_ms: finished_unix_ms.unsigned_abs(),
        machine: "main".to_owned(),
        provider: "openai".to_owned(),
        model: "gpt".to_owned(),
        tier: wire::v1::Tier::RemoteApi.into(),
        outcome: wire::v1::Outcome::Ok.into(),
        cost_picodollars: 7,
        duration_ms: 20,
        usage: Some(wire::v1::TokenUsage { input: 3, output: 2, ..Default::default() }),
        ..Default::default()
    };
    Attempt::try_from(event).unwrap()
}

fn batch(attempts: Vec<Attempt>) -> Arc<Batch> {
    Arc::new(Batch { attempts, ..Batch::default() })
}

fn letters(dead_letters: Vec<DeadLetter>) -> Arc<Batch> {
    Arc::new(Batch { dead_letters, ..Batch::default() })
}

fn letter(sequence: u64) -> DeadLetter {
    DeadLetter {
        stream_sequence: sequence,
        published_unix_ns: 5,
        part: None,
        subject: "usage.v1.main.x".to_owned(),
        reason: "no protobuf".to_owned(),
        payload: vec![0xff],
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("ledger.sqlite")
}

const ALWAYS: Range = Range { from_unix_ms: 0, to_unix_ms: i64::MAX };

#[tokio::test]
async fn a_duplicate_event_changes_no_sum() {
    let folder = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&folder)).unwrap();
    let rows = vec![attempt("r", 1, 10), attempt("r", 1, 10), attempt("r", 2, 10)];
    let recorded = ledger.record(batch(rows), 1).await.unwrap();
    assert_eq!(recorded, Recorded { inserted: 2, duplicates: 1, dead_letters: 0 });
    let again = ledger.record(batch(vec![attempt("r", 2, 10)]), 1).await.unwrap();
    assert_eq!(again, Recorded { inserted: 0, duplicates: 1, dead_letters: 0 });

    let summary = ledger.summary(ALWAYS).await.unwrap();
    assert_eq!((summary.totals.sums.requests, summary.totals.sums.attempts), (1, 2));
    assert_eq!(summary.totals.sums.cost, Money::picodollars(14));
    assert_eq!(ledger.counters().total(), summary.totals.sums);
    assert_eq!(ledger.counters().duplicates, 2);
}

#[tokio::test]
async fn what_was_recorded_is_there_after_the_file_is_copied_without_closing_it() {
    let folder = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&folder)).unwrap();
    let rows = (0..500).map(|number| attempt(&format!("r{number}"), 1, 10)).collect();
    ledger
        .record(Arc::new(Batch { attempts: rows, dead_letters: vec![letter(1)], ..Batch::default() }), 1)
        .await
        .unwrap();

    // What a kill leaves: the file and its write-ahead log as they are on the disk now, no checkpoint, no close.
    let crashed = TempDir::new().unwrap();
    for name in ["ledger.sqlite", "ledger.sqlite-wal"] {
        std::fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    let reopened = Ledger::open(&file(&crashed)).unwrap();
    assert_eq!(reopened.summary(ALWAYS).await.unwrap().totals.sums.attempts, 500);
    let (before, after) = (ledger.counters(), reopened.counters());
    assert_eq!(after.placements, before.placements);
    assert_eq!(after.dead_letters, 1);
}

#[tokio::test]
async fn a_dead_letter_is_kept_once_and_counted_for_good() {
    let folder = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&folder)).unwrap();
    ledger.record(letters(vec![letter(1), letter(1), letter(2)]), 1).await.unwrap();
    ledger.record(letters(vec![letter(2)]), 1).await.unwrap();
    assert_eq!(ledger.counters().dead_letters, 2);
    drop(ledger);
    assert_eq!(Ledger::open(&file(&folder)).unwrap().counters().dead_letters, 2);
}

#[tokio::test]
async fn old_dead_letters_make_room_for_new_ones() {
    let folder = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&folder)).unwrap();
    for start in [0, 10_000] {
        let dead_letters = (start..start + 10_000).map(letter).collect();
        ledger.record(letters(dead_letters), 1).await.unwrap();
    }
    let reader = rusqlite::Connection::open(file(&folder)).unwrap();
    let (count, oldest): (i64, i64) = reader
        .query_row("SELECT count(*), min(stream_sequence) FROM dead_letter", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((count, oldest), (10_000, 10_000));
    assert_eq!(ledger.counters().dead_letters, 20_000);
}

#[tokio::test]
async fn a_gap_in_an_origins_numbers_is_seen_until_it_is_filled() {
    let folder = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&folder)).unwrap();
    let numbered = |number: i64| Attempt {
        origin_instance: "coordinator-1".to_owned(),
        origin_counter: number,
        ..attempt(&format!("r{number}"), 1, 10)
    };
    ledger.record(batch(vec![numbered(1), numbered(5), numbered(2)]), 1).await.unwrap();
    assert_eq!(ledger.counters().missing(), 2);
    ledger.record(batch(vec![numbered(5), numbered(3)]), 1).await.unwrap();
    assert_eq!(ledger.counters().missing(), 1);
    drop(ledger);
    let ledger = Ledger::open(&file(&folder)).unwrap();
    assert_eq!(ledger.counters().missing_by_machine.get("main"), Some(&1));
    ledger.record(batch(vec![numbered(4)]), 1).await.unwrap();
    assert_eq!(ledger.counters().missing(), 0);
}

#[tokio::test]
async fn money_beyond_the_largest_amount_stops_there_and_the_ledger_goes_on() {
    let folder = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&folder)).unwrap();
    for number in 0..100 {
        let dear =
            Attempt { cost_picodollars: 100_000_000_000_000_000, ..attempt(&format!("r{number}"), 1, 10) };
        ledger.record(batch(vec![dear]), 1).await.unwrap();
    }
    let summary = ledger.summary(ALWAYS).await.unwrap();
    assert_eq!(summary.totals.sums.cost, Money::picodollars(i64::MAX));
    assert_eq!(ledger.counters().total(), summary.totals.sums);
}

#[tokio::test]
async fn pages_give_each_row_of_the_range_once() {
    let folder = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&folder)).unwrap();
    let rows = (0..25).map(|number| attempt(&format!("r{number:02}"), 1, 10 + number / 10)).collect();
    ledger.record(batch(rows), 1).await.unwrap();
    let range = Range { from_unix_ms: 10, to_unix_ms: 12 };
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = ledger.page(range, after.take(), 7).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(Cursor::from(last));
        seen.extend(page.into_iter().map(|row| row.request_id));
    }
    let expected: Vec<String> = (0..20).map(|number| format!("r{number:02}")).collect();
    assert_eq!(seen, expected);
}

fn rows() -> impl Strategy<Value = Vec<Attempt>> {
    let hour = 3_600_000_i64;
    let row = (0..40_u32, 1..3_u32, 1..70 * hour, 0..3_usize, 0..3_usize, 0..1_000_000_i64, 0..1_000_i64)
        .prop_map(|(request, number, finished, tier, outcome, cost, tokens)| Attempt {
            tier: ["remote-api", "local-gpu", "local-cpu"][tier].to_owned(),
            outcome: ["ok", "failed", "cancelled"][outcome].to_owned(),
            cost_picodollars: cost,
            tokens: TokenCounts { input: tokens, output: tokens / 2, ..TokenCounts::default() },
            ..attempt(&format!("r{request}"), number, finished)
        });
    proptest::collection::vec(row, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_sums_of_any_range_are_the_sums_of_its_rows(
        rows in rows(),
        from in 0..60 * 3_600_000_i64,
        length in 1..60 * 3_600_000_i64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = TempDir::new().unwrap();
            let ledger = Ledger::open(&file(&folder)).unwrap();
            for chunk in rows.chunks(7) {
                ledger.record(batch(chunk.to_vec()), 1).await.unwrap();
            }
            // The first delivery of an event id is the one that counts.
            let mut first = std::collections::BTreeMap::new();
            for row in &rows {
                first.entry(row.event_id.clone()).or_insert_with(|| row.clone());
            }
            let range = Range { from_unix_ms: from, to_unix_ms: from + length };
            let inside: Vec<&Attempt> = first
                .values()
                .filter(|row| (range.from_unix_ms..range.to_unix_ms).contains(&row.finished_unix_ms))
                .collect();
            let expected = inside
                .iter()
                .fold(Sums::default(), |sum, row| sum.saturating_add(Sums::from(*row)));

            let summary = ledger.summary(range).await.unwrap();
            prop_assert_eq!(summary.totals.sums, expected);
            let groups = [
                &summary.by_tier,
                &summary.by_provider,
                &summary.by_model,
                &summary.by_agent,
                &summary.by_key,
            ];
            for groups in groups {
                let total = groups.values().fold(Sums::default(), |sum, group| sum.saturating_add(group.sums));
                prop_assert_eq!(total, expected);
            }
            let all = first.values().fold(Sums::default(), |sum, row| sum.saturating_add(Sums::from(row)));
            prop_assert_eq!(ledger.counters().total(), all);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn energy_is_counted_once_and_summed_over_any_range() {
    let folder = TempDir::new().unwrap();
    let ledger = Ledger::open(&file(&folder)).unwrap();
    let hour = write::HOUR_MS;
    let with = |request: &str, finished: i64, tier: &str, millijoules: i64, estimated: bool| Attempt {
        tier: tier.to_owned(),
        energy_millijoules: millijoules,
        energy_estimated: estimated,
        ..attempt(request, 1, finished)
    };
    let rows = vec![
        with("a", 10, "local-gpu", 500, false),
        with("b", hour + 10, "local-gpu", 70, true),
        with("c", hour + 20, "local-cpu", 9, true),
        with("d", 3 * hour + 20, "local-gpu", 1, false),
        attempt("cloud", 1, hour + 30),
    ];
    ledger.record(batch(rows.clone()), 1).await.unwrap();
    ledger.record(batch(rows.clone()), 1).await.unwrap();
    let mut sums = Vec::new();
    for (from_unix_ms, to_unix_ms) in
        [(0, 4 * hour), (5, hour + 15), (11, 3 * hour + 20), (hour + 20, hour + 21)]
    {
        let summary = ledger.summary(Range { from_unix_ms, to_unix_ms }).await.unwrap();
        let total = Energy::total(&summary.energy_by_tier);
        sums.push((total.millijoules, total.estimated_millijoules, summary.energy_by_tier.len()));
    }
    assert_eq!(sums, [(580, 79, 2), (570, 70, 1), (79, 79, 2), (9, 9, 1)]);
    assert_eq!(ledger.attempts_of("b".to_owned()).await.unwrap(), [rows[1].clone()]);
    let all: i64 = ledger.recent(10).await.unwrap().iter().map(|row| row.energy_millijoules).sum();
    assert_eq!(all, 580);
}

#[tokio::test]
async fn the_newest_decision_of_a_request_is_kept_and_one_that_is_too_large_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("ledger.sqlite")).unwrap();
    let record = async |request: &str, plan: Vec<u8>| {
        let decisions = vec![(request.to_owned(), plan)];
        ledger.record(Arc::new(Batch { decisions, ..Batch::default() }), 1).await.unwrap();
    };
    record("r", vec![1]).await;
    record("r", vec![2]).await;
    record("large", vec![0; 1 << 20]).await;
    assert_eq!(ledger.decision_of("r".to_owned()).await.unwrap(), Some(vec![2]));
    assert_eq!(ledger.decision_of("large".to_owned()).await.unwrap(), None);
}
