//! `kill -9` of the real program while it writes: what it acknowledged is there when it comes back.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use e2e::{Child, Nats, http::Client, wait};
use hyper::{Method, StatusCode};
use service_runtime::Clock;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use crate::{
    ingest::{batch, publish, publisher},
    remote_write::{HEADERS, body, series},
    support::open,
};

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SENDERS: usize = 4;
/// Acknowledged writes after which the hub is killed.
const ACKNOWLEDGED_MIN: usize = 100;
const EVENTS: u64 = 400;

async fn start(nats: &Nats, folder: &Path) -> (Child, SocketAddr) {
    let child = Child::spawn(
        "observability-hub",
        Command::new(env!("CARGO_BIN_EXE_observability-hub"))
            .args(["--set", "node.machine=main"])
            .args(["--set", &format!("node.data_dir={}", folder.display())])
            .args(["--set", &format!("bus.url={}", nats.url())])
            .args(["--set", "observability-hub.admin_listen=127.0.0.1:0"]),
    )
    .unwrap();
    let address = wait::until("the listener's address", PATIENCE, async || {
        let log = child.stderr();
        log.split("admin listening addr=").nth(1)?.split_whitespace().next()?.parse().ok()
    })
    .await
    .unwrap();
    (child, address)
}

/// Writes one series after the other and notes each that was acknowledged, until the hub is gone.
async fn send(
    address: SocketAddr,
    sender: usize,
    acknowledged: Arc<Mutex<Vec<String>>>,
    gone: Arc<AtomicBool>,
) {
    for number in 0.. {
        let name = format!("{sender}-{number}");
        let now = i64::try_from(Clock::system().now_unix_ms()).unwrap();
        let request: Bytes = body(vec![series(&[("__name__", "m"), ("n", &name)], &[(now, 1.0)])]);
        match open(address, Method::POST, "/api/v1/write", &HEADERS, request).await {
            Ok(answer) if answer.status() == StatusCode::NO_CONTENT => {
                acknowledged.lock().unwrap().push(name)
            }
            Ok(answer) => panic!("a write was refused with {}", answer.status()),
            Err(_) if gone.load(Ordering::Acquire) => return,
            Err(error) => panic!("a write failed before the kill: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_writes_loses_nothing_that_was_acknowledged() {
    let (nats, folder) = (Nats::start().await.unwrap(), TempDir::new().unwrap());
    let jetstream = publisher(&nats).await;
    let (mut hub, address) = start(&nats, folder.path()).await;

    let (acknowledged, gone) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let senders = TaskTracker::new();
    for sender in 0..SENDERS {
        senders.spawn(send(address, sender, Arc::clone(&acknowledged), Arc::clone(&gone)));
    }
    senders.spawn(async move {
        for number in 0..EVENTS {
            publish(&jetstream, batch(number..number + 1)).await;
        }
    });
    wait::until("acknowledged writes", PATIENCE, async || {
        (acknowledged.lock().unwrap().len() >= ACKNOWLEDGED_MIN).then_some(())
    })
    .await
    .unwrap();
    gone.store(true, Ordering::Release);
    hub.kill().unwrap();
    senders.close();
    senders.wait().await;

    let (_hub, address) = start(&nats, folder.path()).await;
    let client = Client::default();
    let answer = client.get(&format!("http://{address}/api/v1/query?query=m")).await.unwrap();
    let found = answer.json().unwrap();
    let found: std::collections::BTreeSet<&str> = found["data"]["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|series| series["metric"]["n"].as_str().unwrap())
        .collect();
    for name in acknowledged.lock().unwrap().iter() {
        assert!(found.contains(name.as_str()), "series {name} was acknowledged and is not there");
    }
    let url = format!("http://{address}/api/usage/summary?from=0");
    let summary = wait::until("every usage event", PATIENCE, async || {
        let summary = client.get(&url).await.ok()?.json().ok()?;
        (summary["totals"]["attempts"].as_u64()? >= EVENTS).then_some(summary)
    })
    .await
    .unwrap();
    assert_eq!(summary["totals"]["attempts"], EVENTS);
    assert_eq!(summary["totals"]["cost_picodollars"], EVENTS * 270_000_000);
    assert_eq!(summary["ledger"]["missing_events"], 0);
}
