//! The sender and its queue against hubs that fail in every way, over real HTTP.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Hub, Scripted, status, values};
use metrics_forwarder::config::{Config, Raw};
use metrics_forwarder::queue::Queue;
use metrics_forwarder::remote_write::{BatchLimits, pack};
use metrics_forwarder::sender::Sender;
use metrics_forwarder::series::{Labels, Sample, UnixMillis};
use metrics_forwarder::telemetry::Metrics;
use service_runtime::{Process, Secret};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A sender at work on the queue in `dir`, as after a start of the process.
struct Running {
    queue: Arc<Queue>,
    pushed: Arc<Notify>,
    stop: CancellationToken,
    process: Process,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Running {
    fn start(dir: &Path, change: impl FnOnce(&mut Raw)) -> Self {
        let mut raw = Raw::default();
        raw.send.backoff_ms_first = 1;
        raw.send.backoff_ms_max = 5;
        raw.batch.samples_max = 10;
        change(&mut raw);
        let config = Config::new(raw, dir, "pc2").unwrap();
        let process = Process::for_tests("metrics-forwarder", "pc2", dir);
        let queue = Arc::new(Queue::open(&config.queue).unwrap().0);
        let (pushed, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let sender = Sender::new(
            &config,
            Arc::clone(&queue),
            Arc::clone(&pushed),
            Metrics::new(),
            process.health.component("hub"),
            process.clock.clone(),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(sender.unwrap().run(stop.clone()));
        Self { queue, pushed, stop, process, tasks }
    }

    /// Puts samples with these values into the queue, each a batch of its own.
    fn push(&self, values: std::ops::Range<u32>) {
        for value in values {
            let labels = vec![("__name__".to_owned(), "number".to_owned())];
            let labels = Labels::new(labels).unwrap();
            let sample =
                Sample { labels, value: f64::from(value), timestamp: UnixMillis::new(i64::from(value)) };
            let limits = BatchLimits { samples_max: 1, bytes_max: 1000 };
            self.queue.push(&pack(&[sample], &[], limits).unwrap()).unwrap();
        }
        self.pushed.notify_one();
    }

    /// Ends like a killed process: whatever is on its way is forgotten, nothing is finished.
    async fn kill(mut self) {
        self.tasks.shutdown().await;
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }

    fn hub_detail(&self) -> String {
        let report = self.process.health.report();
        report.components.into_iter().find(|component| component.name == "hub").unwrap().detail
    }
}

fn numbers(end: u32) -> Vec<f64> {
    (0..end).map(f64::from).collect()
}

#[tokio::test]
async fn a_request_is_what_the_specification_asks_for() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start().await);
    let running = Running::start(dir.path(), |raw| raw.hub_url = hub.url());
    running.push(0..1);
    let headers = &hub.requests(1).await[0].headers;
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("content-encoding").as_deref(), Some("snappy"));
    assert_eq!(header("content-type").as_deref(), Some("application/x-protobuf"));
    assert_eq!(header("x-prometheus-remote-write-version").as_deref(), Some("0.1.0"));
    assert!(header("user-agent").unwrap().starts_with("metrics-forwarder/"));
    assert_eq!(header("authorization"), None);
    running.stop().await;
}

#[tokio::test]
async fn a_hub_that_fails_and_recovers_gets_everything_in_order() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start().await);
    hub.next([503, 500, 429, 502, 504].map(status));
    let running = Running::start(dir.path(), |raw| raw.hub_url = hub.url());
    running.push(0..25);
    let accepted = hub.accepted(|series| series.len() >= 25).await;
    assert_eq!(values(&accepted, "number"), numbers(25));
    let seen = hub.requests(5 + 3).await;
    assert!(seen.iter().all(|request| request.samples <= 10), "a request was larger than allowed");
    running.stop().await;
}

#[tokio::test]
async fn a_killed_sender_loses_nothing_and_its_successor_keeps_the_order() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start().await);
    hub.always(503);
    let settings = |raw: &mut Raw| raw.hub_url = hub.url();
    let running = Running::start(dir.path(), settings);
    running.push(0..40);
    hub.requests(3).await;
    hub.next([status(204), status(204)]);
    hub.accepted(|series| series.len() >= 20).await;
    running.kill().await;

    let running = Running::start(dir.path(), settings);
    running.push(40..50);
    hub.always(204);
    let accepted =
        hub.accepted(|series| series.last().is_some_and(|last| last.samples[0].value >= 49.0)).await;
    let mut values = values(&accepted, "number");
    // A request whose acknowledgement was not stored any more comes a second time, as a whole.
    if let Some(again) = values.windows(2).position(|pair| pair[1] <= pair[0]) {
        let from = values[again + 1] as usize;
        assert!(again - from < 10, "more than one request was repeated");
        values.drain(from..=again);
    }
    assert_eq!(values, numbers(50));
    running.stop().await;
}

