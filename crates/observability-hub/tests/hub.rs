//! The hub over real HTTP and, where the ledger is fed, a real nats-server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test helpers fail by panicking"
)]

#[path = "hub/ingest.rs"]
mod ingest;
#[path = "hub/kill.rs"]
mod kill;
#[path = "hub/remote_write.rs"]
mod remote_write;
#[path = "hub/support.rs"]
mod support;
#[path = "hub/usage_api.rs"]
mod usage_api;
