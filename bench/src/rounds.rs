//! The measurement: rounds in which every target is started, checked, measured and ended in turn.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::cpu;
use crate::load::{self, Length, Load, quantile};
use crate::target::{self, Running, Surroundings, Target};

/// How answers are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In one body.
    Whole,
    /// As server-sent events.
    Stream,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Whole, Self::Stream];
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Targets, in the order of a round.
    pub targets: Vec<Target>,
    /// Numbers of connections.
    pub connections: Vec<usize>,
    /// How often everything is repeated.
    pub rounds: usize,
    /// Before each measurement.
    pub warm_up: Duration,
    /// Of each measurement.
    pub length: Length,
    /// What the user says.
    pub prompt: String,
}

/// One measurement's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// What was asked.
    pub target: Target,
    /// How.
    pub mode: Mode,
    /// By how many at once.
    pub connections: usize,
}

/// One measurement, all times in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// Whole answers a second.
    pub requests_per_s: f64,
    /// Events of streams a second.
    pub events_per_s: f64,
    /// Median of the time to the whole answer.
    pub p50_us: f64,
    /// 99th percentile of the same.
    pub p99_us: f64,
    /// Median of the time to the first event; 0 without streams.
    pub first_event_p50_us: f64,
    /// Requests that failed.
    pub failures: u64,
    /// Processor time of each measured process for each request.
    pub cpu_us_per_request: BTreeMap<String, f64>,
    /// Events for each request; 0 without streams.
    pub events_per_request: f64,
    /// Processor time of all measured processes by elapsed time: 1 is one core busy.
    pub busy: f64,
}

/// Everything measured, in the order of the rounds.
pub type Measurements = BTreeMap<Key, Vec<Measurement>>;

/// Runs the plan. `progress` is told what is being done.
///
/// # Errors
/// A target does not come up, gives a wrong answer or stops answering.
pub async fn run(
    plan: &Plan,
    surroundings: &Surroundings,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Measurements> {
    let mut measurements = Measurements::new();
    let mut expected = BTreeMap::new();
    for round in 1..=plan.rounds {
        for target in &plan.targets {
            progress(&format!("round {round} of {}: {}", plan.rounds, target.name()));
            let running = target::start(*target, surroundings).await?;
            for mode in Mode::ALL {
                let answer = running.answer(&plan.prompt, mode == Mode::Stream).await?;
                let first = expected.entry(mode).or_insert_with(|| answer.clone());
                ensure!(*first == answer, "{} answers {answer:?}, expected {first:?}", target.name());
                for connections in &plan.connections {
                    let key = Key { target: *target, mode, connections: *connections };
                    let measurement = measure(plan, &running, key).await.with_context(|| {
                        format!("{} has written:\n{}", target.name(), running.complaints())
                    })?;
                    measurements.entry(key).or_default().push(measurement);
                }
            }
        }
    }
    Ok(measurements)
}

async fn measure(plan: &Plan, running: &Running, key: Key) -> anyhow::Result<Measurement> {
    let load = Load {
        ask: running.ask(&plan.prompt, key.mode == Mode::Stream),
        connections: key.connections,
        warm_up: plan.warm_up,
        length: plan.length,
    };
    let clock = || running.processes.iter().map(cpu::used).collect::<anyhow::Result<Vec<_>>>();
    let (outcome, before, after) = load::run(load, clock).await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    let (answers, events, seconds) =
        (outcome.answers as f64, outcome.events as f64, outcome.elapsed.as_secs_f64());
    let used: Vec<Duration> =
        before.iter().zip(&after).map(|(before, after)| after.saturating_sub(*before)).collect();
    let names = running.processes.iter().map(|process| process.name.clone());
    Ok(Measurement {
        requests_per_s: answers / seconds,
        events_per_s: events / seconds,
        p50_us: micros(quantile(&outcome.latency, 0.5)),
        p99_us: micros(quantile(&outcome.latency, 0.99)),
        first_event_p50_us: micros(quantile(&outcome.first_event, 0.5)),
        failures: outcome.failures,
        cpu_us_per_request: names.zip(used.iter().map(|used| micros(*used) / answers)).collect(),
        events_per_request: events / answers,
        busy: used.iter().sum::<Duration>().as_secs_f64() / seconds,
    })
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
