//! How a virtual key stands, in OpenAI's headers
//! (<https://platform.openai.com/docs/guides/rate-limits>, "Rate limits in headers").

use std::time::Duration;

use axum::http::{
    HeaderMap, HeaderValue,
    header::{HeaderName, InvalidHeaderValue},
};
use domain::resilience::rate_limit::Left;

use crate::admission::Standing;

/// Limit, remaining and reset of requests, then of tokens.
const NAMES: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];

/// Sets the headers of the limits that there are.
pub(super) fn tell(headers: &mut HeaderMap, standing: &Standing) {
    for (names, left) in NAMES.into_iter().zip([standing.requests, standing.tokens]) {
        let Some(left) = left else { continue };
        for (name, value) in names.into_iter().zip(values(left)) {
            if let Ok(value) = value {
                headers.insert(name, value);
            }
        }
    }
}

fn values(left: Left) -> [Result<HeaderValue, InvalidHeaderValue>; 3] {
    [
        Ok(HeaderValue::from(left.limit)),
        Ok(HeaderValue::from(left.left)),
        HeaderValue::from_str(&duration(left.whole_in)),
    ]
}

/// As in `1m0.5s`, `20ms`, `0s`.
fn duration(time: Duration) -> String {
    let (minutes, seconds, millis) = (time.as_secs() / 60, time.as_secs() % 60, time.subsec_millis());
    match (minutes, seconds, millis) {
        (0, 0, 0) => "0s".to_owned(),
        (0, 0, millis) => format!("{millis}ms"),
        (minutes, seconds, millis) => {
            let before = if minutes == 0 { String::new() } else { format!("{minutes}m") };
            let decimals = format!(".{millis:03}");
            format!("{before}{seconds}{}s", decimals.trim_end_matches('0').trim_end_matches('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        for (millis, text) in
            [(0, "0s"), (20, "20ms"), (1_000, "1s"), (6_500, "6.5s"), (60_000, "1m0s"), (61_050, "1m1.05s")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn only_limits_that_there_are_have_headers() {
        let mut headers = HeaderMap::new();
        let left = Left { limit: 60, left: 59, whole_in: Duration::from_secs(61) };
        tell(&mut headers, &Standing { requests: Some(left), tokens: None });
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(text("x-ratelimit-limit-requests"), Some("60"));
        assert_eq!(text("x-ratelimit-remaining-requests"), Some("59"));
        assert_eq!(text("x-ratelimit-reset-requests"), Some("1m1s"));
        assert_eq!(headers.len(), 3);
    }
}
