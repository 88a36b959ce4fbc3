//! From a real JetStream into the ledger, through the service's own `run`.

use std::{net::SocketAddr, time::Duration};

use async_nats::jetstream;
use bus::{Bus, control};
use e2e::{Nats, http::Client, port, wait};
use observability_hub::{
    Settings,
    config::{Raw, Role},
    run,
};
use prost::Message as _;
use serde_json::Value;
use service_runtime::{Node, Process};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire::v1::UsageBatch;

use crate::support::{NOW_UNIX_MS, event};

const SUBJECT: &str = "usage.v1.main.request-coordinator";
/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Service {
    process: Process,
    url: String,
    tasks: TaskTracker,
}

impl Service {
    /// Runs the hub as its binary does, beside a server.
    fn start(nats: &Nats, folder: &TempDir) -> Self {
        Self::start_as(Role::Active, nats, folder)
    }

    fn start_as(role: Role, nats: &Nats, folder: &TempDir) -> Self {
        let process = Process::for_tests("observability-hub", "main", folder.path());
        let admin_listen = SocketAddr::from(([127, 0, 0, 1], port::free().unwrap()));
        let settings = Settings {
            bus: bus::Settings { url: nats.url(), ..bus::Settings::default() },
            own: Raw { admin_listen, role, ..Raw::default() },
        };
        assert_eq!(process.node, Node { machine: "main".to_owned(), data_dir: folder.path().to_owned() });
        let tasks = TaskTracker::new();
        let running = process.clone();
        tasks.spawn(async move { run(settings, running).await.unwrap() });
        Self { process, url: format!("http://{admin_listen}"), tasks }
    }

    async fn stop(self) {
        self.process.stop().await.unwrap();
        self.tasks.close();
        self.tasks.wait().await;
        // The threads that write end with the last handle on them, in a process of its own with the process.
        let lock = self.process.node.data_dir.join("observability-hub/metrics/lock");
        wait::until("the metrics' log to be free", PATIENCE, async || {
            std::fs::File::open(&lock).ok()?.try_lock().ok()
        })
        .await
        .unwrap();
    }

    async fn summary(&self) -> Option<Value> {
        let url = format!("{}/api/usage/summary?from=0", self.url);
        Client::default().get(&url).await.ok()?.json().ok()
    }

    /// The first summary in which `counted` of the totals has reached `count`.
    async fn until(&self, counted: &str, count: u64) -> Value {
        let what = format!("{counted} = {count}");
        wait::until(&what, PATIENCE, async || {
            let summary = self.summary().await?;
            let found = summary["totals"][counted].as_u64().or_else(|| summary["ledger"][counted].as_u64());
            (found? >= count).then_some(summary)
        })
        .await
        .unwrap()
    }
}

/// A publisher that waits for the stream's acknowledgement.
pub(crate) async fn publisher(nats: &Nats) -> jetstream::Context {
    let stop = CancellationToken::new();
    let settings = bus::Settings { url: nats.url(), ..bus::Settings::default() };
    let bus = Bus::connect(&settings, "request-coordinator", "test", "main", &stop).await.unwrap();
    control::usage_stream(&bus).await.unwrap();
    bus.jetstream()
}

pub(crate) async fn publish(jetstream: &jetstream::Context, payload: Vec<u8>) {
    jetstream.publish(SUBJECT, payload.into()).await.unwrap().await.unwrap();
}

