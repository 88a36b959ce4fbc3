//! The commands against a running system: what is told, in which form, with which exit code.

#![expect(clippy::indexing_slicing, reason = "the helpers of tests fail as the tests do")]

use std::io::Write as _;
use std::process::{Output, Stdio};

use anyhow::Context as _;
use e2e::system::{CHEAP, LOCAL, Options, PATIENCE, succeeded};
use e2e::upstream::Script;
use e2e::{Child, System, wait, workspace};
use rustix::process::Signal;
use serde_json::Value;
use wire::subject::service;

async fn run(system: &System, arguments: &[&str]) -> anyhow::Result<Output> {
    system.run("hybridctl", arguments).await
}

async fn json(system: &System, arguments: &[&str]) -> anyhow::Result<Value> {
    let text = succeeded(&run(system, arguments).await?)?;
    serde_json::from_str(&text).with_context(|| format!("{arguments:?} wrote no JSON: {text}"))
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_running_system_can_be_asked_and_looked_at() -> anyhow::Result<()> {
    let system = System::start(Options::default()).await?;
    an_answer_goes_to_stdout_and_everything_about_it_to_stderr(&system).await?;
    a_question_is_read_from_stdin(&system)?;
    the_example_with_openais_sdk_works(&system).await?;
    a_program_gets_one_object(&system).await?;
    the_plan_is_where_it_runs(&system).await?;
    everything_that_can_be_listed_is_listed(&system).await?;
    a_flag_keeps_requests_off_a_tier(&system).await?;
    a_refusal_is_typed(&system).await?;
    what_it_cost_is_what_was_told(&system).await
}

async fn an_answer_goes_to_stdout_and_everything_about_it_to_stderr(system: &System) -> anyhow::Result<()> {
    let output = run(system, &["ask", "-v", "What is 2+2?"]).await?;
    assert_eq!(succeeded(&output)?, "4\n");
    let about = errors(&output);
    assert!(about.starts_with("local-cpu · mainpc/llama.cpp/demo · $0.00 · "), "{about}");
    assert!(about.contains("(R1)"), "the reasons are missing: {about}");
    let whole = run(system, &["ask", "--no-stream", "What is 2+2?"]).await?;
    assert_eq!(succeeded(&whole)?, "4\n");
    Ok(())
}

fn a_question_is_read_from_stdin(system: &System) -> anyhow::Result<()> {
    let mut command = std::process::Command::new(workspace::binary("hybridctl")?);
    command.arg("ask").arg("--config").arg(system.config()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ask = command.current_dir(workspace::root()).spawn()?;
    ask.stdin.take().context("no stdin")?.write_all(b"What is 3+4?\n")?;
    assert_eq!(succeeded(&ask.wait_with_output()?)?, "7\n");
    Ok(())
}

async fn the_example_with_openais_sdk_works(system: &System) -> anyhow::Result<()> {
    let python = workspace::root().join(".tools/venv/bin/python");
    anyhow::ensure!(python.is_file(), "{} is missing: run `scripts/setup.sh --test`", python.display());
    let mut command = tokio::process::Command::new(python);
    command.arg(workspace::root().join("examples/openai_sdk.py"));
    command.args(["--base-url", &format!("{}/v1", system.url())]).kill_on_drop(true);
    let text = succeeded(&tokio::time::timeout(PATIENCE, command.output()).await??)?;
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert!(line("whole").contains("4  (local-cpu, mainpc/llama.cpp/demo)"), "{text}");
    assert_eq!(line("streamed"), "streamed  4");
    assert!(line("agent").contains("agent CodeGenerator is heavy"), "{text}");
    assert!(line("vectors").starts_with("vectors   2 of "), "{text}");
    Ok(())
}

async fn a_program_gets_one_object(system: &System) -> anyhow::Result<()> {
    let answer = json(system, &["ask", "--json", "--agent", "CodeGenerator", "write a parser"]).await?;
    assert_eq!(answer["tier"], "remote-api");
    assert!(!answer["text"].as_str().unwrap_or_default().is_empty(), "{answer}");
    assert!(answer["request_cost_picodollars"].as_i64() > Some(0), "{answer}");
    assert_eq!(answer["decision"]["agent"], "CodeGenerator");
    assert_eq!(answer["decision"]["candidates"][0]["deployment"], answer["deployment"]);
    let private = json(system, &["ask", "--json", "--private", "--agent", "CodeGenerator", "hello"]).await?;
    assert_eq!(private["tier"], "local-cpu");
    Ok(())
}

async fn the_plan_is_where_it_runs(system: &System) -> anyhow::Result<()> {
    let plan = json(system, &["plan", "--json", "--model", CHEAP, "hello"]).await?;
    let answer = json(system, &["ask", "--json", "--model", CHEAP, "hello"]).await?;
    assert_eq!(plan["candidates"][0]["deployment"], answer["deployment"]);
    let text = succeeded(&run(system, &["plan", "hello"]).await?)?;
    assert!(text.contains("mainpc/llama.cpp/demo") && text.contains("light: "), "{text}");
    Ok(())
}

async fn everything_that_can_be_listed_is_listed(system: &System) -> anyhow::Result<()> {
    let models = json(system, &["models", "--json"]).await?;
    let named = |name: &str| {
        models["deployments"].as_array().is_some_and(|all| all.iter().any(|d| d["model"] == name))
    };
    assert!(named(LOCAL) && named(CHEAP), "{models}");
    let agents = json(system, &["agents", "--json"]).await?;
    assert!(
        agents.as_array().is_some_and(|all| all.iter().any(|a| a["name"] == "CodeGenerator")),
        "{agents}"
    );
    let status = json(system, &["status", "--json"]).await?;
    let services = status["services"].as_array().map(Vec::len);
    assert_eq!(services, Some(service::ALL.len()), "{status}");
    assert!(status["machines"][0]["memory_total_bytes"].as_u64() > Some(0), "{status}");
    for command in ["models", "agents", "status", "flags", "usage"] {
        let text = succeeded(&run(system, &[command]).await?)?;
        assert!(!text.contains(['\x1b', '│']), "{command} decorates a pipe: {text}");
    }
    Ok(())
}

async fn a_flag_keeps_requests_off_a_tier(system: &System) -> anyhow::Result<()> {
    let set = json(system, &["flags", "set", "tier.remote-api", "off", "--json"]).await?;
    assert_eq!((&set[0]["name"], &set[0]["enabled"]), (&"tier.remote-api".into(), &false.into()));
    let elsewhere = async || {
        let plan = json(system, &["plan", "--json", "--agent", "CodeGenerator", "hello"]).await.ok()?;
        (plan["candidates"][0]["tier"] == "local-cpu").then_some(plan)
    };
    let plan = wait::until("a plan without the remote tier", PATIENCE, elsewhere).await?;
    let rejected = plan["rejected"].as_array().cloned().unwrap_or_default();
    assert!(rejected.iter().any(|rejection| rejection["reason"] == "flag"), "{plan}");
    let left = json(system, &["flags", "remove", "tier.remote-api", "--json"]).await?;
    assert_eq!(left, Value::Array(Vec::new()));
    Ok(())
}

async fn a_refusal_is_typed(system: &System) -> anyhow::Result<()> {
    for (arguments, code, field) in [
        (["ask", "--agent", "Nobody", "hi"], "not_found", "agent"),
        (["ask", "--agent", "a b", "hi"], "invalid_argument", "agent"),
        (["ask", "--temperature", "9", "hi"], "invalid_argument", "temperature"),
        (["plan", "--model", "no/such", "hi"], "not_found", "model"),
    ] {
        let output = run(system, &arguments).await?;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let text = errors(&output);
        assert!(text.starts_with(&format!("error: {code}: ")) && text.contains(field), "{text}");
        let output = run(system, &[&arguments[..], &["--json"]].concat()).await?;
        let error: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!((&error["error"]["code"], &error["error"]["field"]), (&code.into(), &field.into()));
    }
    let usage = run(system, &["ask", "--max-tokens", "many", "hi"]).await?;
    assert_eq!(usage.status.code(), Some(2));
    Ok(())
}

async fn what_it_cost_is_what_was_told(system: &System) -> anyhow::Result<()> {
    let told = json(system, &["ask", "--json", "--model", CHEAP, "What does this cost?"]).await?;
    let id = told["request_id"].as_str().context("no request id")?;
    let in_ledger = async || json(system, &["usage", id, "--json"]).await.ok();
    let kept = wait::until("the request in the ledger", PATIENCE, in_ledger).await?;
    assert_eq!(kept["cost_picodollars"], told["request_cost_picodollars"]);
    let table = succeeded(&run(system, &["usage", id]).await?)?;
    assert!(table.contains("upstream") && table.contains(" ok "), "{table}");

    let summary = json(system, &["usage", "--json", "--from", "1h"]).await?;
    let lines = succeeded(&run(system, &["usage", "export", "--from", "1h"]).await?)?;
    let attempts: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let sum: i64 = attempts.iter().filter_map(|attempt| attempt["cost_picodollars"].as_i64()).sum();
    assert_eq!(summary["totals"]["cost_picodollars"], sum);
    let csv = succeeded(&run(system, &["usage", "export", "--format", "csv"]).await?)?;
    assert_eq!(csv.lines().count(), attempts.len() + 1);
    let unknown = run(system, &["usage", "no-such-request"]).await?;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(errors(&unknown).contains("not_found"), "{}", errors(&unknown));
    Ok(())
}

#[tokio::test]
async fn ctrl_c_cancels_the_request() -> anyhow::Result<()> {
    let slow = Script { chunks: 1_000, chunk_delay_ms: 50, ..Script::default() };
    let system = System::start(Options::cloud().script(slow)).await?;
    let mut command = std::process::Command::new(workspace::binary("hybridctl")?);
    command.arg("--config").arg(system.config()).args(["ask", "--model", CHEAP, "a long story"]);
    let mut ask = Child::spawn("hybridctl", command.current_dir(workspace::root()))?;
    let begun = async || (system.upstream.stats().await.ok()?.requests > 0).then_some(());
    wait::until("the request at the provider", PATIENCE, begun).await?;
    ask.signal(Signal::INT)?;
    assert_eq!(ask.end(PATIENCE).await?.code(), Some(130));
    let accounted = async || {
        let summary = json(&system, &["usage", "--json"]).await.ok()?;
        (summary["totals"]["cancelled"] == 1).then_some(())
    };
    wait::until("the cancelled attempt in the ledger", PATIENCE, accounted).await
}

#[tokio::test]
async fn a_key_from_the_configuration_is_shown_to_the_coordinator() -> anyhow::Result<()> {
    let options = Options { api_keys: vec!["sk-caller".to_owned()], ..Options::cloud() };
    let system = System::start(options).await?;
    let answer = json(&system, &["ask", "--json", "--model", CHEAP, "hello"]).await?;
    assert_eq!(answer["model"], CHEAP);
    Ok(())
}

#[tokio::test]
async fn a_system_that_is_not_there_is_named_with_how_to_start_it() -> anyhow::Result<()> {
    let mut system = System::start(Options::of(&[])).await?;
    for arguments in [&["ask", "hi"][..], &["plan", "hi"], &["flags"]] {
        let output = run(&system, arguments).await?;
        assert_eq!(output.status.code(), Some(1));
        assert!(errors(&output).contains("does not run; `make up`"), "{arguments:?}: {}", errors(&output));
    }
    let nobody = run(&system, &["status"]).await?;
    assert!(errors(&nobody).contains("no control bucket"), "{}", errors(&nobody));
    let ledger = run(&system, &["usage"]).await?;
    assert!(errors(&ledger).contains("observability-hub does not answer at"), "{}", errors(&ledger));
    system.nats.kill()?;
    for arguments in [&["ask", "hi"][..], &["models"], &["status", "--json"]] {
        let output = run(&system, arguments).await?;
        assert_eq!(output.status.code(), Some(1));
        let said = errors(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&system.nats.url()) && said.contains("`make up`"), "{arguments:?}: {said}");
    }
    Ok(())
}
