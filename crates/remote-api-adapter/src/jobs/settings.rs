//! The `jobs` table of the section, as it is written and as it is checked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::price::Invalid;

/// A day, in milliseconds: longer pauses would miss the end of a batch.
const POLL_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Ten years.
const KEEP_DAYS_MAX: u32 = 3_650;

/// Batches and fine-tuning at providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSettings {
    /// Between two looks at a job that has just changed, milliseconds; doubles while nothing does.
    pub poll_min_ms: u64,
    /// Longest time between two looks, milliseconds.
    pub poll_max_ms: u64,
    /// How long a job is kept after its end, with its results, days.
    pub keep_days: u32,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { poll_min_ms: 15_000, poll_max_ms: 300_000, keep_days: 30 }
    }
}

/// The settings, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) poll_min: Duration,
    pub(crate) poll_max: Duration,
    pub(crate) keep: Duration,
}

impl JobSettings {
    /// # Errors
    /// A number outside its range, by its name.
    pub(crate) fn check(&self) -> Result<Pace, Invalid> {
        if !(1..=POLL_MS_MAX).contains(&self.poll_min_ms) {
            let problem = format!("is {}, expected 1 to {POLL_MS_MAX}", self.poll_min_ms);
            return Err(Invalid::new("jobs.poll_min_ms", problem));
        }
        if !(self.poll_min_ms..=POLL_MS_MAX).contains(&self.poll_max_ms) {
            let problem = format!(
                "is {}, expected poll_min_ms ({}) to {POLL_MS_MAX}",
                self.poll_max_ms, self.poll_min_ms
            );
            return Err(Invalid::new("jobs.poll_max_ms", problem));
        }
        if !(1..=KEEP_DAYS_MAX).contains(&self.keep_days) {
            let problem = format!("is {}, expected 1 to {KEEP_DAYS_MAX}", self.keep_days);
            return Err(Invalid::new("jobs.keep_days", problem));
        }
        Ok(Pace {
            poll_min: Duration::from_millis(self.poll_min_ms),
            poll_max: Duration::from_millis(self.poll_max_ms),
            keep: Duration::from_secs(u64::from(self.keep_days) * 24 * 60 * 60),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_that_cannot_be_kept_is_refused_by_name() {
        let slips = [
            (JobSettings { poll_min_ms: 0, ..JobSettings::default() }, "jobs.poll_min_ms"),
            (JobSettings { poll_max_ms: 1, ..JobSettings::default() }, "jobs.poll_max_ms"),
            (JobSettings { keep_days: 0, ..JobSettings::default() }, "jobs.keep_days"),
        ];
        for (settings, field) in slips {
            assert_eq!(settings.check().unwrap_err().field, field);
        }
        assert_eq!(JobSettings::default().check().unwrap().keep, Duration::from_secs(30 * 86_400));
    }
}
