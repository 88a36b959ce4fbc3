//! How much energy a request took.
//!
//! A meter of the machine (a GPU's power over time, or the processor time of the engine) knows what all requests that ran at
//! the same time took together. [`Shares`] divides that among them by the tokens that each had computed meanwhile.
//!
//! Nothing is subtracted for what the machine would have drawn idle: while a request runs, the machine runs for it. What is
//! drawn while nothing runs belongs to no request.

use std::{collections::BTreeMap, collections::VecDeque, time::Duration};

use crate::units::Money;

/// Power samples that are remembered; older ones are of no request any more.
const SAMPLES_MAX: usize = 1024;
/// A power is known this long around the moment at which it was measured; further away it is a guess.
const KNOWN_FOR: Duration = Duration::from_secs(2);
/// Millijoules in a kilowatt-hour.
const MILLIJOULES_PER_KWH: i128 = 3_600_000_000;

/// An amount of energy, in whole microjoules (watts × microseconds), so that small shares are not lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Energy(u64);

impl Energy {
    /// None.
    pub const ZERO: Self = Self(0);

    /// So many microjoules.
    #[must_use]
    pub const fn microjoules(count: u64) -> Self {
        Self(count)
    }

    /// So much power for so long.
    #[must_use]
    pub fn of(milliwatts: u64, time: Duration) -> Self {
        let nanojoules = u128::from(milliwatts).saturating_mul(time.as_micros());
        Self(u64::try_from(nanojoules / 1000).unwrap_or(u64::MAX))
    }

    /// Whole millijoules, rounded.
    #[must_use]
    pub const fn as_millijoules(self) -> u64 {
        self.0.saturating_add(500) / 1000
    }

