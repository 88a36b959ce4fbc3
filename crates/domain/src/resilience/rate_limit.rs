//! How much of a limit is left: so many requests, so many tokens in a span of time.
//!
//! The span slides: no stretch of it, wherever it begins, holds more than the limit. A bucket that refills would let twice
//! the limit through in the first minute, which is what providers with fixed windows refuse. Amounts are kept by sixtieths of
//! the span, so a limit frees up to a sixtieth late and never early.

use std::{collections::VecDeque, time::Duration};

/// Parts of a span.
const SLOTS: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Limits of one key; what is absent is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in any minute, at least 1.
    pub requests_per_minute: Option<u64>,
    /// Tokens in any minute, input and output together, at least 1.
    pub tokens_per_minute: Option<u64>,
    /// Requests in any 24 hours, at least 1.
    pub requests_per_day: Option<u64>,
}

/// What was taken of one limit.
#[derive(Debug, Clone)]
struct Window {
    limit: u64,
    slot: Duration,
    taken: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Window {
    fn new(limit: u64, span: Duration) -> Self {
        Self { limit, slot: span / SLOTS, taken: VecDeque::new(), sum: 0 }
    }

    fn number(&self, now: Duration) -> u64 {
        u64::try_from(now.as_millis() / self.slot.as_millis().max(1)).unwrap_or(u64::MAX)
    }

    /// When the amounts of a slot no longer count: a span after the last moment of the slot.
    fn expires(&self, number: u64) -> Duration {
        let slots = u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1 + SLOTS);
        self.slot.saturating_mul(slots)
    }

    fn expire(&mut self, now: Duration) {
        while let Some((number, amount)) = self.taken.front().copied() {
            if self.expires(number) > now {
                return;
            }
            self.taken.pop_front();
            self.sum = self.sum.saturating_sub(amount);
        }
    }

    fn left(&self, now: Duration) -> Left {
        let counts = |slot: &&(u64, u64)| self.expires(slot.0) > now;
        let taken: u64 = self.taken.iter().filter(counts).map(|(_, amount)| amount).sum();
        let last = self.taken.back().map_or(now, |(number, _)| self.expires(*number));
        Left { limit: self.limit, left: self.limit.saturating_sub(taken), whole_in: last.saturating_sub(now) }
    }

    /// Until there is room for `amount`. What is larger than the limit itself gets its turn when nothing else counts.
    fn wait(&self, amount: u64, now: Duration) -> Duration {
        let room_for = self.limit.saturating_sub(amount.min(self.limit));
        let mut sum = self.sum;
        let mut until = now;
        for (number, amount) in &self.taken {
            let expires = self.expires(*number);
            if expires > now {
                if sum <= room_for {
                    break;
                }
                until = expires;
            }
            sum = sum.saturating_sub(*amount);
        }
        until.saturating_sub(now)
    }

    /// Takes `amount`; says from which slot.
    fn take(&mut self, amount: u64, now: Duration) -> u64 {
        self.expire(now);
        let number = self.number(now);
        self.sum = self.sum.saturating_add(amount);
        match self.taken.back_mut() {
            Some((last, taken)) if *last >= number => {
                *taken = taken.saturating_add(amount);
                *last
            }
            _ => {
                self.taken.push_back((number, amount));
                number
            }
        }
    }

    /// `used` was needed in place of the `taken`.
    fn settle(&mut self, number: u64, taken: u64, used: u64) {
        if let Some((_, amount)) = self.taken.iter_mut().find(|(slot, _)| *slot == number) {
            *amount = amount.saturating_sub(taken).saturating_add(used);
            self.sum = self.sum.saturating_sub(taken).saturating_add(used);
        }
    }
}

/// What is left of the limits of one key. Times are durations since any fixed moment of a monotonic clock.
#[derive(Debug, Clone)]
pub struct Meter {
    requests: Vec<Window>,
    tokens: Option<Window>,
}

/// How one limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// The limit.
    pub limit: u64,
    /// What may still be taken now.
    pub left: u64,
    /// Until all of it is free again, if nothing more is taken.
    pub whole_in: Duration,
}

/// What one call has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    slot: u64,
    tokens: u64,
}

