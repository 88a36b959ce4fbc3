//! Knows who is there and what they run, and tells it to everybody who routes.
//!
//! ```text
//! registrations (KV) ─┐
//! heartbeats ─────────┤                               ┌─► routing snapshot (KV) ─► coordinators
//! flags, aliases (KV)─┼─► registry (pure) ─► view ────┼─► plan
//! agents, policies ───┘                               └─► metrics
//!
//! budget calls, usage events ─► book ─► bucket ─► answers
//! ```
//!
//! Invariants: nothing here is on a request's way; a mistake in one registration or file never reaches the snapshot; the
//! snapshot's revision grows, also across restarts. A machine has one manager, which writes that machine's keys only.

mod aliases;
mod bucket;
mod budget;
pub mod catalog;
mod flags;
mod keeper;
mod keys;
mod metrics;
mod plan;
pub mod registration;
pub mod registry;
mod reload;
mod settings;
pub mod view;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use bus::{Announcement, Announcer, Bus, control::Control, executor::Load, ledger::Ledger};
use bytes::Bytes;
use service_runtime::{Process, secret::Secret};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use wire::subject::{self, REGISTRATION_KEYS, Subject, alias_key, flag_keys};

pub use settings::{Config, OutOfRange, Section, Settings};

use crate::{
    aliases::Aliases,
    budget::Budgets,
    catalog::Catalog,
    flags::Flags,
    keeper::{Inputs, Keeper},
    keys::{KeyTable, Keys},
    metrics::Metrics,
    registration::Instance,
    registry::{INSTANCES_MAX, Registry},
    reload::{Files, Told},
    view::Views,
};

/// How often this service looks whether it is ready.
const READINESS: Duration = Duration::from_millis(250);

/// Runs the service until the process is told to stop.
///
/// # Errors
/// Wrong settings or files, an address that is taken, refused credentials.
pub async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let config = Config::try_from(settings.own)?;
    let files = Files { agents: config.agents_file.clone(), policies: config.policies_file.clone() };
    let marks = files.marks().await;
    let catalog = Arc::new(Catalog::load(&files.agents, &files.policies).await?);
    let catalog_health = process.health.component("catalog");
    catalog_health.set_ready(true, "");
    let stop = process.shutdown.token();
    let bus_health = process.health.component("bus");
    let bucket_health = process.health.component("control-bucket");
    let snapshot_health = process.health.component("routing-snapshot");
    process.serve_admin(config.admin_listen, axum::Router::new()).await?;

    let bus = Bus::connect(&settings.bus, process.service(), &process.instance, &process.node.machine, &stop)
        .await?;
    let control = bus.control_when_ready(&stop).await?;
    let heartbeats = bus.subscribe(subject::heartbeats(bus.prefix()), None).await?;
    announce(&process, &bus, &control, bus_health);
    let Some(stored) = bucket::read(&bus, &control, &stop).await else { return Ok(()) };
    bucket_health.set_ready(true, "");

    let (views, latest) = watch::channel(None);
    let metrics = Metrics::new(&latest);
    let (catalogs_in, catalogs) = watch::channel(Arc::clone(&catalog));
    let keys = keys(&process, &bus, &control, (config.master_key.as_ref(), stored.keys)).await?;
    let (standings, budgets_left) = watch::channel(Vec::new());
    budgets(&process, &bus, &control, (&catalogs, keys), &metrics, standings).await?;
    let told = Told { metrics: metrics.clone(), health: catalog_health };
    let reloading = files.watch(marks, config.reload_interval, catalogs_in, told, stop.clone());
    process.tasks.spawn("reload", reloading);

    let (written, written_revision) = watch::channel(stored.revision);
    let writing = bucket::write(
        bus.clone(),
        control.clone(),
        latest.clone(),
        written,
        snapshot_health,
        metrics.clone(),
        stop.clone(),
    );
    spawn(&process, "snapshot", Box::pin(writing));
    let (forget, forgotten) = mpsc::channel(INSTANCES_MAX);
    spawn(&process, "forget", Box::pin(bucket::forget(control.clone(), forgotten, stop.clone())));

    let me = Instance {
        machine: bus.machine().clone(),
        service: process.service().to_owned(),
        instance: process.instance.clone(),
    };
    let mut keeper = Keeper {
        bus: bus.clone(),
        clock: process.clock.clone(),
        registry: Registry::new(me, config.patience, catalog, Instant::now()),
        revision: stored.revision + 1,
        status_interval: config.status_interval,
        views,
        forget,
        metrics,
    };
    keeper.seed(stored.entries);
    let inputs = Inputs {
        heartbeats,
        registrations: control.watch(&bus, REGISTRATION_KEYS.to_owned(), stop.clone()),
        flags: control.watch(&bus, flag_keys(bus.machine()), stop.clone()),
        aliases: control.watch(&bus, alias_key(bus.machine()), stop.clone()),
        catalogs,
        budgets: budgets_left,
    };
    spawn(&process, "registry", Box::pin(keeper.run(inputs, config.settle, stop.clone())));
    serve(&process, &bus, &control, &latest, written_revision).await.context("cannot serve on the bus")?;

    stop.cancelled().await;
    finish(&process, &bus).await;
    Ok(())
}

