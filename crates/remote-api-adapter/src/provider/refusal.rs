//! What a provider's error means.
//!
//! Providers agree on little beyond HTTP statuses, and several send errors with status 200 in a stream. What they say is
//! brought into [`Refusal`] by each provider's folder; the meaning is decided here, once.

use std::time::Duration;

use domain::fault::{Code, Fault, Origin};

use super::Failure;

/// Most characters of a provider's text that are passed on.
const TEXT_MAX: usize = 500;
/// Most characters of a provider's code or field name.
const NAME_MAX: usize = 64;
/// Shorter words are no keys.
const KEY_MIN: usize = 8;
/// How keys of the providers in use begin.
const KEY_PREFIXES: [&str; 12] =
    ["sk-", "sk_", "pk-", "gsk_", "xai-", "hf_", "AIza", "AQ.", "ya29.", "AKIA", "ASIA", "eyJ"];

/// An error as a provider tells it. Empty = not said.
#[derive(Debug, Default)]
pub(crate) struct Refusal<'a> {
    /// HTTP status, also where the provider repeats it inside a stream.
    pub(crate) status: Option<u16>,
    pub(crate) message: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) code: &'a str,
    /// The request's field that is wrong.
    pub(crate) param: &'a str,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal<'_> {
    /// The fault for the caller. `provider` is its configured name, `key` what must not be repeated.
    pub(crate) fn into_failure(self, provider: &str, key: Option<&str>) -> Failure {
        let (code, origin, retryable, transient) = self.meaning();
        let named = name(if self.code.is_empty() { self.kind } else { self.code }, key);
        let status = self.status.map(|status| format!(" {status}")).unwrap_or_default();
        let text = scrub(self.message, key);
        let text = if text.is_empty() { "no explanation" } else { &text };
        let mut fault = Fault::new(code, origin, retryable, format!("{provider} answered{status}: {text}"));
        if matches!(code, Code::InvalidArgument | Code::Unsupported) {
            fault.field = name(self.param, key);
        }
        fault.provider_code = match self.status {
            Some(status) if named.is_empty() => status.to_string(),
            _ => named,
        };
        fault.retry_after = self.retry_after;
        Failure { fault, transient }
    }

    /// Code, origin, whether it may succeed later or elsewhere, whether it may succeed here in a moment.
    fn meaning(&self) -> (Code, Origin, bool, bool) {
        use Origin::{Caller, Provider};
        let is = |word: &str| self.code.eq_ignore_ascii_case(word) || self.kind.eq_ignore_ascii_case(word);
        let text = self.message.to_ascii_lowercase();
        let status = self.status.unwrap_or(0);

        // Out of credit comes as 402, as 429 (OpenAI) or as 400 (Anthropic); waiting does not help.
        let credit = ["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"];
        let broke = ["credit balance is too low", "prepayment credits are depleted"];
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
        if status == 402 || credit.into_iter().any(is) || says(&broke) {
            return (Code::UpstreamAuth, Provider, true, false);
        }
        // Google refuses a key with 400, and an account (its country, its billing) with a precondition.
        if ["API_KEY_INVALID", "FAILED_PRECONDITION"].into_iter().any(is) {
            return (Code::UpstreamAuth, Provider, true, false);
        }
        let context = ["context_length_exceeded", "exceed_context_size_error"];
        let too_long = [
            "maximum context length",
            "exceeds the maximum number of tokens allowed",
            "reduce the input token count",
        ];
        if context.into_iter().any(is) || (status != 429 && says(&too_long)) {
            return (Code::ContextLengthExceeded, Caller, false, false);
        }
        if ["unsupported_parameter", "unsupported_value"].into_iter().any(is) {
            return (Code::Unsupported, Caller, true, false);
        }
        // Groq: the model's own output did not fit the tools or the schema; drawn again it may
        if ["tool_use_failed", "json_validate_failed"].into_iter().any(is) {
            return (Code::Upstream, Provider, true, true);
        }
        // Groq: larger than what the account may send in a minute, which other accounts may
        if status == 413 && is("rate_limit_exceeded") {
            return (Code::RateLimited, Provider, true, false);
        }
        match status {
            401 | 403 => (Code::UpstreamAuth, Provider, true, false),
            404 => (Code::NotFound, Provider, true, false),
            408 | 504 => (Code::Timeout, Provider, true, true),
            413 => (Code::PayloadTooLarge, Caller, false, false),
            // 498 is Groq's: no room in the flex tier
            429 | 498 => (Code::RateLimited, Provider, true, true),
            400 | 422 => (Code::InvalidArgument, Caller, false, false),
            // told by the server that it will never work
            501 | 505 => (Code::Upstream, Provider, true, false),
            500.. => (Code::Upstream, Provider, true, true),
            0 => self.meaning_by_name(),
            // a redirect is not followed; other statuses mean a wrong base URL
            _ => (Code::Upstream, Provider, true, false),
        }
    }

    fn meaning_by_name(&self) -> (Code, Origin, bool, bool) {
        let is = |word: &str| self.code.eq_ignore_ascii_case(word) || self.kind.eq_ignore_ascii_case(word);
        if is("rate_limit_exceeded") || is("rate_limit_error") {
            (Code::RateLimited, Origin::Provider, true, true)
        } else if is("invalid_api_key") || is("authentication_error") || is("permission_error") {
            (Code::UpstreamAuth, Origin::Provider, true, false)
        } else if is("model_not_found") || is("not_found_error") {
            (Code::NotFound, Origin::Provider, true, false)
        } else if is("invalid_request_error") || is("BadRequestError") || is("invalid_prompt") {
            (Code::InvalidArgument, Origin::Caller, false, false)
        } else {
            (Code::Upstream, Origin::Provider, true, true)
        }
    }
}

