//! Figures of a whole run: medians over its rounds, differences and ratios taken within each round.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::memory::Memory;
use crate::rounds::{Key, Measurement, Measurements, Mode};
use crate::target::Target;

/// A figure that two targets are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Whole answers a second.
    RequestsPerS,
    /// Events of streams a second.
    EventsPerS,
    /// Processor time of all measured processes for each request.
    CpuPerRequest,
}

impl Figure {
    /// The name in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestsPerS => "requests/s",
            Self::EventsPerS => "chunks/s",
            Self::CpuPerRequest => "CPU/request",
        }
    }

    fn of(self, measurement: &Measurement) -> f64 {
        match self {
            Self::RequestsPerS => measurement.requests_per_s,
            Self::EventsPerS => measurement.events_per_s,
            Self::CpuPerRequest => total(measurement),
        }
    }
}

/// What a ratio must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At least so much.
    Least(f64),
    /// At most so much.
    Most(f64),
}

impl Bound {
    fn holds(self, ratio: f64) -> bool {
        match self {
            Self::Least(least) => ratio >= least,
            Self::Most(most) => ratio <= most,
        }
    }
}

/// What is asked of one target, measured by another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// Of whom it is asked.
    pub target: Target,
    /// By whom it is measured.
    pub reference: Target,
    /// How answers are asked for.
    pub mode: Mode,
    /// What is compared.
    pub figure: Figure,
    /// What the target's by the reference's must be.
    pub bound: Bound,
}

/// All goals, at every number of connections.
pub const GOALS: [Goal; 4] = [
    Goal {
        target: Target::System,
        reference: Target::Floor,
        mode: Mode::Whole,
        figure: Figure::RequestsPerS,
        bound: Bound::Least(0.3),
    },
    Goal {
        target: Target::System,
        reference: Target::Floor,
        mode: Mode::Stream,
        figure: Figure::EventsPerS,
        bound: Bound::Least(0.4),
    },
    Goal {
        target: Target::Adapter,
        reference: Target::Proxy,
        mode: Mode::Whole,
        figure: Figure::CpuPerRequest,
        bound: Bound::Most(2.0),
    },
    Goal {
        target: Target::Adapter,
        reference: Target::Proxy,
        mode: Mode::Stream,
        figure: Figure::EventsPerS,
        bound: Bound::Least(0.5),
    },
];

/// One line of the report, all times in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was asked.
    pub target: Target,
    /// How.
    pub mode: Mode,
    /// By how many at once.
    pub connections: usize,
    /// Whole answers a second.
    pub requests_per_s: f64,
    /// Events of streams a second.
    pub events_per_s: f64,
    /// Median of the time to the whole answer.
    pub p50_us: f64,
    /// 99th percentile of the same.
    pub p99_us: f64,
    /// What the median is above that of the direct way; absent when that was not measured.
    pub added_p50_us: Option<f64>,
    /// What the 99th percentile is above that of the direct way; absent when that was not measured.
    pub added_p99_us: Option<f64>,
    /// Median of the time to the first event; 0 without streams.
    pub first_event_p50_us: f64,
    /// Processor time of all measured processes for each request.
    pub cpu_us_per_request: f64,
    /// The same for each event; 0 without streams.
    pub cpu_us_per_event: f64,
    /// The same for each request, by process.
    pub cpu_us_by_process: BTreeMap<String, f64>,
    /// How many cores the measured processes kept busy.
    pub busy: f64,
    /// Requests that failed, in all rounds.
    pub failures: u64,
}

/// A goal, and what was seen at one number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// What is asked.
    #[serde(flatten)]
    pub goal: Goal,
    /// By how many at once.
    pub connections: usize,
    /// The target's figure by the reference's, median of the rounds.
    pub ratio: f64,
    /// The lowest and the highest of the rounds.
    pub range: (f64, f64),
}

impl Ratio {
    /// Whether it is what it must be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.goal.bound.holds(self.ratio)
    }
}

