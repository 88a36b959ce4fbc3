//! What a person does with `hybridctl`, and what a script reads from it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail as the tests do"
)]

use anyhow::Context as _;
use e2e::system::{CHEAP, FRONTIER, LOCAL, Options, PATIENCE, succeeded};
use e2e::{System, wait};
use serde_json::{Value, json};
use wire::subject::service;

async fn ctl(system: &System, arguments: &[&str]) -> anyhow::Result<Value> {
    let output = system.run("hybridctl", arguments).await?;
    serde_json::from_str(&succeeded(&output)?)
        .with_context(|| format!("hybridctl {arguments:?} writes no JSON"))
}

fn named<'a>(list: &'a Value, field: &str, name: &str) -> &'a Value {
    let found = list.as_array().and_then(|all| all.iter().find(|one| one[field] == name));
    found.unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_person_asks_and_sees_what_was_decided_what_there_is_and_what_it_cost() -> anyhow::Result<()> {
    let keys = vec!["sk-of-the-owner".to_owned()];
    let system = System::start(Options { api_keys: keys, ..Options::default() }).await?;
    asking_prints_the_answer_and_where_it_came_from(&system).await?;
    a_plan_is_what_asking_does(&system).await?;
    what_there_is_is_listed(&system).await?;
    a_flag_moves_requests_and_moves_them_back(&system).await?;
    what_it_cost_is_what_the_hub_says(&system).await?;
    a_mistake_is_said_in_one_line_and_by_the_exit_code(&system).await
}

