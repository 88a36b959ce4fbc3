//! A provider that fails at random and a healthy one beside it: nobody who asks notices, and the ledger has every attempt.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail as the tests do"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::System;
use e2e::system::{FRONTIER, Options, Row, Sums, question, samples, sum};
use e2e::upstream::Script;
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use wire::subject::service;
use wire::v1;

const REQUESTS: u64 = 1_000;
const AT_ONCE: usize = 32;
/// Share of the calls that fail, percent.
const FAILING: u64 = 30;
/// How long the test may take.
const TIME_MAX: Duration = Duration::from_secs(60);

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    RateLimited,
    ServerError,
    /// Silence in place of the head.
    Hang,
    /// The answer breaks off: whole ones anywhere, streams before their first token. (A stream that is cut later is the
    /// caller's to see, since nothing may be said twice.)
    Cut,
}

/// Numbers that are the same in each run: splitmix64.
fn random(state: &AtomicU64) -> u64 {
    let seed = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Stands in front of a provider and lets calls fail at random.
struct Unreliable {
    address: SocketAddr,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    random: AtomicU64,
    fates: [AtomicU64; 5],
}

impl Unreliable {
    async fn start(behind: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts { random: AtomicU64::new(7), ..Counts::default() });
        let (behind, shared) = (behind.trim_start_matches("http://").to_owned(), Arc::clone(&counts));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (counts, behind) = (Arc::clone(&shared), behind.clone());
                connections.spawn(async move { drop(serve(stream, &behind, &counts).await) });
            }
        });
        Ok(Self { address, counts, _tasks: tasks })
    }

    fn count(&self, fate: Fate) -> u64 {
        self.counts.fates[fate as usize].load(Ordering::Relaxed)
    }

    fn calls(&self) -> u64 {
        self.counts.fates.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// One call; the connection serves no other.
async fn serve(mut caller: TcpStream, behind: &str, counts: &Counts) -> anyhow::Result<()> {
    let request = read_request(&mut caller).await?;
    let draw = random(&counts.random);
    let fate = match draw % 100 {
        percent if percent >= FAILING => Fate::Answered,
        percent => [Fate::RateLimited, Fate::ServerError, Fate::Hang, Fate::Cut][percent as usize % 4],
    };
    counts.fates[fate as usize].fetch_add(1, Ordering::Relaxed);
    let refusal = |status: &str, header: &str| {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\n{header}content-length: 2\r\n\r\n{{}}")
            .into_bytes()
    };
    match fate {
        Fate::RateLimited => {
            caller.write_all(&refusal("429 Too Many Requests", "retry-after-ms: 5\r\n")).await?
        }
        Fate::ServerError => caller.write_all(&refusal("500 Internal Server Error", "")).await?,
        Fate::Hang => while caller.read(&mut [0; 64]).await? > 0 {},
        Fate::Answered | Fate::Cut => {
            let mut provider = TcpStream::connect(behind).await?;
            provider.write_all(&request).await?;
            let answer = read_answer(&mut provider).await?;
            let body_at = after(&answer, b"\r\n\r\n").expect("an answer without a body");
            let is_stream = String::from_utf8_lossy(&answer[..body_at]).contains("event-stream");
            let kept = match fate {
                Fate::Answered => answer.len(),
                _ if is_stream => body_at,
                _ => body_at + (draw >> 8) as usize % (answer.len() - body_at),
            };
            caller.write_all(&answer[..kept]).await?;
        }
    }
    Ok(())
}

async fn read_request(caller: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        anyhow::ensure!(caller.read_buf(&mut bytes).await? > 0, "no request");
        let Some(body_at) = after(&bytes, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..body_at]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if bytes.len() >= body_at + length.unwrap_or(0) {
            // the provider closes the connection after its answer, so that the end of it shows
            let line_end = after(&bytes, b"\r\n").expect("a request without a first line");
            bytes.splice(line_end..line_end, b"connection: close\r\n".iter().copied());
            return Ok(bytes);
        }
    }
}

async fn read_answer(provider: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    provider.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Where the first `mark` ends.
fn after(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark).map(|at| at + mark.len())
}

