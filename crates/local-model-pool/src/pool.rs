//! The pool: supervises the models of this machine, registers them, and answers for those that are not loaded.

mod doorman;
mod register;

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::Context;
use bus::executor::Load;
use bus::{Announcement, Announcer, Bus};
use service_runtime::Process;
use tokio::sync::watch;

use domain::routing::Plane;
use wire::subject::Execute;

use crate::lease::Leases;
use crate::metrics::Metrics;
use crate::settings::Config;
use crate::supervisor::{Launch, Model, State, Supervisor};
use doorman::Doorman;

/// Last token of the subject on which the pool answers for models that are not loaded.
pub const EXECUTOR: &str = "pool";
/// Requests for cold models that are refused or waiting at once.
const REQUESTS_MAX: usize = 256;

/// Runs the pool until the process is asked to end.
///
/// # Errors
/// The admin address is taken, the bus refuses this service, or the program cannot find itself.
pub async fn run(bus_settings: &bus::Settings, config: Config, process: &Process) -> anyhow::Result<()> {
    let stop = process.shutdown.token();
    let (on_bus, loaded) = (process.health.component("bus"), process.health.component("models"));
    process.serve_admin(config.admin_listen, axum::Router::new()).await?;
    let (service, machine) = (process.service(), process.node.machine.as_str());
    let bus = Bus::connect(bus_settings, service, &process.instance, machine, &stop).await?;
    let control = bus.control_when_ready(&stop).await?;
    let (announcement, load) = (Announcement::default(), Load::default());

    let models = supervise(&config, &bus, process)?;
    let (announced, statuses) = (announcement.clone(), register::Registrar::new(&bus, &models));
    process.tasks.spawn("registration", statuses.run(announced, stop.clone()));
    process.tasks.spawn("readiness", {
        let (models, stop) = (models.clone(), stop.clone());
        async move {
            stop.run_until_cancelled(settled(&models)).await;
            let warm = models.iter().filter(|model| is_warm(&model.status)).count();
            loaded.set_ready(true, format!("{warm} of {} models warm", models.len()));
            Ok(())
        }
    });
    let clock = process.clock.clone();
    let announcer = Announcer {
        bus: bus.clone(),
        control,
        version: service_runtime::VERSION,
        now_unix_ms: Arc::new(move || clock.now_unix_ms()),
        load: load.clone(),
    };
    let (announced, announcing) = (announcement.clone(), stop.clone());
    // only what listens is registered: a request that came sooner would be told that nobody is there
    let (listening, listens) = tokio::sync::oneshot::channel();
    process.tasks.spawn("announcer", async move {
        if listens.await.is_ok() {
            announcer.run(announced, announcing).await;
        }
        Ok(())
    });

    let at = Execute { plane: Plane::Local, machine: bus.machine().clone(), executor: EXECUTOR.to_owned() };
    let doorman = Arc::new(Doorman::start(bus.clone(), models, process).await?);
    let is_ready = || {
        listening.send(()).ok();
        announcement.set_ready(true);
        on_bus.set_ready(true, "listening");
    };
    bus::executor::serve(&bus, at, REQUESTS_MAX, doorman, load, stop, is_ready).await?;
    announcement.set_ready(false);
    // Engines end, leases and the registration are given back: all over the bus, so it is closed last.
    process.tasks.drained().await;
    bus.close().await;
    Ok(())
}

/// Starts a supervisor for each model.
fn supervise(config: &Config, bus: &Bus, process: &Process) -> anyhow::Result<Vec<Model>> {
    let program = match &config.engine_program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("this program's own file is not known")?,
    };
    // The engine reads the same configuration from the same places.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let launch = Launch { program, arguments };
    let leases = Leases::new(bus.clone(), config.vram_lease);
    let metrics = Metrics::new(&opentelemetry::global::meter("local-model-pool"));
    let mut models = vec![];
    for model in &config.models {
        let limits = (config.load_timeout, config.restart_delay_max);
        let (supervisor, handle) = Supervisor::new(
            model.clone(),
            config.models_dir.clone(),
            launch.clone(),
            limits,
            leases.clone(),
            metrics.of(model.name.as_str()),
        );
        let stop = process.shutdown.token();
        process.tasks.spawn(format!("model {}", model.name), async move {
            supervisor.run(stop).await;
            Ok(())
        });
        models.push(handle);
    }
    if models.is_empty() {
        tracing::warn!("local-model-pool.models is empty: this machine runs no model");
    }
    Ok(models)
}

/// Waits until every model that is loaded at the start was loaded or has failed once.
async fn settled(models: &[Model]) {
    for model in models {
        let mut status = model.status.clone();
        let _supervisor_ended = status.wait_for(|status| status.state != State::Loading).await;
    }
}

fn is_warm(status: &watch::Receiver<crate::supervisor::Status>) -> bool {
    matches!(status.borrow().state, State::Warm(_))
}