/// A word that may stand in a log and a label: letters, digits, `_`, `-`, `.`, `[`, `]`; `redacted` for one that holds a key.
fn name(text: &str, key: Option<&str>) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
    let named: String = text.chars().filter(plain).collect();
    // what the filter leaves of a key is still most of it
    let key: String = key.unwrap_or_default().chars().filter(plain).collect();
    if looks_like_key(&named) || (!key.is_empty() && named.contains(&key)) {
        return "redacted".to_owned();
    }
    named.chars().take(NAME_MAX).collect()
}

/// A provider's text without keys and control characters, at most [`TEXT_MAX`] characters long.
pub(crate) fn scrub(text: &str, key: Option<&str>) -> String {
    // cut first, generously: a provider's page of HTML is not worth the work
    let start: String = text.chars().take(16 * TEXT_MAX).collect();
    let without_key = match key {
        Some(key) if !key.is_empty() => start.replace(key, "[redacted]"),
        _ => start,
    };
    let mut out = String::new();
    let mut bearer = false;
    for word in
        without_key.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        let secret = bearer
            || word.split(['"', '\'', ':', '=', ',', '(', ')', '<', '>', '`', '/']).any(looks_like_key);
        out.push_str(if secret { "[redacted]" } else { word });
        bearer = word.to_ascii_lowercase().ends_with("bearer");
    }
    if out.chars().count() > TEXT_MAX {
        out = out.chars().take(TEXT_MAX - 1).chain(['…']).collect();
    }
    out
}

fn looks_like_key(word: &str) -> bool {
    word.len() >= KEY_MIN && KEY_PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

/// The wait a provider asks for: `retry-after-ms`, else `retry-after` in seconds or as a date (RFC 9110, 10.2.3).
/// A date that has passed asks for none.
pub(crate) fn retry_after(headers: &reqwest::header::HeaderMap, now_unix_ms: u64) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.parse::<u64>().ok()) {
        return Some(Duration::from_millis(millis));
    }
    let asked = text("retry-after")?;
    if let Ok(seconds) = asked.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    // some send fractions of a second
    if let Some(seconds) = asked.parse::<f64>().ok().filter(|seconds| seconds.is_finite()) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = httpdate::parse_http_date(asked).ok()?;
    let since_epoch = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since_epoch.saturating_sub(Duration::from_millis(now_unix_ms)))
}

#[cfg(test)]
mod tests;
