//! The loop of one target: scrape, turn into samples, put into the queue.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use service_runtime::Clock;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::exposition::parse;
use crate::queue::{Dropped, Queue};
use crate::remote_write::{Batch, BatchLimits, pack};
use crate::scrape::client::{Fetched, fetch};
use crate::scrape::{Outcome, ScrapeError, Target};
use crate::series::UnixMillis;
use crate::telemetry::{DropReason, Metrics};

/// What all scrapers share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// For targets, with their time limit.
    pub client: Client,
    /// Limits and rhythm.
    pub limits: config::Scrape,
    /// Bounds of a batch.
    pub batch: BatchLimits,
    /// Where samples go.
    pub queue: Arc<Queue>,
    /// Told after each push.
    pub pushed: Arc<Notify>,
    /// The forwarder's own.
    pub metrics: Metrics,
    /// Time of the samples.
    pub clock: Clock,
}

/// The loop of one target.
#[derive(Debug)]
pub struct Scraper {
    shared: Shared,
    target: config::Target,
    state: Target,
    /// Whether the last scrape worked; nothing before the first.
    up: Option<bool>,
    /// Whether the last push worked.
    kept: bool,
}

impl Scraper {
    /// A scraper that has seen nothing yet.
    #[must_use]
    pub fn new(shared: Shared, target: config::Target) -> Self {
        let state = Target::new(target.labels.clone());
        Self { shared, target, state, up: None, kept: true }
    }

    /// Scrapes after `offset` and then at each interval, until `stop` fires. A scrape that takes too long makes the next
    /// one late, not two at a time.
    ///
    /// # Errors
    /// A blocking task was lost, which only a panic in it can cause.
    pub async fn run(mut self, offset: Duration, stop: CancellationToken) -> anyhow::Result<()> {
        let mut interval = interval_at(Instant::now() + offset, self.shared.limits.interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = interval.tick() => {}
            }
            let started = UnixMillis::new(i64::try_from(self.shared.clock.now_unix_ms()).unwrap_or(i64::MAX));
            let began = Instant::now();
            let fetched = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                fetched = fetch(&self.shared.client, &self.target.url, self.shared.limits) => fetched,
            };
            let took = began.elapsed();
            // Parsing, compressing and fsync keep a thread busy for milliseconds.
            self = tokio::task::spawn_blocking(move || {
                self.take_in(started, took, fetched);
                self
            })
            .await?;
            self.shared.pushed.notify_one();
        }
    }

    fn take_in(&mut self, started: UnixMillis, took: Duration, fetched: Result<Fetched, ScrapeError>) {
        let samples_max = self.shared.limits.samples_max;
        let scraped = fetched.and_then(|fetched| Ok(parse(&fetched.text, fetched.format, samples_max)?));
        self.tell(&scraped);
        let up = scraped.is_ok();
        let outcome = self.state.take_in(started, took, scraped);
        let metrics = &self.shared.metrics;
        metrics.scrape(&self.target.job, up, outcome.rejected.lines, outcome.duplicates);
        self.push(&outcome);
        self.shared.metrics.queue(self.shared.queue.backlog());
    }

    /// Logs what is new: a target that changes, lines that are not understood when it comes up.
    fn tell(&mut self, scraped: &Result<crate::exposition::Exposition, ScrapeError>) {
        let changed = self.up != Some(scraped.is_ok());
        self.up = Some(scraped.is_ok());
        if !changed {
            return;
        }
        let (job, url) = (self.target.job.as_str(), self.target.url.as_str());
        match scraped {
            Err(error) => tracing::warn!(job, url, %error, "target is down"),
            Ok(exposition) => {
                tracing::info!(job, url, samples = exposition.samples.len(), "target is up");
                for error in &exposition.rejected.first {
                    tracing::warn!(job, url, %error, "target exposes lines that are not understood");
                }
            }
        }
    }

    fn push(&mut self, outcome: &Outcome) {
        let metrics = &self.shared.metrics;
        let batches = match pack(&outcome.samples, &outcome.metadata, self.shared.batch) {
            Ok(batches) => batches,
            Err(error) => {
                let samples = outcome.samples.len() as u64;
                tracing::error!(job = self.target.job, samples, %error, "samples cannot be packed");
                return metrics.dropped(DropReason::Disk, Dropped { batches: 1, samples });
            }
        };
        match self.shared.queue.push(&batches) {
            Ok(dropped) => {
                metrics.dropped(DropReason::QueueFull, dropped);
                if dropped.batches > 0 {
                    let (batches, samples) = (dropped.batches, dropped.samples);
                    tracing::warn!(batches, samples, "the queue is full, the oldest samples are dropped");
                }
                if !self.kept {
                    tracing::info!(job = self.target.job, "samples are kept on disk again");
                }
                self.kept = true;
            }
            Err(error) => {
                let lost: Vec<&Batch> = batches.iter().skip(error.kept).collect();
                let samples = lost.iter().map(|batch| batch.samples).sum();
                metrics.dropped(DropReason::Disk, Dropped { batches: lost.len() as u64, samples });
                if self.kept {
                    tracing::error!(job = self.target.job, samples, %error, "samples cannot be kept, they are dropped");
                }
                self.kept = false;
            }
        }
    }
}
