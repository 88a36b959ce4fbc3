//! The `[request-coordinator]` section.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use service_runtime::secret::Secret;

use crate::dispatch::Limits;

/// The configuration as this service sees it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How to reach the bus.
    pub bus: bus::Settings,
    /// This service's own section.
    #[serde(rename = "request-coordinator")]
    pub own: Section,
}

/// This service's own section.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    /// Health and metrics.
    pub admin_listen: SocketAddr,
    /// The OpenAI-compatible interface.
    pub listen: SocketAddr,
    /// Keys without limits, on HTTP and on the bus. With any of them everybody has to show a key: one of these, or a virtual one.
    pub api_keys: Vec<Secret>,
    /// Everybody has to show a key although there is none in `api_keys`; otherwise a request without a virtual key has no limits.
    pub keys_required: bool,
    /// Largest HTTP body, bytes.
    pub body_bytes_max: usize,
    /// Requests at once; more are refused as busy.
    pub requests_max: usize,
    /// Open HTTP connections.
    pub connections_max: usize,
    /// Time allowed to a request that names none, milliseconds.
    pub deadline_ms: u64,
    /// An executor that says nothing for so long is gone, milliseconds; it has a heartbeat each second.
    pub silence_ms: u64,
    /// Candidates tried for one request.
    pub attempts_max: usize,
    /// Where there are budgets, tokens that an answer may have when the caller gives no bound: what has none cannot be paid for
    /// in advance.
    pub output_tokens_when_budgeted: u32,
    /// How long after a request's deadline the money for it stays set aside when nothing more is heard of it, milliseconds; then it
    /// is charged in full.
    pub last_word_ms: u64,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7071)),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            api_keys: Vec::new(),
            keys_required: false,
            body_bytes_max: 8 << 20,
            requests_max: 1_024,
            connections_max: 1_024,
            deadline_ms: 300_000,
            silence_ms: 2_500,
            attempts_max: 4,
            output_tokens_when_budgeted: 4_096,
            last_word_ms: 60_000,
        }
    }
}

/// A value out of its range.
#[derive(Debug, thiserror::Error)]
#[error("request-coordinator.{key} is {value}, expected {expected}")]
pub struct OutOfRange {
    key: &'static str,
    value: u128,
    expected: &'static str,
}

impl Section {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The key, its value and what was expected.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let check = |key, value: u128, low: u128, high: u128, expected| {
            if (low..=high).contains(&value) { Ok(()) } else { Err(OutOfRange { key, value, expected }) }
        };
        check("body_bytes_max", self.body_bytes_max as u128, 1_024, 64 << 20, "1024 to 67108864")?;
        check("requests_max", self.requests_max as u128, 1, 100_000, "1 to 100000")?;
        check("connections_max", self.connections_max as u128, 1, 100_000, "1 to 100000")?;
        check("deadline_ms", self.deadline_ms.into(), 100, 86_400_000, "100 to 86400000")?;
        check(
            "silence_ms",
            self.silence_ms.into(),
            1_500,
            600_000,
            "1500 to 600000 (heartbeats come each 1000)",
        )?;
        check("attempts_max", self.attempts_max as u128, 1, 16, "1 to 16")?;
        let output = self.output_tokens_when_budgeted.into();
        check("output_tokens_when_budgeted", output, 1, 1_000_000, "1 to 1000000")?;
        check("last_word_ms", self.last_word_ms.into(), 1_000, 3_600_000, "1000 to 3600000")
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            deadline: Duration::from_millis(self.deadline_ms),
            silence: Duration::from_millis(self.silence_ms),
            attempts: self.attempts_max,
            output_when_budgeted: self.output_tokens_when_budgeted,
            last_word: Duration::from_millis(self.last_word_ms),
        }
    }
}
