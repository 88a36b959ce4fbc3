//! The pool: owns the models of this machine, registers them, and answers for those that are not loaded.
//!
//! ```text
//! requests for what is not warm ─► doorman ─┐                     ┌─► statuses ─► registration, heartbeats to callers
//! orders (load, pin, install …) ─► orders ──┼─► keeper ───────────┤
//! engines ─► lives (supervisor) ────────────┘   domain::lifecycle └─► lives: load, end
//! ```

mod desk;
mod doorman;
mod install;
mod keeper;
mod kept;
mod orders;
mod register;
mod status;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context;
use bus::executor::Load;
use bus::{Announcement, Announcer, Bus};
use service_runtime::Process;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use domain::id::ModelName;
use domain::lifecycle::{Lifecycle, Phase};
use domain::routing::Plane;
use wire::subject::{Execute, ModelCall, Subject};

use crate::lease::Leases;
use crate::metrics::Metrics;
use crate::settings::{Config, ModelConfig};
use crate::supervisor::{Engines, Launch, Told};
use desk::{Desk, MESSAGES_WAITING_MAX, Message};
use doorman::Doorman;
use keeper::{Keeper, Parts};
use kept::{Kept, Store};
use orders::Orders;
use status::Statuses;

/// Last token of the subject on which the pool answers for models that are not loaded.
pub const EXECUTOR: &str = "pool";
/// Requests for cold models that are refused or waiting at once.
const REQUESTS_MAX: usize = 256;
/// What engines have told and the keeper has not heard yet; the next one waits.
const TOLD_WAITING_MAX: usize = 1_024;

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

    let desk = keep(&config, &bus, process, &load)?;
    let calls = bus.subscribe(ModelCall(bus.machine().clone()).name(bus.prefix()), None).await?;
    let (orders, ending) = (
        Orders {
            bus: bus.clone(),
            desk: desk.clone(),
            models_dir: config.models_dir.clone(),
            tier: config.tier,
        },
        stop.clone(),
    );
    process.tasks.spawn("orders", async move {
        orders.serve(calls, ending).await;
        Ok(())
    });
    let registering =
        register::run(bus.machine().clone(), desk.statuses.clone(), announcement.clone(), stop.clone());
    process.tasks.spawn("registration", registering);
    process.tasks.spawn("readiness", {
        let (statuses, stop) = (desk.statuses.clone(), stop.clone());
        async move {
            let (warm, all) = stop.run_until_cancelled(settled(statuses)).await.unwrap_or_default();
            loaded.set_ready(true, format!("{warm} of {all} models warm"));
            Ok(())
        }
    });
    let clock = process.clock.clone();
    let announcer = Announcer {
        bus: bus.clone(),
        control,
        version: service_runtime::VERSION,
        now_unix_ms: Arc::new(move || clock.now_unix_ms()),
        load,
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
    let doorman = Arc::new(Doorman::new(bus.clone(), desk));
    let is_ready = || {
        listening.send(()).ok();
        announcement.set_ready(true);
        on_bus.set_ready(true, "listening");
    };
    bus::executor::serve(&bus, at, REQUESTS_MAX, doorman, Load::default(), stop, is_ready).await?;
    announcement.set_ready(false);
    // Engines end, leases and the registration are given back: all over the bus, so it is closed last.
    process.tasks.drained().await;
    bus.close().await;
    Ok(())
}

/// Starts the keeper of the models, those of the configuration and those that were installed since.
fn keep(config: &Config, bus: &Bus, process: &Process, load: &Load) -> anyhow::Result<Desk> {
    let program = match &config.engine_program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("this program's own file is not known")?,
    };
    // The engine reads the same configuration from the same places.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let store = Store::open(&process.node.data_dir, process.service())?;
    let kept = store.load();
    let models = models(config, &kept);
    if models.is_empty() {
        tracing::warn!("local-model-pool.models is empty: this machine runs no model");
    }
    let (told, hears) = mpsc::channel::<Told>(TOLD_WAITING_MAX);
    let (messages, inbox) = mpsc::channel::<Message>(MESSAGES_WAITING_MAX);
    let nothing = Arc::new(Statuses { began: Instant::now(), models: BTreeMap::new() });
    let (publish, statuses) = watch::channel(nothing);
    let parts = Parts {
        lifecycle: Lifecycle::new(config.lifecycle),
        engines: Engines {
            models_dir: config.models_dir.clone(),
            launch: Launch { program, arguments },
            load_timeout: config.load_timeout,
            leases: Leases::new(bus.clone(), config.vram_lease),
            told,
        },
        tasks: process.tasks.clone(),
        metrics: Metrics::new(&opentelemetry::global::meter("local-model-pool")),
        restart_delay_max: config.restart_delay_max,
        store,
        kept,
        load: load.clone(),
        statuses: publish,
        stop: process.shutdown.token(),
    };
    let keeper = Keeper::new(parts, models);
    process.tasks.spawn("keeper", async move {
        keeper.run(hears, inbox).await;
        Ok(())
    });
    Ok(Desk { messages, statuses, tickets: Arc::new(AtomicU64::new(1)) })
}

fn models(config: &Config, kept: &Kept) -> Vec<ModelConfig> {
    let mut models = config.models.clone();
    for entry in &kept.installed {
        let key = |field: &str| format!("installed.{}.{field}", entry.name);
        let known = |name: &ModelName| config.models.iter().any(|model| model.name == *name);
        match ModelConfig::new(entry, config.tier, &key) {
            Ok(model) if known(&model.name) => {
                tracing::warn!(model = %model.name, "installed, and in the configuration by now: that holds");
            }
            Ok(mut model) => {
                model.installed = true;
                models.push(model);
            }
            Err(error) => tracing::error!(%error, "an installed model cannot be offered"),
        }
    }
    models
}

/// Waits until every model that is loaded at the start was loaded or has failed once: how many are warm, and how many there
/// are.
async fn settled(mut statuses: watch::Receiver<Arc<Statuses>>) -> (usize, usize) {
    let loading = |statuses: &Arc<Statuses>| {
        statuses.models.values().any(|status| matches!(status.view.phase, Phase::Loading(_)))
    };
    drop(statuses.wait_for(|statuses| !loading(statuses)).await);
    let statuses = statuses.borrow();
    let warm = statuses.models.values().filter(|status| matches!(status.view.phase, Phase::Warm(_))).count();
    (warm, statuses.models.len())
}
