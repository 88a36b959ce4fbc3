//! The sender: takes batches from the queue, in order, one request at a time, until a hub has them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use service_runtime::{Clock, Component};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::failover::{Failover, Hub};
use crate::http::ClientError;
use crate::queue::{Dropped, Queue};
use crate::remote_write::{Batch, BatchLimits, join};
use crate::retry::{Backoff, Verdict, judge};
use crate::series::UnixMillis;
use crate::telemetry::{DropReason, Metrics};
use client::HubClient;

mod client;

/// Pause after the queue could not be read, which no request causes and no request heals.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(1);

/// What a sender works with.
#[derive(Debug)]
pub struct Sender {
    queue: Arc<Queue>,
    /// Told after each push.
    pushed: Arc<Notify>,
    client: HubClient,
    limits: BatchLimits,
    backoff: Backoff,
    failover: Failover,
    metrics: Metrics,
    /// Never unready: an absent hub is no reason to take this process out of service.
    health: Component,
    clock: Clock,
    /// Zero of the failover's clock.
    started: Instant,
    /// In a row, on any hub.
    failures: u32,
    /// The last failure was followed by a change of hubs instead of a wait.
    hurried: bool,
    /// Whether the last read position was stored.
    stored: bool,
}

/// How the sending of a request ended.
enum Ending {
    Delivered,
    GivenUp,
    TooLarge,
    Stopped,
}

