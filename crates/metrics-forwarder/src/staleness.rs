//! Which series of a target have ended since its last scrape.
//!
//! Without a marker a query goes on showing the last value of a series for five minutes after it ended. A series that
//! carries its own timestamps is left out, as in Prometheus: its target passes on what others measured, and a marker at
//! the time of the scrape could be later than the next real sample.

use std::collections::HashSet;

use crate::series::Labels;

/// The series of a target that had a value at its last scrape.
#[derive(Debug, Default)]
pub struct Staleness {
    live: HashSet<Labels>,
}

impl Staleness {
    /// Takes in the series of a new scrape (none, when the target failed) and gives back those that have ended, in the
    /// order of their labels.
    pub fn observe(&mut self, current: impl IntoIterator<Item = Labels>) -> Vec<Labels> {
        let current: HashSet<Labels> = current.into_iter().collect();
        let mut ended: Vec<_> = self.live.difference(&current).cloned().collect();
        ended.sort_unstable();
        self.live = current;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(name: &str) -> Labels {
        Labels::new(vec![("__name__".to_owned(), name.to_owned())]).unwrap()
    }

    #[test]
    fn a_series_ends_once_and_may_come_back() {
        let mut staleness = Staleness::default();
        assert!(staleness.observe([series("a"), series("b")]).is_empty());
        assert_eq!(staleness.observe([series("b")]), [series("a")]);
        assert!(staleness.observe([series("a"), series("b")]).is_empty());
        assert_eq!(staleness.observe([]), [series("a"), series("b")]);
        assert!(staleness.observe([]).is_empty());
    }

    proptest! {
        #[test]
        fn as_many_series_end_as_were_started(scrapes in prop::collection::vec(
            prop::collection::hash_set("[a-e]", 0..5), 0..12)
        ) {
            let mut staleness = Staleness::default();
            let mut live = HashSet::new();
            for scrape in scrapes {
                let current: HashSet<_> = scrape.iter().map(|name| series(name)).collect();
                let ended: HashSet<_> = staleness.observe(current.iter().cloned()).into_iter().collect();
                prop_assert!(ended.is_disjoint(&current));
                let union: HashSet<_> = ended.union(&current).cloned().collect();
                prop_assert!(live.is_subset(&union));
                live = current;
            }
        }
    }
}
