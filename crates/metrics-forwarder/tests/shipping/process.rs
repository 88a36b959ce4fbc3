//! The whole service: real targets, a real hub, and for `kill -9` the real binary.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Hub, Target, label, values};
use metrics_forwarder::Settings;
use metrics_forwarder::config::RawTarget;
use metrics_forwarder::series::STALE_NAN;
use service_runtime::Process;
use tokio::task::JoinSet;

fn settings(hub: &Hub, target: &Target) -> Settings {
    let mut settings = Settings::default();
    // Nobody listens there: the forwarder works without the bus.
    settings.bus.url = "nats://127.0.0.1:1".to_owned();
    settings.own.admin_listen = ([127, 0, 0, 1], 0).into();
    settings.own.hub_url = hub.url();
    settings.own.scrape_interval_ms = 500;
    settings.own.scrape_timeout_ms = 500;
    settings.own.send.backoff_ms_first = 1;
    settings.own.send.backoff_ms_max = 20;
    settings.own.targets =
        vec![RawTarget { job: "pool".to_owned(), url: target.url(), labels: Default::default() }];
    settings
}

#[tokio::test]
async fn what_a_target_tells_reaches_the_hub_with_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, target) = (Hub::start().await, Target::start().await);
    let process = Process::for_tests("metrics-forwarder", "pc2", dir.path());
    let mut tasks = JoinSet::new();
    tasks.spawn(metrics_forwarder::run(settings(&hub, &target), process.clone()));

    let accepted = hub.accepted(|series| values(series, "scrapes").len() >= 2).await;
    assert_eq!(values(&accepted, "scrapes")[..2], [1.0, 2.0]);
    assert_eq!(values(&accepted, "up")[..2], [1.0, 1.0]);
    let scraped = accepted.iter().find(|series| label(series, "__name__") == "scrapes").unwrap();
    assert_eq!(label(scraped, "job"), "pool");
    assert_eq!(label(scraped, "instance"), target.instance());
    assert_eq!(label(scraped, "machine"), "pc2");
    assert!(process.health.is_ready(), "{:?}", process.health.report());

    target.set_broken(true);
    let stale = |value: &f64| value.to_bits() == STALE_NAN;
    let accepted = hub.accepted(|series| values(series, "scrapes").iter().any(stale)).await;
    assert_eq!(values(&accepted, "up").last(), Some(&0.0));
    target.set_broken(false);
    hub.accepted(|series| values(series, "scrapes").last().is_some_and(|last| !stale(last))).await;

    process.stop().await.unwrap();
    tasks.join_next().await.unwrap().unwrap().unwrap();
}

/// Ends with the test, whatever becomes of it.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, settings: &Settings) -> Guard {
    let target = &settings.own.targets[0];
    let file = dir.join("hybrid.toml");
    let text = format!(
        "[node]\nmachine = \"pc2\"\ndata_dir = {:?}\n[bus]\nurl = {:?}\n[metrics-forwarder]\n\
         admin_listen = \"127.0.0.1:0\"\nhub_url = {:?}\nscrape_interval_ms = 500\nscrape_timeout_ms = 500\n\
         targets = [{{ job = {:?}, url = {:?} }}]\n",
        dir.join("state"),
        settings.bus.url,
        settings.own.hub_url,
        target.job,
        target.url
    );
    std::fs::write(&file, text).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_metrics-forwarder"))
        .arg("--config")
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Guard(child.unwrap())
}

#[tokio::test]
async fn a_killed_process_loses_no_sample_that_was_scraped_before_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, target) = (Hub::start().await, Target::start().await);
    hub.always(503);
    let settings = settings(&hub, &target);
    let running = start(dir.path(), &settings);
    // A scrape begins after the one before it is on disk.
    target.scraped(4).await;
    drop(running);

    hub.always(204);
    let _running = start(dir.path(), &settings);
    target.scraped(6).await;
    let accepted = hub.accepted(|series| values(series, "scrapes").contains(&6.0)).await;
    let mut arrived = values(&accepted, "scrapes");
    assert!(arrived.is_sorted(), "{arrived:?}");
    arrived.dedup();
    // The fourth was under way; later ones may have come since.
    arrived.retain(|value| *value != 4.0 && *value <= 6.0);
    assert_eq!(arrived, [1.0, 2.0, 3.0, 5.0, 6.0]);
}
