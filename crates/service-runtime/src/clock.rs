//! Wall-clock time as a value that is passed around.
//!
//! Timestamps come from a [`Clock`]; intervals and deadlines come from `tokio::time`, which tests pause. Wall-clock time
//! may jump, so nothing subtracts two timestamps to learn how long something took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time of day: the system's, or a test's.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted. A machine set before 1970 reads 0.
    #[must_use]
    pub fn now_unix_ms(&self) -> u64 {
        match &self.0 {
            Source::Manual(now) => now.load(Ordering::Acquire),
            Source::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
                let now = SystemTime::now();
                let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

/// A clock that stands still until a test moves it. All [`Clock`]s taken from it show the same time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Starts at `unix_ms` milliseconds since 1970.
    #[must_use]
    pub fn at(unix_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(unix_ms)))
    }

    /// The clock to hand to the code under test.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(Arc::clone(&self.0)))
    }

    /// Moves forward, to the millisecond.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(by, Ordering::AcqRel);
    }

    /// Jumps to `unix_ms`, also backwards, as a real clock may.
    pub fn set(&self, unix_ms: u64) {
        self.0.store(unix_ms, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let manual = ManualClock::at(1_000);
        let clock = manual.clock();
        assert_eq!(clock.now_unix_ms(), 1_000);
        manual.advance(Duration::from_secs(2));
        assert_eq!(clock.now_unix_ms(), 3_000);
        manual.set(5);
        assert_eq!(clock.clone().now_unix_ms(), 5);
    }

    #[test]
    fn the_system_clock_counts_milliseconds_since_1970() {
        let first_of_2024 = 1_704_067_200_000;
        let first_of_2200 = 7_258_118_400_000;
        assert!((first_of_2024..first_of_2200).contains(&Clock::system().now_unix_ms()));
    }
}
