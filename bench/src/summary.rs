//! Figures of a whole run: medians over its rounds, differences and ratios taken within each round.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rounds::{Key, Measurement, Measurements, Mode};
use crate::target::Target;

/// Least requests a second of the system, as a share of the floor's.
pub const REQUESTS_RATIO_MIN: f64 = 0.3;
/// Least events a second of the system, as a share of the floor's.
pub const EVENTS_RATIO_MIN: f64 = 0.4;

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

/// The system by the floor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// How answers were asked for.
    pub mode: Mode,
    /// By how many at once.
    pub connections: usize,
    /// Requests a second in one body, events a second in streams.
    pub ratio: f64,
    /// The lowest and the highest of the rounds.
    pub range: (f64, f64),
    /// What it must be at least.
    pub least: f64,
}

impl Ratio {
    /// Whether it is what it must be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.ratio >= self.least
    }
}

/// A run's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// One for each target, mode and number of connections.
    pub rows: Vec<Row>,
    /// Empty unless the floor and the system were measured.
    pub ratios: Vec<Ratio>,
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
pub fn summarise(measurements: &Measurements) -> Summary {
    let rows = measurements.iter().map(|(key, rounds)| {
        let direct = measurements.get(&Key { target: Target::Direct, ..*key });
        row(*key, rounds, direct.filter(|_| key.target != Target::Direct))
    });
    let ratios =
        measurements.iter().filter(|(key, _)| key.target == Target::System).filter_map(|(key, rounds)| {
            let floor = measurements.get(&Key { target: Target::Floor, ..*key })?;
            Some(ratio(*key, rounds, floor))
        });
    Summary { rows: rows.collect(), ratios: ratios.collect() }
}

fn row(key: Key, rounds: &[Measurement], direct: Option<&Vec<Measurement>>) -> Row {
    let of = |value: fn(&Measurement) -> f64| median(rounds.iter().map(value));
    let above = |value: fn(&Measurement) -> f64| {
        direct.map(|direct| median(rounds.iter().zip(direct).map(|(one, other)| value(one) - value(other))))
    };
    // Not `sum`, whose neutral element is -0.
    let total = |round: &Measurement| round.cpu_us_per_request.values().fold(0.0, |sum, one| sum + one);
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

fn ratio(key: Key, system: &[Measurement], floor: &[Measurement]) -> Ratio {
    let (value, least): (fn(&Measurement) -> f64, f64) = match key.mode {
        Mode::Whole => (|round| round.requests_per_s, REQUESTS_RATIO_MIN),
        Mode::Stream => (|round| round.events_per_s, EVENTS_RATIO_MIN),
    };
    let ratios: Vec<f64> =
        system.iter().zip(floor).map(|(system, floor)| value(system) / value(floor)).collect();
    let (lowest, highest) = ratios
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), one| (low.min(*one), high.max(*one)));
    Ratio {
        mode: key.mode,
        connections: key.connections,
        ratio: median(ratios.iter().copied()),
        range: (lowest, highest),
        least,
    }
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
        let summary = summarise(&measurements);
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
    fn a_median_is_in_the_middle() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }
}
