//! Samples that were not taken, counted by reason; the first of each reason is kept to tell the sender.

use std::{collections::BTreeMap, fmt};

/// Why a sample was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The series does not decode.
    Malformed(String),
    /// A label's name or value, or the set of them, is not allowed.
    InvalidLabels(String),
    /// Later than the clock allows.
    Future {
        /// Time of the sample.
        unix_ms: i64,
        /// Latest that is taken.
        latest_unix_ms: i64,
    },
    /// Older than what is kept.
    TooOld {
        /// Time of the sample.
        unix_ms: i64,
        /// Oldest that is taken.
        oldest_unix_ms: i64,
    },
    /// Another value is known for this time.
    Contradicts {
        /// Time of the sample.
        unix_ms: i64,
    },
    /// A native histogram.
    Histogram,
    /// A new series beyond the bound.
    SeriesLimit(usize),
    /// A series beyond the bound of one request.
    RequestLimit(usize),
}

impl Reason {
    /// Label value for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::InvalidLabels(_) => "invalid_labels",
            Self::Future { .. } => "future",
            Self::TooOld { .. } => "too_old",
            Self::Contradicts { .. } => "contradicts",
            Self::Histogram => "histogram",
            Self::SeriesLimit(_) => "series_limit",
            Self::RequestLimit(_) => "request_limit",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "series does not decode: {error}"),
            Self::InvalidLabels(what) => f.write_str(what),
            Self::Future { unix_ms, latest_unix_ms } => {
                write!(f, "timestamp is {unix_ms}, expected at most {latest_unix_ms} (10 minutes from now)")
            }
            Self::TooOld { unix_ms, oldest_unix_ms } => {
                write!(f, "timestamp is {unix_ms}, expected at least {oldest_unix_ms} (the retention)")
            }
            Self::Contradicts { unix_ms } => write!(f, "another value is known for timestamp {unix_ms}"),
            Self::Histogram => f.write_str("native histograms are not stored"),
            Self::SeriesLimit(max) => write!(f, "new series, expected at most {max} (metric_series_max)"),
            Self::RequestLimit(max) => write!(f, "too many series in one request, expected at most {max}"),
        }
    }
}

/// Refused samples by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals(BTreeMap<&'static str, (u64, String)>);

impl Refusals {
    /// One more.
    pub fn add(&mut self, reason: Reason) {
        self.add_many(reason, 1);
    }

    /// So many more of one reason.
    pub fn add_many(&mut self, reason: Reason, count: u64) {
        if count > 0 {
            self.0.entry(reason.label()).or_insert_with(|| (0, reason.to_string())).0 += count;
        }
    }

    /// All of `other`, too.
    pub fn merge(&mut self, other: Self) {
        for (label, (count, first)) in other.0 {
            self.0.entry(label).or_insert((0, first)).0 += count;
        }
    }

    /// How many in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().map(|(count, _)| count).sum()
    }

    /// Label of the reason and count.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(label, (count, _))| (*label, *count))
    }
}

impl fmt::Display for Refusals {
    /// `3 future (timestamp is …); 1 histogram (native …)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (label, (count, first))) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{count} {label} ({first})")?;
        }
        Ok(())
    }
}