async fn asking_prints_the_answer_and_where_it_came_from(system: &System) -> anyhow::Result<()> {
    let output = system.run("hybridctl", &["ask", "What is 2+2?"]).await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer = succeeded(&output)?;
    assert!(answer.contains('4'), "{answer}");
    for part in ["local-cpu", LOCAL, "$0"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let named = ctl(system, &["ask", "--json", "--model", CHEAP, "--task", "chat", "Hello"]).await?;
    assert_eq!((&named["tier"], &named["model"]), (&json!("remote-api"), &json!(CHEAP)), "{named}");
    // 5 bytes of prompt are 2 tokens at $0.15 a million; 8 tokens of answer at $0.60.
    assert_eq!(named["request_cost_picodollars"], 2 * 150_000 + 8 * 600_000, "{named}");
    assert_eq!(named["text"], "echo: Hello word1 word2 word3 word4 word5 word6 word7");
    Ok(())
}

async fn a_plan_is_what_asking_does(system: &System) -> anyhow::Result<()> {
    let prompt = "tok ".repeat(5_000);
    let plan = ctl(system, &["plan", "--json", "--agent", "CodeGenerator", &prompt]).await?;
    let done = ctl(system, &["ask", "--json", "--agent", "CodeGenerator", &prompt]).await?;
    assert_eq!(done["deployment"], format!("mainpc/upstream/{FRONTIER}"));
    assert_eq!(plan["candidates"][0]["deployment"], done["deployment"]);
    assert_eq!(plan["reasons"], done["decision"]["reasons"]);
    assert!(plan["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{plan}");
    let local = named(&plan["rejected"], "deployment", "mainpc/llama.cpp/demo");
    assert_eq!(local["reason"], "context-too-small", "{plan}");
    let shown = succeeded(&system.run("hybridctl", &["plan", "--agent", "CodeGenerator", "Hello"]).await?)?;
    assert!(shown.contains("CodeGenerator") && shown.contains(FRONTIER), "{shown}");
    Ok(())
}

async fn what_there_is_is_listed(system: &System) -> anyhow::Result<()> {
    let models = ctl(system, &["models", "--json"]).await?;
    let local = named(&models["deployments"], "model", LOCAL);
    assert_eq!(
        (&local["tier"], &local["state"], &local["free"]),
        (&json!("local-cpu"), &json!("warm"), &json!(true))
    );
    let cloud = named(&models["deployments"], "model", FRONTIER);
    assert_eq!(cloud["price"]["output_picodollars"], 10_000_000, "{cloud}");
    assert!(named(&models["aliases"], "name", "local/fast")["targets"].is_array(), "{models}");

    let agents = ctl(system, &["agents", "--json"]).await?;
    let code = named(&agents, "name", "CodeGenerator");
    assert_eq!(
        (&code["workload_class"], &code["tiers"][0]),
        (&json!("heavy"), &json!("remote-api")),
        "{code}"
    );

    // Its exit code says that not all is ready before the heartbeats of all have said so.
    let status = wait::until("everything to be ready in the status", PATIENCE, async || {
        ctl(system, &["status", "--json"]).await.ok()
    });
    let status = status.await?;
    for name in service::ALL {
        let one = named(&status["services"], "service", name);
        assert_eq!((&one["alive"], &one["ready"]), (&json!(true), &json!(true)), "{name}: {status}");
    }
    // The same for people: every command has something to say.
    for command in ["models", "agents", "status", "flags", "usage"] {
        let shown = succeeded(&system.run("hybridctl", &[command]).await?)?;
        assert!(shown.lines().count() >= 1, "hybridctl {command} says nothing");
    }
    Ok(())
}

async fn a_flag_moves_requests_and_moves_them_back(system: &System) -> anyhow::Result<()> {
    let ask = ["ask", "--json", "--agent", "CodeGenerator", "What is 2+2?"];
    let lands_on = async |tier: &str| {
        wait::until(&format!("an answer from {tier}"), PATIENCE, async || {
            let answer = ctl(system, &ask).await.ok()?;
            (answer["tier"] == tier).then_some(answer)
        })
        .await
    };
    lands_on("remote-api").await?;
    let flags = ctl(system, &["flags", "set", "tier.remote-api", "off", "--json"]).await?;
    assert_eq!(named(&flags, "name", "tier.remote-api")["enabled"], false, "{flags}");
    let moved = lands_on("local-cpu").await?;
    let cloud =
        named(&moved["decision"]["rejected"], "deployment", &format!("mainpc/upstream/{FRONTIER}")).clone();
    assert_eq!(cloud["reason"], "flag", "{moved}");
    ctl(system, &["flags", "remove", "tier.remote-api", "--json"]).await?;
    lands_on("remote-api").await.map(drop)
}

async fn what_it_cost_is_what_the_hub_says(system: &System) -> anyhow::Result<()> {
    let answer = ctl(system, &["ask", "--json", "--model", FRONTIER, "Hello"]).await?;
    let id = answer["request_id"].as_str().expect("no request id");
    system.hub().attempts(id, 1).await?;
    let one = ctl(system, &["usage", "--json", id]).await?;
    assert_eq!(one["cost_picodollars"], answer["request_cost_picodollars"], "{one}");
    let usage = ctl(system, &["usage", "--json", "--from", "1970-01-01"]).await?;
    let totals = system.hub().totals().await?;
    assert_eq!(usage["totals"]["cost_picodollars"], totals.cost_picodollars, "{usage}");
    assert_eq!(usage["totals"]["attempts"], totals.attempts, "{usage}");
    let exported = succeeded(&system.run("hybridctl", &["usage", "export", "--from", "1970-01-01"]).await?)?;
    assert_eq!(exported.lines().count() as u64, totals.attempts);
    Ok(())
}

async fn a_mistake_is_said_in_one_line_and_by_the_exit_code(system: &System) -> anyhow::Result<()> {
    let mistakes: [(&[&str], &str); 5] = [
        (&["ask", "--agent", "Nobody", "Hello"], "not_found"),
        (&["ask", "--model", "gpt-99", "Hello"], "not_found"),
        (&["ask", "--temperature", "9", "Hello"], "temperature"),
        (&["plan", "--agent", "Nobody", "Hello"], "not_found"),
        (&["usage", "no-such-request"], "no-such-request"),
    ];
    for (arguments, word) in mistakes {
        let output = system.run("hybridctl", arguments).await?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?} ends well");
        assert!(told.contains(word) && told.lines().count() <= 2, "{arguments:?}: {told}");
    }
    let output = system.run("hybridctl", &["ask", "--json", "--agent", "Nobody", "Hello"]).await?;
    let error: Value = serde_json::from_slice(&output.stdout).context("no JSON for a program")?;
    assert_eq!(
        (&error["error"]["code"], &error["error"]["field"]),
        (&json!("not_found"), &json!("agent")),
        "{error}"
    );
    let nobody = system.run("hybridctl", &["ask", "--nats", "nats://127.0.0.1:1", "Hello"]).await?;
    let told = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(!nobody.status.success() && told.contains("make up"), "{told}");
    Ok(())
}

#[tokio::test]
async fn what_work_would_cost_is_simulated_without_a_system() -> anyhow::Result<()> {
    let mut command = std::process::Command::new(e2e::workspace::binary("hybridctl")?);
    command.args(["cost", "simulate", "--json"]).current_dir(e2e::workspace::root());
    let plans: Value = serde_json::from_slice(&command.output()?.stdout)?;
    let titles: Vec<_> = plans.as_array().into_iter().flatten().map(|plan| &plan["title"]).collect();
    assert_eq!(titles, ["Daemon, 100 iterations a day", "Factory, 2M tokens a day"]);
    assert_eq!(
        named(&plans[0]["costs"], "variant", "Hybrid (Ollama local)")["total_picodollars"],
        16_500_000_000_000_i64
    );
    Ok(())
}
