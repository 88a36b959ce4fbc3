//! observability-hub: the ledger view, the metric store, and the page that shows them.
//!
//! ```text
//! usage stream ──► ingest ──► ledger (SQLite) ──► usage API, live feed, /metrics
//! remote-write ──► decode ──► metric store (log + heads) ──► Prometheus API
//! ```
//!
//! What is acknowledged is on the disk: a usage event after its commit, a remote-write body after its fsync.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use bus::{Announcement, Announcer, Bus, executor::Load};
use opentelemetry::global;
use serde::{Deserialize, Serialize};
use service_runtime::{Process, VERSION};
use wire::subject::service::OBSERVABILITY_HUB;

pub mod config;
pub mod http;
pub mod ingest;
pub mod ledger;
pub mod metric_store;
pub mod promql;
pub mod reference;
pub mod remote_write;
pub mod telemetry;

use crate::{
    config::Config,
    http::{App, access::Access, live::Live},
    ingest::Ingest,
    ledger::Ledger,
    metric_store::{MetricStore, local::LocalStore},
    reference::Reference,
    telemetry::WriteMeters,
};

/// Between sweeps of the metric store.
const SWEEP: Duration = Duration::from_secs(60);

/// The sections of the configuration that this service reads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `[bus]`
    pub bus: bus::Settings,
    /// `[observability-hub]`
    #[serde(rename = "observability-hub")]
    pub own: config::Raw,
}

/// Runs the hub until the process is to end.
///
/// # Errors
/// The settings are wrong, the data cannot be opened, the address cannot be listened on, or the bus refuses.
pub async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let config = Config::try_from(settings.own)?;
    let stop = process.shutdown.token();
    let component = process.health.component("ledger-ingest");
    let (ledger, store) = open(&config, &process).await?;

    let meter = global::meter("observability-hub");
    let queried: Arc<dyn MetricStore> = Arc::clone(&store) as Arc<dyn MetricStore>;
    telemetry::observe(&meter, &ledger, &queried, config.role);
    let live = Live::new(config.live_clients_max, stop.clone());
    let access = access(&config);
    let app = App {
        ledger: ledger.clone(),
        store: queried,
        clock: process.clock.clone(),
        access: Arc::new(access),
        live: live.clone(),
        meters: WriteMeters::new(&meter),
        write_limits: config.metrics.request,
        role: config.role,
        electricity_per_kwh: config.electricity_per_kwh,
        reference: Reference::read(&config),
    };
    process.serve_admin(config.admin_listen, http::router(app)).await?;
    let (feed, clock) = (ledger.clone(), process.clock.clone());
    process.tasks.spawn("live", async move {
        live.run(feed, clock, config.role, config.electricity_per_kwh).await;
        Ok(())
    });
    let (clock, swept) = (process.clock.clone(), stop.clone());
    process.tasks.spawn("sweep", async move { sweep(&store, &clock, swept).await });

    let connecting =
        Bus::connect(&settings.bus, OBSERVABILITY_HUB, &process.instance, &process.node.machine, &stop);
    let bus = match connecting.await {
        Ok(bus) => bus,
        Err(bus::ConnectError::Stopped(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    announce(&bus, &process);
    let ingest =
        Ingest { bus: bus.clone(), ledger, clock: process.clock.clone(), role: config.role, component };
    let ended = stop.clone();
    process.tasks.spawn("ingest", async move { Ok(ingest.run(ended).await?) });
    stop.cancelled().await;
    process.tasks.drained().await;
    bus.close().await;
    Ok(())
}

/// Opens what is on the disk; on a blocking thread, because reading the metrics again may take a while.
async fn open(config: &Config, process: &Process) -> anyhow::Result<(Ledger, Arc<LocalStore>)> {
    let folder = process.node.data_dir.join(OBSERVABILITY_HUB);
    let options = config.metrics;
    let now_unix_ms = i64::try_from(process.clock.now_unix_ms()).unwrap_or(i64::MAX);
    let opened = tokio::task::spawn_blocking(move || {
        let ledger = Ledger::open(&folder.join("ledger.sqlite"))
            .with_context(|| format!("cannot open the ledger in {}", folder.display()))?;
        let (store, replay) = LocalStore::open(&folder.join("metrics"), options, now_unix_ms)
            .with_context(|| format!("cannot open the metrics in {}", folder.display()))?;
        tracing::info!(
            bodies = replay.bodies,
            unreadable = replay.unreadable,
            cut_bytes = replay.cut_bytes,
            "metrics read again"
        );
        anyhow::Ok((ledger, Arc::new(store)))
    });
    opened.await.context("opening the data panicked")?
}

fn access(config: &Config) -> Access {
    let open = config.read_token.is_none() || config.write_token.is_none();
    if open && !config.admin_listen.ip().is_loopback() {
        tracing::warn!(
            listen = %config.admin_listen,
            read_token = config.read_token.is_some(),
            write_token = config.write_token.is_some(),
            "the hub listens beyond this machine without a token: everybody who reaches it may use it"
        );
    }
    Access {
        hosts: config.allowed_hosts.clone(),
        read_token: config.read_token.clone(),
        write_token: config.write_token.clone(),
    }
}

async fn sweep(
    store: &LocalStore,
    clock: &service_runtime::Clock,
    stop: tokio_util::sync::CancellationToken,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        store.sweep(i64::try_from(clock.now_unix_ms()).unwrap_or(i64::MAX)).await?;
    }
}

/// Makes the hub known; its readiness is the process's.
fn announce(bus: &Bus, process: &Process) {
    let announcement = Announcement::default();
    let (bus, clock, health) = (bus.clone(), process.clock.clone(), process.health.clone());
    let stop = process.shutdown.token();
    let told = announcement.clone();
    let ended = stop.clone();
    process.tasks.spawn("readiness", async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                () = ended.cancelled() => return Ok(()),
                _ = ticks.tick() => told.set_ready(health.is_ready()),
            }
        }
    });
    process.tasks.spawn("announce", async move {
        let Ok(control) = bus.control_when_ready(&stop).await else { return Ok(()) };
        let announcer = Announcer {
            bus,
            control,
            version: VERSION,
            now_unix_ms: Arc::new(move || clock.now_unix_ms()),
            load: Load::default(),
        };
        announcer.run(announcement, stop).await;
        Ok(())
    });
}