pub(crate) fn batch(requests: std::ops::Range<u64>) -> Vec<u8> {
    let events = requests.map(|number| {
        event(&format!("r{number}"), 1, |event| {
            event.origin_counter = number + 1;
            event.finished_unix_ms = NOW_UNIX_MS.unsigned_abs();
        })
    });
    UsageBatch { events: events.collect() }.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_counted_once_and_poison_does_not_stop_them() {
    let (nats, folder) = (Nats::start().await.unwrap(), TempDir::new().unwrap());
    let jetstream = publisher(&nats).await;
    publish(&jetstream, batch(0..50)).await;
    publish(&jetstream, b"\xff\xff no protobuf".to_vec()).await;
    let negative = event("bad", 1, |event| event.cost_picodollars = -1);
    publish(&jetstream, UsageBatch { events: vec![negative] }.encode_to_vec()).await;
    publish(&jetstream, batch(25..75)).await;

    let service = Service::start(&nats, &folder);
    let summary = service.until("attempts", 75).await;
    assert_eq!(summary["totals"]["requests"], 75);
    assert_eq!(summary["totals"]["cost_picodollars"], 75 * 270_000_000_u64);
    assert_eq!(
        (&summary["ledger"]["dead_letters"], &summary["ledger"]["missing_events"]),
        (&2.into(), &0.into())
    );

    // Nothing is left to deliver, the poison included.
    let name = "ledger_main";
    wait::until("every message acknowledged", PATIENCE, async || {
        let info = jetstream
            .get_stream("USAGE")
            .await
            .ok()?
            .get_consumer::<jetstream::consumer::pull::Config>(name)
            .await
            .ok()?
            .get_info()
            .await
            .ok()?;
        (info.num_ack_pending == 0 && info.num_pending == 0).then_some(())
    })
    .await
    .unwrap();
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_beside_the_active_hub_has_the_full_totals_too() {
    let nats = Nats::start().await.unwrap();
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let jetstream = publisher(&nats).await;
    let active = Service::start(&nats, &first);
    let standby = Service::start_as(Role::Standby, &nats, &second);
    for number in 0..20 {
        publish(&jetstream, batch(number..number + 1)).await;
    }
    assert_eq!(active.until("attempts", 20).await["ledger"]["role"], "active");
    assert_eq!(standby.until("attempts", 20).await["ledger"]["role"], "standby");
    active.stop().await;
    standby.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_comes_back_goes_on_where_it_was_and_keeps_its_totals() {
    let (nats, folder) = (Nats::start().await.unwrap(), TempDir::new().unwrap());
    let jetstream = publisher(&nats).await;
    let service = Service::start(&nats, &folder);
    publish(&jetstream, batch(0..10)).await;
    service.until("attempts", 10).await;
    service.stop().await;
    publish(&jetstream, batch(10..20)).await;
    publish(&jetstream, batch(22..24)).await;
    let service = Service::start(&nats, &folder);
    let summary = service.until("attempts", 22).await;
    assert_eq!(summary["ledger"]["missing_events"], 2);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_loses_nothing() {
    let (mut nats, folder) = (Nats::start().await.unwrap(), TempDir::new().unwrap());
    let service = Service::start(&nats, &folder);
    let jetstream = publisher(&nats).await;
    publish(&jetstream, batch(0..10)).await;
    service.until("attempts", 10).await;
    nats.kill().unwrap();
    nats.restart().await.unwrap();
    let jetstream = publisher(&nats).await;
    publish(&jetstream, batch(5..20)).await;
    let summary = service.until("attempts", 20).await;
    assert_eq!(summary["totals"]["attempts"], 20);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hub_is_ready_once_events_flow_and_makes_itself_known() {
    let (nats, folder) = (Nats::start().await.unwrap(), TempDir::new().unwrap());
    let service = Service::start(&nats, &folder);
    let ready = format!("{}/readyz", service.url);
    wait::until("readiness", PATIENCE, async || {
        Client::default().get(&ready).await.ok().filter(|answer| answer.status.is_success())
    })
    .await
    .unwrap();
    let client = nats.client().await.unwrap();
    wait::until("an answer of the services API", PATIENCE, async || {
        let answer = client.request("$SRV.PING.observability-hub", "".into()).await.ok()?;
        let ping: Value = serde_json::from_slice(&answer.payload).ok()?;
        (ping["metadata"]["machine"] == "main").then_some(())
    })
    .await
    .unwrap();
    service.stop().await;
}
