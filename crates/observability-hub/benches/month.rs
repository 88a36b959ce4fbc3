//! A month of a million attempts: how long it takes to write it, and to sum it up. `cargo bench -p observability-hub`.
//!
//! The first argument that is a number is how many attempts are made in place of a million.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and ends where something is wrong"
)]

use std::sync::Arc;
use std::time::Duration;

use observability_hub::ledger::{Attempt, Batch, Ledger, Range};
use tokio::time::Instant;
use wire::v1::{Method, Outcome, Tier, TokenUsage, UsageEvent};

const ATTEMPTS: u64 = 1_000_000;
/// As the hub takes them in when much comes at once.
const TOGETHER: u64 = 1_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// 2026-11-01, and a month of 30 days.
const FROM_UNIX_MS: u64 = 1_793_491_200_000;
const MONTH_MS: u64 = 30 * DAY_MS;
/// Each question is asked so often; the median and the slowest are told.
const TIMES: usize = 11;

/// Where attempts run: tier, provider, model, pico-dollars for a token.
const PLACES: [(Tier, &str, &str, i64); 8] = [
    (Tier::LocalGpu, "llama.cpp", "qwen2.5-coder-32b-instruct", 0),
    (Tier::LocalGpu, "llama.cpp", "llama-3.1-8b-instruct", 0),
    (Tier::LocalCpu, "llama.cpp", "demo", 0),
    (Tier::Fallback, "llama.cpp", "tinyllama-1.1b-chat-q4", 0),
    (Tier::RemoteApi, "openai", "gpt-4o", 4_000_000),
    (Tier::RemoteApi, "openai", "gpt-4o-mini", 300_000),
    (Tier::RemoteApi, "anthropic", "claude-opus-5-5", 9_000_000),
    (Tier::RemoteApi, "gemini", "gemini-2.5-flash", 900_000),
];
const AGENTS: u64 = 20;
const KEYS: u64 = 6;

/// The attempt of this number, spread over places, agents, keys and the month; the same each time.
fn attempt(number: u64, of: u64) -> Attempt {
    // SplitMix64 (Steele, Lea, Flood 2014): evenly spread, and no state to keep
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 27;
    let (tier, provider, model, price) = PLACES[(mixed % PLACES.len() as u64) as usize];
    let (input, output) = (mixed % 4_000, mixed / 7 % 900);
    let event = UsageEvent {
        event_id: format!("bench-{number}"),
        request_id: format!("{number:032x}"),
        attempt: 1 + u32::from(mixed.is_multiple_of(50)),
        finished_unix_ms: FROM_UNIX_MS + number * (MONTH_MS / of),
        machine: "mainpc".to_owned(),
        service: "request-coordinator".to_owned(),
        origin_instance: "bench".to_owned(),
        origin_counter: number + 1,
        method: Method::Generate.into(),
        outcome: if mixed.is_multiple_of(97) { Outcome::Failed } else { Outcome::Ok }.into(),
        agent: format!("Agent{}", mixed / 11 % AGENTS),
        tenant: format!("key{}", mixed / 13 % KEYS),
        deployment: format!("mainpc/{provider}/{model}"),
        provider: provider.to_owned(),
        model: model.to_owned(),
        tier: tier.into(),
        executed_on: "mainpc".to_owned(),
        usage: Some(TokenUsage { input, output, ..TokenUsage::default() }),
        cost_picodollars: price * (input + output) as i64,
        duration_ms: mixed % 9_000,
        decision: "light: 120 tokens, at most 3000 (R1)".to_owned(),
        ..UsageEvent::default()
    };
    Attempt::try_from(event).unwrap()
}

async fn filled(folder: &std::path::Path, count: u64) -> Ledger {
    let ledger = Ledger::open(&folder.join("ledger.sqlite")).unwrap();
    let began = Instant::now();
    for first in (0..count).step_by(TOGETHER as usize) {
        let attempts = (first..(first + TOGETHER).min(count)).map(|number| attempt(number, count)).collect();
        ledger.record(Arc::new(Batch { attempts, ..Batch::default() }), FROM_UNIX_MS).await.unwrap();
    }
    let took = began.elapsed();
    println!("{count} attempts written in {took:.1?}, {:.0} a second", count as f64 / took.as_secs_f64());
    ledger
}

fn range(from: u64, to: u64) -> Range {
    Range { from_unix_ms: (FROM_UNIX_MS + from) as i64, to_unix_ms: (FROM_UNIX_MS + to) as i64 }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(ATTEMPTS);
    let folder = tempfile::tempdir().unwrap();
    let ledger = filled(folder.path(), count).await;
    println!("{:<46}{:>10}{:>10}{:>10}", "summary of", "median", "slowest", "requests");
    for (name, asked) in [
        ("the whole month", range(0, MONTH_MS)),
        ("the month but for its first and last minutes", range(60_000, MONTH_MS - 60_000)),
        ("a week", range(7 * DAY_MS, 14 * DAY_MS)),
        ("a day", range(DAY_MS, 2 * DAY_MS)),
    ] {
        let mut took: Vec<Duration> = Vec::with_capacity(TIMES);
        let mut requests = 0;
        for _ in 0..TIMES {
            let began = Instant::now();
            requests = ledger.summary(asked).await.unwrap().totals.sums.requests;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        let (median, slowest) = (took[TIMES / 2], took[TIMES - 1]);
        println!("{name:<46}{:>8.1}ms{:>8.1}ms{requests:>10}", ms(median), ms(slowest));
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
