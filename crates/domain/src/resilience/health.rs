//! How calls went lately: counts and time to the first piece, over a window that slides.

use std::{collections::VecDeque, time::Duration};

/// Parts of a window; it slides by one of them at a time.
const SLOTS: u32 = 30;

/// Calls of the last while. Times are durations since any fixed moment of a monotonic clock.
#[derive(Debug, Clone)]
pub struct Health {
    slot: Duration,
    slots: VecDeque<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    number: u128,
    summary: Sums,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    calls: u32,
    failures: u32,
    timed: u32,
    latency: Duration,
}

/// What the calls in the window come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// All of them.
    pub calls: u32,
    /// Those that failed.
    pub failures: u32,
    /// Mean time to the first piece of those that came to one.
    pub latency: Option<Duration>,
}

impl Summary {
    /// Share of the calls that failed, percent; 0 without calls.
    #[must_use]
    pub fn failure_percent(&self) -> u32 {
        let percent = u64::from(self.failures) * 100 / u64::from(self.calls.max(1));
        u32::try_from(percent).unwrap_or(100)
    }
}

impl Health {
    /// No calls yet. `span` is the length of the window; it holds up to one thirtieth more.
    #[must_use]
    pub fn new(span: Duration) -> Self {
        Self { slot: (span / SLOTS).max(Duration::from_millis(1)), slots: VecDeque::new() }
    }

    /// A call ended at `now`; `latency` is the time to its first piece, where it came to one.
    pub fn record(&mut self, succeeded: bool, latency: Option<Duration>, now: Duration) {
        self.expire(now);
        let number = self.number(now);
        if self.slots.back().is_none_or(|last| last.number < number) {
            self.slots.push_back(Slot { number, summary: Sums::default() });
        }
        let Some(slot) = self.slots.back_mut() else { return };
        let sums = &mut slot.summary;
        sums.calls = sums.calls.saturating_add(1);
        sums.failures = sums.failures.saturating_add(u32::from(!succeeded));
        if let Some(latency) = latency {
            sums.timed = sums.timed.saturating_add(1);
            sums.latency = sums.latency.saturating_add(latency);
        }
    }

    /// The calls that the window holds at `now`.
    #[must_use]
    pub fn summary(&self, now: Duration) -> Summary {
        let oldest = self.number(now).saturating_sub(u128::from(SLOTS));
        let mut all = Sums::default();
        for Slot { summary, .. } in self.slots.iter().filter(|slot| slot.number >= oldest) {
            all.calls = all.calls.saturating_add(summary.calls);
            all.failures = all.failures.saturating_add(summary.failures);
            all.timed = all.timed.saturating_add(summary.timed);
            all.latency = all.latency.saturating_add(summary.latency);
        }
        let latency = all.latency.checked_div(all.timed);
        Summary { calls: all.calls, failures: all.failures, latency }
    }

    fn number(&self, now: Duration) -> u128 {
        now.as_millis() / self.slot.as_millis().max(1)
    }

    fn expire(&mut self, now: Duration) {
        let oldest = self.number(now).saturating_sub(u128::from(SLOTS));
        while self.slots.front().is_some_and(|slot| slot.number < oldest) {
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_the_last_while_counts() {
        let mut health = Health::new(at(300));
        health.record(false, None, at(0));
        health.record(true, Some(at(1)), at(200));
        health.record(true, Some(at(3)), at(290));
        let all = health.summary(at(300));
        assert_eq!((all.calls, all.failures, all.failure_percent()), (3, 1, 33));
        assert_eq!(all.latency, Some(at(2)));
        let later = health.summary(at(320));
        assert_eq!((later.calls, later.failures), (2, 0), "the failure is past");
        assert_eq!(health.summary(at(900)), Summary::default());
    }

    #[test]
    fn what_is_held_is_bounded_however_many_calls_there_are() {
        let mut health = Health::new(at(60));
        for second in 0..10_000 {
            health.record(second % 2 == 0, None, at(second));
        }
        assert!(health.slots.len() <= SLOTS as usize + 1, "{}", health.slots.len());
        assert_eq!(health.summary(at(9_999)).failure_percent(), 50);
    }
}
