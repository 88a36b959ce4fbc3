//! Questions to the metric store. For now the subset that needs no evaluation: one plain selector, asked for one instant.

use crate::metric_store::{Labels, Matcher, MetricStore, Sample, StoreError, TimeRange};

mod selector;

pub use selector::{SelectorError, parse_selector};

/// How far back the newest sample of a series may lie to count as its present value: Prometheus's default.
const LOOKBACK_MS: i64 = 5 * 60_000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The question is wrong, or more than the subset.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// The store cannot answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The value of each selected series at `unix_ms`: its newest sample of the last five minutes, unless that says that the
/// series ended.
///
/// # Errors
/// The question is not a plain selector, or the store cannot answer.
pub async fn instant(
    store: &dyn MetricStore,
    query: &str,
    unix_ms: i64,
) -> Result<Vec<(Labels, Sample)>, QueryError> {
    let matchers: Vec<Matcher> = parse_selector(query)?;
    // The oldest end is open, as in Prometheus since 3.0.
    let range = TimeRange { from_unix_ms: unix_ms.saturating_sub(LOOKBACK_MS - 1), to_unix_ms: unix_ms };
    let mut values = store.newest(matchers, range).await?;
    values.retain(|(_, sample)| !sample.is_stale_marker());
    Ok(values)
}
