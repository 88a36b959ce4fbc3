//! Room that other programs took from leases, and may take again.
//!
//! A game that changes its level frees gigabytes for some seconds. A model that came back into that room would be sent away
//! at once, and again at the next level. So for a while after leases had to drain for other programs, new leases get only
//! what those programs have left free during all of the last [`super::Policy::return_after`].

use std::{collections::VecDeque, time::Duration};

use crate::units::Bytes;

/// What a lease that ended may still hold for so long is not taken for a foreign program's.
const FREED_WITHIN: Duration = Duration::from_secs(5);
/// Looks that are remembered; several on end with the same use are one.
const SEEN_MAX: usize = 256;

/// What other programs used lately, on one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Returning {
    since: Duration,
    /// A lease ended there.
    ended: Option<Duration>,
    /// Falling: an earlier look counts only while it was above all later ones.
    seen: VecDeque<(Duration, Bytes)>,
}

impl Returning {
    /// From the moment at which leases had to drain. The time starts anew whenever others take more.
    pub(super) fn new(now: Duration) -> Self {
        Self { since: now, ended: None, seen: VecDeque::new() }
    }

    /// Another drain: the time starts anew.
    pub(super) fn begin_anew(&mut self, now: Duration) {
        self.since = now;
    }

    /// A lease ended there: until its memory is free, it looks like that of others.
    pub(super) fn lease_ended(&mut self, now: Duration) {
        self.ended = Some(now);
    }

    /// Takes a look. Returns whether it still matters.
    pub(super) fn look(&mut self, others: Bytes, now: Duration, window: Duration) -> bool {
        let freeing = self.ended.is_some_and(|ended| now.saturating_sub(ended) < FREED_WITHIN);
        let before = self.seen.back().map(|(_, seen)| *seen);
        let others = before.filter(|before| freeing && *before < others).unwrap_or(others);
        if before.is_some_and(|before| before < others) {
            self.since = now;
        }
        while self.seen.back().is_some_and(|(_, seen)| *seen <= others) {
            self.seen.pop_back();
        }
        if self.seen.len() == SEEN_MAX {
            // The second oldest takes the place of the oldest, which it is below: room comes back a little early.
            self.seen.pop_front();
        }
        self.seen.push_back((now, others));
        while self.seen.len() > 1
            && self.seen.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= window)
        {
            self.seen.pop_front();
        }
        now.saturating_sub(self.since) < window || self.seen.len() > 1
    }

    /// The most that was used, and in how long it is forgotten if it does not come again.
    pub(super) fn most(&self, now: Duration, window: Duration) -> (Bytes, Duration) {
        self.seen
            .front()
            .map_or((Bytes::ZERO, Duration::ZERO), |(at, most)| (*most, (*at + window).saturating_sub(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(20);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_most_of_the_last_while_counts_and_is_then_forgotten() {
        let mut returning = Returning::new(at(0));
        for (second, used) in [(0, 12), (1, 2), (2, 5), (3, 1)] {
            assert!(returning.look(Bytes::new(used), at(second), WINDOW));
            assert_eq!(returning.most(at(second), WINDOW).0, Bytes::new(12));
        }
        assert_eq!(returning.most(at(3), WINDOW).1, at(17));
        assert!(returning.look(Bytes::new(1), at(20), WINDOW));
        assert_eq!(returning.most(at(20), WINDOW).0, Bytes::new(5));
        assert!(!returning.look(Bytes::new(1), at(22), WINDOW));
    }

    #[test]
    fn memory_that_a_lease_leaves_behind_for_a_moment_is_not_the_programs() {
        let mut returning = Returning::new(at(0));
        returning.look(Bytes::new(12), at(0), WINDOW);
        returning.lease_ended(at(1));
        returning.look(Bytes::new(24), at(1), WINDOW);
        assert_eq!(returning.most(at(1), WINDOW).0, Bytes::new(12));
        returning.look(Bytes::new(24), at(6), WINDOW);
        assert_eq!(returning.most(at(6), WINDOW).0, Bytes::new(24), "it is still there, so it is somebody's");
    }

    #[test]
    fn a_program_that_comes_and_goes_is_never_forgotten() {
        let mut returning = Returning::new(at(0));
        for second in 0..200 {
            let used = if second % 10 == 0 { 12 } else { 2 };
            assert!(returning.look(Bytes::new(used), at(second), WINDOW));
            assert_eq!(returning.most(at(second), WINDOW).0, Bytes::new(12), "at {second} s");
        }
    }
}