impl Sender {
    /// A sender that begins with the oldest batch in the queue.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn new(
        config: &config::Config,
        queue: Arc<Queue>,
        pushed: Arc<Notify>,
        metrics: Metrics,
        health: Component,
        clock: Clock,
    ) -> Result<Self, ClientError> {
        health.set_ready(true, "nothing sent yet");
        let hubs = &config.hubs;
        Ok(Self {
            queue,
            pushed,
            client: HubClient::new(hubs)?,
            limits: config.batch,
            backoff: hubs.backoff,
            failover: Failover::new(hubs.standby.as_ref().map(|_| hubs.failover)),
            metrics,
            health,
            clock,
            started: Instant::now(),
            failures: 0,
            hurried: false,
            stored: true,
        })
    }

    /// Runs until `stop` fires. What was not delivered by then stays in the queue.
    ///
    /// # Errors
    /// A blocking task was lost, which only a panic in it can cause.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            let queue = Arc::clone(&self.queue);
            let limits = self.limits;
            let taken = match tokio::task::spawn_blocking(move || queue.take(limits)).await? {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::error!(%error, "the queue cannot be read");
                    if paused(UNREADABLE_PAUSE, &stop).await {
                        continue;
                    }
                    return Ok(());
                }
            };
            self.metrics.dropped(DropReason::Damaged, taken.damaged);
            let nothing = taken.batches.is_empty();
            if !nothing && !self.deliver(taken.batches, &stop).await {
                return Ok(());
            }
            self.done(taken.end).await?;
            if nothing {
                tokio::select! {
                    () = self.pushed.notified() => {}
                    () = stop.cancelled() => return Ok(()),
                }
            }
        }
    }

    async fn done(&mut self, end: durable_log::Position) -> anyhow::Result<()> {
        let queue = Arc::clone(&self.queue);
        let (stored, backlog) =
            tokio::task::spawn_blocking(move || (queue.done(end), queue.backlog())).await?;
        if let Err(error) = &stored
            && self.stored
        {
            tracing::warn!(%error, "the queue's read position cannot be stored, a restart would send some again");
        }
        self.stored = stored.is_ok();
        self.metrics.queue(backlog);
        Ok(())
    }

    /// Sends batches until each is delivered or given up; `false` when stopped before.
    async fn deliver(&mut self, batches: Vec<Batch>, stop: &CancellationToken) -> bool {
        let mut requests = VecDeque::from([batches]);
        while let Some(request) = requests.pop_front() {
            let count = request.len() as u64;
            let samples = request.iter().map(|batch| batch.samples).sum();
            let body = match join(&request) {
                Ok(body) => body,
                Err(error) => {
                    tracing::error!(%error, samples, "batches in the queue cannot be joined");
                    self.metrics.dropped(DropReason::Damaged, Dropped { batches: count, samples });
                    continue;
                }
            };
            match self.send(body, samples, stop).await {
                Ending::Delivered => self.metrics.sent(samples, self.now()),
                Ending::TooLarge if request.len() > 1 => {
                    requests = request.into_iter().map(|batch| vec![batch]).chain(requests).collect();
                }
                Ending::TooLarge | Ending::GivenUp => {
                    self.metrics.dropped(DropReason::Rejected, Dropped { batches: count, samples });
                }
                Ending::Stopped => return false,
            }
        }
        true
    }

    /// Sends one request until a hub takes it or refuses it for good.
    async fn send(&mut self, body: Vec<u8>, samples: u64, stop: &CancellationToken) -> Ending {
        let body = bytes::Bytes::from(body);
        let mut token_read_again = false;
        loop {
            let hub = self.failover.choose(self.started.elapsed());
            let sent = Instant::now();
            let reply = tokio::select! {
                reply = self.client.send(hub, body.clone()) => reply,
                () = stop.cancelled() => return Ending::Stopped,
            };
            self.metrics.request(hub, sent.elapsed());
            let verdict = judge(&reply.answer, self.now());
            if let Verdict::Retry { not_before } = verdict {
                self.metrics.failure(hub, reply.status());
                let wait = self.failed(hub, &reply.detail, not_before.unwrap_or_default());
                if !paused(wait, stop).await {
                    return Ending::Stopped;
                }
                continue;
            }
            self.answered(hub);
            if verdict == Verdict::Delivered {
                return Ending::Delivered;
            }
            self.metrics.failure(hub, reply.status());
            // The token may have been exchanged after it was read.
            let exchanged = || self.client.token().is_ok_and(|token| token != reply.token);
            if verdict == Verdict::Unauthorized && !token_read_again && exchanged() {
                token_read_again = true;
                continue;
            }
            if verdict == Verdict::TooLarge {
                tracing::warn!(hub = hub.name(), samples, "the hub calls a request too large");
                return Ending::TooLarge;
            }
            let (status, detail) = (reply.status(), reply.detail);
            tracing::error!(
                hub = hub.name(),
                ?status,
                detail,
                samples,
                "the hub refused samples, they are dropped"
            );
            return Ending::GivenUp;
        }
    }

    fn answered(&mut self, hub: Hub) {
        if self.failures > 0 {
            tracing::info!(hub = hub.name(), failures = self.failures, "the hub takes samples again");
        }
        self.failures = 0;
        self.hurried = false;
        self.failover.succeeded(hub);
        self.metrics.standby(self.failover.using());
        self.health.set_ready(true, format!("the {} hub takes samples", hub.name()));
    }

    /// Takes note of a failure; returns how long to wait before the next attempt.
    fn failed(&mut self, hub: Hub, detail: &str, not_before: Duration) -> Duration {
        let changed = self.failover.failed(hub, self.started.elapsed());
        self.metrics.standby(self.failover.using());
        self.failures = self.failures.saturating_add(1);
        // Each doubling is told: often enough to see, too rare to fill a disk.
        if self.failures.is_power_of_two() {
            let failures = self.failures;
            tracing::warn!(
                hub = hub.name(),
                failures,
                detail,
                "the hub does not take samples, they are kept on disk"
            );
        }
        let told = format!("the {} hub does not take samples, they are kept on disk: {detail}", hub.name());
        self.health.set_ready(true, told);
        // The other hub is asked at once, but not in a circle.
        self.hurried = changed && !self.hurried;
        if self.hurried {
            Duration::ZERO
        } else {
            self.backoff.delay(self.failures, fastrand::f64()).max(not_before)
        }
    }

    fn now(&self) -> UnixMillis {
        UnixMillis::new(i64::try_from(self.clock.now_unix_ms()).unwrap_or(i64::MAX))
    }
}

/// Waits; `false` when stopped meanwhile.
async fn paused(wait: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(wait) => true,
        () = stop.cancelled() => false,
    }
}
