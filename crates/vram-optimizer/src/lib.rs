//! The owner of a machine's GPU memory: sees what is used and by whom, and leases the rest.
//!
//! ```text
//!  NVML, /proc ──► sampler (a thread) ──► service loop ◄── acquire, renew, release (bus)
//!                                          │  │  └──► heartbeat with the machine's resources, metrics
//!              domain::vram decides ◄──────┘  └─────► file of leases, so that a restart loses none
//! ```
//!
//! One loop owns the leases, so nothing is locked; a call into the driver, which may hang, runs on a thread that the loop
//! does not wait for. Each acquire is decided on a sample that was taken after it arrived.
//!
//! Deliberately absent: MIG partitions (a partitioned GPU counts as one device), NVLink topology, AMD and Intel GPUs (such
//! a machine is planned on its system memory).

mod edge;
pub mod gpus;
mod kept;
mod local_time;
mod metrics;
mod sampler;
mod service;
mod settings;
mod system_memory;

pub use service::run;
pub use settings::{InvalidSetting, Own, Raw, Settings};
pub use system_memory::{Reading, SystemMemory, SystemMemoryError};
