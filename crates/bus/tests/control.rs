//! The control bucket on a real nats-server.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of tests fail as the tests do")]

use std::time::Duration;

use bus::{Announcement, Announcer, Bus, Settings, control::Change, executor::Load};
use e2e::Nats;
use prost::Message;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire::{subject::REGISTRATION_KEYS, subject::service, v1};

const PATIENCE: Duration = Duration::from_secs(10);

async fn connect(nats: &Nats) -> Bus {
    let settings = Settings { url: nats.url(), ..Settings::default() };
    Bus::connect(&settings, service::LOCAL_MODEL_POOL, "i1", "mainpc", &CancellationToken::new())
        .await
        .unwrap()
}

async fn next(changes: &mut mpsc::Receiver<Change>) -> Change {
    timeout(PATIENCE, changes.recv()).await.expect("a change").expect("the watch is open")
}

#[tokio::test]
async fn a_watch_tells_what_is_there_then_what_changes_also_across_a_restart_of_the_server() {
    let mut nats = Nats::start().await.unwrap();
    let bus = connect(&nats).await;
    let stop = CancellationToken::new();
    let control = bus.control_when_ready(&stop).await.unwrap();
    let flag = |name: &str| v1::Flag { name: name.to_owned(), ..Default::default() };
    control.put("mainpc.flag.a", &flag("a")).await.unwrap();
    let mut changes = control.watch(&bus, "mainpc.flag.>".to_owned(), stop.clone());
    assert_eq!(next(&mut changes).await.key, "mainpc.flag.a");
    control.put("mainpc.flag.b", &flag("b")).await.unwrap();
    assert_eq!(next(&mut changes).await.key, "mainpc.flag.b");
    control.delete("mainpc.flag.b").await.unwrap();
    assert_eq!(next(&mut changes).await.value, None);

    nats.restart().await.unwrap();
    e2e::wait::until("a write after the restart", PATIENCE, async || {
        control.put("mainpc.flag.c", &flag("c")).await.ok()
    })
    .await
    .unwrap();
    let seen = async { while next(&mut changes).await.key != "mainpc.flag.c" {} };
    timeout(Duration::from_secs(30), seen).await.expect("the watch goes on after the restart");
}

#[tokio::test]
async fn an_announced_service_registers_tells_changes_and_takes_itself_back() {
    let nats = Nats::start().await.unwrap();
    let bus = connect(&nats).await;
    let stop = CancellationToken::new();
    let control = bus.control_when_ready(&stop).await.unwrap();
    let mut changes = control.watch(&bus, REGISTRATION_KEYS.to_owned(), stop.clone());
    let announcement = Announcement::default();
    let announcer = Announcer {
        bus: bus.clone(),
        control: control.clone(),
        version: "0.1.0",
        now_unix_ms: std::sync::Arc::new(|| 7),
        load: Load::default(),
    };
    let ends = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(announcer.run(announcement.clone(), ends.clone()));

    let first = next(&mut changes).await;
    assert_eq!(first.key, "mainpc.reg.local-model-pool.i1");
    announcement.set_deployments(vec![v1::Deployment { id: "d".to_owned(), ..Default::default() }]);
    let second = v1::Registration::decode(next(&mut changes).await.value.unwrap()).unwrap();
    assert_eq!(second.deployments[0].id, "d");
    ends.cancel();
    assert_eq!(next(&mut changes).await.value, None);
}

#[tokio::test]
async fn a_process_that_stops_without_its_server_is_not_kept() {
    let mut nats = Nats::start().await.unwrap();
    let bus = connect(&nats).await;
    let stop = CancellationToken::new();
    let control = bus.control_when_ready(&stop).await.unwrap();
    let announcer = Announcer {
        bus: bus.clone(),
        control,
        version: "0.1.0",
        now_unix_ms: std::sync::Arc::new(|| 7),
        load: Load::default(),
    };
    nats.kill().unwrap();
    stop.cancel();
    // what is waited for in vain passes at once
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    announcer.run(Announcement::default(), stop).await;
    bus.close().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?} of the shutdown's ten seconds", began.elapsed());
}
