//! Which events were counted already. A publisher that died sends its last events again, and the stream does not know all of them
//! again: they may come in other groups than the first time.

use std::collections::BTreeMap;

/// Origins (process starts, provider jobs) that are remembered; the one heard of longest ago goes first.
const ORIGINS_MAX: usize = 1_024;
/// Gaps remembered in an origin's numbers; the lowest is closed when there are more.
const RANGES_MAX: usize = 256;
/// How long an origin is remembered after it was last heard of.
const REMEMBERED_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// Numbers of one origin that were counted: inclusive ranges, ascending, with gaps between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// First and last of each.
    pub ranges: Vec<(u64, u64)>,
    /// When the last one came, Unix time in milliseconds.
    pub at_unix_ms: u64,
}

impl Origin {
    /// False where it is in already.
    fn insert(&mut self, number: u64) -> bool {
        let at = self.ranges.partition_point(|(first, _)| *first <= number);
        let before = at.checked_sub(1);
        if before.and_then(|at| self.ranges.get(at)).is_some_and(|(_, last)| *last >= number) {
            return false;
        }
        self.ranges.insert(at, (number, number));
        self.join(at);
        if let Some(before) = before {
            self.join(before);
        }
        if self.ranges.len() > RANGES_MAX
            && let Some((first, _)) = self.ranges.first().copied()
        {
            self.ranges.remove(0);
            if let Some(lowest) = self.ranges.first_mut() {
                lowest.0 = first;
            }
        }
        true
    }

    /// Makes one of a range and the next where no number lies between.
    fn join(&mut self, at: usize) {
        let (Some((_, last)), Some((next, end))) =
            (self.ranges.get(at).copied(), self.ranges.get(at + 1).copied())
        else {
            return;
        };
        if last.checked_add(1) == Some(next) {
            self.ranges.remove(at + 1);
            if let Some(range) = self.ranges.get_mut(at) {
                range.1 = end;
            }
        }
    }
}

/// What was counted, by origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(pub BTreeMap<String, Origin>);

impl Seen {
    /// Whether this event counts: the first time it does. Events without a number always do.
    pub fn first_time(&mut self, origin: &str, number: u64, now_unix_ms: u64) -> bool {
        if origin.is_empty() || number == 0 {
            return true;
        }
        if !self.0.contains_key(origin) {
            self.make_room(now_unix_ms);
        }
        let known = self.0.entry(origin.to_owned()).or_default();
        known.at_unix_ms = known.at_unix_ms.max(now_unix_ms);
        known.insert(number)
    }

    fn make_room(&mut self, now_unix_ms: u64) {
        self.0.retain(|_, origin| origin.at_unix_ms.saturating_add(REMEMBERED_MS) > now_unix_ms);
        if self.0.len() >= ORIGINS_MAX {
            let oldest = self.0.iter().min_by_key(|(_, origin)| origin.at_unix_ms);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.0.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_event_counts_once_and_one_without_a_number_always() {
        let mut seen = Seen::default();
        for (number, first) in [(3, true), (1, true), (3, false), (2, true), (2, false), (1, false)] {
            assert_eq!(seen.first_time("a", number, 5), first, "{number}");
        }
        assert_eq!(seen.0["a"].ranges, [(1, 3)]);
        assert!(seen.first_time("b", 3, 5) && seen.first_time("", 3, 5) && seen.first_time("a", 0, 5));
        assert!(seen.first_time("a", 0, 5));
    }

    #[test]
    fn neither_origins_nor_gaps_grow_without_end() {
        let mut seen = Seen::default();
        for number in 0..2 * ORIGINS_MAX as u64 {
            seen.first_time(&format!("origin-{number}"), 1, number);
            seen.first_time("gaps", 1 + 2 * number, number);
        }
        assert_eq!(seen.0.len(), ORIGINS_MAX);
        assert_eq!(seen.0["gaps"].ranges.len(), RANGES_MAX);
        assert!(!seen.first_time("gaps", 1, 0) && !seen.0.contains_key("origin-0"));
        seen.first_time("new", 1, u64::MAX);
        assert_eq!(seen.0.len(), 1, "what was not heard of for a week is forgotten");
    }

    proptest::proptest! {
        #[test]
        fn ranges_know_what_a_set_knows(numbers in proptest::collection::vec(1u64..60, 0..200)) {
            let (mut seen, mut set) = (Seen::default(), BTreeSet::new());
            for number in numbers {
                proptest::prop_assert_eq!(seen.first_time("a", number, 0), set.insert(number));
            }
            let ranges = seen.0.get("a").map(|origin| origin.ranges.clone()).unwrap_or_default();
            let told: BTreeSet<u64> = ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
            proptest::prop_assert_eq!(told, set);
            proptest::prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
