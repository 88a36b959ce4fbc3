//! What the server is told to do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::Finish;
use super::{Garbage, Trouble};

/// Behaviour, in JSON. Everything absent is as a healthy provider does it; unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// HTTP status; 400 and above answer an error in the format's shape.
    pub status: Option<u16>,
    /// The error to answer with, in the format's words and, unless `status` is there, with the format's status for it.
    pub error: Option<Trouble>,
    /// Further headers of the answer.
    pub headers: BTreeMap<String, String>,
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
    /// What the model says in place of the echo.
    pub say: Option<Say>,
    /// Part of the prompt that is reported as read from the provider's cache, in tokens.
    pub cached_tokens: u64,
    /// Part of the prompt that is reported as written to the provider's cache, in tokens.
    pub cache_write_tokens: u64,
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
            error: None,
            headers: BTreeMap::new(),
            retry_after: None,
            body: None,
            delay_before_headers_ms: 0,
            chunk_delay_ms: 0,
            chunks: 8,
            say: None,
            cache_write_tokens: 0,
            cached_tokens: 0,
            cut_after_bytes: None,
            garbage: None,
            hang: None,
            fail_rate: 1.0,
            next_n: None,
        }
    }
}

/// What the model says; absent parts are not said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Say {
    /// Its reasoning, as far as the format shows it. A piece, and a token, for each word.
    pub reasoning: String,
    /// The text; absent and without calls: the echo. A piece, and a token, for each word.
    pub text: Option<String>,
    /// Tools it calls, all at once.
    pub calls: Vec<Call>,
    /// Why it ends; absent: what follows from the rest.
    pub finish: Option<Finish>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// Its arguments, a JSON object.
    pub arguments: Value,
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

#[cfg(test)]
mod tests {
    use super::*;

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
