//! The off-peak window: when GPU jobs that nobody waits for may run.

use std::{fmt, time::Duration};

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A part of every day, in minutes since midnight of the owner's local time; it may span midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: u16,
    to: u16,
}

impl Window {
    /// From the minute `from` up to, not with, the minute `to`, both below 1,440 and different from each other.
    #[must_use]
    pub const fn new(from: u16, to: u16) -> Option<Self> {
        if from < DAY && to < DAY && from != to { Some(Self { from, to }) } else { None }
    }

    /// Whether it is open in this minute of the day.
    #[must_use]
    pub const fn contains(self, minute: u16) -> bool {
        let minute = minute % DAY;
        if self.from < self.to {
            self.from <= minute && minute < self.to
        } else {
            self.from <= minute || minute < self.to
        }
    }

    /// From the beginning of this minute until it opens; zero while it is open. A change of the clocks in between is not
    /// counted in.
    #[must_use]
    pub fn opens_in(self, minute: u16) -> Duration {
        if self.contains(minute) {
            return Duration::ZERO;
        }
        let minutes = (self.from + DAY - minute % DAY) % DAY;
        Duration::from_secs(u64::from(minutes) * 60)
    }
}

impl fmt::Display for Window {
    /// `02:00-08:00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, self.to / 60, self.to % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_open_from_its_first_minute_to_before_its_last() {
        let night = Window::new(2 * 60, 8 * 60).unwrap();
        let open: Vec<u16> =
            [0, 119, 120, 479, 480, 1439].into_iter().filter(|at| night.contains(*at)).collect();
        assert_eq!(open, [120, 479]);
        let late = Window::new(22 * 60, 60).unwrap();
        let open: Vec<u16> =
            [0, 59, 60, 1319, 1320, 1439].into_iter().filter(|at| late.contains(*at)).collect();
        assert_eq!(open, [0, 59, 1320, 1439]);
        assert_eq!((Window::new(5, 5), Window::new(0, DAY)), (None, None));
    }

    #[test]
    fn the_wait_ends_when_it_opens() {
        for window in [Window::new(120, 480).unwrap(), Window::new(1320, 60).unwrap()] {
            for minute in 0..DAY {
                let minutes = u16::try_from(window.opens_in(minute).as_secs() / 60).unwrap();
                assert!(window.contains((minute + minutes) % DAY), "{window} at {minute}");
                assert_eq!(minutes == 0, window.contains(minute));
                assert!(minutes == 0 || !window.contains((minute + minutes - 1) % DAY));
            }
        }
    }
}
