//! Where samples are kept and asked for.
//!
//! [`MetricStore`] is the seam: [`local::LocalStore`] keeps them on this machine; a store on another engine would forward
//! the bodies and proxy the questions.

use bytes::Bytes;
use futures::future::BoxFuture;

mod heads;
pub mod local;
mod model;

pub use self::{
    heads::{HeadLimits, Heads},
    model::{Labels, MatchOp, Matcher, Sample, Series, TimeRange},
};
use crate::remote_write::{Decoded, Refusals};

/// Label that holds a metric's name.
pub const NAME_LABEL: &str = "__name__";

/// One remote-write request: the body as it came and what it says.
#[derive(Debug)]
pub struct Write {
    /// Snappy-compressed protobuf, kept as it is.
    pub body: Bytes,
    /// Its valid content.
    pub decoded: Decoded,
    /// When it came.
    pub received_unix_ms: i64,
}

/// What became of a write that is on the disk.
#[derive(Debug, Default)]
pub struct Written {
    /// Samples kept; resent ones count.
    pub samples: u64,
    /// Samples that the store would not take.
    pub refused: Refusals,
}

/// Why nothing of a write was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full; the same write succeeds once there is space.
    #[error("no space left for metrics: {0}")]
    OutOfSpace(String),
    /// The disk failed in another way.
    #[error("metrics could not be written: {0}")]
    Failed(String),
    /// The store ended.
    #[error("the metric store is closed")]
    Closed,
}

/// How much the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// Series that can be asked for.
    pub series: u64,
    /// Samples that can be asked for.
    pub samples: u64,
}

/// A store of samples.
pub trait MetricStore: Send + Sync + 'static {
    /// Keeps a write; once this returns `Ok`, it survives a kill.
    fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, StoreError>>;

    /// Series that all of `matchers` match, with their samples inside `range`, oldest first. A series without a sample in
    /// the range is left out, here and below.
    fn select(
        &self,
        matchers: Vec<Matcher>,
        range: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<Series>, StoreError>>;

    /// As [`MetricStore::select`], with only the newest sample of each series.
    fn newest(
        &self,
        matchers: Vec<Matcher>,
        range: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<(Labels, Sample)>, StoreError>>;

    /// As [`MetricStore::select`], without the samples.
    fn labels(
        &self,
        matchers: Vec<Matcher>,
        range: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<Labels>, StoreError>>;

    /// How much there is.
    fn size(&self) -> StoreSize;
}
