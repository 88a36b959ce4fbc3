//! Local models: llama.cpp behind the bus.
//!
//! One program in two modes. The [`pool`] supervises the models of a machine, registers them, and answers for those that are
//! not loaded. For each loaded model it starts itself again as an engine ([`host`]), which owns the model, listens on the
//! model's own subject and streams straight to callers: a warm request has no extra hop, a crash of llama.cpp costs one
//! model, and ending a process is the one release of GPU memory that can be relied on.
//!
//! | module | purpose |
//! |---|---|
//! | [`engine`] | continuous batching on llama.cpp; knows nothing of the bus |
//! | [`gguf`], [`estimate`], [`models_dir`] | which files may be loaded, whether they are sound, what they will take |
//! | [`host`], [`protocol`] | an engine's process, and what it tells the pool |
//! | [`supervisor`], [`lease`], [`pool`] | the pool |

pub mod engine;
pub mod estimate;
pub mod gguf;
pub mod host;
pub mod lease;
pub mod metrics;
pub mod models_dir;
pub mod pool;
pub mod protocol;
pub mod settings;
pub mod supervisor;

use service_runtime::Process;

use settings::{Config, Settings};

/// Runs the pool, or one engine of it, as the configuration says.
///
/// # Errors
/// The configuration is wrong, the bus refuses this service, or (an engine only) the model cannot be loaded.
pub async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let engine = settings.own.engine.clone();
    let config = Config::try_from(settings.own)?;
    match engine {
        Some(model) => host::run(&settings.bus, &config, &model, &process).await,
        None => pool::run(&settings.bus, config, &process).await,
    }
}
