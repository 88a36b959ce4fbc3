//! The hub over real HTTP and, where the ledger is fed, a real nats-server.

#[path = "hub/ingest.rs"]
mod ingest;
#[path = "hub/remote_write.rs"]
mod remote_write;
#[path = "hub/support.rs"]
mod support;
#[path = "hub/usage_api.rs"]
mod usage_api;
