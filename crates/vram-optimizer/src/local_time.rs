//! The owner's local day, for the off-peak window.

use jiff::{Timestamp, tz::TimeZone};

/// Minutes since midnight, summer time included.
pub(crate) fn minute_of_day(now_unix_ms: u64, zone: &TimeZone) -> u16 {
    let milliseconds = i64::try_from(now_unix_ms).unwrap_or(i64::MAX);
    let now = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    let local = zone.to_datetime(now);
    u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minute_is_that_of_the_zone_in_summer_and_in_winter() {
        let auckland = TimeZone::get("Pacific/Auckland").unwrap();
        // 2026-01-15 13:30 UTC: 02:30 the next day in summer time; 2026-07-15 13:30 UTC: 01:30.
        assert_eq!(minute_of_day(1_768_483_800_000, &auckland), 150);
        assert_eq!(minute_of_day(1_784_122_200_000, &auckland), 90);
        assert_eq!(minute_of_day(0, &TimeZone::UTC), 0);
    }
}
