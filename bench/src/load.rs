//! A closed-loop load generator: each connection sends its next request when the answer to the last one is whole.
//!
//! Over HTTP ([`Post`]) or over the bus ([`Call`]). Events of a stream are counted as they arrive.

mod call;
mod events;
mod http;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::sync::Notify;
use tokio::task::JoinSet;

pub use call::Call;
pub use http::Post;

/// Failed requests in a row after which a connection gives up.
const FAILURES_MAX: u32 = 100;
/// Pause after a failed request, so that a dead server is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);
/// How long a single request may take.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How an answer is asked for.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Over HTTP; `data:` lines are events.
    Http(Post),
    /// Over the bus; pieces are events.
    Bus(Call),
}

/// What is needed to ask again and again.
enum Connection {
    Http(http::Connection),
    /// All share the bus's.
    Bus,
}

impl Ask {
    async fn connect(&self) -> anyhow::Result<Connection> {
        match self {
            Self::Http(post) => post.connect().await.map(Connection::Http),
            Self::Bus(_) => Ok(Connection::Bus),
        }
    }

    async fn on(&self, connection: &mut Connection, count: impl FnMut(u64)) -> anyhow::Result<()> {
        match (self, connection) {
            (Self::Http(post), Connection::Http(connection)) => connection.ask(post, count).await,
            (Self::Bus(call), Connection::Bus) => call.count(count).await,
            _ => bail!("a connection of another kind"),
        }
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(post) => write!(f, "{}", post.url),
            Self::Bus(call) => f.write_str(call.deployment()),
        }
    }
}

/// What is asked, and how often.
#[derive(Debug, Clone)]
pub struct Load {
    /// The same each time.
    pub ask: Ask,
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
    let (connections, warm_up, length) = (load.connections, load.warm_up, load.length);
    let shared = Arc::new(Shared {
        load,
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
    ensure!(outcome.answers > 0, "no answer in {:?} from {}", outcome.elapsed, shared.load.ask);
    Ok((outcome, first, last))
}

impl Shared {
    fn counts(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.answers), read(&self.events), read(&self.failures))
    }

    async fn ask(&self, connection: &mut Connection) -> anyhow::Result<Sample> {
        let start = Instant::now();
        let mut first_event = None;
        let asked = self.load.ask.on(connection, |count| {
            if count > 0 {
                self.events.fetch_add(count, Ordering::Relaxed);
                first_event.get_or_insert_with(|| start.elapsed());
            }
        });
        asked.await?;
        let end = Instant::now();
        Ok(Sample { end, latency: end - start, first_event })
    }
}

/// One connection until it is told to stop; reconnects after a failure.
async fn connection(shared: Arc<Shared>) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut failures = 0;
    'reconnect: loop {
        let mut connection = shared.load.ask.connect().await?;
        loop {
            if shared.stop.load(Ordering::Relaxed) {
                return Ok(samples);
            }
            let answer = tokio::time::timeout(ANSWER_MAX, shared.ask(&mut connection));
            let answer = answer.await.context("no answer in time");
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
                        let what = format!("{FAILURES_MAX} failures in a row from {}", shared.load.ask);
                        bail!(error.context(what));
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
