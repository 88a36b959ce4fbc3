//! metrics-forwarder: scrapes its machine's services and ships what they tell to the hub by Prometheus remote-write.
//!
//! ```text
//!  targets ──► scraper (one per target) ──► queue on disk ──► sender ──► hub, or standby hub
//!               exposition, scrape,          (append, fsync)   retry, failover
//!               staleness, remote_write
//! ```
//!
//! Invariants:
//! - What a scrape brought is on disk before anything else happens with it; the read position moves on only behind what
//!   a hub acknowledged or refused for good. `kill -9` loses nothing that was scraped.
//! - One request is on its way at a time, so that the order of the queue is the order in which hubs see samples.
//! - A hub that is away for however long costs disk up to `queue.max_bytes`, then the oldest samples, and nothing else.
//!
//! The decisions are pure modules ([`exposition`], [`scrape`], [`staleness`], [`remote_write`], [`retry`], [`failover`]);
//! [`scraper`] and [`sender`] carry them out.

mod announce;
pub mod config;
pub mod exposition;
pub mod failover;
pub mod http;
pub mod queue;
pub mod remote_write;
pub mod retry;
pub mod scrape;
pub mod scraper;
pub mod sender;
pub mod series;
pub mod staleness;
pub mod telemetry;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use service_runtime::Process;
use tokio::sync::Notify;

use config::Config;
use queue::Queue;
use scraper::{Scraper, Shared};
use sender::Sender;
use telemetry::Metrics;

/// The sections that this service reads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The bus.
    pub bus: bus::Settings,
    /// This service.
    #[serde(rename = "metrics-forwarder")]
    pub own: config::Raw,
}

/// Runs the service until its process is to end.
///
/// # Errors
/// The settings are wrong, the admin address is taken, or the queue cannot be opened.
pub async fn run(settings: Settings, process: Process) -> anyhow::Result<()> {
    let config = Config::new(settings.own, &process.node.data_dir, &process.node.machine)?;
    let scraping = process.health.component("scrape");
    process.serve_admin(config.admin_listen, axum::Router::new()).await?;

    let queue = open(config.queue.clone()).await?;
    let metrics = Metrics::new();
    metrics.queue(queue.backlog());
    let pushed = Arc::new(Notify::new());
    let stop = process.shutdown.token();

    let hub = process.health.component("hub");
    let clock = process.clock.clone();
    let sender =
        Sender::new(&config, Arc::clone(&queue), Arc::clone(&pushed), metrics.clone(), hub, clock.clone())?;
    process.tasks.spawn("sender", sender.run(stop.clone()));

    let addresses = config.targets.iter().map(|target| &target.url);
    let client = http::client(addresses, None, config.scrape.timeout)?;
    let (limits, batch) = (config.scrape, config.batch);
    let shared = Shared { client, limits, batch, queue, pushed, metrics, clock };
    let count = config.targets.len();
    for (index, target) in config.targets.into_iter().enumerate() {
        let name = format!("scrape {}", target.url);
        let scraper = Scraper::new(shared.clone(), target);
        process.tasks.spawn(name, scraper.run(offset(limits.interval, index, count), stop.clone()));
    }
    scraping.set_ready(true, format!("{count} targets"));

    process.tasks.spawn("announce", announce::run(settings.bus, process.clone()));
    process.shutdown.requested().await;
    Ok(())
}

async fn open(config: config::Queue) -> anyhow::Result<Arc<Queue>> {
    let dir = config.dir.clone();
    let (queue, recovery) = tokio::task::spawn_blocking(move || Queue::open(&config))
        .await?
        .with_context(|| format!("the queue in {} cannot be opened", dir.display()))?;
    let waiting = queue.backlog().batches;
    tracing::info!(waiting, dir = %dir.display(), "queue opened");
    if recovery.truncated_bytes > 0 || recovery.header_repaired {
        let (truncated_bytes, header_repaired) = (recovery.truncated_bytes, recovery.header_repaired);
        tracing::warn!(
            truncated_bytes,
            header_repaired,
            "the end of the queue was damaged and has been repaired"
        );
    }
    Ok(Arc::new(queue))
}

/// Spreads the targets over the interval, so that they don't all answer, and fsync, at once.
fn offset(interval: Duration, index: usize, count: usize) -> Duration {
    interval.mul_f64(index as f64 / count.max(1) as f64)
}
