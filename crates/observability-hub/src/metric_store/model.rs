//! Samples, the labels that name their series, and what selects them.

use super::NAME_LABEL;

/// One value at one time.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Unix milliseconds.
    pub unix_ms: i64,
    /// The value; one NaN marks the end of a series, see [`Sample::is_stale_marker`].
    pub value: f64,
}

/// The NaN by which Prometheus says "this series is gone" (`StaleNaN` in
/// <https://github.com/prometheus/prometheus/blob/main/model/value/value.go>).
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

impl Sample {
    /// Whether the sample says that its series ended.
    #[must_use]
    pub fn is_stale_marker(&self) -> bool {
        self.value.to_bits() == STALE_BITS
    }

    /// Whether both say the same, NaN included.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.unix_ms == other.unix_ms && self.value.to_bits() == other.value.to_bits()
    }
}

/// Labels of a series, the metric's name among them: sorted by name, each name once, no value empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Sorts the labels and leaves out those without a value, which mean the same as no label.
    ///
    /// # Errors
    /// The name that occurs twice.
    pub fn new(mut labels: Vec<(Box<str>, Box<str>)>) -> Result<Self, Box<str>> {
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort_unstable();
        let twice = labels.iter().zip(labels.iter().skip(1)).find(|((one, _), (next, _))| one == next);
        if let Some(((name, _), _)) = twice {
            return Err(name.clone());
        }
        Ok(Self(labels.into()))
    }

    /// The value of a label; empty where there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.binary_search_by(|(label, _)| label.as_ref().cmp(name));
        found.ok().and_then(|index| self.0.get(index)).map_or("", |(_, value)| value)
    }

    /// The metric's name.
    #[must_use]
    pub fn metric(&self) -> &str {
        self.get(NAME_LABEL)
    }

    /// Name and value, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

/// A series with some of its samples.
#[derive(Debug, Clone)]
pub struct Series {
    /// What names it.
    pub labels: Labels,
    /// Oldest first.
    pub samples: Vec<Sample>,
}

/// Both ends included, Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// Oldest.
    pub from_unix_ms: i64,
    /// Newest.
    pub to_unix_ms: i64,
}

impl TimeRange {
    /// Everything.
    pub const ALL: Self = Self { from_unix_ms: i64::MIN, to_unix_ms: i64::MAX };

    /// Whether the time lies inside.
    #[must_use]
    pub const fn contains(&self, unix_ms: i64) -> bool {
        self.from_unix_ms <= unix_ms && unix_ms <= self.to_unix_ms
    }
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
}

/// A condition on one label; a label that is not there counts as empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// The comparison.
    pub op: MatchOp,
    /// What it is compared with.
    pub value: String,
}

impl Matcher {
    /// Whether `labels` meet the condition.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        let equal = labels.get(&self.name) == self.value;
        match self.op {
            MatchOp::Equal => equal,
            MatchOp::NotEqual => !equal,
        }
    }
}
