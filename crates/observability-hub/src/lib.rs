//! observability-hub

pub mod ledger;
