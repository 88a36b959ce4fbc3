//! The shell around every service: flags, configuration, telemetry, health, shutdown, tasks, the clock.
//!
//! A service's `main` is one call of [`execute`]; everything else is its `run(settings, process)`, which tests call in
//! the same way with [`Process::for_tests`]. Only this crate reads the environment and the system clock, so that a test
//! owns both. It knows no word of the product beyond the names of the configuration's common sections.
//!
//! ```text
//! flags -> configuration -> telemetry -> run(settings, process) -> tasks end -> telemetry flushed -> exit code
//!                                          ^ SIGTERM, SIGINT, or a failed task cancel `process.shutdown`
//! ```

mod admin;
pub mod clock;
pub mod config;
mod execute;
pub mod health;
pub mod http;
mod process;
pub mod secret;
pub mod shutdown;
pub mod tasks;
mod telemetry;
#[cfg(test)]
mod testing;

pub use admin::AdminError;
pub use clock::Clock;
pub use execute::execute;
pub use health::{Component, Health};
pub use process::{Node, Process};
pub use secret::Secret;
pub use shutdown::Shutdown;
pub use tasks::Tasks;

/// For every program that links this crate.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Version of the workspace, the same for all services.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
