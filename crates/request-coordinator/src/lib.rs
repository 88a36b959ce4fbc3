//! Takes every request, decides where it runs, has it run there, and streams the answer back.
//!
//! ```text
//! ingress (NATS, HTTP) ─► admission ─► decide (pure, on the snapshot) ─► dispatch ─► executor
//!        ▲                                                                  │
//!        └───────────────────────────── events ◄───────────────────────────┘ one usage event per attempt
//! ```
//!
//! Invariants: each request ends with exactly one end or error; before the first piece of the answer a failure is invisible
//! to the caller while a candidate is left, after it nothing is repeated; each attempt's usage event is on disk before the
//! caller hears the end; a request that must stay on the owner's machines is published only over a connection that the server lets
//! publish to nothing else; nothing on this way asks a control service (the snapshot is watched).

mod admission;
mod dispatch;
mod ingress;
mod live;
mod metrics;
mod settings;
mod snapshots;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use bus::{Announcement, Announcer, Bus, executor::Load, ledger::Ledger};
use service_runtime::Process;
use tokio_util::sync::CancellationToken;
use wire::permission::User;

pub use settings::Settings;

use crate::{
    admission::{Gate, VirtualKeys},
    dispatch::Coordinator,
    live::LiveState,
    metrics::Metrics,
    snapshots::Snapshots,
};

/// Runs the service until the process is told to stop.
///
/// # Errors
/// Wrong settings, an address that is taken, a ledger that cannot be opened.
pub async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let own = settings.own;
    own.check()?;
    let stop = process.shutdown.token();
    let bus_health = process.health.component("bus");
    let snapshot_health = process.health.component("routing-snapshot");
    process.serve_admin(own.admin_listen, axum::Router::new()).await?;

    let bus = Bus::connect(&settings.bus, process.service(), &process.instance, &process.node.machine, &stop)
        .await?;
    let private = connect_private(&settings.bus, &process, &stop).await?;
    let control = bus.control_when_ready(&stop).await?;
    bus_health.set_ready(true, "");

    let load = Load::default();
    // the ledger outlives the ingress: requests under way still record
    let ledger_stop = CancellationToken::new();
    let outbox = process.node.data_dir.join(process.service()).join("usage");
    let ledger = Ledger::open(&bus, &outbox, load.clone(), ledger_stop.clone())
        .with_context(|| format!("usage log in {}", outbox.display()))?;

    let snapshots = Snapshots::watch(&bus, &control, &process.tasks, stop.clone(), snapshot_health);
    let keys = VirtualKeys::watch(&bus, &control, &process.tasks, stop.clone());
    let announcement = Announcement::default();
    let clock = process.clock.clone();
    let announcer = Announcer {
        bus: bus.clone(),
        control,
        version: env!("CARGO_PKG_VERSION"),
        now_unix_ms: Arc::new(move || clock.now_unix_ms()),
        load: load.clone(),
    };
    let announced = announcer.run(announcement.clone(), stop.clone());
    process.tasks.spawn("announce", async move {
        announced.await;
        Ok(())
    });

    let coordinator = Arc::new(Coordinator {
        bus: bus.clone(),
        private,
        snapshots,
        live: LiveState::default(),
        ledger: ledger.clone(),
        metrics: Metrics::new(),
        clock: process.clock.clone(),
        limits: own.limits(),
        gate: Gate::new(&own.api_keys, own.keys_required, keys, process.clock.clone())?,
        requests: tokio_util::task::TaskTracker::new(),
        slots: Arc::new(tokio::sync::Semaphore::new(own.requests_max)),
        load,
        reservations: dispatch::Reservations::default(),
        audio_room: ingress::http::audio::Room::default(),
    });

    ingress::nats::start(&coordinator, &process.tasks, &stop).await?;
    ingress::http::start(&coordinator, &own, &process.tasks, &stop).await?;
    announcement.set_ready(true);
    tracing::info!("request-coordinator is ready");

    stop.cancelled().await;
    finish(&process, &coordinator, &ledger, &ledger_stop).await;
    Ok(())
}

/// The connection for requests that must stay on the owner's machines: its credentials have no right to publish to what
/// executes in the cloud, so that no mistake of this service can send them there.
async fn connect_private(
    settings: &bus::Settings,
    process: &Process,
    stop: &CancellationToken,
) -> Result<Bus, bus::ConnectError> {
    let user = User::CoordinatorPrivate.name();
    Bus::connect(settings, user, &process.instance, &process.node.machine, stop).await
}

/// Requests under way first, then their usage events, then the connection; all within the process's one deadline.
async fn finish(
    process: &Process,
    coordinator: &Coordinator,
    ledger: &Ledger,
    ledger_stop: &CancellationToken,
) {
    // a third of the time each is kept for what comes after
    let share = process.shutdown.remaining() / 3;
    coordinator.requests.close();
    if tokio::time::timeout(share, coordinator.requests.wait()).await.is_err() {
        tracing::warn!(requests = coordinator.requests.len(), "requests cut off by the shutdown");
    }
    if !ledger.finish(share.min(Duration::from_secs(2))).await {
        tracing::info!("usage events left for the next start");
    }
    ledger_stop.cancel();
    tokio::join!(coordinator.private.close(), coordinator.bus.close());
}
