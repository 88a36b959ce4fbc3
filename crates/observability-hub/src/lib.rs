//! observability-hub

pub mod ledger;
pub mod metric_store;
pub mod remote_write;
