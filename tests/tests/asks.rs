//! The main job: a question goes where the rules say, the answer comes back, and everybody can see why.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail as the tests do"
)]

use domain::id::AgentName;
use e2e::System;
use e2e::system::{CHEAP, FRONTIER, LOCAL, Options, question};
use serde_json::{Value, json};
use wire::subject::{AgentGenerate, Plan};
use wire::v1::{self, Tier, plan_reply, plan_request};

/// About so many tokens, at four characters each.
fn prompt_of(tokens: usize) -> String {
    "tok ".repeat(tokens)
}

fn content(answer: &Value) -> &str {
    answer.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap_or_default()
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().cloned().unwrap_or_default();
    list.iter().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn a_small_question_is_answered_at_home_and_a_big_one_in_the_cloud_as_planned() -> anyhow::Result<()> {
    let system = System::start(Options::default()).await?;
    a_sum_is_worked_out_by_the_local_pool(&system).await?;
    a_heavy_agent_goes_to_the_remote_api(&system).await?;
    a_heavy_prompt_without_an_agent_goes_there_too(&system).await?;
    the_plan_is_what_happens(&system).await?;
    what_is_local_only_never_leaves(&system).await?;
    what_nobody_models_reaches_the_provider(&system).await?;
    an_agent_that_was_replaced_answers_through_its_successor(&system).await
}

async fn a_sum_is_worked_out_by_the_local_pool(system: &System) -> anyhow::Result<()> {
    let before = system.upstream.stats().await?.requests;
    let reply = system.caller().await?.generate(&question("What is 2+2?")).await?;
    let end = reply.end()?;
    assert!(reply.text().contains('4'), "the local model says {:?}", reply.text());
    assert_eq!((end.tier(), end.deployment.as_str()), (Tier::LocalCpu, "mainpc/llama.cpp/demo"));
    assert_eq!((end.request_cost_picodollars, end.attempt), (0, 1));
    let usage = end.usage.unwrap_or_default();
    assert!(usage.input > 0 && usage.output > 0 && !usage.estimated, "{usage:?}");
    assert!(!reply.decision()?.reasons.is_empty(), "the decision gives no reason");

    let body = json!({
        "model": "auto", "temperature": 0, "messages": [{"role": "user", "content": "What is 2+2?"}]
    });
    let answer = system.post("chat/completions", &body).await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-hybrid-tier"), "local-cpu");
    let told = answer.json()?;
    assert!(content(&told).contains('4'), "{told}");
    assert_eq!(told["hybrid"]["tier"], "local-cpu");
    assert!(texts(&told["hybrid"]["reasons"]).iter().any(|reason| reason.contains("R1")), "{told}");
    assert_eq!(system.upstream.stats().await?.requests, before, "a small question went to the provider");
    Ok(())
}

async fn a_heavy_agent_goes_to_the_remote_api(system: &System) -> anyhow::Result<()> {
    let caller = system.caller().await?;
    let agent = AgentGenerate(AgentName::new("CodeGenerator")?);
    let request = v1::GenerateRequest { stream: true, ..question(&prompt_of(5_000)) };
    let reply = caller.ask(&agent, &request).await?;
    let end = reply.end()?;
    assert_eq!(end.tier(), Tier::RemoteApi);
    assert_eq!(end.deployment, format!("mainpc/upstream/{FRONTIER}"));
    // $2.50 and $10 a million tokens: 2.5 and 10 millionths of a dollar each.
    let usage = end.usage.unwrap_or_default();
    assert_eq!((usage.input, usage.output), (5_000, 8));
    assert_eq!(end.cost_picodollars, 5_000 * 2_500_000 + 8 * 10_000_000);
    let decision = reply.decision()?;
    assert_eq!(decision.agent, "CodeGenerator");
    assert!(decision.reasons.iter().any(|reason| reason.contains("CodeGenerator")), "{decision:?}");

    let arrived = system.upstream.requests().await?;
    let last = arrived.last().expect("no request arrived at the provider");
    assert_eq!((last.path.as_str(), &last.body["model"]), ("/v1/chat/completions", &json!(FRONTIER)));
    assert!(last.authorization, "the provider was called without a key");
    let arrived = last.body["messages"][0]["content"].as_str().map(str::len);
    assert_eq!(arrived, Some(20_000), "the prompt did not arrive whole");
    Ok(())
}

async fn a_heavy_prompt_without_an_agent_goes_there_too(system: &System) -> anyhow::Result<()> {
    let body = json!({"messages": [{"role": "user", "content": prompt_of(5_000)}]});
    let answer = system.post("chat/completions", &body).await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json()?;
    assert_eq!((&told["hybrid"]["tier"], &told["hybrid"]["class"]), (&json!("remote-api"), &json!("heavy")));
    let reasons = texts(&told["hybrid"]["reasons"]);
    assert!(reasons.iter().any(|reason| reason.contains("heavy (R1)")), "{reasons:?}");
    Ok(())
}

async fn the_plan_is_what_happens(system: &System) -> anyhow::Result<()> {
    let caller = system.caller().await?;
    let agent = |name: &str, text: &str| v1::GenerateRequest { agent: name.to_owned(), ..question(text) };
    let named = v1::GenerateRequest { model: CHEAP.to_owned(), ..question("Hello") };
    let requests = [
        question("What is 2+2?"),
        agent("CodeGenerator", &prompt_of(5_000)),
        agent("ServiceRegistry", "Hello"),
        named,
    ];
    for request in requests {
        let before = system.upstream.stats().await?.requests;
        let method = plan_request::Method::Generate(request.clone());
        let plan = caller.call(&Plan, &v1::PlanRequest { method: Some(method) }).await?;
        let Some(plan_reply::Result::Decision(plan)) = plan.result else { panic!("no decision: {plan:?}") };
        assert_eq!(system.upstream.stats().await?.requests, before, "a plan made a call");

        let reply = caller.generate(&request).await?;
        let done = reply.decision()?;
        assert_eq!(plan.reasons, done.reasons);
        assert_eq!(plan.workload_class, done.workload_class);
        let order = |decision: &v1::Decision| {
            decision.candidates.iter().map(|one| one.deployment.clone()).collect::<Vec<_>>()
        };
        assert_eq!(order(&plan), order(done));
        assert_eq!(plan.rejected, done.rejected);
        assert_eq!(Some(&reply.end()?.deployment), order(&plan).first(), "{plan:?}");
    }
    Ok(())
}

async fn what_is_local_only_never_leaves(system: &System) -> anyhow::Result<()> {
    let before = system.upstream.stats().await?.requests;
    let profile = v1::TaskProfile { privacy: v1::Privacy::LocalOnly.into(), ..v1::TaskProfile::default() };
    let small = v1::GenerateRequest { profile: Some(profile.clone()), ..question("What is 2+2?") };
    let caller = system.caller().await?;
    assert_eq!(caller.generate(&small).await?.end()?.tier(), Tier::LocalCpu);
    // Too long for the bundled model: refused rather than sent out.
    let big = v1::GenerateRequest { profile: Some(profile), ..question(&prompt_of(100_000)) };
    let refused = caller.generate(&big).await?;
    let code = refused.error()?.code();
    assert_eq!(code, v1::ErrorCode::ContextLengthExceeded, "{:?}", refused.error()?);
    assert_eq!(system.upstream.stats().await?.requests, before, "a local-only request left the machine");
    Ok(())
}

async fn what_nobody_models_reaches_the_provider(system: &System) -> anyhow::Result<()> {
    let body = json!({
        "model": CHEAP,
        "messages": [{"role": "user", "content": "Hello", "cache_control": {"type": "ephemeral"}}],
        "service_tier": "flex",
        "metadata": {"ticket": "42"},
    });
    let answer = system.post("chat/completions", &body).await?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let arrived = system.upstream.requests().await?;
    let arrived = &arrived.last().expect("no request arrived at the provider").body;
    assert_eq!((&arrived["service_tier"], &arrived["metadata"]), (&json!("flex"), &json!({"ticket": "42"})));
    assert_eq!(arrived["messages"][0]["cache_control"], json!({"type": "ephemeral"}), "{arrived}");
    Ok(())
}

async fn an_agent_that_was_replaced_answers_through_its_successor(system: &System) -> anyhow::Result<()> {
    let replaced = replaced_agent()?;
    let request = v1::GenerateRequest { agent: replaced.clone(), ..question("What is 2+2?") };
    let reply = system.caller().await?.generate(&request).await?;
    reply.end()?;
    let reasons = &reply.decision()?.reasons;
    assert!(
        reasons.iter().any(|reason| reason.contains(&replaced) && reason.contains("replaced")),
        "{reasons:?}"
    );
    Ok(())
}

/// The first agent of the shipped matrix that another one answers for.
fn replaced_agent() -> anyhow::Result<String> {
    let text = std::fs::read_to_string(e2e::workspace::root().join("config/agents.toml"))?;
    let matrix: toml::Table = text.parse()?;
    let rows = matrix["agent"].as_array().cloned().unwrap_or_default();
    let replaced = rows.iter().find(|row| row.get("replaced_by").is_some());
    let name = replaced.and_then(|row| row.get("name")?.as_str().map(str::to_owned));
    Ok(name.expect("no agent of the matrix was replaced"))
}

#[tokio::test]
async fn the_model_list_names_what_can_be_asked_for() -> anyhow::Result<()> {
    let system = System::start(Options::cloud_and_local()).await?;
    let list = system.client().get(&format!("{}/v1/models", system.url())).await?.json()?;
    let ids: Vec<&str> =
        list["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str()).collect();
    for expected in [LOCAL, CHEAP, FRONTIER, "local/fast", "cloud/frontier"] {
        assert!(ids.contains(&expected), "{expected} is missing: {ids:?}");
    }
    // An alias answers with the first of its targets that somebody runs.
    let body = json!({"model": "local/fast", "messages": [{"role": "user", "content": "What is 2+2?"}]});
    let told = system.post("chat/completions", &body).await?.json()?;
    assert_eq!(told["hybrid"]["deployment"], "mainpc/llama.cpp/demo", "{told}");
    Ok(())
}
