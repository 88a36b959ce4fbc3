//! What the server is told to do.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Garbage;

/// Behaviour, in JSON. Everything absent is as a healthy provider does it; unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// HTTP status; 400 and above answer an error in OpenAI's shape.
    pub status: Option<u16>,
    /// `Retry-After` header: seconds, or any text such as an HTTP date.
    pub retry_after: Option<RetryAfter>,
    /// Sent in place of the answer: a string as it is, anything else as JSON.
    pub body: Option<Value>,
    /// Silence before the status line, in milliseconds.
    pub delay_before_headers_ms: u64,
    /// Silence between two pieces of a stream, in milliseconds.
    pub chunk_delay_ms: u64,
    /// Pieces of text of a reply; a request's own `max_tokens` still cuts it.
    pub chunks: usize,
    /// Part of the prompt that is reported as read from the provider's cache, in tokens.
    pub cached_tokens: u64,
    /// The connection breaks after so many bytes of the body.
    pub cut_after_bytes: Option<usize>,
    /// How the stream, or the body, is malformed.
    pub garbage: Option<Garbage>,
    /// Where it falls silent for good, with the connection open.
    pub hang: Option<Hang>,
    /// Share of the requests that the script applies to, above 0 and up to 1, spread evenly (every second one at 0.5).
    pub fail_rate: f64,
    /// The script applies to so many requests, after which everything is well again; absent: until it is replaced.
    pub next_n: Option<u64>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            status: None,
            retry_after: None,
            body: None,
            delay_before_headers_ms: 0,
            chunk_delay_ms: 0,
            chunks: 8,
            cached_tokens: 0,
            cut_after_bytes: None,
            garbage: None,
            hang: None,
            fail_rate: 1.0,
            next_n: None,
        }
    }
}

/// Where it falls silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hang {
    /// The request is read and nothing comes back.
    BeforeHeaders,
    /// Half of the pieces of a stream come.
    MidStream,
}

/// A `Retry-After`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RetryAfter {
    /// Whole seconds.
    Seconds(u64),
    /// An HTTP date, or nonsense.
    Text(String),
}

impl std::fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A script that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// Outside what HTTP has.
    #[error("status is {0}, expected 200 to 599")]
    Status(u16),
    /// Not a share.
    #[error("fail_rate is {0}, expected above 0 and up to 1")]
    FailRate(f64),
}

impl Script {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A field is outside its range.
    pub fn validated(self) -> Result<Self, Invalid> {
        if let Some(status) = self.status.filter(|status| !(200..600).contains(status)) {
            return Err(Invalid::Status(status));
        }
        if !(self.fail_rate > 0.0 && self.fail_rate <= 1.0) {
            return Err(Invalid::FailRate(self.fail_rate));
        }
        Ok(self)
    }
}

/// Chooses what each request gets.
#[derive(Debug)]
pub(super) struct Director {
    healthy: Script,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    script: Script,
    left: Option<u64>,
    /// Share that has built up since the script last applied.
    due: f64,
}

impl Director {
    pub(super) fn new(healthy: Script) -> Self {
        Self { healthy, current: None }
    }

    pub(super) fn replace(&mut self, script: Option<Script>) {
        self.current = script.map(|script| Current { left: script.next_n, script, due: 0.0 });
    }

    /// The script of the next request, and whether it is the one that the server was started with.
    pub(super) fn next(&mut self) -> (&Script, bool) {
        let Some(current) = self.current.as_mut().filter(|current| current.left != Some(0)) else {
            return (&self.healthy, true);
        };
        current.due += current.script.fail_rate;
        // Sums of a share such as 0.1 fall short of 1 by rounding.
        if current.due < 1.0 - 1e-9 {
            return (&self.healthy, true);
        }
        current.due -= 1.0;
        current.left = current.left.map(|left| left.saturating_sub(1));
        (&current.script, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(script: Script, count: usize) -> Vec<u16> {
        let mut director = Director::new(Script::default());
        director.replace(Some(script));
        (0..count).map(|_| director.next().0.status.unwrap_or(200)).collect()
    }

    #[test]
    fn a_script_for_two_requests_leaves_the_third_alone() {
        let script = Script { status: Some(500), next_n: Some(2), ..Script::default() };
        assert_eq!(statuses(script, 4), [500, 500, 200, 200]);
    }

    #[test]
    fn a_fail_rate_is_spread_evenly() {
        let script = Script { status: Some(500), fail_rate: 0.5, ..Script::default() };
        assert_eq!(statuses(script, 4), [200, 500, 200, 500]);
        let tenth = Script { status: Some(500), fail_rate: 0.1, ..Script::default() };
        assert_eq!(statuses(tenth, 100).iter().filter(|status| **status == 500).count(), 10);
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        let status = Script { status: Some(99), ..Script::default() };
        assert_eq!(status.validated(), Err(Invalid::Status(99)));
        for rate in [0.0, 1.1, -1.0] {
            let script = Script { fail_rate: rate, ..Script::default() };
            assert_eq!(script.validated(), Err(Invalid::FailRate(rate)));
        }
    }
}
