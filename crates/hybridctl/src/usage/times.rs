//! Moments as people write them.

use anyhow::{Context as _, bail};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, Time};

/// Unix milliseconds of a day (UTC), a time (RFC 3339), or so long before now (`30m`, `24h`, `7d`).
pub(super) fn unix_ms(text: &str, now_unix_ms: u64) -> anyhow::Result<u64> {
    if let Some(ago) = span_ms(text) {
        return Ok(now_unix_ms.saturating_sub(ago));
    }
    moment(text).with_context(|| {
        format!("{text:?} is no time, expected a day (2026-01-31), a time (2026-01-31T12:00:00Z) or how long ago (24h)")
    })
}

/// The same of a moment to come: a span is counted from now on.
pub(crate) fn ahead_unix_ms(text: &str, now_unix_ms: u64) -> anyhow::Result<u64> {
    if let Some(span) = span_ms(text) {
        return Ok(now_unix_ms.saturating_add(span));
    }
    moment(text).with_context(|| {
        format!("{text:?} is no time, expected a day (2026-01-31), a time (2026-01-31T12:00:00Z) or how long from now (30d)")
    })
}

fn moment(text: &str) -> anyhow::Result<u64> {
    let day = Date::parse(text, format_description!("[year]-[month]-[day]"));
    let moment = match day {
        Ok(day) => day.with_time(Time::MIDNIGHT).assume_utc(),
        Err(_) => OffsetDateTime::parse(text, &Rfc3339)?,
    };
    let ms = moment.unix_timestamp_nanos() / 1_000_000;
    if ms < 0 {
        bail!("{text:?} is before 1970");
    }
    u64::try_from(ms).with_context(|| format!("{text:?} is too late"))
}

fn span_ms(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let ms: u64 = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    };
    count.checked_mul(ms)
}

/// `2026-01-31 12:00` in UTC.
pub(crate) fn text(unix_ms: i64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
    let moment = OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1_000)).ok();
    moment.and_then(|moment| moment.format(format).ok()).unwrap_or_else(|| format!("{unix_ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn days_times_and_ages_are_moments() {
        for (text, ms) in [
            ("1970-01-02", 86_400_000),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1970-01-01T00:00:01.500Z", 1_500),
            ("24h", NOW - 86_400_000),
            ("7d", NOW - 7 * 86_400_000),
        ] {
            assert_eq!(unix_ms(text, NOW).unwrap(), ms, "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_named() {
        for bad in ["", "yesterday", "2026-13-01", "1969-12-31", "99999999999999999999d", "h", "-5d"] {
            assert!(unix_ms(bad, NOW).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }

    #[test]
    fn moments_are_shown_in_utc() {
        assert_eq!(text(1_800_000_000_000), "2027-01-15 08:00");
    }
}
