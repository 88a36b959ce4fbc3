//! How busy things are: what machines, budgets and coordinators tell a decision of the moment.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::Tier;
use crate::{
    budget::Scope,
    id::{DeploymentId, ModelName},
    units::{Bytes, Money, Tokens},
};

/// The GPUs of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeLoad {
    /// Of the busiest GPU, 0 to 100.
    pub gpu_utilization_percent: u32,
    /// Of all GPUs together; `None` where there is none.
    pub gpu_memory_free: Option<Bytes>,
}

/// How a budget stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetLeft {
    /// Its name.
    pub name: String,
    /// Whose calls it covers.
    pub scope: Scope,
    /// What this machine may spend in a window.
    pub allowed: Money,
    /// What of it is not spent.
    pub left: Money,
    /// When it is spent, requests run where they cost nothing.
    pub degrades: bool,
}

impl BudgetLeft {
    /// What is left, in percent of what is allowed; 100 where nothing is.
    #[must_use]
    pub fn percent(&self) -> i64 {
        let (left, allowed) = (self.left.as_picodollars().max(0), self.allowed.as_picodollars());
        if allowed <= 0 {
            0
        } else {
            i64::try_from(i128::from(left) * 100 / i128::from(allowed)).unwrap_or(100)
        }
    }
}

/// What this coordinator has seen of the deployments lately.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Deployments that are left alone for a while, and why.
    pub cooling: HashMap<DeploymentId, String>,
    /// Requests of this coordinator in flight.
    pub outstanding: HashMap<DeploymentId, u32>,
    /// How quick they were.
    pub speeds: Arc<HashMap<DeploymentId, Speed>>,
    /// How quick deployments of a model were on a tier, for those of which nothing was seen yet: else one that answered once
    /// would hide a cheaper one for good.
    pub siblings: Arc<HashMap<Tier, HashMap<ModelName, Speed>>>,
}

/// How quick a deployment was, averaged with more weight on what was last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    /// Until the first piece of an answer, milliseconds.
    pub start_ms: u64,
    /// A token of output, microseconds.
    pub token_us: u64,
}

/// Part of the newest measurement in an average: 1/5, so that ten answers make up nine tenths of it.
const NEWEST_PART: u64 = 5;

impl Speed {
    /// The average with one more answer: when it began after it was asked for, how long it took in all, and its tokens.
    #[must_use]
    pub fn with(before: Option<Self>, start: Duration, whole: Duration, output: Tokens) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let token_us = micros(whole.saturating_sub(start)) / output.get().max(1);
        let seen = Self { start_ms: micros(start) / 1_000, token_us };
        let Some(before) = before else { return seen };
        let mix =
            |old: u64, new: u64| (old.saturating_mul(NEWEST_PART - 1).saturating_add(new)) / NEWEST_PART;
        Self { start_ms: mix(before.start_ms, seen.start_ms), token_us: mix(before.token_us, seen.token_us) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_follows_what_was_seen_last() {
        let seen = |before, start, whole| {
            Speed::with(before, Duration::from_millis(start), Duration::from_millis(whole), Tokens::new(100))
        };
        let first = seen(None, 200, 1_200);
        assert_eq!(first, Speed { start_ms: 200, token_us: 10_000 });
        let slower = (0..20).fold(first, |speed, _| seen(Some(speed), 1_000, 3_000));
        assert!(
            (950..=1_000).contains(&slower.start_ms) && (19_000..=20_000).contains(&slower.token_us),
            "{slower:?}"
        );
    }

    #[test]
    fn an_answer_without_tokens_divides_by_nothing() {
        let speed = Speed::with(None, Duration::ZERO, Duration::from_millis(3), Tokens::ZERO);
        assert_eq!(speed, Speed { start_ms: 0, token_us: 3_000 });
    }
}
