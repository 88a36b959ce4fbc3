//! The program itself: flags, signals, metrics.

use std::{path::Path, process::Command, time::Duration};

use e2e::{Child, Nats, http::Client};
use rustix::process::Signal;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

fn start(nats: &Nats, files: &Path, port: u16) -> anyhow::Result<Child> {
    let own = |key: &str, value: String| format!("model-manager-suite.{key}={value}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_model-manager-suite"));
    for value in [
        format!("bus.url={}", nats.url()),
        format!("node.data_dir={}", files.display()),
        own("admin_listen", format!("127.0.0.1:{port}")),
        own("agents_file", files.join("agents.toml").display().to_string()),
        own("policies_file", files.join("policies.toml").display().to_string()),
        // only SIGHUP makes it look
        own("reload_interval_ms", "600000".to_owned()),
        "telemetry.shutdown_deadline_ms=3000".to_owned(),
    ] {
        command.args(["--set", &value]);
    }
    Child::spawn("model-manager-suite", &mut command)
}

/// Waits for a line of `/metrics` that begins with `start`.
async fn metric(http: &Client, port: u16, start: &str) -> anyhow::Result<String> {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let line = async || {
        let text = http.get(&url).await.ok()?.text();
        text.lines().find(|line| line.starts_with(start)).map(str::to_owned)
    };
    e2e::wait::until(start, PATIENCE, line).await
}

/// The owner's files in a folder of their own.
fn files() -> anyhow::Result<TempDir> {
    let files = tempfile::tempdir()?;
    for name in ["agents.toml", "policies.toml"] {
        std::fs::copy(e2e::workspace::root().join("config").join(name), files.path().join(name))?;
    }
    Ok(files)
}

/// What `/readyz` says once it says yes.
async fn ready(http: &Client, port: u16) -> anyhow::Result<String> {
    let url = format!("http://127.0.0.1:{port}/readyz");
    let ready = async || http.get(&url).await.ok().filter(|answer| answer.status.is_success());
    Ok(e2e::wait::until("readiness", PATIENCE, ready).await?.text())
}

#[tokio::test]
async fn the_program_becomes_ready_reads_its_files_on_sighup_and_ends_on_sigterm() {
    let nats = Nats::start().await.unwrap();
    let files = files().unwrap();
    let port = e2e::port::free().unwrap();
    let mut manager = start(&nats, files.path(), port).unwrap();
    let http = Client::default();
    let report = ready(&http, port).await.unwrap();
    for component in ["bus", "control-bucket", "routing-snapshot", "catalog"] {
        assert!(report.contains(component), "{report}");
    }

    metric(&http, port, "hybrid_routing_snapshot_revision").await.unwrap();
    metric(&http, port, "hybrid_routing_snapshot_writes_total").await.unwrap();
    let alive = metric(&http, port, "hybrid_instances_alive").await.unwrap();
    assert!(alive.contains("service=\"model-manager-suite\"") && alive.ends_with(" 1"), "{alive}");
    let reload = metric(&http, port, "config_last_reload_successful").await.unwrap();
    assert!(reload.ends_with(" 1"), "{reload}");

    let policies = files.path().join("policies.toml");
    let good = std::fs::read_to_string(&policies).unwrap();
    for (text, expected) in [("[thresholds]\nheavy_tokens = 0\n", " 0"), (good.as_str(), " 1")] {
        std::fs::write(&policies, text).unwrap();
        manager.signal(Signal::HUP).unwrap();
        let reloaded = async || {
            let line = metric(&http, port, "config_last_reload_successful").await.ok()?;
            line.ends_with(expected).then_some(())
        };
        e2e::wait::until("the reload", PATIENCE, reloaded).await.unwrap();
    }
    let status = manager.stop(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}\n{}", manager.stderr());
}

#[tokio::test]
async fn the_program_ends_in_order_while_the_bus_is_away() {
    let mut nats = Nats::start().await.unwrap();
    let files = files().unwrap();
    let port = e2e::port::free().unwrap();
    let mut manager = start(&nats, files.path(), port).unwrap();
    ready(&Client::default(), port).await.unwrap();
    nats.kill().unwrap();
    let status = manager.stop(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}\n{}", manager.stderr());
}
