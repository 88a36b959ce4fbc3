//! Query strings, checked: an unknown or unusable parameter is an error that names it.

use axum::extract::RawQuery;

use crate::{http::error::ApiError, ledger::Range};

const DAY_MS: i64 = 86_400_000;
/// Last time that is taken for one: the year 2200, in Unix milliseconds.
const UNIX_MS_MAX: i64 = 7_258_118_400_000;

/// The UTC day that holds a time.
pub(crate) fn day_of(unix_ms: u64) -> Range {
    let now = i64::try_from(unix_ms).unwrap_or(UNIX_MS_MAX).min(UNIX_MS_MAX);
    let from_unix_ms = now - now.rem_euclid(DAY_MS);
    Range { from_unix_ms, to_unix_ms: from_unix_ms + DAY_MS }
}

pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn new(query: RawQuery, known: &[&str]) -> Result<Self, ApiError> {
        let RawQuery(query) = query;
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes()).into_owned().collect();
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                Err(ApiError::invalid("parameter", name, &format!("one of {}", known.join(", "))))
            }
            None => Ok(Self(pairs)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn count(&self, name: &'static str, default: u32, max: u32) -> Result<u32, ApiError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let count = text.parse().ok().filter(|count| (1..=max).contains(count));
        count.ok_or_else(|| ApiError::invalid(name, text, &format!("a number from 1 to {max}")))
    }

    fn time(&self, name: &'static str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let time = text.parse().ok().filter(|time| (0..=UNIX_MS_MAX).contains(time));
        time.map(Some).ok_or_else(|| {
            ApiError::invalid(name, text, "Unix milliseconds, from 0 to 7258118400000 (the year 2200)")
        })
    }

    /// `from` and `to`; without them today in UTC. With `from` alone it reaches to the end of today.
    pub(super) fn range(&self, now_unix_ms: u64) -> Result<Range, ApiError> {
        let today = day_of(now_unix_ms);
        let to_unix_ms = self.time("to")?.unwrap_or(today.to_unix_ms);
        let from_unix_ms = self.time("from")?.unwrap_or(today.from_unix_ms.min(to_unix_ms));
        if from_unix_ms > to_unix_ms {
            let expected = format!("at least from, which is {from_unix_ms}");
            return Err(ApiError::invalid("to", &to_unix_ms.to_string(), &expected));
        }
        Ok(Range { from_unix_ms, to_unix_ms })
    }
}
