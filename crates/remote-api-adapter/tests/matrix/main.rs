//! Every provider, asked everything, through the real program on a real nats-server: what passes, what is refused by name, what
//! is not offered. The same questions give the same answers whoever answers them, or the reason stands in the table.
//!
//! The far side is `e2e::upstream`, which reads each provider's format as strictly as the provider does; the providers' own
//! SDKs vouch for it (`tests/tests/judges.rs`).
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "the helpers of tests fail, and say what they saw, as the tests do"
)]

mod answer;
mod broken;
mod check;
mod fixture;
mod outcome;
mod question;
mod row;

use futures::{StreamExt as _, stream};

use crate::{
    fixture::Fixture,
    outcome::{Expected, Table},
    question::Question,
    row::ROWS,
};

/// Rows that are asked at once.
const AT_ONCE: usize = 4;
/// Memory that the adapter may take for malformed answers, a build without optimisation included.
const MEMORY_MAX: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_provider_answers_alike_or_says_why_not() {
    let fixture = Fixture::start(ROWS).await;
    let asked = stream::iter(ROWS.iter().map(|row| {
        let fixture = &fixture;
        async move {
            let mut outcomes = Vec::new();
            for question in Question::ALL {
                outcomes.push((question, check::ask(fixture, row, question).await));
            }
            (row, outcomes)
        }
    }));
    let answered: Vec<_> = asked.buffered(AT_ONCE).collect().await;

    let mut table = Table::new(Question::ALL.map(Question::name));
    let mut wrong = Vec::new();
    for (row, outcomes) in &answered {
        table.row(row.name, outcomes.iter().map(|(_, outcome)| outcome));
        for (question, outcome) in outcomes {
            let expected = row.expected(*question);
            if !expected.is(outcome) {
                wrong.push(format!("{}, {}: {outcome:?}, expected {expected:?}", row.name, question.name()));
            }
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ROWS.iter().flat_map(|row| row.unlike).all(|(_, expected)| *expected != Expected::Pass));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_malformed_answer_passes_for_a_whole_one() {
    let fixture = Fixture::start(ROWS).await;
    let tried = stream::iter(ROWS.iter().map(|row| broken::garbage(&fixture, row)));
    let told: Vec<Vec<String>> = tried.buffered(AT_ONCE).collect().await;
    assert!(told.iter().all(Vec::is_empty), "{}", told.concat().join("\n"));
    let memory = fixture.memory_max();
    assert!(memory < MEMORY_MAX, "lines and frames of 10 MiB took {memory} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_that_was_cut_passes_for_a_whole_one() {
    let fixture = Fixture::start(ROWS).await;
    let tried = stream::iter(ROWS.iter().map(|row| broken::cuts(&fixture, row)));
    let told: Vec<Vec<String>> = tried.buffered(AT_ONCE).collect().await;
    assert!(told.iter().all(Vec::is_empty), "{}", told.concat().join("\n"));
}
