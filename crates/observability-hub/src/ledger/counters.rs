//! What the ledger has counted since it began, in memory for `/metrics`: read from the roll-up at the start, then moved
//! by each commit, so that a restart changes no number.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::units::Money;
use rusqlite::Connection;

use super::{Attempt, TokenCounts, query};

/// Providers that get a label of their own; events name them, so the number is bounded here. The rest is `other`.
const PROVIDERS_MAX: usize = 64;
const OTHER_PROVIDER: &str = "other";

/// Where an attempt ran and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlacementKey {
    /// `remote-api`, `local-gpu`, …
    pub tier: String,
    /// `openai`, `llama.cpp`, …
    pub provider: String,
    /// `ok`, `failed`, `cancelled`.
    pub outcome: String,
}

/// Sums over some attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Requests that began: first attempts, and requests that had none.
    pub requests: i64,
    /// How many.
    pub attempts: i64,
    /// Their tokens.
    pub tokens: TokenCounts,
    /// Those whose cost is not known.
    pub cost_unknown: i64,
    /// What the others cost.
    pub cost: Money,
    /// How long they took, one after the other.
    pub duration_ms: i64,
}

impl Sums {
    /// Both together; the largest number where that does not fit.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            attempts: self.attempts.saturating_add(other.attempts),
            tokens: self.tokens.saturating_add(other.tokens),
            cost_unknown: self.cost_unknown.saturating_add(other.cost_unknown),
            cost: self.cost + other.cost,
            duration_ms: self.duration_ms.saturating_add(other.duration_ms),
        }
    }
}

impl From<&Attempt> for Sums {
    fn from(attempt: &Attempt) -> Self {
        Self {
            requests: i64::from(attempt.attempt <= 1),
            attempts: 1,
            tokens: attempt.tokens,
            cost_unknown: i64::from(attempt.cost_unknown),
            cost: Money::picodollars(attempt.cost_picodollars),
            duration_ms: attempt.duration_ms,
        }
    }
}

/// Everything that is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sums by placement and outcome.
    pub placements: BTreeMap<PlacementKey, Sums>,
    /// Deliveries of events that were there already, since the start of the process.
    pub duplicates: u64,
    /// Events that did not become a row, since the ledger began.
    pub dead_letters: u64,
    /// Events that their origins numbered and that are not in the ledger, by machine.
    pub missing_by_machine: BTreeMap<String, u64>,
    /// When something was last committed; `None` since the start of the process.
    pub last_commit_unix_ms: Option<u64>,
}

impl Counters {
    /// The sum over all placements.
    #[must_use]
    pub fn total(&self) -> Sums {
        self.placements.values().fold(Sums::default(), |sum, more| sum.saturating_add(*more))
    }

    /// Events that their origins numbered and that are not in the ledger.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing_by_machine.values().sum()
    }

    fn add(&mut self, key: PlacementKey, sums: Sums) {
        let known = self.placements.contains_key(&key)
            || self.placements.keys().any(|known| known.provider == key.provider)
            || self.providers() < PROVIDERS_MAX;
        let key = if known { key } else { PlacementKey { provider: OTHER_PROVIDER.to_owned(), ..key } };
        let sum = self.placements.entry(key).or_default();
        *sum = sum.saturating_add(sums);
    }

    fn providers(&self) -> usize {
        self.placements
            .keys()
            .map(|key| key.provider.as_str())
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    }
}

/// What one commit changed.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) placements: BTreeMap<PlacementKey, Sums>,
    pub(super) duplicates: u64,
    pub(super) dead_letters: u64,
    /// The new state, where an origin was touched.
    pub(super) missing_by_machine: Option<BTreeMap<String, u64>>,
    pub(super) now_unix_ms: u64,
}

#[derive(Debug, Clone)]
pub(super) struct SharedCounters(Arc<Mutex<Counters>>);

impl SharedCounters {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut counters = Counters {
            dead_letters: query::dead_letters_ever(connection)?,
            missing_by_machine: query::missing_by_machine(connection)?,
            ..Counters::default()
        };
        for (key, sums) in query::placements(connection)? {
            counters.add(key, sums);
        }
        Ok(Self(Arc::new(Mutex::new(counters))))
    }

    pub(super) fn get(&self) -> Counters {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add(&self, delta: Delta) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, sums) in delta.placements {
            counters.add(key, sums);
        }
        counters.duplicates = counters.duplicates.saturating_add(delta.duplicates);
        counters.dead_letters = counters.dead_letters.saturating_add(delta.dead_letters);
        if let Some(missing) = delta.missing_by_machine {
            counters.missing_by_machine = missing;
        }
        counters.last_commit_unix_ms = Some(delta.now_unix_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_beyond_the_bound_are_counted_together() {
        let mut counters = Counters::default();
        for number in 0..PROVIDERS_MAX + 10 {
            let key = PlacementKey {
                tier: "remote-api".to_owned(),
                provider: format!("p{number:03}"),
                outcome: "ok".to_owned(),
            };
            counters.add(key, Sums { attempts: 1, ..Sums::default() });
        }
        assert_eq!(counters.placements.len(), PROVIDERS_MAX + 1);
        assert_eq!(counters.total().attempts, i64::try_from(PROVIDERS_MAX).unwrap() + 10);
    }
}
