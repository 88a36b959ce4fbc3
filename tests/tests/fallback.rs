//! What fails before the first token is tried elsewhere and the caller does not notice; what fails after it is said.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail as the tests do"
)]

use std::time::Duration;

use e2e::system::{CHEAP, FRONTIER, Options, PATIENCE, Row, question};
use e2e::upstream::{Garbage, Hang, RetryAfter, Script};
use e2e::{FakeUpstream, System, wait};
use rustix::process::Signal;
use serde_json::{Value, json};
use wire::subject::service;
use wire::v1::{self, ErrorCode, Tier, reply_frame::Kind};

/// Time that providers have for each step.
const LIMIT_MS: i64 = 1_000;

/// Two providers with the same models; the first is the cheaper one and is asked first.
async fn two_providers() -> anyhow::Result<System> {
    let limits = |provider: usize, options: Options| {
        let key = |limit: &str| format!("remote-api-adapter.providers.{provider}.timeouts.{limit}");
        options
            .set(&key("first_token_ms"), LIMIT_MS)
            .set(&key("idle_ms"), LIMIT_MS)
            // What holds for an answer in one piece, which has no first token.
            .set(&key("total_ms"), 2 * LIMIT_MS)
    };
    System::start(limits(0, limits(1, Options { backup: true, ..Options::cloud() }))).await
}

fn chat(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]})
}

fn failing(status: u16) -> Script {
    Script { status: Some(status), ..Script::default() }
}

fn backup(system: &System) -> &FakeUpstream {
    system.backup.as_ref().expect("started with a second provider")
}

/// Who was asked, and how that ended.
fn providers(rows: &[Row]) -> Vec<(&str, &str, &str)> {
    rows.iter().map(|row| (row.provider.as_str(), row.outcome.as_str(), row.error_code.as_str())).collect()
}

#[tokio::test]
async fn a_provider_that_fails_before_its_first_token_is_replaced_by_the_next_one() -> anyhow::Result<()> {
    let mut system = two_providers().await?;
    let scripts = [
        ("500", failing(500), "upstream"),
        ("a hang", Script { hang: Some(Hang::BeforeHeaders), ..Script::default() }, "timeout"),
        ("a page of HTML", Script { garbage: Some(Garbage::Html), ..Script::default() }, "upstream"),
        ("a cut", Script { cut_after_bytes: Some(0), ..Script::default() }, "upstream"),
    ];
    for (what, script, code) in scripts {
        for stream in [false, true] {
            system.upstream.play(&script).await?;
            let answer = system.post("chat/completions", &chat(FRONTIER, stream)).await?;
            assert_eq!(answer.status, 200, "after {what}: {}", answer.text());
            let told = hybrid(&answer, stream);
            assert_eq!(told["provider"], "backup", "after {what}: {told}");
            assert_eq!(told["attempt"], 2);
            let id = told["request_id"].as_str().unwrap_or_default();
            let rows = system.hub().attempts(id, 2).await?;
            let expected = [("upstream", "failed", code), ("backup", "ok", "")];
            assert_eq!(providers(&rows), expected, "after {what}, stream {stream}");
            assert_eq!(rows.iter().map(|row| row.attempt).collect::<Vec<_>>(), [1, 2]);
            // A success in between: failures in a row would make the deployment cool down.
            system.upstream.recover().await?;
            let healthy = system.post("chat/completions", &chat(FRONTIER, false)).await?.json()?;
            assert_eq!(healthy["hybrid"]["provider"], "upstream", "after {what}: {healthy}");
        }
    }
    // Nobody is there at all.
    system.upstream.child().kill()?;
    let told = hybrid(&system.post("chat/completions", &chat(FRONTIER, true)).await?, true);
    let rows = system.hub().attempts(told["request_id"].as_str().unwrap_or_default(), 2).await?;
    assert_eq!(providers(&rows), [("upstream", "failed", "unavailable"), ("backup", "ok", "")]);
    Ok(())
}

/// The object that says what happened: of the body, or of the last chunk of a stream.
fn hybrid(answer: &e2e::http::Answer, stream: bool) -> Value {
    if !stream {
        return answer.json().map(|body| body["hybrid"].clone()).unwrap_or_default();
    }
    let events = answer.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{events:?}");
    let chunks = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    chunks.rev().find_map(|chunk| chunk.get("hybrid").cloned()).expect("no chunk says what happened")
}

