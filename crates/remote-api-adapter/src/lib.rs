//! remote-api-adapter: runs requests on cloud providers and on servers that speak their dialects.
//!
//! It knows nothing of tiers or budgets: it executes what the coordinator sends to `exec.cloud.<machine>.any`, streams the
//! answer back, says what it used and what that cost, and refuses what it has no credentials for.
//!
//! - [`settings`] as written, [`config`] as checked; [`price`] the price table (a crate of its own).
//! - `provider` the seam, one folder for each dialect; `network` which addresses may be reached; `credential` one key, `keys`
//!   which of several a call uses.
//! - `jobs` batches and fine-tuning, which run at providers for hours.
//! - `connect` how each kind of provider is reached; `route` the deployments; `attempt` one attempt with its retries and its
//!   cost; `circuit` whether a deployment is called at all; `watch` probes and what is registered; `metrics` what is counted.
//!
//! Invariants: a call is repeated only while nothing of its answer was used; a stream that was cut never ends as a success;
//! keys and prompts reach no log, error or metric; connections go to configured hosts only.

mod attempt;
mod circuit;
pub mod config;
mod connect;
mod credential;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod jobs;
mod keys;
mod metrics;
mod network;
mod provider;
mod route;
pub mod settings;
mod watch;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use domain::{id::NodeId, routing::Plane};
use service_runtime::Process;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use wire::subject::{Execute, service};

pub use price_table as price;
pub use settings::Settings;

use crate::{attempt::Adapter, metrics::Metrics, route::Routes};

/// Between questions to servers that say themselves which models they have.
const DISCOVERY: Duration = Duration::from_secs(5);

/// Runs the service until its shutdown is asked for.
///
/// # Errors
/// A setting that makes no sense, an admin address that is taken, a bus that refuses the credentials.
pub async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let machine = NodeId::new(process.node.machine.as_str())?;
    let providers = config::check(&settings.adapter, &machine)
        .map_err(|error| error.within(service::REMOTE_API_ADAPTER))
        .context("the configuration is wrong")?;
    if providers.is_empty() {
        tracing::warn!("no providers are configured: nothing can be run remotely");
    }
    let pace = settings.adapter.jobs.check().map_err(|error| error.within(service::REMOTE_API_ADAPTER))?;
    let routes = Routes::new(machine.clone(), providers, &process.clock)?;
    let slots = routes.slots();
    let adapter = Arc::new(Adapter { routes, metrics: Metrics::new() });

    let listening = process.health.component("executor");
    process.serve_admin(settings.adapter.admin_listen, axum::Router::new()).await?;
    let stop = process.shutdown.token();
    let connected = bus::Bus::connect(
        &settings.bus,
        service::REMOTE_API_ADAPTER,
        &process.instance,
        &process.node.machine,
        &stop,
    );
    let bus = match connected.await {
        Err(bus::ConnectError::Stopped(_)) => return Ok(()),
        other => other?,
    };
    let load = bus::executor::Load::default();
    let announcement = bus::Announcement::default();
    let control = match bus.control_when_ready(&stop).await {
        Err(_) if stop.is_cancelled() => return Ok(()),
        other => other?,
    };
    // only what listens is registered: a request that came sooner would be told that nobody is there
    let (registers, listens) = tokio::sync::oneshot::channel();
    announce(&process, &bus, control, &adapter, &announcement, Announced { load: load.clone(), listens });
    let jobs_ended = serve_jobs(&process, &bus, &adapter, pace);

    let at = Execute { plane: Plane::Cloud, machine, executor: route::EXECUTOR.to_owned() };
    let ready = {
        let announcement = announcement.clone();
        move || {
            registers.send(()).ok();
            announcement.set_ready(true);
            listening.set_ready(true, "");
        }
    };
    let serving = bus::executor::serve(&bus, at, slots, Arc::clone(&adapter), load, stop.clone(), ready);
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended?,
        () = stop.cancelled() => {
            announcement.set_ready(false);
            // requests in flight may finish, within the shutdown's deadline
            match tokio::time::timeout_at(process.shutdown.deadline(), serving).await {
                Ok(ended) => ended?,
                Err(_) => tracing::warn!("requests in flight were broken off"),
            }
        }
    }
    if tokio::time::timeout_at(process.shutdown.deadline(), jobs_ended.cancelled()).await.is_err() {
        tracing::warn!("steps of jobs were broken off; the next start repeats them");
    }
    bus.close().await;
    Ok(())
}

/// Serves jobs beside the requests; the token fires when that is over.
fn serve_jobs(
    process: &Process,
    bus: &bus::Bus,
    adapter: &Arc<Adapter>,
    pace: jobs::Pace,
) -> CancellationToken {
    let start = jobs::Start {
        bus: bus.clone(),
        adapter: Arc::clone(adapter),
        pace,
        clock: process.clock.clone(),
        data_dir: process.node.data_dir.join(process.service()),
        stop: process.shutdown.token(),
    };
    let ended = CancellationToken::new();
    let over = ended.clone().drop_guard();
    process.tasks.spawn("jobs", async move {
        let _over = over;
        jobs::run(start).await
    });
    ended
}

/// What an announcement waits for and counts.
struct Announced {
    load: bus::executor::Load,
    /// Fires once the executor listens.
    listens: tokio::sync::oneshot::Receiver<()>,
}

/// Makes the deployments known, and keeps what is known of them up to date.
fn announce(
    process: &Process,
    bus: &bus::Bus,
    control: bus::control::Control,
    adapter: &Arc<Adapter>,
    announcement: &bus::Announcement,
    Announced { load, listens }: Announced,
) {
    announcement.set_deployments(adapter.routes.registered());
    let clock = process.clock.clone();
    let announcer = bus::Announcer {
        bus: bus.clone(),
        control,
        version: service_runtime::VERSION,
        now_unix_ms: Arc::new(move || clock.now_unix_ms()),
        load,
    };
    let (told, stop) = (announcement.clone(), process.shutdown.token());
    process.tasks.spawn("announce", async move {
        if listens.await.is_ok() {
            announcer.run(told, stop).await;
        }
        Ok(())
    });
    if adapter.routes.discovers() {
        let (adapter, stop) = (Arc::clone(adapter), process.shutdown.token());
        process.tasks.spawn("discovery", async move {
            let mut tick = tokio::time::interval(DISCOVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = tick.tick() => {}
                }
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = adapter.routes.discover() => {}
                }
            }
        });
    }
    watch::availability(process, adapter, announcement.clone());
    watch::probes(process, &adapter.routes);
}
