//! Series and samples as the forwarder handles them between the exposition text and remote-write.

use std::fmt;
use std::sync::Arc;

/// Label that holds a series' metric name.
pub const NAME: &str = "__name__";

/// Milliseconds since 1970-01-01T00:00:00Z, as remote-write carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(i64);

impl UnixMillis {
    /// The time with this many milliseconds.
    #[must_use]
    pub const fn new(milliseconds: i64) -> Self {
        Self(milliseconds)
    }

    /// The milliseconds.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// What identifies a series: labels sorted by name, names unique, no empty values, [`NAME`] among them. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(String, String)]>);

impl Labels {
    /// Sorts the labels and drops those with an empty value, which Prometheus holds equal to absent ones.
    ///
    /// # Errors
    /// A name occurs twice.
    pub fn new(mut labels: Vec<(String, String)>) -> Result<Self, DuplicateLabel> {
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort_unstable();
        let twice = labels.iter().zip(labels.iter().skip(1)).find(|(left, right)| left.0 == right.0);
        match twice {
            Some(((name, _), _)) => Err(DuplicateLabel { name: name.clone() }),
            None => Ok(Self(labels.into())),
        }
    }

    /// Name and value of each label, ascending by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Value of a label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self.0.binary_search_by(|(other, _)| other.as_str().cmp(name)).ok()?;
        self.0.get(index).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Two labels of one series have the same name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("label {name:?} occurs twice")]
pub struct DuplicateLabel {
    /// The name.
    pub name: String,
}

/// One value of one series.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The series.
    pub labels: Labels,
    /// The value; NaN in the two bit patterns [`NORMAL_NAN`] and [`STALE_NAN`] only.
    pub value: f64,
    /// When it was true.
    pub timestamp: UnixMillis,
}

/// Bits of the NaN that is a value, as Prometheus writes it (`model/value/value.go`, `NormalNaN`).
pub const NORMAL_NAN: u64 = 0x7ff8_0000_0000_0001;
/// Bits of the NaN that says "this series has ended" (`model/value/value.go`, `StaleNaN`).
pub const STALE_NAN: u64 = 0x7ff0_0000_0000_0002;

/// What a metric family counts, with the numbers of remote-write's `MetricMetadata.MetricType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MetricType {
    /// Not told, or `untyped`.
    #[default]
    Unknown = 0,
    /// Only grows, or starts again from zero.
    Counter = 1,
    /// Goes up and down.
    Gauge = 2,
    /// Counts in cumulative buckets.
    Histogram = 3,
    /// Buckets that go up and down.
    GaugeHistogram = 4,
    /// Quantiles, computed by the target.
    Summary = 5,
    /// Labels that describe something; the value is 1.
    Info = 6,
    /// One of several states.
    StateSet = 7,
}

/// What a target tells about a metric family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Name of the family.
    pub family: String,
    /// Its type.
    pub kind: MetricType,
    /// Its help text; empty when none was given.
    pub help: String,
    /// Its unit; empty when none was given.
    pub unit: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Result<Labels, DuplicateLabel> {
        Labels::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn labels_are_the_same_in_any_order_and_without_empty_ones() {
        let sorted = labels(&[("B", "1"), ("__name__", "up"), ("a", "2")]).unwrap();
        assert_eq!(labels(&[("a", "2"), ("__name__", "up"), ("c", ""), ("B", "1")]).unwrap(), sorted);
        assert_eq!(sorted.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["B", "__name__", "a"]);
        assert_eq!((sorted.get("a"), sorted.get("c")), (Some("2"), None));
    }

    #[test]
    fn a_label_that_occurs_twice_is_refused() {
        assert_eq!(labels(&[("a", "1"), ("a", "2")]), Err(DuplicateLabel { name: "a".to_owned() }));
    }

    #[test]
    fn both_kinds_of_nan_are_nan() {
        assert!(f64::from_bits(NORMAL_NAN).is_nan() && f64::from_bits(STALE_NAN).is_nan());
    }
}