/// A run's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// One for each target, mode and number of connections.
    pub rows: Vec<Row>,
    /// Of the goals whose target and reference were both measured.
    pub ratios: Vec<Ratio>,
    /// Absent when it was not looked at.
    pub memory: Option<Memory>,
}

impl Summary {
    /// Whether something was compared, every goal of it holds, and no request failed.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.ratios.is_empty()
            && self.ratios.iter().all(Ratio::holds)
            && self.memory.as_ref().is_none_or(Memory::holds)
            && self.rows.iter().all(|row| row.failures == 0)
    }
}

/// The middle value; the mean of the two in the middle when there is an even number, 0 when there are none.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = values.len().saturating_sub(1) / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    f64::midpoint(at(lower), at(upper))
}

/// Draws the figures from the measurements.
#[must_use]
pub fn summarise(measurements: &Measurements, memory: Option<Memory>) -> Summary {
    let rows = measurements.iter().map(|(key, rounds)| {
        let direct = measurements.get(&Key { target: Target::Direct, ..*key });
        row(*key, rounds, direct.filter(|_| key.target != Target::Direct))
    });
    let ratios = GOALS.into_iter().flat_map(|goal| {
        let asked = move |key: &Key| key.target == goal.target && key.mode == goal.mode;
        measurements.iter().filter(move |(key, _)| asked(key)).filter_map(move |(key, rounds)| {
            let reference = measurements.get(&Key { target: goal.reference, ..*key })?;
            Some(ratio(goal, key.connections, rounds, reference))
        })
    });
    Summary { rows: rows.collect(), ratios: ratios.collect(), memory }
}

/// Of all measured processes. Not `sum`, whose neutral element is -0.
fn total(round: &Measurement) -> f64 {
    round.cpu_us_per_request.values().fold(0.0, |sum, one| sum + one)
}

fn row(key: Key, rounds: &[Measurement], direct: Option<&Vec<Measurement>>) -> Row {
    let of = |value: fn(&Measurement) -> f64| median(rounds.iter().map(value));
    let above = |value: fn(&Measurement) -> f64| {
        direct.map(|direct| median(rounds.iter().zip(direct).map(|(one, other)| value(one) - value(other))))
    };
    let names = rounds.first().into_iter().flat_map(|round| round.cpu_us_per_request.keys());
    let by_process = names.map(|name| {
        let values = rounds.iter().filter_map(|round| round.cpu_us_per_request.get(name).copied());
        (name.clone(), median(values))
    });
    let per_event = |round: &Measurement| {
        if round.events_per_request > 0.0 { total(round) / round.events_per_request } else { 0.0 }
    };
    Row {
        target: key.target,
        mode: key.mode,
        connections: key.connections,
        requests_per_s: of(|round| round.requests_per_s),
        events_per_s: of(|round| round.events_per_s),
        p50_us: of(|round| round.p50_us),
        p99_us: of(|round| round.p99_us),
        added_p50_us: above(|round| round.p50_us),
        added_p99_us: above(|round| round.p99_us),
        first_event_p50_us: of(|round| round.first_event_p50_us),
        cpu_us_per_request: median(rounds.iter().map(total)),
        cpu_us_per_event: median(rounds.iter().map(per_event)),
        cpu_us_by_process: by_process.collect(),
        busy: of(|round| round.busy),
        failures: rounds.iter().map(|round| round.failures).sum(),
    }
}

