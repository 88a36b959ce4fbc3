//! What a provider says of the limits of a key.

use std::time::Duration;

/// What is left of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Requests or tokens.
    pub remaining: u64,
    /// The whole limit, where it was said.
    pub limit: Option<u64>,
    /// Until all of it is there again.
    pub reset: Duration,
}

/// The limits that an answer names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Of requests.
    pub requests: Option<Left>,
    /// Of tokens.
    pub tokens: Option<Left>,
}

/// What is known of a key's limits for a model: the last that was seen, less what was used since.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    requests: Option<Since>,
    tokens: Option<Since>,
}

#[derive(Debug, Clone, Copy)]
struct Since {
    left: Left,
    /// When it was said.
    at: Duration,
    used: u64,
}

impl Known {
    pub(super) fn saw(&mut self, seen: Seen, now: Duration) {
        let since = |left: Left| Since { left, at: now, used: 0 };
        // an answer that names one limit says nothing about the other
        self.requests = seen.requests.map(since).or(self.requests);
        self.tokens = seen.tokens.map(since).or(self.tokens);
    }

    pub(super) fn take(&mut self, tokens: u64) {
        for (since, amount) in [(&mut self.requests, 1), (&mut self.tokens, tokens)] {
            if let Some(since) = since {
                since.used = since.used.saturating_add(amount);
            }
        }
    }

    pub(super) fn wait(&self, tokens: u64, now: Duration) -> Duration {
        let wait = |since: &Option<Since>, amount| since.map_or(Duration::ZERO, |s| s.wait(amount, now));
        wait(&self.requests, 1).max(wait(&self.tokens, tokens))
    }
}

impl Since {
    /// Until `amount` is there: in even steps up to the reset where the whole limit is known, as buckets refill, else at the
    /// reset.
    fn wait(&self, amount: u64, now: Duration) -> Duration {
        let Left { remaining, limit, reset } = self.left;
        let until_reset = (self.at.saturating_add(reset)).saturating_sub(now);
        let amount = limit.map_or(amount, |limit| amount.min(limit));
        let needed = self.used.saturating_add(amount);
        if until_reset.is_zero() || needed <= remaining {
            return Duration::ZERO;
        }
        let Some(refills) = limit.map(|limit| limit.saturating_sub(remaining)).filter(|more| *more > 0)
        else {
            return until_reset;
        };
        let missing = u128::from(needed - remaining);
        let millis = (reset.as_millis().saturating_mul(missing)).div_ceil(u128::from(refills));
        let there = self.at.saturating_add(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)));
        there.saturating_sub(now).min(until_reset)
    }
}
