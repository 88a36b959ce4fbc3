//! What providers say of the limits of a key in the headers of every answer.
//!
//! Two families are in use: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` (OpenAI, Groq and most compatible
//! servers), whose resets are durations such as `1m6.5s`, and `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`,
//! whose resets are dates of RFC 3339. Each form of a reset is understood in either family. A limit without a reset (Azure)
//! says too little to act on.

use std::time::Duration;

use domain::resilience::key_ring::{Left, Seen};
use reqwest::header::HeaderMap;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Numbers from here on are moments (seconds since 1970), below they are durations.
const MOMENT_MIN: f64 = 1e9;
/// Numbers from here on are moments in milliseconds.
const MOMENT_MS_MIN: f64 = 1e12;

/// Headers of one limit: what is left, the whole of it, when it is whole again.
type Names = [&'static str; 3];

const REQUESTS: [Names; 2] = [
    ["x-ratelimit-remaining-requests", "x-ratelimit-limit-requests", "x-ratelimit-reset-requests"],
    [
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-reset",
    ],
];
const TOKENS: [Names; 3] = [
    ["x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens", "x-ratelimit-reset-tokens"],
    [
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-reset",
    ],
    [
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-reset",
    ],
];

/// The limits that the headers name.
pub(crate) fn seen(headers: &HeaderMap, now_unix_ms: u64) -> Seen {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<u64>().ok();
    let left = |[remaining, limit, whole]: &Names| {
        let remaining = number(remaining)?;
        Some(Left { remaining, limit: number(limit), reset: reset(text(whole)?, now_unix_ms)? })
    };
    Seen { requests: REQUESTS.iter().find_map(left), tokens: TOKENS.iter().find_map(left) }
}

/// The time until a reset: a duration (`6m0s`, `17ms`, `1.5` seconds) or a moment (RFC 3339, seconds or milliseconds since
/// 1970). A moment that has passed is now.
fn reset(text: &str, now_unix_ms: u64) -> Option<Duration> {
    let now = Duration::from_millis(now_unix_ms);
    if let Ok(number) = text.parse::<f64>() {
        let seconds = if number >= MOMENT_MS_MIN { number / 1_000.0 } else { number };
        let time = Duration::try_from_secs_f64(seconds).ok()?;
        return Some(if number >= MOMENT_MIN { time.saturating_sub(now) } else { time });
    }
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        let millis = moment.unix_timestamp_nanos() / 1_000_000;
        return Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)).saturating_sub(now));
    }
    duration(text)
}

/// A duration as Go writes it: `1h2m3.5s`, `17ms`.
fn duration(mut text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    while !text.is_empty() {
        let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = text.split_at_checked(unit_at)?;
        let number: f64 = number.parse().ok()?;
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at_checked(unit_end)?;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        text = rest;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    /// Thu, 01 Jan 2026 00:00:00 GMT
    const NOW: u64 = 1_767_225_600_000;

    fn of(headers: &[(&str, &str)]) -> Seen {
        let entry = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        seen(&headers.iter().map(entry).collect(), NOW)
    }

    #[test]
    fn openais_and_groqs_headers_are_read() {
        let seen = of(&[
            ("x-ratelimit-limit-requests", "14400"),
            ("x-ratelimit-remaining-requests", "14370"),
            ("x-ratelimit-reset-requests", "2m59.56s"),
            ("x-ratelimit-limit-tokens", "18000"),
            ("x-ratelimit-remaining-tokens", "17997"),
            ("x-ratelimit-reset-tokens", "7.66s"),
        ]);
        let requests = Left { remaining: 14_370, limit: Some(14_400), reset: Duration::from_millis(179_560) };
        let tokens = Left { remaining: 17_997, limit: Some(18_000), reset: Duration::from_millis(7_660) };
        assert_eq!(seen, Seen { requests: Some(requests), tokens: Some(tokens) });
    }

    #[test]
    fn anthropics_headers_are_read() {
        let seen = of(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:30Z"),
            ("anthropic-ratelimit-input-tokens-limit", "50000"),
            ("anthropic-ratelimit-input-tokens-remaining", "49000"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-01-01T01:00:01+01:00"),
        ]);
        assert_eq!(
            seen.requests,
            Some(Left { remaining: 0, limit: Some(50), reset: Duration::from_secs(30) })
        );
        assert_eq!(seen.tokens.unwrap().reset, Duration::from_secs(1));
    }

    #[test]
    fn a_reset_is_read_in_each_of_its_forms() {
        for (text, seconds) in [
            ("1s", 1.0),
            ("6m0s", 360.0),
            ("1h1m1s", 3_661.0),
            ("17ms", 0.017),
            ("12", 12.0),
            ("0.5", 0.5),
            ("1767225610", 10.0),
            ("1767225610000", 10.0),
            ("2025-12-31T23:00:00Z", 0.0),
        ] {
            assert_eq!(reset(text, NOW), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        for nonsense in ["", "soon", "-1", "1x", "s", "1.2.3s", "NaN", "inf", "1e400s"] {
            assert!(reset(nonsense, NOW).is_none_or(|reset| reset.is_zero()), "{nonsense}");
        }
    }

    #[test]
    fn a_limit_without_its_reset_is_not_acted_on() {
        assert_eq!(of(&[("x-ratelimit-remaining-requests", "0")]), Seen::default());
        assert_eq!(of(&[]), Seen::default());
    }
}