#[tokio::test]
async fn a_hub_that_is_not_there_yet_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    // Bound and dropped: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let running = Running::start(dir.path(), |raw| raw.hub_url = format!("http://{address}/api/v1/write"));
    running.push(0..5);
    let hub = Hub::start_at(address).await;
    let accepted = hub.accepted(|series| series.len() >= 5).await;
    assert_eq!(values(&accepted, "number"), numbers(5));
    running.stop().await;
}

#[tokio::test]
async fn refused_samples_are_dropped_once_and_the_next_go_on() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start().await);
    for refusal in [400, 401, 403, 404, 415, 302] {
        hub.next([status(refusal)]);
    }
    let running = Running::start(dir.path(), |raw| {
        raw.hub_url = hub.url();
        raw.batch.samples_max = 1;
    });
    running.push(0..8);
    let accepted = hub.accepted(|series| series.len() >= 2).await;
    assert_eq!(values(&accepted, "number"), [6.0, 7.0]);
    assert_eq!(hub.requests(8).await.len(), 8);
    running.stop().await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_sent_in_parts() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start().await);
    hub.always(503);
    let running = Running::start(dir.path(), |raw| raw.hub_url = hub.url());
    running.push(0..1);
    hub.requests(1).await;
    running.push(1..12);
    hub.next([status(204), status(413)]);
    hub.always(204);
    let accepted = hub.accepted(|series| series.len() >= 12).await;
    assert_eq!(values(&accepted, "number"), numbers(12));
    running.stop().await;
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start().await);
    hub.next([Scripted { status: 503, retry_after: Some("1") }]);
    let running = Running::start(dir.path(), |raw| raw.hub_url = hub.url());
    running.push(0..1);
    let seen = hub.requests(2).await;
    assert!(seen[1].at - seen[0].at >= Duration::from_millis(990), "asked again too early");
    running.stop().await;
}

#[tokio::test]
async fn the_standby_takes_over_and_hands_back_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (primary, standby) = (Hub::start().await, Hub::start().await);
    let running = Running::start(dir.path(), |raw| {
        raw.hub_url = primary.url();
        raw.standby_hub_url = Some(standby.url());
        raw.send.failures_before_standby = 3;
        raw.send.primary_probe_ms = 100;
    });
    running.push(0..5);
    primary.accepted(|series| series.len() >= 5).await;
    primary.always(503);
    running.push(5..10);
    let on_standby = standby.accepted(|series| series.len() >= 5).await;
    assert_eq!(values(&on_standby, "number"), [5.0, 6.0, 7.0, 8.0, 9.0]);

    primary.always(204);
    // The primary is asked again with whatever comes next once its time has come, so the stream goes on until then.
    let mut next = 10;
    while primary.accepted(|_| true).await.len() == 5 {
        let sent = f64::from(next);
        running.push(next..next + 1);
        next += 1;
        let arrived = |series: &Vec<_>| values(series, "number").contains(&sent);
        tokio::select! {
            _ = primary.accepted(arrived) => {}
            _ = standby.accepted(arrived) => {}
        }
    }
    let mut all = values(&primary.accepted(|_| true).await, "number");
    all.extend(values(&standby.accepted(|_| true).await, "number"));
    all.sort_by(f64::total_cmp);
    assert_eq!(all, numbers(next), "something was lost or sent to both");
    running.stop().await;
}

#[tokio::test]
async fn a_token_that_was_exchanged_is_read_again() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start().await);
    let file = dir.path().join("token");
    std::fs::write(&file, "old\n").unwrap();
    hub.always(503);
    let running = Running::start(dir.path(), |raw| {
        raw.hub_url = hub.url();
        raw.token = Some(Secret::file(&file));
    });
    running.push(0..1);
    hub.requests(1).await;
    std::fs::write(&file, "new\n").unwrap();
    hub.always(204);
    hub.accepted(|series| series.len() == 1).await;
    let seen = hub.requests(2).await;
    let token = |index: usize| seen[index].headers["authorization"].to_str().unwrap().to_owned();
    assert_eq!((token(0), token(seen.len() - 1)), ("Bearer old".to_owned(), "Bearer new".to_owned()));
    running.stop().await;
}

#[tokio::test]
async fn samples_wait_while_the_token_cannot_be_read() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start().await);
    let file = dir.path().join("token");
    let running = Running::start(dir.path(), |raw| {
        raw.hub_url = hub.url();
        raw.token = Some(Secret::file(&file));
    });
    running.push(0..3);
    std::fs::write(&file, "secret").unwrap();
    let accepted = hub.accepted(|series| series.len() >= 3).await;
    assert_eq!(values(&accepted, "number"), numbers(3));
    running.stop().await;
}

#[tokio::test]
async fn an_absent_hub_is_told_but_does_not_make_the_process_unready() {
    let (dir, hub) = (tempfile::tempdir().unwrap(), Hub::start().await);
    hub.always(503);
    let running = Running::start(dir.path(), |raw| raw.hub_url = hub.url());
    running.push(0..1);
    hub.requests(3).await;
    assert!(running.process.health.is_ready());
    assert!(running.hub_detail().contains("503"), "{}", running.hub_detail());
    hub.always(204);
    hub.accepted(|series| !series.is_empty()).await;
    running.stop().await;
}
