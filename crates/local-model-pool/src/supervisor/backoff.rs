//! How long to wait before trying again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_millis(250);

/// Doubles with each failure, up to a bound, less up to a quarter so that not everybody tries at the same moment.
#[derive(Debug)]
pub struct Backoff {
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at a quarter of a second, and waits at most `longest`.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self { longest, next: FIRST.min(longest) }
    }

    /// The wait before the next try.
    #[expect(clippy::should_implement_trait, reason = "it has no end")]
    pub fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.longest);
        // Each state hashes differently: randomness enough to spread retries.
        let quarters = u32::try_from(RandomState::new().hash_one(()) % 256).unwrap_or(0);
        full.saturating_sub(full.saturating_mul(quarters) / 1_024)
    }

    /// Starts over.
    pub fn reset(&mut self) {
        self.next = FIRST.min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_its_bound_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_secs(2));
        for full in [250, 500, 1_000, 2_000, 2_000, 2_000] {
            let wait = backoff.next();
            let full = Duration::from_millis(full);
            assert!(wait <= full && wait > full * 3 / 4, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