fn rows_by_request(rows: Vec<Row>) -> BTreeMap<String, Vec<Row>> {
    let mut by_request = BTreeMap::<String, Vec<Row>>::new();
    for row in rows {
        by_request.entry(row.request_id.clone()).or_default().push(row);
    }
    for rows in by_request.values_mut() {
        rows.sort_by_key(|row| row.attempt);
    }
    by_request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_requests_none_fails_although_their_provider_fails_in_three_of_ten_calls()
-> anyhow::Result<()> {
    // As a model does, it takes a while to begin.
    let script = Script { delay_before_headers_ms: 20, ..Script::default() };
    let behind = e2e::FakeUpstream::start_with(e2e::fake_upstream::Options {
        key: Some(e2e::system::PROVIDER_KEY.to_owned()),
        models: vec![FRONTIER.to_owned()],
        script: script.clone(),
        ..e2e::fake_upstream::Options::default()
    })
    .await?;
    let unreliable = Unreliable::start(&behind.url()).await?;
    // The cheaper one, so that it is asked first as long as it is not left alone.
    let first = |key: &str| format!("remote-api-adapter.providers.0.{key}");
    let options = Options { backup: true, ..Options::cloud() }
        .script(script)
        .set(&first("base_url"), format!("http://{}/v1", unreliable.address))
        .set(&first("health_interval_s"), 0)
        .set(&first("timeouts.first_token_ms"), 300)
        .set(&first("timeouts.total_ms"), 900)
        // three failures in ten are no outage: a run of a dozen is not to be expected in a thousand calls
        .set(&first("breaker.failures"), 12)
        .set(&first("breaker.open_ms"), 300);
    let system = System::start(options).await?;
    let caller = system.caller().await?;

    let began = Instant::now();
    let asked = futures::stream::iter(0..REQUESTS).map(|number| {
        let caller = caller.clone();
        async move {
            let text = format!("number {number}");
            let stream = number % 2 == 0;
            let request = v1::GenerateRequest { model: FRONTIER.to_owned(), stream, ..question(&text) };
            let reply = caller.generate(&request).await?;
            let end = reply.end()?.clone();
            let words: String = (1..8).map(|number| format!(" word{number}")).collect();
            anyhow::ensure!(
                reply.text() == format!("echo: {text}{words}"),
                "request {number} was answered with {:?}",
                reply.text()
            );
            Ok((reply.request_id().to_owned(), end))
        }
    });
    let answers: Vec<anyhow::Result<(String, v1::End)>> = asked.buffer_unordered(AT_ONCE).collect().await;
    let took = began.elapsed();
    let ends = answers.into_iter().collect::<anyhow::Result<BTreeMap<String, v1::End>>>()?;
    assert_eq!(ends.len() as u64, REQUESTS);

    // The ledger: each attempt once, the last of each request its success, and the sums are what the callers were told.
    let attempts: u64 = ends.values().map(|end| u64::from(end.attempt)).sum();
    let all = usize::try_from(attempts)?;
    let rows = system.hub().rows_until("a row for each attempt", |rows| rows.len() >= all).await?;
    let sums = Sums::of_rows(&rows);
    let cost: i64 = ends.values().map(|end| end.request_cost_picodollars).sum();
    assert_eq!(
        (sums.attempts, sums.ok, sums.failed, sums.cancelled),
        (attempts, REQUESTS, attempts - REQUESTS, 0)
    );
    assert_eq!(sums.cost_picodollars, cost);
    assert_eq!(system.hub().totals().await?, sums);
    for (id, rows) in rows_by_request(rows) {
        let end = &ends[&id];
        let numbers: Vec<u32> = rows.iter().map(|row| row.attempt).collect();
        assert_eq!(numbers, (1..=end.attempt).collect::<Vec<_>>(), "{rows:#?}");
        let (last, failed) = rows.split_last().expect("a request without rows");
        assert!(failed.iter().all(|row| row.outcome == "failed"), "{rows:#?}");
        assert_eq!((last.outcome.as_str(), last.deployment.as_str()), ("ok", end.deployment.as_str()));
        let usage = end.usage.unwrap_or_default();
        assert_eq!((last.tokens.input, last.tokens.output), (usage.input, usage.output), "{rows:#?}");
    }

    // The provider did fail as it should, and retries were a fifth of its requests at most, beside the twenty in reserve.
    let page = e2e::http::Client::default()
        .get(&format!("{}/metrics", system.admin_url(service::REMOTE_API_ADAPTER)))
        .await?
        .text();
    let retries =
        sum(&samples(&page)?, "remote_api_retries_total", &[("gen_ai_provider_name", "upstream")]) as u64;
    let calls = unreliable.calls();
    let of = |fate| unreliable.count(fate);
    let report = format!(
        "{calls} calls ({} answered, {} × 429, {} × 500, {} hangs, {} cuts), {retries} retries, {attempts} attempts of \
         {REQUESTS} requests in {took:?}",
        of(Fate::Answered),
        of(Fate::RateLimited),
        of(Fate::ServerError),
        of(Fate::Hang),
        of(Fate::Cut)
    );
    println!("{report}");
    for fate in [Fate::RateLimited, Fate::ServerError, Fate::Hang, Fate::Cut] {
        assert!(of(fate) > 0, "no {fate:?}: {report}");
    }
    assert!(calls >= REQUESTS / 4, "the provider was hardly asked: {report}");
    // a call whose connection was cut before it was read is the adapter's, and not in the provider's count
    assert!(retries > 0 && retries <= (calls - retries) / 5 + 20 + calls / 100, "too many retries: {report}");
    assert!(took < TIME_MAX, "too slow: {report}");
    Ok(())
}
