//! What the system costs, measured against the least that its design can cost.
//!
//! One run measures three things on the same cores, in turn, so that a noisy machine disturbs all alike: the upstream asked
//! directly, the *floor* (a bare HTTP → NATS → process → HTTP program) and the system. See `docs/benchmarks.md`.

pub mod cores;
pub mod cpu;
pub mod floor;
pub mod load;
pub mod report;
pub mod rounds;
pub mod summary;
pub mod system;
pub mod target;
