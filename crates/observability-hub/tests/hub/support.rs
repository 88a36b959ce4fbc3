//! A hub without a bus on a free port, and a client for it.

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, body::Incoming};
use hyper_util::{client::legacy::Client as Pooled, rt::TokioExecutor};
use observability_hub::{
    config::{Config, Raw, Role},
    http::{App, access::Access, live::Live, router},
    ledger::{Attempt, Batch, Ledger},
    metric_store::{MetricStore, local::LocalStore},
    telemetry::WriteMeters,
};
use opentelemetry::global;
use serde_json::Value;
use service_runtime::{clock::ManualClock, http};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What the tests' clock shows: 2023-11-14T22:13:20Z.
pub(crate) const NOW_UNIX_MS: i64 = 1_700_000_000_000;

pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    pub(crate) ledger: Ledger,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Hub {
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_with(folder, Access::default(), 4, None).await
    }

    /// `store` takes the place of the hub's own, for faults that a test cannot cause on a real disk.
    pub(crate) async fn start_with(
        folder: &Path,
        access: Access,
        live_clients_max: usize,
        store: Option<Arc<dyn MetricStore>>,
    ) -> Self {
        let config = Config::try_from(Raw::default()).unwrap();
        let clock = ManualClock::at(NOW_UNIX_MS.unsigned_abs());
        let ledger = Ledger::open(&folder.join("ledger.sqlite")).unwrap();
        let store = store.unwrap_or_else(|| {
            let (store, _) = LocalStore::open(&folder.join("metrics"), config.metrics, NOW_UNIX_MS).unwrap();
            Arc::new(store)
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let live = Live::new(live_clients_max, stop.clone());
        let per_kwh: domain::units::Money = "0.30".parse().unwrap();
        tasks.spawn(live.clone().run(ledger.clone(), clock.clock(), Role::Active, per_kwh));
        let app = App {
            ledger: ledger.clone(),
            store,
            clock: clock.clock(),
            access: Arc::new(access),
            live,
            meters: WriteMeters::new(&global::meter("test")),
            write_limits: config.metrics.request,
            role: Role::Active,
            electricity_per_kwh: per_kwh,
            reference: None,
        };
        let listener = http::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "test").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(http::serve(listener, router(app), http::Limits::default(), stop.clone()));
        Self { address, ledger, stop, tasks }
    }

    /// Ends the hub without closing anything first, and waits until its files are free.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        Answer::whole(self.open(method, path, headers, body).await).await
    }

    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> hyper::Response<Incoming> {
        open(self.address, method, path, headers, body).await.unwrap()
    }

    pub(crate) async fn record(&self, attempts: Vec<Attempt>) {
        self.ledger.record(Arc::new(Batch { attempts, ..Batch::default() }), 1).await.unwrap();
    }
}

/// Sends a request over a connection of its own; what comes back may still be on its way.
pub(crate) async fn open(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<hyper::Response<Incoming>, hyper_util::client::legacy::Error> {
    let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let client = Pooled::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    client.request(request.body(Full::new(body)).unwrap()).await
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    async fn whole(response: hyper::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

pub(crate) fn attempt(request: &str, number: u32, change: impl FnOnce(&mut wire::v1::UsageEvent)) -> Attempt {
    Attempt::try_from(event(request, number, change)).unwrap()
}

pub(crate) fn event(
    request: &str,
    number: u32,
    change: impl FnOnce(&mut wire::v1::UsageEvent),
) -> wire::v1::UsageEvent {
    let mut event = wire::v1::UsageEvent {
        event_id: format!("{request}.{number}"),
        request_id: request.to_owned(),
        attempt: number,
        finished_unix_ms: NOW_UNIX_MS.unsigned_abs(),
        machine: "main".to_owned(),
        service: "request-coordinator".to_owned(),
        origin_instance: "coordinator-1".to_owned(),
        agent: "CodeGenerator".to_owned(),
        provider: "openai".to_owned(),
        model: "gpt-4o-mini".to_owned(),
        tier: wire::v1::Tier::RemoteApi.into(),
        outcome: wire::v1::Outcome::Ok.into(),
        usage: Some(wire::v1::TokenUsage { input: 1_000, output: 200, ..Default::default() }),
        cost_picodollars: 270_000_000,
        time_to_first_token_ms: 300,
        duration_ms: 1_500,
        decision: "over 3,000 tokens; heavy".to_owned(),
        ..Default::default()
    };
    change(&mut event);
    event
}