#[tokio::test]
async fn when_everything_fails_the_caller_hears_the_last_reason_and_every_attempt_is_kept()
-> anyhow::Result<()> {
    let system = two_providers().await?;
    system.upstream.play(&failing(500)).await?;
    backup(&system).play(&failing(503)).await?;
    let answer = system.post("chat/completions", &chat(FRONTIER, false)).await?;
    assert_eq!(answer.status, 502, "{}", answer.text());
    let error = answer.json()?["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!("upstream_error"), &json!("upstream_error")));

    let reply = system.caller().await?.generate(&named(FRONTIER)).await?;
    let error = reply.error()?;
    assert_eq!((error.code(), error.origin()), (ErrorCode::Upstream, v1::ErrorOrigin::Provider), "{error:?}");
    assert_eq!(error.provider_code, "server_error", "{error:?}");
    let rows = system.hub().attempts(reply.request_id(), 2).await?;
    assert_eq!(providers(&rows), [("upstream", "failed", "upstream"), ("backup", "failed", "upstream")]);
    assert!(rows.iter().all(|row| row.cost_picodollars == 0), "a failure cost something: {rows:?}");
    Ok(())
}

fn named(model: &str) -> v1::GenerateRequest {
    v1::GenerateRequest { model: model.to_owned(), stream: true, ..question("Hello") }
}

#[tokio::test]
async fn a_stream_that_breaks_after_its_first_token_ends_with_an_error_and_no_done() -> anyhow::Result<()> {
    let mut system = two_providers().await?;
    // Long enough for a few pieces, then the connection breaks.
    let cut = Script { cut_after_bytes: Some(1_200), chunks: 50, ..Script::default() };
    let hang = Script { hang: Some(Hang::MidStream), ..Script::default() };
    for (what, script) in [("a cut", cut), ("silence", hang.clone())] {
        system.upstream.play(&script).await?;
        let answer = system.post("chat/completions", &chat(FRONTIER, true)).await?;
        broke_off(&answer, what);
        let reply = system.caller().await?.generate(&named(FRONTIER)).await?;
        assert!(reply.text().starts_with("echo: Hello"), "{}", reply.text());
        reply.error()?;
        let rows = system.hub().attempts(reply.request_id(), 1).await?;
        assert_eq!(rows[0].outcome, "failed");
        assert!(
            rows[0].estimated && rows[0].tokens.output > 0,
            "what was delivered is not counted: {rows:?}"
        );
        assert!(rows[0].cost_picodollars > 0, "what was delivered costs nothing: {rows:?}");
        system.upstream.recover().await?;
        assert_eq!(system.post("chat/completions", &chat(FRONTIER, false)).await?.status, 200);
    }
    assert_eq!(backup(&system).stats().await?.requests, 0, "a broken answer was begun again elsewhere");

    // The executor itself dies in the middle.
    let key = "remote-api-adapter";
    system.upstream.play(&hang).await?;
    let client = system.client();
    let address = format!("{}/v1/chat/completions", system.url());
    let mut answer = client.send(hyper::Method::POST, &address, chat(FRONTIER, true).to_string()).await?;
    let first = answer.next().await?.expect("nothing came");
    system.kill(key)?;
    let mut whole = e2e::http::Answer { status: answer.status, headers: answer.headers.clone(), body: first };
    let rest = answer.rest().await?;
    whole.body = [whole.body, rest.body].concat().into();
    broke_off(&whole, "the adapter's death");
    Ok(())
}

/// Text came, then one error, and nothing that looks like a good end.
fn broke_off(answer: &e2e::http::Answer, what: &str) {
    let events = answer.events();
    assert_eq!(answer.status, 200, "after {what}: {events:?}");
    assert!(events.iter().any(|event| event.contains("echo: Hello")), "after {what}: {events:?}");
    assert!(!events.iter().any(|event| event == "[DONE]"), "after {what}, a broken stream says it is done");
    let last: Value = events.last().and_then(|event| serde_json::from_str(event).ok()).unwrap_or_default();
    assert!(last["error"]["code"].is_string(), "after {what}, the last event is {last}");
    assert!(
        !answer.text().contains("finish_reason\":\"stop"),
        "after {what}, a broken stream says it stopped"
    );
}

#[tokio::test]
async fn a_local_model_that_is_killed_before_its_first_token_is_replaced_by_the_cloud() -> anyhow::Result<()>
{
    let mut system = System::start(Options::cloud_and_local()).await?;
    let caller = system.caller().await?;
    assert_eq!(caller.generate(&question("What is 2+2?")).await?.end()?.tier(), Tier::LocalCpu);

    // Stopped first, so that not even one token can come before the kill.
    let engine = system.engines(1).await?[0];
    engine.signal(Signal::STOP)?;
    let mut stream = caller.open(&wire::subject::Generate, &question("What is 3+3?")).await?;
    stream.until(|kind| matches!(kind, Kind::Accepted(_)).then_some(())).await?;
    engine.signal(Signal::KILL)?;
    from_the_cloud(&system, &stream.rest().await?).await?;

    // The pool brings the model back by itself, and it is used again.
    let back = system.engines(1).await?[0];
    assert_ne!(back, engine);
    wait::until("an answer from the new engine", PATIENCE, async || {
        let reply = caller.generate(&question("What is 2+2?")).await.ok()?;
        (reply.end().ok()?.tier() == Tier::LocalCpu).then_some(())
    })
    .await?;

    // The same with the pool itself, which takes its engines with it.
    let engine = system.engines(1).await?[0];
    engine.signal(Signal::STOP)?;
    let mut stream = caller.open(&wire::subject::Generate, &question("What is 3+3?")).await?;
    stream.until(|kind| matches!(kind, Kind::Accepted(_)).then_some(())).await?;
    system.kill(service::LOCAL_MODEL_POOL)?;
    from_the_cloud(&system, &stream.rest().await?).await?;
    // Awake again, it finds that its pool is gone.
    let _ = engine.signal(Signal::CONT);
    wait::until("the end of an engine without a pool", PATIENCE, async || (!engine.lives()).then_some(()))
        .await
}

async fn from_the_cloud(system: &System, reply: &e2e::system::Reply) -> anyhow::Result<()> {
    let end = reply.end()?;
    assert_eq!((end.tier(), end.attempt), (Tier::RemoteApi, 2));
    assert!(reply.text().starts_with("echo: What is 3+3?"), "{}", reply.text());
    let rows = system.hub().attempts(reply.request_id(), 2).await?;
    assert_eq!((rows[0].tier.as_str(), rows[0].outcome.as_str()), ("local-cpu", "failed"));
    assert_eq!((rows[1].tier.as_str(), rows[1].outcome.as_str()), ("remote-api", "ok"));
    Ok(())
}

#[tokio::test]
async fn a_provider_is_asked_again_only_after_the_time_it_names() -> anyhow::Result<()> {
    let system = System::start(Options::cloud()).await?;
    for status in [429, 503] {
        let busy = Script { retry_after: Some(RetryAfter::Seconds(1)), next_n: Some(1), ..failing(status) };
        system.upstream.play(&busy).await?;
        let before = system.upstream.stats().await?.requests;
        let told = system.post("chat/completions", &chat(CHEAP, false)).await?.json()?;
        assert_eq!(told["hybrid"]["attempt"], 1, "after {status}: {told}");
        assert_eq!(system.upstream.stats().await?.requests, before + 2, "after {status}");
        let took = told["hybrid"]["total_ms"].as_u64().unwrap_or_default();
        assert!(took >= 1_000, "after {status} the second call came {took} ms later, a second was asked for");
    }

    // Longer than anybody waits: said at once, with the provider's own time, and not asked again before it.
    let closed = Script { retry_after: Some(RetryAfter::Seconds(600)), ..failing(429) };
    system.upstream.play(&closed).await?;
    let before = system.upstream.stats().await?.requests;
    let answer = system.post("chat/completions", &chat(CHEAP, false)).await?;
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), "600");
    assert_eq!(system.upstream.stats().await?.requests, before + 1);
    system.upstream.recover().await?;
    let answer = system.post("chat/completions", &chat(CHEAP, false)).await?;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("cooling"), "{}", answer.text());
    assert_eq!(system.upstream.stats().await?.requests, before + 1, "a provider that wants peace was called");
    Ok(())
}

/// Nothing waits for its own time limit when the provider is there but slow to begin.
#[tokio::test]
async fn a_slow_first_token_within_the_limit_is_waited_for() -> anyhow::Result<()> {
    let slow = Script { delay_before_headers_ms: 3_000, ..Script::default() };
    let system = System::start(Options::cloud().script(slow)).await?;
    let reply = system.caller().await?.generate(&named(CHEAP)).await?;
    assert_eq!(reply.end()?.attempt, 1);
    let beats = reply.frames.iter().filter(|frame| matches!(frame.kind, Some(Kind::Heartbeat(_)))).count();
    assert!(beats >= 2, "{beats} heartbeats in three seconds of silence");
    assert!(reply.end()?.time_to_first_token_ms >= Duration::from_secs(3).as_millis() as u64);
    Ok(())
}
