//! An engine's process: loads one model, listens on that model's subject, and tells the pool how it goes.
//!
//! It lives as long as its standard input is open. The pool holds the other end, so that an engine cannot outlive a pool that
//! was killed.

mod answer;
mod convert;
mod energy;
mod executor;
mod extras;
pub use executor::PROVIDER;
mod language;
mod report;
mod shelf;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use service_runtime::{Process, Shutdown};

use bus::Bus;
use bus::executor::Load;
use domain::routing::Plane;
use wire::subject::Execute;

use crate::engine::{Engine, Spec};
use crate::gguf::Header;
use crate::protocol::{Event, Ready};
use crate::settings::{Config, ModelConfig};
use energy::EnergyMeter;
use executor::EngineExecutor;
use report::Reports;
use shelf::Shelf;

/// Models up to this size compute fastest on one thread: the threads' meetings cost more than their work.
const ONE_THREAD_BYTES_MAX: u64 = 32 << 20;
/// Longest context where neither the configuration nor the model asks for less.
const CONTEXT_DEFAULT_MAX: u32 = 8_192;
/// How long the process may live once its standard input is closed: less than the pool waits before it kills.
const EXIT_GRACE: Duration = Duration::from_secs(4);
/// How long the last words to a bus that may be gone too may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs one model until the pool closes the standard input or asks to stop.
///
/// # Errors
/// The model cannot be loaded, the bus refuses, or llama.cpp failed. The pool was told before.
pub async fn run(
    bus_settings: &bus::Settings,
    config: &Config,
    model: &str,
    process: &Process,
) -> anyhow::Result<()> {
    let reports = Reports::start()?;
    end_with_standard_input(process.shutdown.clone())?;
    let outcome = serve(bus_settings, config, model, process, &reports).await;
    if let Err(error) = &outcome {
        reports.last(Event::Failed { reason: format!("{error:#}") }).await;
    }
    outcome
}

async fn serve(
    bus_settings: &bus::Settings,
    config: &Config,
    model: &str,
    process: &Process,
    reports: &Reports,
) -> anyhow::Result<()> {
    let stop = process.shutdown.token();
    let found = config.models.iter().find(|candidate| candidate.name.as_str() == model);
    let model = found.with_context(|| format!("local-model-pool.models has no model named {model:?}"))?;
    let spec = spec(config, model)?;
    let shelf = shelf(&process.node.data_dir, spec.clone(), config.slots_on_disk_bytes).await;
    let engine = tokio::select! {
        engine = Engine::start(spec) => engine?,
        () = stop.cancelled() => return Ok(()),
    };
    if let Some(shelf) = &shelf {
        let slots = engine.restore_slots(shelf.folder().to_owned()).await;
        tracing::info!(slots, "slots read from disk");
    }
    let (service, machine) = (process.service(), process.node.machine.as_str());
    let bus = tokio::select! {
        bus = Bus::connect(bus_settings, service, &process.instance, machine, &stop) => bus?,
        () = stop.cancelled() => return Ok(()),
    };
    watch(&engine, process, reports);
    let facts = engine.facts().clone();
    let ready = Ready {
        context_length: facts.context_per_slot,
        slots: facts.slots,
        embedding_dimensions: facts.embedding_dimensions,
        weights_bytes: facts.weights.get(),
        resident_bytes: resident_bytes(),
        load_ms: u64::try_from(facts.load.as_millis()).unwrap_or(u64::MAX),
    };
    let at =
        Execute { plane: Plane::Local, machine: bus.machine().clone(), executor: model.executor.clone() };
    let clock = process.clock.clone();
    let energy = EnergyMeter::new(config.core_milliwatts);
    let on_gpu = model.gpu_layers > 0;
    process.tasks.spawn("energy", {
        let (meter, bus, stop) = (energy.clone(), bus.clone(), stop.clone());
        async move {
            meter.follow(bus, on_gpu, stop).await;
            Ok(())
        }
    });
    let executor = EngineExecutor::new(
        engine.clone(),
        model.clone(),
        bus.machine().clone(),
        clock,
        reports.clone(),
        energy,
    );
    let announce = || reports.send(Event::Ready(ready));
    let slots = facts.slots as usize;
    let served =
        bus::executor::serve(&bus, at, slots, Arc::new(executor), Load::default(), stop, announce).await;
    let _bus_gone = tokio::time::timeout(FAREWELL, bus.close()).await;
    if let Some(shelf) = shelf {
        keep_slots(&engine, shelf).await;
    }
    served.context("the bus ended")
}

