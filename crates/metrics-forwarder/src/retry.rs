//! What follows from the hub's answer: delivered, try again after a while, or give the samples up.
//!
//! Pure: time and randomness are arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::series::UnixMillis;

#[cfg(test)]
mod tests;

/// What came back for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP answer.
    Status {
        /// Its code.
        code: u16,
        /// Its `Retry-After` header, as it was written.
        retry_after: Option<String>,
    },
    /// No answer: refused, reset, or too late.
    Silence,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The hub has the samples.
    Delivered,
    /// The hub cannot take them now. Wait at least this long, if it said so.
    Retry {
        /// From `Retry-After`.
        not_before: Option<Duration>,
    },
    /// The hub does not know our token.
    Unauthorized,
    /// The hub will not take a body of this size.
    TooLarge,
    /// The hub will never take them. By the specification they must not be sent again.
    Rejected,
}

/// Longest wait that a `Retry-After` can cause: a hub with a wrong clock must not stop the stream for a day.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Judges an answer by <https://prometheus.io/docs/specs/prw/remote_write_spec/>: 2xx delivered, 5xx and 429 again, the
/// rest never.
#[must_use]
pub fn judge(answer: &Answer, now: UnixMillis) -> Verdict {
    let Answer::Status { code, retry_after } = answer else { return Verdict::Retry { not_before: None } };
    match code {
        200..=299 => Verdict::Delivered,
        401 | 403 => Verdict::Unauthorized,
        413 => Verdict::TooLarge,
        429 | 500..=599 => {
            Verdict::Retry { not_before: retry_after.as_deref().and_then(|value| wait(value, now)) }
        }
        _ => Verdict::Rejected,
    }
}

/// `Retry-After` is whole seconds or an HTTP date (RFC 9110, section 10.2.3). Anything else is as if it were absent.
fn wait(value: &str, now: UnixMillis) -> Option<Duration> {
    let value = value.trim();
    let wait = if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        // More digits than a u64 holds are a long time, too.
        value.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let date: SystemTime = httpdate::parse_http_date(value).ok()?;
        let since_epoch = Duration::from_millis(u64::try_from(now.get()).unwrap_or(0));
        date.duration_since(UNIX_EPOCH + since_epoch).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Waits between attempts: doubling, with jitter, so that many senders don't return together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// Between any two.
    pub max: Duration,
}

impl Backoff {
    /// How long to wait after `failures` failures in a row (at least 1). `jitter` is from 0 to 1 and chooses within the
    /// upper half, so that there is always some wait.
    #[must_use]
    pub fn delay(self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.max);
        full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}
