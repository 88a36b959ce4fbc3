//! The benchmark itself, on few requests: it counts what happened, and only that.

use std::process::Command;
use std::time::Duration;

use bench::load::{self, Ask, Length, Load, Post};
use bench::target;
use e2e::Child;
use e2e::upstream::{Options, Script, serve};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// An upstream in this process, and the load on it.
async fn upstream(script: Script, stream: bool) -> anyhow::Result<(JoinSet<std::io::Result<()>>, Load)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1/chat/completions", listener.local_addr()?);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, Options { script, ..Options::default() }));
    let load = Load {
        ask: Ask::Http(Post {
            url: url.parse()?,
            key: None,
            body: target::request("gpt-4o-mini", "hello", stream),
        }),
        connections: 4,
        warm_up: Duration::ZERO,
        length: Length::Answers(50),
    };
    Ok((tasks, load))
}

#[tokio::test]
async fn every_chunk_of_every_stream_is_counted() {
    let (_tasks, load) = upstream(Script { chunks: 5, ..Script::default() }, true).await.unwrap();
    let (outcome, (), ()) = load::run(load, || Ok(())).await.unwrap();
    assert!(outcome.answers >= 50, "{}", outcome.answers);
    assert_eq!(outcome.failures, 0);
    assert_eq!(outcome.first_event.len(), outcome.latency.len());
    // Role, five chunks, the end, [DONE]; four streams may be under way when the count starts and when it ends.
    assert!(
        outcome.events.abs_diff(outcome.answers * 8) <= 4 * 8,
        "{} of {}",
        outcome.events,
        outcome.answers
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_or_refused_is_a_failure() {
    for script in [
        Script { cut_after_bytes: Some(100), ..Script::default() },
        Script { status: Some(500), ..Script::default() },
    ] {
        // The provider behaves badly from the start, so nothing can be an answer.
        let (_tasks, load) = upstream(script, true).await.unwrap();
        let error = load::run(load, || Ok(())).await.unwrap_err();
        assert!(format!("{error:#}").contains("failures in a row"), "{error:#}");
    }
}

#[tokio::test]
async fn direct_floor_and_proxy_are_compared_in_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["--targets", "direct,floor,proxy", "--rounds", "1", "--connections", "1,4"]);
    command.args(["--answers", "20", "--warm-up-ms", "0", "--json"]).arg(&json);
    let mut run = Child::spawn("bench", &mut command).unwrap();
    let status = run.end(Duration::from_secs(120)).await.unwrap();
    assert!(status.success(), "{}", run.stderr());
    let figures: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = figures["summary"]["rows"].as_array().unwrap();
    // Three targets, two modes, two numbers of connections.
    assert_eq!(rows.len(), 12);
    for row in rows {
        assert_eq!(row["failures"], 0, "{row}");
        assert!(row["requests_per_s"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["mode"] == "stream", row["events_per_s"].as_f64().unwrap() > 0.0, "{row}");
        let processes: Vec<&String> = row["cpu_us_by_process"].as_object().unwrap().keys().collect();
        let expected: &[&str] = match row["target"].as_str().unwrap() {
            "floor" => &["floor-gateway", "floor-worker", "nats-server"],
            "proxy" => &["proxy"],
            _ => &[],
        };
        assert_eq!(processes, expected, "{row}");
    }
}

#[tokio::test]
async fn the_adapter_is_asked_over_its_bus_and_its_memory_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["--targets", "proxy,adapter", "--rounds", "1", "--connections", "4"]);
    command.args(["--answers", "20", "--warm-up-ms", "0", "--open-streams", "20", "--json"]).arg(&json);
    let mut run = Child::spawn("bench", &mut command).unwrap();
    let status = run.end(Duration::from_secs(180)).await.unwrap();
    assert!(status.success(), "{}", run.stderr());
    let figures: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = figures["summary"]["rows"].as_array().unwrap();
    let rows: Vec<&Value> = rows.iter().filter(|row| row["target"] == "adapter").collect();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(row["failures"], 0, "{row}");
        let processes: Vec<&String> = row["cpu_us_by_process"].as_object().unwrap().keys().collect();
        // Its bus runs beside the load generator.
        assert_eq!(processes, ["remote-api-adapter"], "{row}");
        assert_eq!(row["mode"] == "stream", row["events_per_s"].as_f64().unwrap() > 0.0, "{row}");
    }
    let goals: Vec<(&str, &str)> = figures["summary"]["ratios"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ratio| (ratio["reference"].as_str().unwrap(), ratio["figure"].as_str().unwrap()))
        .collect();
    assert_eq!(goals, [("proxy", "cpu_per_request"), ("proxy", "events_per_s")]);
    let memory = &figures["summary"]["memory"];
    assert_eq!(memory["streams"], 20);
    assert!(memory["idle_bytes"].as_u64().unwrap() <= memory["resident_bytes"].as_u64().unwrap(), "{memory}");
}

#[tokio::test]
async fn a_check_without_the_system_fails() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["--targets", "direct", "--rounds", "1", "--connections", "1", "--answers", "5", "--check"]);
    let mut run = Child::spawn("bench", &mut command).unwrap();
    assert_eq!(run.end(Duration::from_secs(120)).await.unwrap().code(), Some(1));
}
