//! A closed-loop load generator: each connection sends its next request when the answer to the last one is whole.
//!
//! HTTP/1.1 with keep-alive, one hyper connection each, no pool in between. Events of a stream are counted as they arrive.

mod events;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use events::Events;

/// Failed requests in a row after which a connection gives up.
const FAILURES_MAX: u32 = 100;
/// Pause after a failed request, so that a dead server is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);
/// How long a single request may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What is asked, and how often.
#[derive(Debug, Clone)]
pub struct Load {
    /// `http://host:port/path`.
    pub url: Uri,
    /// Bearer key; none when absent.
    pub key: Option<String>,
    /// The same body each time.
    pub body: Bytes,
    /// Requests at any moment.
    pub connections: usize,
    /// Time before anything counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub length: Length,
}

/// How long it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// A time.
    Time(Duration),
    /// A number of answers.
    Answers(u64),
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Time that counted.
    pub elapsed: Duration,
    /// Whole answers with status 200.
    pub answers: u64,
    /// Events of streams.
    pub events: u64,
    /// Requests without a whole answer, or with another status.
    pub failures: u64,
    /// From the request to the end of the answer, sorted.
    pub latency: Vec<Duration>,
    /// From the request to the first event, sorted; empty without streams.
    pub first_event: Vec<Duration>,
}

/// The value below which a share of the sorted values lies (nearest rank); zero when there are none.
#[must_use]
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank of a list in memory")]
    #[expect(clippy::cast_precision_loss, reason = "a rank of a list in memory")]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).or(sorted.last()).copied().unwrap_or_default()
}

#[derive(Debug)]
struct Shared {
    load: Load,
    address: String,
    answers: AtomicU64,
    events: AtomicU64,
    failures: AtomicU64,
    /// Number of answers at which the measurement ends.
    goal: AtomicU64,
    reached: Notify,
    stop: AtomicBool,
}

/// One answer, by a connection's own clock.
struct Sample {
    end: Instant,
    latency: Duration,
    first_event: Option<Duration>,
}

/// Runs the load. `mark` is called when counting starts and when it ends.
///
/// # Errors
/// The server cannot be reached or keeps failing, or `mark` fails.
pub async fn run<M>(
    load: Load,
    mut mark: impl FnMut() -> anyhow::Result<M>,
) -> anyhow::Result<(Outcome, M, M)> {
    let address = load.url.authority().context("the URL has no host")?.to_string();
    let (connections, warm_up, length) = (load.connections, load.warm_up, load.length);
    let shared = Arc::new(Shared {
        load,
        address,
        answers: AtomicU64::new(0),
        events: AtomicU64::new(0),
        failures: AtomicU64::new(0),
        goal: AtomicU64::new(u64::MAX),
        reached: Notify::new(),
        stop: AtomicBool::new(false),
    });
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(connection(Arc::clone(&shared)));
    }

    tokio::time::sleep(warm_up).await;
    let (first, start, before) = (mark()?, Instant::now(), shared.counts());
    match length {
        Length::Time(time) => tokio::time::sleep(time).await,
        Length::Answers(count) => {
            shared.goal.store(before.0 + count, Ordering::Relaxed);
            tokio::select! {
                () = shared.reached.notified() => {}
                // Connections run until they are stopped: one that ends has given up.
                Some(ended) = tasks.join_next() => drop(ended.context("a connection panicked")??),
            }
        }
    }
    let (end, after, last) = (Instant::now(), shared.counts(), mark()?);

    shared.stop.store(true, Ordering::Relaxed);
    let mut outcome = Outcome {
        elapsed: end - start,
        answers: after.0 - before.0,
        events: after.1 - before.1,
        failures: after.2 - before.2,
        ..Outcome::default()
    };
    while let Some(samples) = tasks.join_next().await {
        let samples = samples.context("a connection panicked")??;
        for sample in samples.into_iter().filter(|sample| (start..=end).contains(&sample.end)) {
            outcome.latency.push(sample.latency);
            outcome.first_event.extend(sample.first_event);
        }
    }
    outcome.latency.sort_unstable();
    outcome.first_event.sort_unstable();
    ensure!(outcome.answers > 0, "no answer in {:?} from {}", outcome.elapsed, shared.address);
    Ok((outcome, first, last))
}

impl Shared {
    fn counts(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.answers), read(&self.events), read(&self.failures))
    }

    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let path = self.load.url.path_and_query().map_or("/", |path| path.as_str());
        let mut request =
            Request::post(path).header(HOST, &self.address).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.load.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        request.body(Full::new(self.load.body.clone())).context("invalid request")
    }

    async fn ask(&self, sender: &mut SendRequest<Full<Bytes>>) -> anyhow::Result<Sample> {
        let start = Instant::now();
        sender.ready().await.context("the connection is closed")?;
        let answer = sender.send_request(self.request()?).await.context("no answer")?;
        let status = answer.status();
        let mut body = answer.into_body();
        let (mut events, mut first_event) = (Events::default(), None);
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the answer was cut")?;
            let count = frame.data_ref().map_or(0, |bytes| events.count(bytes));
            if count > 0 {
                self.events.fetch_add(count, Ordering::Relaxed);
                first_event.get_or_insert_with(|| start.elapsed());
            }
        }
        ensure!(status.is_success(), "status {status}");
        let end = Instant::now();
        Ok(Sample { end, latency: end - start, first_event })
    }
}

/// One connection until it is told to stop; reconnects after a failure.
async fn connection(shared: Arc<Shared>) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut failures = 0;
    // Ends with this function, and with it every connection.
    let mut drivers = JoinSet::new();
    'reconnect: loop {
        let stream = TcpStream::connect(&shared.address)
            .await
            .with_context(|| format!("cannot connect to {}", shared.address))?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        let (mut sender, driver) = handshake(TokioIo::new(stream)).await.context("no HTTP connection")?;
        drivers.abort_all();
        drivers.spawn(driver);
        loop {
            if shared.stop.load(Ordering::Relaxed) {
                return Ok(samples);
            }
            let answer =
                tokio::time::timeout(ANSWER_MAX, shared.ask(&mut sender)).await.context("no answer in time");
            match answer.and_then(|answer| answer) {
                Ok(sample) => {
                    failures = 0;
                    samples.push(sample);
                    let answers = shared.answers.fetch_add(1, Ordering::Relaxed) + 1;
                    if answers >= shared.goal.load(Ordering::Relaxed) {
                        shared.reached.notify_one();
                    }
                }
                Err(error) => {
                    shared.failures.fetch_add(1, Ordering::Relaxed);
                    failures += 1;
                    if failures == FAILURES_MAX {
                        bail!(
                            error
                                .context(format!("{FAILURES_MAX} failures in a row from {}", shared.address))
                        );
                    }
                    tokio::time::sleep(FAILURE_PAUSE).await;
                    continue 'reconnect;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_nearest_rank() {
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&sorted, 0.5), Duration::from_millis(50));
        assert_eq!(quantile(&sorted, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&sorted, 1.0), Duration::from_millis(100));
        assert_eq!(quantile(&sorted[..1], 0.99), Duration::from_millis(1));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
