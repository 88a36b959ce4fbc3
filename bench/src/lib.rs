//! What the system costs, measured against the least that its design can cost.
//!
//! One run measures several things on the same cores, in turn, so that a noisy machine disturbs all alike: the upstream asked
//! directly, the *floor* (a bare HTTP → NATS → process → HTTP program) and the system, a bare HTTP proxy and the adapter
//! alone. See `docs/benchmarks.md`.

pub mod adapter;
pub mod cores;
pub mod cpu;
pub mod engine;
pub mod floor;
pub mod load;
pub mod memory;
pub mod proxy;
pub mod report;
pub mod rounds;
mod services;
pub mod summary;
pub mod system;
pub mod target;