impl Meter {
    /// Nothing is taken.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let Limits { requests_per_minute, tokens_per_minute, requests_per_day } = limits;
        let minute = requests_per_minute.map(|limit| Window::new(limit, MINUTE));
        let day = requests_per_day.map(|limit| Window::new(limit, DAY));
        Self {
            requests: minute.into_iter().chain(day).collect(),
            tokens: tokens_per_minute.map(|limit| Window::new(limit, MINUTE)),
        }
    }

    /// Until there is room for a call of so many tokens; zero = now.
    #[must_use]
    pub fn wait(&self, tokens: u64, now: Duration) -> Duration {
        let requests = self.requests.iter().map(|window| window.wait(1, now));
        let tokens = self.tokens.iter().map(|window| window.wait(tokens, now));
        requests.chain(tokens).max().unwrap_or(Duration::ZERO)
    }

    /// Other limits from now on; what was taken of a limit that stays is still taken.
    pub fn limit(&mut self, limits: Limits) {
        let new = Self::new(limits);
        let keep = |new: Window, old: Option<&Window>| match old {
            Some(old) if old.slot == new.slot => Window { limit: new.limit, ..old.clone() },
            _ => new,
        };
        let same = |new: &Window| self.requests.iter().find(|old| old.slot == new.slot);
        let requests = new.requests.into_iter().map(|new| keep(new.clone(), same(&new))).collect();
        let tokens = new.tokens.map(|new| keep(new, self.tokens.as_ref()));
        *self = Self { requests, tokens };
    }

    /// How the limit on requests stands (the one by the minute, if there is one), and the one on tokens.
    #[must_use]
    pub fn left(&self, now: Duration) -> (Option<Left>, Option<Left>) {
        let requests = self.requests.first().map(|window| window.left(now));
        (requests, self.tokens.as_ref().map(|window| window.left(now)))
    }

    /// Takes the room for a call.
    pub fn take(&mut self, tokens: u64, now: Duration) -> Reservation {
        for window in &mut self.requests {
            window.take(1, now);
        }
        let slot = self.tokens.as_mut().map_or(0, |window| window.take(tokens, now));
        Reservation { slot, tokens }
    }

    /// The call has used so many tokens.
    pub fn settle(&mut self, reservation: Reservation, used: u64) {
        if let Some(window) = &mut self.tokens {
            window.settle(reservation.slot, reservation.tokens, used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn meter(requests: Option<u64>, tokens: Option<u64>, day: Option<u64>) -> Meter {
        Meter::new(Limits { requests_per_minute: requests, tokens_per_minute: tokens, requests_per_day: day })
    }

    #[test]
    fn without_limits_there_is_always_room() {
        let mut meter = meter(None, None, None);
        for _ in 0..1_000 {
            assert_eq!(meter.wait(1_000_000, at(0)), Duration::ZERO);
            meter.take(1_000_000, at(0));
        }
    }

    #[test]
    fn sixty_requests_a_minute_are_sixty_and_the_next_waits_for_the_first_to_pass() {
        let mut meter = meter(Some(60), None, None);
        for request in 0..60 {
            assert_eq!(meter.wait(0, Duration::from_millis(request * 100)), Duration::ZERO);
            meter.take(0, Duration::from_millis(request * 100));
        }
        // the first ten lie in the second that ends at 1 s
        assert_eq!(meter.wait(0, at(6)), at(55));
        assert_eq!(meter.wait(0, at(61)), Duration::ZERO);
    }

    #[test]
    fn tokens_are_settled_with_what_was_used() {
        let mut meter = meter(None, Some(14_400), None);
        let reservation = meter.take(14_000, at(0));
        assert!(meter.wait(1_000, at(0)) > Duration::ZERO);
        meter.settle(reservation, 2_000);
        assert_eq!(meter.wait(12_400, at(0)), Duration::ZERO);
        assert!(meter.wait(12_401, at(0)) > Duration::ZERO);
        let more = meter.take(100, at(30));
        meter.settle(more, 13_000);
        assert_eq!(meter.wait(100, at(40)), at(21), "when the 2,000 of the first second have passed");
    }

    #[test]
    fn what_is_left_is_told_and_other_limits_forget_nothing() {
        let mut meter = meter(Some(3), Some(100), None);
        meter.take(40, at(0));
        let (requests, tokens) = meter.left(at(1));
        assert_eq!(requests, Some(Left { limit: 3, left: 2, whole_in: at(60) }));
        assert_eq!(tokens, Some(Left { limit: 100, left: 60, whole_in: at(60) }));
        meter.limit(Limits { requests_per_minute: Some(1), tokens_per_minute: None, requests_per_day: None });
        assert_eq!(meter.left(at(1)), (Some(Left { limit: 1, left: 0, whole_in: at(60) }), None));
        assert_eq!(meter.wait(0, at(1)), at(60));
    }

    #[test]
    fn a_settlement_that_comes_when_its_minute_is_past_changes_nothing() {
        let mut meter = meter(None, Some(100), None);
        let old = meter.take(100, at(0));
        meter.take(90, at(70));
        meter.settle(old, 1_000_000);
        assert_eq!(meter.wait(10, at(70)), Duration::ZERO);
    }

    #[test]
    fn a_call_larger_than_the_limit_gets_its_turn_alone() {
        let mut meter = meter(None, Some(100), None);
        assert_eq!(meter.wait(5_000, at(0)), Duration::ZERO);
        meter.take(5_000, at(0));
        assert_eq!(meter.wait(1, at(0)), at(61));
    }

    #[test]
    fn a_day_is_counted_beside_the_minute() {
        let mut meter = meter(Some(10), None, Some(20));
        for minute in [0, 100] {
            for _ in 0..10 {
                meter.take(0, at(minute));
            }
        }
        let wait = meter.wait(0, at(200));
        assert!(wait > at(86_000) && wait <= at(86_400 + 1_440), "{wait:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_minute_holds_more_than_the_limit_and_a_wait_is_long_enough(
            calls in proptest::collection::vec((0u64..9_000, 1u64..80), 1..200),
        ) {
            let mut meter = meter(None, Some(100), None);
            let (mut now, mut taken) = (Duration::ZERO, Vec::new());
            for (pause, tokens) in calls {
                now += Duration::from_millis(pause);
                let wait = meter.wait(tokens, now);
                if wait > Duration::ZERO {
                    now += wait;
                    proptest::prop_assert_eq!(meter.wait(tokens, now), Duration::ZERO);
                }
                meter.take(tokens, now);
                taken.push((now, tokens));
                let recent = taken.iter().filter(|(at, _)| *at + MINUTE > now);
                proptest::prop_assert!(recent.map(|(_, tokens)| tokens).sum::<u64>() <= 100);
            }
        }
    }
}
