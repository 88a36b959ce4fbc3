//! How long calls may take, when they are repeated, and when a deployment is left alone.

use serde::{Deserialize, Serialize};

/// How long each phase of a call may take, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutSettings {
    /// TCP and TLS.
    pub connect_ms: u64,
    /// To the first piece of a stream. Models that reason in silence take minutes.
    pub first_token_ms: u64,
    /// Silence in the middle of an answer.
    pub idle_ms: u64,
    /// The whole call, retries included. Below the coordinator's own limit (300,000), so that another candidate can still be tried
    /// when a provider hangs and nothing streams.
    pub total_ms: u64,
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        Self { connect_ms: 5_000, first_token_ms: 120_000, idle_ms: 30_000, total_ms: 240_000 }
    }
}

/// When a failed call is tried again: 429, 5xx, no connection, a cut, another key, and nothing of the answer used yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Tries after the first, 0 to 10.
    pub retries_max: u32,
    /// Wait before the first retry, doubling with each, milliseconds.
    pub backoff_base_ms: u64,
    /// Longest wait of our own choice, milliseconds.
    pub backoff_max_ms: u64,
    /// Longest `Retry-After` that is obeyed by waiting, milliseconds; with a longer one the fault is returned at once.
    pub retry_after_max_ms: u64,
    /// From the start of the first try to the start of the last, milliseconds.
    pub total_max_ms: u64,
    /// Share of recent calls that may be retries, percent.
    pub budget_percent: u32,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            retries_max: 2,
            backoff_base_ms: 200,
            backoff_max_ms: 1_000,
            retry_after_max_ms: 10_000,
            total_max_ms: 2_000,
            budget_percent: 20,
        }
    }
}

/// When a deployment that fails is left alone: its circuit breaker opens, and later lets one request through to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Failures in a row that open it; 0 = not by this rule.
    pub failures: u32,
    /// Share of the calls in the window that failed, percent, that opens it; 0 = not by this rule.
    pub failure_percent: u32,
    /// Calls in the window below which their share says nothing.
    pub calls_min: u32,
    /// The window, milliseconds.
    pub window_ms: u64,
    /// How long it stays open, milliseconds, times the number of times it opened lately.
    pub open_ms: u64,
    /// Longest time to stay open, milliseconds.
    pub open_max_ms: u64,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_percent: 50,
            calls_min: 30,
            window_ms: 60_000,
            open_ms: 30_000,
            open_max_ms: 300_000,
        }
    }
}
