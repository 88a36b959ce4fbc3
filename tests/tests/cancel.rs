//! Whoever goes away stops the work: the provider's connection is closed, the engine's slot is free, the ledger says so.

use std::time::Duration;

use e2e::System;
use e2e::system::{CHEAP, LOCAL, Options, PATIENCE, Row, question};
use e2e::upstream::{Hang, Script};
use rustix::process::Signal;
use serde_json::{Value, json};
use wire::subject::{Cancel, Generate};
use wire::v1::{self, ErrorCode, FinishReason, reply_frame::Kind};

/// How soon a cancel has to be through.
const SOON: Duration = Duration::from_secs(1);

fn chat(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]})
}

async fn given_up(system: &System, count: u64, what: &str) -> anyhow::Result<()> {
    let stats = system.upstream.stats_until(what, SOON, |stats| stats.aborted == count).await?;
    assert_eq!(stats.in_flight, 0, "after {what} the provider still works: {stats:?}");
    Ok(())
}

#[tokio::test]
async fn a_caller_who_goes_away_ends_the_call_to_the_provider() -> anyhow::Result<()> {
    let system = System::start(Options::cloud()).await?;
    let caller = system.caller().await?;
    let client = system.client();
    let address = format!("{}/v1/chat/completions", system.url());

    // In the middle of a stream.
    system.upstream.play(&Script { hang: Some(Hang::MidStream), ..Script::default() }).await?;
    let mut answer = client.send(hyper::Method::POST, &address, chat(CHEAP, true).to_string()).await?;
    answer.next().await?.expect("nothing came");
    drop(answer);
    given_up(&system, 1, "a stream's end from outside").await?;

    // Before anything has come, with and without a stream.
    system.upstream.play(&Script { hang: Some(Hang::BeforeHeaders), ..Script::default() }).await?;
    for (stream, count) in [(true, 2), (false, 3)] {
        let body = chat(CHEAP, stream).to_string();
        let call = client.send(hyper::Method::POST, &address, body);
        tokio::select! {
            answer = call => panic!("an answer came: {answer:?}"),
            begun = system.upstream.stats_until("the call", PATIENCE, |stats| stats.in_flight == 1) => drop(begun?),
        }
        given_up(&system, count, "a hang-up before the first token").await?;
    }

    // On the bus, by subject.
    let request = v1::GenerateRequest { model: CHEAP.to_owned(), stream: true, ..question("Hello") };
    let mut stream = caller.open(&Generate, &request).await?;
    stream.until(|kind| matches!(kind, Kind::Accepted(_)).then_some(())).await?;
    system.upstream.stats_until("the call", PATIENCE, |stats| stats.in_flight == 1).await?;
    let id = domain::id::RequestId::new(stream.request_id())?;
    caller.publish(&Cancel(id), &()).await?;
    given_up(&system, 4, "a cancel on the bus").await?;
    let reply = stream.rest().await?;
    match &reply.frames.last().and_then(|frame| frame.kind.clone()) {
        Some(Kind::End(end)) => assert_eq!(end.finish_reason(), FinishReason::Cancelled),
        Some(Kind::Error(error)) => assert_eq!(error.code(), ErrorCode::Cancelled, "{error:?}"),
        other => panic!("the answer ended with {other:?}"),
    }

    let rows = system.hub().rows_until("four rows", |rows| rows.len() >= 4).await?;
    assert_eq!(
        rows.iter().map(|row| row.outcome.as_str()).collect::<Vec<_>>(),
        ["cancelled"; 4],
        "{rows:#?}"
    );
    // Only the first had delivered something.
    assert_eq!(rows.iter().filter(|row| row.tokens.output > 0).count(), 1, "{rows:#?}");
    system.upstream.recover().await?;
    assert_eq!(system.post("chat/completions", &chat(CHEAP, false)).await?.status, 200);
    Ok(())
}