/// Where the slots wait while the model is not loaded. That they can wait is not worth a failed load.
async fn shelf(data_dir: &Path, spec: Spec, bytes_max: u64) -> Option<Shelf> {
    let data_dir = data_dir.to_owned();
    let found = tokio::task::spawn_blocking(move || Shelf::new(&data_dir, &spec, bytes_max)).await;
    let found = found.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "slots are not kept over an unload");
        None
    })
}

/// Writes the slots, now that no request comes any more.
async fn keep_slots(engine: &Engine, shelf: Shelf) {
    let folder = shelf.folder().to_owned();
    let room = tokio::task::spawn_blocking(move || shelf.room()).await;
    match room.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(room) => {
            let slots = engine.save_slots(folder, room).await;
            tracing::info!(slots, "slots written to disk");
        }
        Err(error) => tracing::warn!(%error, "slots are not kept"),
    }
}

/// Tells the pool what the engine is busy with, and ends the process when the engine has given up.
fn watch(engine: &Engine, process: &Process, reports: &Reports) {
    let stop = process.shutdown.token();
    let (mut occupancy, reports) = (engine.occupancy(), reports.clone());
    process.tasks.spawn("occupancy", {
        let stop = stop.clone();
        async move {
            // The sender ends with the engine.
            while stop.run_until_cancelled(occupancy.changed()).await.is_some_and(|changed| changed.is_ok()) {
                let now = *occupancy.borrow_and_update();
                reports.send(Event::Occupancy { busy: now.busy, waiting: now.waiting });
            }
            Ok(())
        }
    });
    let engine = engine.clone();
    process.tasks.spawn("engine", async move {
        match stop.run_until_cancelled(engine.failed()).await {
            Some(()) => anyhow::bail!("the engine has given up"),
            None => Ok(()),
        }
    });
}

/// How this model is loaded on this machine.
fn spec(config: &Config, model: &ModelConfig) -> anyhow::Result<Spec> {
    let path = model.file.resolve(&config.models_dir)?;
    let header = Header::open(&path).with_context(|| path.display().to_string())?;
    let trained = header.metadata.context_length;
    let small = header.weights.get() <= ONE_THREAD_BYTES_MAX;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let by_size = if small { 1 } else { u32::try_from(cores.saturating_sub(1)).unwrap_or(1).max(1) };
    Ok(Spec {
        path,
        context_per_slot: context_length(model, trained),
        slots: model.slots,
        threads: config.threads.unwrap_or(by_size),
        gpu_layers: model.gpu_layers,
        mmap: true,
        generate: model.generate,
        embed: model.embed,
    })
}

/// Tokens for each slot: what is configured, or what the model was trained for, within reason.
#[must_use]
pub fn context_length(model: &ModelConfig, trained: u32) -> u32 {
    model.context_length.unwrap_or_else(|| trained.min(CONTEXT_DEFAULT_MAX))
}

/// Requests the shutdown when the standard input ends, and ends the process if that does not.
fn end_with_standard_input(shutdown: Shutdown) -> anyhow::Result<()> {
    let watch = move || {
        let mut ignored = [0; 256];
        // Nothing is ever sent; an error means the same as the end.
        while std::io::stdin().read(&mut ignored).is_ok_and(|read| read > 0) {}
        tracing::info!("the pool closed the standard input");
        shutdown.request();
        // A thread of llama.cpp that is computing cannot be waited for without bound.
        std::thread::sleep(EXIT_GRACE);
        std::process::exit(1);
    };
    // Not a task: it must work while the async runtime is busy or gone.
    std::thread::Builder::new().name("stdin".to_owned()).spawn(watch).context("cannot start a thread")?;
    Ok(())
}

/// Memory of this process, from `/proc/self/status`; 0 where there is no such file.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}