/// Keeps this machine's virtual keys and knows those of the others.
async fn keys(
    process: &Process,
    bus: &Bus,
    control: &Control,
    (master, stored): (Option<&Secret>, Vec<(String, Bytes)>),
) -> anyhow::Result<watch::Receiver<Arc<KeyTable>>> {
    let stop = process.shutdown.token();
    let name = subject::KeyCall(bus.machine().clone()).name(bus.prefix());
    let calls = bus.subscribe(name, Some(process.service())).await?;
    // the budgets of keys that are not known yet would be forgotten
    let (table, told) = watch::channel(Arc::new(KeyTable::read(stored)));
    let keys = Keys {
        bus: bus.clone(),
        control: control.clone(),
        clock: process.clock.clone(),
        master: master.cloned(),
        table,
    };
    let changes = control.watch(bus, subject::VIRTUAL_KEYS.to_owned(), stop.clone());
    spawn(process, "keys", Box::pin(keys.run(changes, calls, stop)));
    Ok(told)
}

/// Answers reservations and settles them, when there are budgets or may be after a reload.
async fn budgets(
    process: &Process,
    bus: &Bus,
    control: &Control,
    (catalogs, keys): (&watch::Receiver<Arc<Catalog>>, watch::Receiver<Arc<KeyTable>>),
    metrics: &Metrics,
    standings: watch::Sender<Vec<wire::v1::BudgetLeft>>,
) -> anyhow::Result<()> {
    let stop = process.shutdown.token();
    let outbox = process.node.data_dir.join(process.service()).join("usage");
    let ledger = Ledger::open(bus, &outbox, Load::default(), stop.clone())
        .with_context(|| format!("usage log in {}", outbox.display()))?;
    let calls =
        bus.subscribe(subject::BudgetCall(bus.machine().clone()).name(bus.prefix()), Some(process.service()));
    let budgets = Budgets {
        bus: bus.clone(),
        control: control.clone(),
        clock: process.clock.clone(),
        ledger,
        catalogs: catalogs.clone(),
        keys,
        metrics: metrics.clone(),
        standings,
    };
    spawn(process, "budgets", Box::pin(budgets.run(calls.await?, stop)));
    Ok(())
}

/// The registration is taken back and everything sent, if the bus is there; a bus that is away is not waited for.
async fn finish(process: &Process, bus: &Bus) {
    let ending = async {
        process.tasks.drained().await;
        bus.close().await;
    };
    if tokio::time::timeout(process.shutdown.remaining() / 2, ending).await.is_err() {
        tracing::warn!("the bus did not take the goodbye");
    }
}

/// A task of this service; it ends when the process does, and never fails.
fn spawn(process: &Process, name: &'static str, task: futures::future::BoxFuture<'static, ()>) {
    process.tasks.spawn(name, async move {
        task.await;
        Ok(())
    });
}

/// Tells the bus of this process. Its own heartbeats, heard by itself, are what the registry counts time by.
fn announce(process: &Process, bus: &Bus, control: &Control, health: service_runtime::Component) {
    let stop: CancellationToken = process.shutdown.token();
    let clock = process.clock.clone();
    let announcement = Announcement::default();
    let announcer = Announcer {
        bus: bus.clone(),
        control: control.clone(),
        version: service_runtime::VERSION,
        now_unix_ms: Arc::new(move || clock.now_unix_ms()),
        load: Load::default(),
    };
    spawn(process, "announce", Box::pin(announcer.run(announcement.clone(), stop.clone())));
    let (bus, ready) = (bus.clone(), process.health.clone());
    let watching = async move {
        let mut look = tokio::time::interval(READINESS);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let connected = bus.is_connected();
            health.set_ready(connected, if connected { "" } else { "the nats server is away" });
            announcement.set_ready(ready.is_ready());
        }
    };
    spawn(process, "readiness", Box::pin(watching));
}

/// Answers `plan`, flag and alias calls.
async fn serve(
    process: &Process,
    bus: &Bus,
    control: &Control,
    views: &Views,
    written: watch::Receiver<u64>,
) -> Result<(), bus::PublishError> {
    let stop = process.shutdown.token();
    let queue = Some(process.service());
    let plans = bus.subscribe(subject::Plan.name(bus.prefix()), queue).await?;
    let calls = bus.subscribe(subject::FlagCall.name(bus.prefix()), queue).await?;
    let alias_calls = bus.subscribe(subject::AliasCall.name(bus.prefix()), queue).await?;
    spawn(process, "plan", Box::pin(plan::serve(bus.clone(), views.clone(), plans, stop.clone())));
    let flags = Flags {
        bus: bus.clone(),
        control: control.clone(),
        clock: process.clock.clone(),
        views: views.clone(),
        written: written.clone(),
    };
    spawn(process, "flags", Box::pin(flags.serve(calls, stop.clone())));
    let aliases = Aliases {
        bus: bus.clone(),
        control: control.clone(),
        clock: process.clock.clone(),
        views: views.clone(),
        written,
    };
    spawn(process, "aliases", Box::pin(aliases.serve(alias_calls, stop)));
    Ok(())
}
