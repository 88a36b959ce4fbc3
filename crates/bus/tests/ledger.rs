//! Usage events on a real nats-server: on disk first, in the stream once.
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as the tests do")]

use std::{path::Path, time::Duration};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use bus::{Bus, Settings, control::usage_stream, executor::Load, ledger::Ledger};
use e2e::Nats;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use wire::{subject::service, v1};

async fn connect(nats: &Nats, instance: &str) -> Bus {
    let settings = Settings { url: nats.url(), ..Settings::default() };
    Bus::connect(&settings, service::REQUEST_COORDINATOR, instance, "mainpc", &CancellationToken::new())
        .await
        .unwrap()
}

fn event(request: usize) -> v1::UsageEvent {
    v1::UsageEvent { request_id: format!("r{request}"), attempt: 1, ..Default::default() }
}

/// Every event of the stream.
async fn events(bus: &Bus) -> Vec<v1::UsageEvent> {
    let mut stream = usage_stream(bus).await.unwrap();
    let messages = stream.info().await.unwrap().state.messages;
    let consumer = stream
        .create_consumer(pull::Config { ack_policy: AckPolicy::None, ..Default::default() })
        .await
        .unwrap();
    let batch = consumer.fetch().max_messages(usize::try_from(messages).unwrap()).messages().await.unwrap();
    batch
        .flat_map(|message| futures::stream::iter(bus::ledger::decode(&message.unwrap().payload).unwrap()))
        .collect()
        .await
}

async fn record(bus: &Bus, dir: &Path, requests: std::ops::Range<usize>, stop: CancellationToken) -> Ledger {
    let ledger = Ledger::open(bus, dir, Load::default(), stop).unwrap();
    futures::future::join_all(requests.map(|request| ledger.record(event(request))))
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    ledger
}

#[tokio::test]
async fn events_recorded_together_all_arrive_numbered_without_a_gap() {
    let nats = Nats::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bus = connect(&nats, "one").await;
    let ledger = record(&bus, folder.path(), 0..500, CancellationToken::new()).await;
    assert!(ledger.finish(Duration::from_secs(20)).await);
    let events = events(&bus).await;
    let mut counters: Vec<u64> = events.iter().map(|event| event.origin_counter).collect();
    counters.sort_unstable();
    assert_eq!(counters, (1..=500).collect::<Vec<_>>());
    assert!(events.iter().all(|event| event.event_id == format!("one-{}", event.origin_counter)));
}

#[tokio::test]
async fn what_was_recorded_while_the_server_was_away_arrives_once_after_a_restart_of_both() {
    let mut nats = Nats::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let bus = connect(&nats, "one").await;
    usage_stream(&bus).await.unwrap();
    nats.kill().unwrap();
    let ledger = record(&bus, folder.path(), 0..20, stop.clone()).await;
    assert!(!ledger.finish(Duration::from_millis(50)).await, "nothing can be acknowledged without a server");
    // as after a crash: nothing of this process's memory is left
    stop.cancel();
    drop(ledger);
    drop(bus);

    nats.restart().await.unwrap();
    let bus = connect(&nats, "two").await;
    let ledger = reopen(&bus, folder.path()).await;
    assert!(ledger.finish(Duration::from_secs(20)).await);
    let mut requests: Vec<String> = events(&bus).await.into_iter().map(|event| event.request_id).collect();
    requests.sort_unstable();
    let mut expected: Vec<String> = (0..20).map(|request| format!("r{request}")).collect();
    expected.sort_unstable();
    assert_eq!(requests, expected);
}

/// The log is locked until the thread of the last ledger has ended.
async fn reopen(bus: &Bus, dir: &Path) -> Ledger {
    let open = async || Ledger::open(bus, dir, Load::default(), CancellationToken::new()).ok();
    e2e::wait::until("the log is free", Duration::from_secs(10), open).await.unwrap()
}

#[tokio::test]
async fn an_event_that_begins_a_longer_message_after_a_crash_does_not_take_the_others_with_it() {
    let nats = Nats::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (bus, stop) = (connect(&nats, "one").await, CancellationToken::new());
    let ledger = record(&bus, folder.path(), 0..1, stop.clone()).await;
    assert!(ledger.finish(Duration::from_secs(20)).await);
    // recorded and never published; what was acknowledged is forgotten, as when the crash comes before it is stored
    stop.cancel();
    ledger.record(event(1)).await.unwrap();
    drop(ledger);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "cursor") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let ledger = reopen(&bus, folder.path()).await;
    assert!(ledger.finish(Duration::from_secs(20)).await);
    let requests: std::collections::BTreeSet<String> =
        events(&bus).await.into_iter().map(|event| event.request_id).collect();
    assert_eq!(requests.into_iter().collect::<Vec<_>>(), ["r0", "r1"]);
}
