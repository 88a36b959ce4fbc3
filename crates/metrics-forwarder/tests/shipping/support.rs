//! A remote-write receiver and a scrape target, both over real HTTP.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use metrics_forwarder::remote_write::{TimeSeries, WriteRequest};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the receiver answers to one request.
#[derive(Debug, Clone)]
pub(crate) struct Scripted {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<&'static str>,
}

pub(crate) fn status(status: u16) -> Scripted {
    Scripted { status, retry_after: None }
}

/// A hub that does as it is told and remembers what it acknowledged.
#[derive(Clone)]
pub(crate) struct Hub {
    state: Arc<HubState>,
}

struct HubState {
    address: SocketAddr,
    /// Answers to the next requests; acknowledged when it is empty.
    script: Mutex<VecDeque<Scripted>>,
    /// Answer when the script is empty.
    otherwise: Mutex<Scripted>,
    accepted: watch::Sender<Vec<TimeSeries>>,
    requests: watch::Sender<Vec<Seen>>,
    _server: JoinSet<()>,
}

/// One request, acknowledged or not.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) headers: HeaderMap,
    pub(crate) samples: usize,
    pub(crate) at: tokio::time::Instant,
}

impl Hub {
    pub(crate) async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            state: Arc::new_cyclic(|weak: &std::sync::Weak<HubState>| {
                let router = axum::Router::new().route("/api/v1/write", post(write)).with_state(weak.clone());
                let mut server = JoinSet::new();
                server.spawn(async move { axum::serve(listener, router).await.unwrap() });
                HubState {
                    address,
                    script: Mutex::default(),
                    otherwise: Mutex::new(status(204)),
                    accepted: watch::Sender::default(),
                    requests: watch::Sender::default(),
                    _server: server,
                }
            }),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.state.address)
    }

    pub(crate) fn next(&self, script: impl IntoIterator<Item = Scripted>) {
        self.state.script.lock().unwrap().extend(script);
    }

    pub(crate) fn always(&self, answer: u16) {
        *self.state.otherwise.lock().unwrap() = status(answer);
    }

    /// Waits until what was acknowledged satisfies `enough`, and gives it back.
    pub(crate) async fn accepted(&self, enough: impl FnMut(&Vec<TimeSeries>) -> bool) -> Vec<TimeSeries> {
        self.state.accepted.subscribe().wait_for(enough).await.unwrap().clone()
    }

    /// Waits for this many requests.
    pub(crate) async fn requests(&self, count: usize) -> Vec<Seen> {
        self.state.requests.subscribe().wait_for(|seen| seen.len() >= count).await.unwrap().clone()
    }
}

async fn write(State(hub): State<std::sync::Weak<HubState>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(hub) = hub.upgrade() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    let request = WriteRequest::decode(plain.as_slice()).unwrap();
    let scripted = hub.script.lock().unwrap().pop_front();
    let scripted = scripted.unwrap_or_else(|| hub.otherwise.lock().unwrap().clone());
    let samples = request.timeseries.len();
    if scripted.status < 300 {
        hub.accepted.send_modify(|accepted| accepted.extend(request.timeseries));
    }
    hub.requests.send_modify(|seen| seen.push(Seen { headers, samples, at: tokio::time::Instant::now() }));
    let status = StatusCode::from_u16(scripted.status).unwrap();
    match scripted.retry_after {
        Some(value) => (status, [(header::RETRY_AFTER, value)]).into_response(),
        None => status.into_response(),
    }
}

/// A target whose one series `scrapes` counts how often it was asked.
#[derive(Clone)]
pub(crate) struct Target {
    state: Arc<TargetState>,
}

struct TargetState {
    address: SocketAddr,
    scrapes: watch::Sender<u64>,
    broken: watch::Sender<bool>,
    _server: JoinSet<()>,
}

impl Target {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            state: Arc::new_cyclic(|weak: &std::sync::Weak<TargetState>| {
                let router = axum::Router::new().route("/metrics", get(metrics)).with_state(weak.clone());
                let mut server = JoinSet::new();
                server.spawn(async move { axum::serve(listener, router).await.unwrap() });
                TargetState {
                    address,
                    scrapes: watch::Sender::new(0),
                    broken: watch::Sender::new(false),
                    _server: server,
                }
            }),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/metrics", self.state.address)
    }

    pub(crate) fn instance(&self) -> String {
        self.state.address.to_string()
    }

    pub(crate) fn set_broken(&self, broken: bool) {
        self.state.broken.send_replace(broken);
    }

    /// Waits until it was asked this often.
    pub(crate) async fn scraped(&self, times: u64) {
        self.state.scrapes.subscribe().wait_for(|scrapes| *scrapes >= times).await.unwrap();
    }
}

async fn metrics(State(target): State<std::sync::Weak<TargetState>>) -> Response {
    let Some(target) = target.upgrade() else { return StatusCode::NOT_FOUND.into_response() };
    if *target.broken.borrow() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    target.scrapes.send_modify(|scrapes| *scrapes += 1);
    let count = *target.scrapes.borrow();
    let text = format!("# TYPE scrapes counter\nscrapes {count}\nnonsense one\n");
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// A label's value.
pub(crate) fn label<'a>(series: &'a TimeSeries, name: &str) -> &'a str {
    series.labels.iter().find(|label| label.name == name).map_or("", |label| &label.value)
}

/// Values of the series with this metric name, in the order of their arrival.
pub(crate) fn values(series: &[TimeSeries], name: &str) -> Vec<f64> {
    let named = series.iter().filter(|series| label(series, "__name__") == name);
    named.flat_map(|series| series.samples.iter().map(|sample| sample.value)).collect()
}
