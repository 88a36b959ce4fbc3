//! How long loads take, learnt from those that were seen.

use std::time::Duration;

use crate::units::Bytes;

/// Weight of the newest load, percent: after four loads on another disk the old ones count for a tenth.
const NEWEST_PERCENT: u32 = 40;
/// Bytes a second that are assumed before a load was seen: a SATA disk. S2 counts 15 to 30 s for 20 GB from an NVMe disk.
const ASSUMED_BYTES_PER_SECOND: u64 = 500 << 20;
/// What starting a process takes beside reading.
const START: Duration = Duration::from_millis(200);

/// What is known of one model's loads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadTimes {
    learnt: Option<Duration>,
}

impl LoadTimes {
    /// As remembered from an earlier life.
    #[must_use]
    pub const fn remembered(learnt: Duration) -> Self {
        Self { learnt: Some(learnt) }
    }

    /// What was learnt; `None` = no load was seen.
    #[must_use]
    pub const fn learnt(&self) -> Option<Duration> {
        self.learnt
    }

    /// Learns from a load.
    pub fn took(&mut self, took: Duration) {
        self.learnt = Some(match self.learnt {
            None => took,
            Some(before) => {
                (before.saturating_mul(100 - NEWEST_PERCENT) + took.saturating_mul(NEWEST_PERCENT)) / 100
            }
        });
    }

    /// What the next load will take, for a model of this size.
    #[must_use]
    pub fn estimate(&self, memory: Bytes) -> Duration {
        self.learnt.unwrap_or_else(|| {
            let milliseconds = memory.get().saturating_mul(1_000) / ASSUMED_BYTES_PER_SECOND;
            START + Duration::from_millis(milliseconds)
        })
    }
}

/// How far a load is, 0 to 99, from the time it has taken. What the engine says itself is better.
#[must_use]
pub fn percent(elapsed: Duration, estimate: Duration) -> u32 {
    let percent = elapsed.as_millis().saturating_mul(100) / estimate.as_millis().max(1);
    u32::try_from(percent).unwrap_or(u32::MAX).min(99)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unseen_model_is_judged_by_its_size_and_a_seen_one_by_what_it_took() {
        let mut times = LoadTimes::default();
        assert_eq!(times.estimate(Bytes::mebibytes(5_000)), START + Duration::from_secs(10));
        times.took(Duration::from_secs(4));
        assert_eq!(times.estimate(Bytes::mebibytes(5_000)), Duration::from_secs(4));
        times.took(Duration::from_secs(9));
        assert_eq!(times.estimate(Bytes::ZERO), Duration::from_secs(6));
    }

    #[test]
    fn a_load_that_takes_longer_than_expected_is_never_done_before_it_is() {
        let second = Duration::from_secs(1);
        assert_eq!(
            [0, 500, 1_000, 60_000].map(|ms| percent(Duration::from_millis(ms), second)),
            [0, 50, 99, 99]
        );
        assert_eq!(percent(Duration::ZERO, Duration::ZERO), 0);
    }
}
