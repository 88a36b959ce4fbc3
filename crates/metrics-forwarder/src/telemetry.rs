//! The forwarder's own metrics.

use opentelemetry::metrics::{Counter, Gauge, Histogram};
use opentelemetry::{KeyValue, global};

use crate::failover::Hub;
use crate::queue::{Backlog, Dropped};
use crate::series::UnixMillis;

/// Why samples were given up; the values of label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The hub was away for longer than the queue holds.
    QueueFull,
    /// The disk refused them.
    Disk,
    /// The hub refused them.
    Rejected,
    /// They were damaged on disk.
    Damaged,
}

impl DropReason {
    const ALL: [Self; 4] = [Self::QueueFull, Self::Disk, Self::Rejected, Self::Damaged];

    const fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Disk => "disk",
            Self::Rejected => "rejected",
            Self::Damaged => "damaged",
        }
    }
}

/// The instruments. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    queue_bytes: Gauge<u64>,
    queue_batches: Gauge<u64>,
    sent: Counter<u64>,
    dropped: Counter<u64>,
    dropped_batches: Counter<u64>,
    failures: Counter<u64>,
    duration: Histogram<f64>,
    last_success: Gauge<f64>,
    standby: Gauge<u64>,
    scrapes: Counter<u64>,
    lines: Counter<u64>,
    duplicates: Counter<u64>,
}

impl Metrics {
    /// Instruments of the global meter provider.
    #[must_use]
    pub fn new() -> Self {
        let meter = global::meter("metrics-forwarder");
        let counter = |name, description| meter.u64_counter(name).with_description(description).build();
        let gauge = |name, description| meter.u64_gauge(name).with_description(description);
        let metrics = Self {
            queue_bytes: gauge("metrics_forwarder.queue.size", "Bytes of the queue on disk")
                .with_unit("By")
                .build(),
            queue_batches: gauge("metrics_forwarder.queue.batches", "Batches that wait for the hub").build(),
            sent: counter("metrics_forwarder.samples.sent", "Samples that a hub has acknowledged"),
            dropped: counter("metrics_forwarder.samples.dropped", "Samples given up, by reason"),
            dropped_batches: counter("metrics_forwarder.batches.dropped", "Batches given up, by reason"),
            failures: counter(
                "metrics_forwarder.send.failures",
                "Requests that no hub took, by hub and cause",
            ),
            duration: meter
                .f64_histogram("metrics_forwarder.send.duration")
                .with_description("Time of one remote-write request")
                .with_unit("s")
                .build(),
            last_success: meter
                .f64_gauge("metrics_forwarder.last_success.timestamp")
                .with_description("When a hub last acknowledged samples, seconds since 1970")
                .with_unit("s")
                .build(),
            standby: gauge("metrics_forwarder.standby.active", "1 while samples go to the standby hub")
                .build(),
            scrapes: counter("metrics_forwarder.scrapes", "Scrapes, by target and outcome"),
            lines: counter(
                "metrics_forwarder.scrape.lines.rejected",
                "Lines that were not understood, by target",
            ),
            duplicates: counter(
                "metrics_forwarder.scrape.samples.duplicate",
                "Samples that a scrape gave twice, by target",
            ),
        };
        for reason in DropReason::ALL {
            metrics.dropped(reason, Dropped::default());
        }
        metrics.sent.add(0, &[]);
        metrics.standby(Hub::Primary);
        metrics
    }

    pub(crate) fn queue(&self, backlog: Backlog) {
        self.queue_bytes.record(backlog.bytes, &[]);
        self.queue_batches.record(backlog.batches, &[]);
    }

    pub(crate) fn sent(&self, samples: u64, now: UnixMillis) {
        self.sent.add(samples, &[]);
        self.last_success.record(now.get() as f64 / 1000.0, &[]);
    }

    pub(crate) fn dropped(&self, reason: DropReason, dropped: Dropped) {
        let reason = [KeyValue::new("reason", reason.label())];
        self.dropped.add(dropped.samples, &reason);
        self.dropped_batches.add(dropped.batches, &reason);
    }

    /// `status` is missing when there was no answer.
    pub(crate) fn failure(&self, hub: Hub, status: Option<u16>) {
        let cause = status.map_or_else(|| "no_answer".to_owned(), |status| status.to_string());
        self.failures.add(1, &[KeyValue::new("hub", hub.name()), KeyValue::new("cause", cause)]);
    }

    pub(crate) fn request(&self, hub: Hub, took: std::time::Duration) {
        self.duration.record(took.as_secs_f64(), &[KeyValue::new("hub", hub.name())]);
    }

    pub(crate) fn standby(&self, using: Hub) {
        self.standby.record(u64::from(using == Hub::Standby), &[]);
    }

    pub(crate) fn scrape(&self, job: &str, up: bool, lines: u64, duplicates: u64) {
        // Not `job`, which is the forwarder's own once it scrapes itself.
        let job = KeyValue::new("target_job", job.to_owned());
        let outcome = KeyValue::new("outcome", if up { "ok" } else { "failed" });
        self.scrapes.add(1, &[job.clone(), outcome]);
        self.lines.add(lines, std::slice::from_ref(&job));
        self.duplicates.add(duplicates, &[job]);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