fn ratio(goal: Goal, connections: usize, target: &[Measurement], reference: &[Measurement]) -> Ratio {
    let figure = |measurement| goal.figure.of(measurement);
    let ratios: Vec<f64> =
        target.iter().zip(reference).map(|(target, reference)| figure(target) / figure(reference)).collect();
    let (lowest, highest) = ratios
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), one| (low.min(*one), high.max(*one)));
    Ratio { goal, connections, ratio: median(ratios.iter().copied()), range: (lowest, highest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(requests_per_s: f64, p50_us: f64, cpu: f64) -> Measurement {
        Measurement {
            requests_per_s,
            events_per_s: 0.0,
            p50_us,
            p99_us: 2.0 * p50_us,
            first_event_p50_us: 0.0,
            failures: 1,
            cpu_us_per_request: BTreeMap::from([("a".to_owned(), cpu), ("b".to_owned(), 1.0)]),
            events_per_request: 0.0,
            busy: 1.0,
        }
    }

    fn key(target: Target) -> Key {
        Key { target, mode: Mode::Whole, connections: 16 }
    }

    #[test]
    fn differences_and_ratios_are_taken_within_a_round() {
        // The machine is three times as slow in the second round, and the system half as fast as the floor in each.
        let measurements = Measurements::from([
            (key(Target::Direct), vec![measurement(900.0, 10.0, 0.0), measurement(300.0, 30.0, 0.0)]),
            (key(Target::Floor), vec![measurement(600.0, 20.0, 10.0), measurement(200.0, 60.0, 10.0)]),
            (key(Target::System), vec![measurement(300.0, 40.0, 20.0), measurement(100.0, 120.0, 22.0)]),
        ]);
        let summary = summarise(&measurements, None);
        let [ratio] = summary.ratios.as_slice() else { panic!("{:?}", summary.ratios) };
        assert!((ratio.ratio - 0.5).abs() < 1e-9 && ratio.holds(), "{ratio:?}");
        let system = summary.rows.iter().find(|row| row.target == Target::System).unwrap();
        assert_eq!(system.added_p50_us, Some(60.0));
        assert!((system.cpu_us_per_request - 22.0).abs() < 1e-9);
        assert!((system.cpu_us_by_process["a"] - 21.0).abs() < 1e-9);
        assert_eq!(system.failures, 2);
        assert_eq!(summary.rows[0].added_p50_us, None);
    }

    #[test]
    fn the_adapter_may_cost_twice_what_the_proxy_costs() {
        let measurements = |adapter| {
            Measurements::from([
                (key(Target::Proxy), vec![measurement(600.0, 20.0, 9.0), measurement(600.0, 20.0, 19.0)]),
                (
                    key(Target::Adapter),
                    vec![measurement(300.0, 40.0, 19.0), measurement(300.0, 40.0, adapter)],
                ),
            ])
        };
        // With the second process's 1 µs: twice in the first round, and in the second just that or a little more.
        for (adapter, holds) in [(39.0, true), (39.1, false)] {
            let summary = summarise(&measurements(adapter), None);
            let [ratio] = summary.ratios.as_slice() else { panic!("{:?}", summary.ratios) };
            assert_eq!((ratio.goal.figure, ratio.holds()), (Figure::CpuPerRequest, holds), "{ratio:?}");
        }
    }

    #[test]
    fn a_run_holds_only_when_all_of_it_does() {
        let memory = |resident_bytes| Some(Memory { streams: 1_000, idle_bytes: 0, resident_bytes });
        let well = |measurement: Measurement| vec![Measurement { failures: 0, ..measurement }];
        let mut measurements = Measurements::from([
            (key(Target::Floor), well(measurement(600.0, 20.0, 10.0))),
            (key(Target::System), well(measurement(300.0, 40.0, 20.0))),
        ]);
        assert!(summarise(&measurements, None).holds());
        assert!(summarise(&measurements, memory(59_000_000)).holds());
        assert!(!summarise(&measurements, memory(61_000_000)).holds());
        measurements.insert(key(Target::System), vec![measurement(300.0, 40.0, 20.0)]);
        assert!(!summarise(&measurements, None).holds(), "a failure");
        measurements.insert(key(Target::System), well(measurement(179.0, 40.0, 20.0)));
        assert!(!summarise(&measurements, None).holds(), "too slow");
        measurements.remove(&key(Target::System));
        assert!(!summarise(&measurements, None).holds(), "nothing to compare");
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }
}