/// A request that a model of any size is busy with until it is stopped: a list that may go on for ever.
fn endless() -> v1::GenerateRequest {
    let schema = json!({"type": "array", "items": {"type": "integer"}, "minItems": 1_000});
    v1::GenerateRequest {
        model: LOCAL.to_owned(),
        stream: true,
        response_format: Some(v1::ResponseFormat {
            kind: v1::response_format::Kind::JsonSchema.into(),
            name: "numbers".to_owned(),
            schema_json: schema.to_string(),
            strict: Some(true),
        }),
        ..question("Count.")
    }
}

#[tokio::test]
async fn a_cancelled_request_gives_its_place_at_the_local_model_back() -> anyhow::Result<()> {
    let one_place = Options::cloud_and_local().set("local-model-pool.models.0.slots", 1);
    let system = System::start(one_place).await?;
    let caller = system.caller().await?;
    let engine = system.engines(1).await?[0];

    // Left alone, it writes until its context is full.
    let whole = caller.generate(&endless()).await?;
    let whole = whole.end()?.usage.unwrap_or_default().output;
    let cut_short = |row: &Row| {
        assert!(row.outcome == "cancelled" && !row.estimated, "{row:?}");
        assert!((1..whole / 2).contains(&row.tokens.output), "of {whole} tokens, written on: {row:?}");
    };

    let mut stream = caller.open(&Generate, &endless()).await?;
    stream.until(|kind| matches!(kind, Kind::Delta(_)).then_some(())).await?;
    // Held still, so that it cannot come to an end by itself in between.
    engine.signal(Signal::STOP)?;
    let id = stream.request_id().to_owned();
    caller.publish(&Cancel(domain::id::RequestId::new(id.as_str())?), &()).await?;
    engine.signal(Signal::CONT)?;
    let reply = stream.rest().await?;
    assert_eq!(reply.end()?.finish_reason(), FinishReason::Cancelled);
    cut_short(&system.hub().attempts(&id, 1).await?[0]);

    // The only place is free again: another question is answered at home, without a word of `busy`.
    let next = caller.generate(&question("What is 2+2?")).await?;
    assert_eq!((next.end()?.tier(), next.end()?.attempt), (v1::Tier::LocalCpu, 1), "{next:?}");

    // The same for a caller over HTTP who hangs up.
    let address = format!("{}/v1/chat/completions", system.url());
    let body = json!({
        "model": LOCAL, "stream": true, "messages": [{"role": "user", "content": "Count."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "numbers", "schema":
            {"type": "array", "items": {"type": "integer"}, "minItems": 1_000}}},
    });
    let mut answer = system.client().send(hyper::Method::POST, &address, body.to_string()).await?;
    answer.next().await?.expect("nothing came");
    engine.signal(Signal::STOP)?;
    let id =
        answer.headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    drop(answer);
    engine.signal(Signal::CONT)?;
    cut_short(&system.hub().attempts(&id, 1).await?[0]);
    let next = caller.generate(&question("What is 2+2?")).await?;
    assert_eq!((next.end()?.tier(), next.end()?.attempt), (v1::Tier::LocalCpu, 1), "{next:?}");
    Ok(())
}

#[tokio::test]
async fn a_request_whose_time_is_up_ends_as_overdue_and_is_stopped() -> anyhow::Result<()> {
    let hang = Script { hang: Some(Hang::BeforeHeaders), ..Script::default() };
    let system = System::start(Options::cloud().script(hang)).await?;
    let request = v1::GenerateRequest { model: CHEAP.to_owned(), deadline_ms: 700, ..question("Hello") };
    let reply = system.caller().await?.generate(&request).await?;
    assert_eq!(reply.error()?.code(), ErrorCode::Timeout, "{:?}", reply.error()?);
    given_up(&system, 1, "an overdue request").await?;

    let client = system.client().with_header("x-hybrid-deadline-ms", "700")?;
    let answer = client.post(&format!("{}/v1/chat/completions", system.url()), &chat(CHEAP, false)).await?;
    assert_eq!(answer.status, 504, "{}", answer.text());
    given_up(&system, 2, "an overdue request over HTTP").await
}