    /// The sum.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Less `other`, at least none.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `part` of `whole`; none where `whole` is 0.
    fn share(self, part: u64, whole: u64) -> Self {
        let share = (u128::from(self.0) * u128::from(part)).checked_div(u128::from(whole)).unwrap_or(0);
        Self(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

/// What so many millijoules cost at this price of a kilowatt-hour, rounded.
#[must_use]
pub fn cost(millijoules: i64, per_kwh: Money) -> Money {
    let exact = i128::from(millijoules) * i128::from(per_kwh.as_picodollars());
    let half = MILLIJOULES_PER_KWH / 2;
    Money::picodollars(i64::try_from((exact + half) / MILLIJOULES_PER_KWH).unwrap_or(i64::MAX))
}

/// The power of a device over time, as it was measured now and then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PowerTrace {
    /// When, and milliwatts; times grow.
    samples: VecDeque<(Duration, u64)>,
}

impl PowerTrace {
    /// Adds a measurement. One that is not later than the last is dropped.
    pub fn add(&mut self, at: Duration, milliwatts: u64) {
        if self.samples.back().is_some_and(|(last, _)| at <= *last) {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((at, milliwatts));
    }

    /// The integral between two moments by the trapezoidal rule, and whether the power was known all the time. Before the
    /// first and after the last sample its power is taken to hold. None without any sample.
    #[must_use]
    pub fn energy(&self, from: Duration, to: Duration) -> Option<(Energy, bool)> {
        let inner = self.samples.iter().filter(|(at, _)| from < *at && *at < to).copied();
        let ends = (self.power(from)?, self.power(to)?);
        let points = std::iter::once((from, ends.0.0)).chain(inner).chain([(to, ends.1.0)]);
        let mut energy = Energy::ZERO;
        let mut before: Option<(Duration, u64)> = None;
        let mut longest = Duration::ZERO;
        for (at, power) in points {
            if let Some((since, earlier)) = before {
                let time = at.saturating_sub(since);
                longest = longest.max(time);
                let twice = Energy::of(earlier.saturating_add(power), time);
                energy = energy.plus(Energy(twice.0 / 2));
            }
            before = Some((at, power));
        }
        Some((energy, ends.0.1 && ends.1.1 && longest <= KNOWN_FOR * 2))
    }

    /// Power at a moment, between two samples on the line between them, and whether it is known.
    fn power(&self, at: Duration) -> Option<(u64, bool)> {
        let after = self.samples.iter().find(|(time, _)| *time >= at);
        let before = self.samples.iter().rev().find(|(time, _)| *time <= at);
        match (before, after) {
            (Some((since, earlier)), Some((until, later))) => {
                let whole = until.saturating_sub(*since);
                let part = at.saturating_sub(*since).as_micros();
                let rise = i128::from(*later) - i128::from(*earlier);
                let part = i128::try_from(part).unwrap_or(i128::MAX);
                let whole_micros = i128::try_from(whole.as_micros()).unwrap_or(i128::MAX);
                let risen = rise.saturating_mul(part).checked_div(whole_micros).unwrap_or(0);
                let power = u64::try_from(i128::from(*earlier) + risen).unwrap_or(0);
                Some((power, whole <= KNOWN_FOR * 2))
            }
            (Some((time, power)), None) | (None, Some((time, power))) => {
                Some((*power, time.abs_diff(at) <= KNOWN_FOR))
            }
            (None, None) => None,
        }
    }
}

/// What each of the requests that run together took so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    running: BTreeMap<u64, Share>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    tokens: u64,
    energy: Energy,
    /// Part of it was estimated.
    estimated: bool,
}

impl Shares {
    /// A request begins, under a number of its own.
    pub fn begin(&mut self, request: u64) {
        self.running.insert(request, Share::default());
    }

    /// Tokens were computed for it.
    pub fn computed(&mut self, request: u64, tokens: u64) {
        if let Some(share) = self.running.get_mut(&request) {
            share.tokens = share.tokens.saturating_add(tokens);
        }
    }

    /// All of them together took this since the last call: by the tokens of each since then, evenly where there were none.
    pub fn spent(&mut self, energy: Energy, estimated: bool) {
        let tokens = self.running.values().fold(0_u64, |sum, share| sum.saturating_add(share.tokens));
        let requests = u64::try_from(self.running.len()).unwrap_or(u64::MAX);
        for share in self.running.values_mut() {
            let part =
                if tokens > 0 { energy.share(share.tokens, tokens) } else { energy.share(1, requests) };
            share.energy = share.energy.plus(part);
            share.estimated |= estimated && part > Energy::ZERO;
            share.tokens = 0;
        }
    }

    /// A request ended; what it took, and whether that is an estimate. Call [`Self::spent`] before.
    pub fn end(&mut self, request: u64) -> (Energy, bool) {
        let share = self.running.remove(&request).unwrap_or_default();
        (share.energy, share.estimated)
    }

    /// Whether nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn trace(samples: &[(u64, u64)]) -> PowerTrace {
        let mut trace = PowerTrace::default();
        for (at, watts) in samples {
            trace.add(ms(*at), watts * 1000);
        }
        trace
    }

    #[test]
    fn constant_power_is_power_times_time() {
        let trace = trace(&[(0, 300), (500, 300), (1000, 300)]);
        assert_eq!(trace.energy(ms(0), ms(1000)), Some((Energy::of(300_000, ms(1000)), true)));
        assert_eq!(Energy::of(300_000, ms(1000)).as_millijoules(), 300_000);
        // Shorter than the time between two samples, and beyond the last one.
        assert_eq!(trace.energy(ms(100), ms(110)).unwrap().0.as_millijoules(), 3_000);
        assert_eq!(trace.energy(ms(900), ms(1100)).unwrap(), (Energy::of(300_000, ms(200)), true));
    }

    #[test]
    fn a_ramp_is_integrated_exactly_wherever_it_is_cut() {
        let trace = trace(&[(0, 0), (1000, 200), (2000, 200)]);
        assert_eq!(trace.energy(ms(0), ms(1000)).unwrap().0.as_millijoules(), 100_000);
        assert_eq!(trace.energy(ms(500), ms(1500)).unwrap().0.as_millijoules(), 75_000 + 100_000);
    }

    #[test]
    fn power_that_was_not_measured_nearby_is_said_to_be_a_guess() {
        let trace = trace(&[(0, 100), (500, 100)]);
        assert_eq!(trace.energy(ms(400), ms(2_400)).map(|it| it.1), Some(true));
        assert_eq!(trace.energy(ms(400), ms(2_600)).map(|it| it.1), Some(false));
        assert_eq!(PowerTrace::default().energy(ms(0), ms(1)), None);
    }

    #[test]
    fn a_measurement_of_the_past_is_dropped() {
        let mut trace = trace(&[(1000, 100)]);
        trace.add(ms(1000), 5);
        trace.add(ms(10), 5);
        assert_eq!(trace, super::tests::trace(&[(1000, 100)]));
    }

    #[test]
    fn requests_pay_for_their_tokens_and_for_the_time_they_were_there() {
        let mut shares = Shares::default();
        shares.begin(1);
        shares.spent(Energy::microjoules(100), false);
        shares.begin(2);
        shares.computed(1, 1);
        shares.computed(2, 3);
        shares.spent(Energy::microjoules(400), true);
        shares.spent(Energy::microjoules(10), false);
        assert_eq!(shares.end(1), (Energy::microjoules(205), true));
        assert_eq!(shares.end(2), (Energy::microjoules(305), true));
        assert_eq!(shares.end(2), (Energy::ZERO, false));
        assert!(shares.is_empty());
    }

    #[test]
    fn a_kilowatt_hour_costs_its_price() {
        let price: Money = "0.30".parse().unwrap();
        assert_eq!(cost(3_600_000_000, price), price);
        // 250 W for ten seconds.
        assert_eq!(cost(2_500_000, price).as_picodollars(), 208_333_333);
        assert_eq!(cost(i64::MAX, Money::picodollars(i64::MAX)), Money::picodollars(i64::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cutting_the_time_anywhere_changes_the_sum_by_no_more_than_rounding(
            samples in prop::collection::vec((1_u64..2_000, 0_u64..600), 1..20), cut in 0_u64..20_000, end in 0_u64..20_000,
        ) {
            let mut at = 0;
            let samples: Vec<(u64, u64)> = samples.into_iter().map(|(step, watts)| { at += step; (at, watts) }).collect();
            let trace = trace(&samples);
            let (cut, end) = (cut.min(end), end);
            let whole = trace.energy(ms(0), ms(end)).unwrap().0;
            let parts = trace.energy(ms(0), ms(cut)).unwrap().0.plus(trace.energy(ms(cut), ms(end)).unwrap().0);
            prop_assert!(whole.less(parts).plus(parts.less(whole)) <= Energy::microjoules(20_100), "{whole:?} {parts:?}");
        }

        #[test]
        fn nothing_is_paid_twice(parts in prop::collection::vec((0_u64..1_000_000, prop::collection::vec(0_u64..50, 3)), 1..20)) {
            let mut shares = Shares::default();
            (0..3).for_each(|request| shares.begin(request));
            let mut all = 0;
            for (energy, tokens) in parts {
                (0_u64..).zip(tokens).for_each(|(request, tokens)| shares.computed(request, tokens));
                shares.spent(Energy::microjoules(energy), false);
                all += energy;
            }
            let paid: u64 = (0..3).map(|request| shares.end(request).0.0).sum();
            prop_assert!(paid <= all && all - paid <= 60, "{paid} of {all}");
        }
    }
}
