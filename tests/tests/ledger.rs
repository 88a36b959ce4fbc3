//! Every attempt stands in the ledger once, and the hub, the ledger and the callers agree to the pico-dollar.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail as the tests do"
)]

use std::collections::BTreeMap;

use e2e::system::{self, CHEAP, EMBEDDING, FRONTIER, Options, PATIENCE, Sums, Tokens, question, sum};
use e2e::upstream::{Hang, Script};
use e2e::{System, wait};
use serde_json::{Value, json};
use wire::subject::{Cancel, Embed, Generate, service};
use wire::v1::{self, reply_frame::Kind};

const DOLLAR: f64 = 1e12;

/// What callers were told, by request.
#[derive(Debug, Default)]
struct Told(BTreeMap<String, (Tokens, i64)>);

impl Told {
    fn frame(&mut self, reply: &system::Reply) -> anyhow::Result<()> {
        let end = reply.end()?;
        let tokens = end.usage.as_ref().map(Tokens::from).unwrap_or_default();
        self.0.insert(reply.request_id().to_owned(), (tokens, end.request_cost_picodollars));
        Ok(())
    }

    /// The object `hybrid` and OpenAI's `usage` beside it.
    fn body(&mut self, usage: &Value, hybrid: &Value) {
        let count = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        let tokens = Tokens {
            input: count("/prompt_tokens"),
            output: count("/completion_tokens"),
            cached_input: count("/prompt_tokens_details/cached_tokens"),
            reasoning: count("/completion_tokens_details/reasoning_tokens"),
            ..Tokens::default()
        };
        let cost = picodollars(hybrid["cost_usd"].as_str().expect("no cost"));
        self.0.insert(hybrid["request_id"].as_str().expect("no request id").to_owned(), (tokens, cost));
    }
}

/// Exactly what a decimal says.
fn picodollars(dollars: &str) -> i64 {
    let (whole, part) = dollars.split_once('.').unwrap_or((dollars, ""));
    assert!(part.len() <= 12, "{dollars} is finer than a pico-dollar");
    format!("{whole}{part:0<12}").parse().unwrap_or_else(|_| panic!("{dollars} is no amount"))
}

fn chat(model: &str, text: &str, stream: bool) -> Value {
    json!({
        "model": model, "stream": stream, "stream_options": {"include_usage": true}, "temperature": 0,
        "messages": [{"role": "user", "content": text}],
    })
}

#[tokio::test]
async fn the_hub_the_ledger_and_the_callers_agree_to_the_last_digit() -> anyhow::Result<()> {
    let cached = Script { cached_tokens: 3, ..Script::default() };
    // The provider is called again right after it has failed.
    let never_open = "remote-api-adapter.providers.0.breaker.failures";
    let options = Options::cloud_and_local().script(cached).set(never_open, 0);
    let system = System::start(options).await?;
    let mut told = Told::default();
    let mut attempts = answered_on_both_ingresses(&system, &mut told).await?;
    attempts += failed(&system).await?;
    attempts += cancelled(&system, &mut told).await?;

    let hub = system.hub();
    let rows = hub.rows_until("every attempt", |rows| rows.len() >= attempts).await?;
    assert_eq!(rows.len(), attempts, "{rows:#?}");
    let events = system.caller().await?.ledger_stream().await?;
    let sums = Sums::of_events(&events);
    assert_eq!(Sums::of_rows(&rows), sums, "the hub's rows are not the stream's events");
    assert_eq!(hub.totals().await?, sums, "the hub's totals are not the sum of the events");
    assert!(sums.ok > 0 && sums.failed > 0 && sums.cancelled > 0 && sums.cost_picodollars > 0, "{sums:?}");
    assert!(sums.tokens.cached_input > 0, "{sums:?}");
    counters_agree(&hub.metrics().await?, &sums);

    for (id, (tokens, cost)) in &told.0 {
        let own: Vec<_> = rows.iter().filter(|row| row.request_id == *id).cloned().collect();
        let own = Sums::of_rows(&own);
        assert_eq!((own.tokens, own.cost_picodollars), (*tokens, *cost), "request {id} was told otherwise");
    }
    let untold: Vec<_> =
        rows.iter().filter(|row| row.outcome == "ok" && !told.0.contains_key(&row.request_id)).collect();
    assert!(untold.is_empty(), "answers that nobody got: {untold:#?}");
    Ok(())
}

#[tokio::test]
async fn an_answer_that_broke_off_is_in_the_ledger_with_what_it_cost() -> anyhow::Result<()> {
    let system = System::start(Options::cloud_and_local()).await?;
    let caller = system.caller().await?;
    system.upstream.play(&Script { cut_after_bytes: Some(700), ..Script::default() }).await?;
    let reply = caller.generate(&v1::GenerateRequest { stream: true, ..named(CHEAP, "Hello there") }).await?;
    let error = reply.error()?;
    let usage = error.usage.expect("the error does not say what it cost");
    assert!(usage.input > 0 && usage.output > 0 && usage.estimated, "{usage:?}");
    assert!(error.cost_picodollars > 0, "{error:?}");
    let rows = system.hub().rows_until("the attempt", |rows| !rows.is_empty()).await?;
    let own: Vec<_> = rows.into_iter().filter(|row| row.request_id == reply.request_id()).collect();
    let sums = Sums::of_rows(&own);
    assert_eq!((sums.failed, sums.cost_picodollars), (1, error.cost_picodollars));
    assert_eq!((sums.tokens.input, sums.tokens.output), (usage.input, usage.output));
    Ok(())
}

/// The counters of `/metrics` against the sums.
fn counters_agree(samples: &[system::Sample], sums: &Sums) {
    let attempts = |labels: &[(&str, &str)]| sum(samples, "hybrid_ledger_attempts_total", labels);
    let tokens = |kind: &str| sum(samples, "hybrid_ledger_tokens_total", &[("kind", kind)]);
    let close = |counter: f64, exact: f64, what: &str| {
        assert!((counter - exact).abs() < exact.abs().max(1.0) * 1e-9, "{what}: {counter}, not {exact}");
    };
    close(attempts(&[]), sums.attempts as f64, "attempts");
    close(attempts(&[("outcome", "ok")]), sums.ok as f64, "ok");
    close(attempts(&[("outcome", "failed")]), sums.failed as f64, "failed");
    close(attempts(&[("outcome", "cancelled")]), sums.cancelled as f64, "cancelled");
    close(tokens("input"), sums.tokens.input as f64, "input");
    close(tokens("output"), sums.tokens.output as f64, "output");
    close(tokens("cached_input"), sums.tokens.cached_input as f64, "cached input");
    let cost = sum(samples, "hybrid_ledger_cost_dollars_total", &[]);
    close(cost * DOLLAR, sums.cost_picodollars as f64, "cost");
}

/// Returns how many attempts that makes.
async fn answered_on_both_ingresses(system: &System, told: &mut Told) -> anyhow::Result<usize> {
    let caller = system.caller().await?;
    let mut attempts = 0;
    for (round, text) in
        ["What is 2+2?", "a longer question, so that the counts differ", "ä"].iter().enumerate()
    {
        for model in ["demo", CHEAP, FRONTIER] {
            for stream in [false, true] {
                let sampling = v1::Sampling {
                    temperature: Some(0.0),
                    max_tokens: Some(round as u32 + 3),
                    ..v1::Sampling::default()
                };
                let request = v1::GenerateRequest {
                    model: model.to_owned(),
                    stream,
                    sampling: Some(sampling),
                    ..question(text)
                };
                told.frame(&caller.generate(&request).await?)?;
                let answer = system.post("chat/completions", &chat(model, text, stream)).await?;
                assert_eq!(answer.status, 200, "{}", answer.text());
                if stream {
                    let chunks: Vec<Value> =
                        answer.events().iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
                    let field = |name: &str| {
                        chunks.iter().filter_map(|chunk| chunk.get(name)).find(|field| field.is_object())
                    };
                    let (usage, hybrid) = (field("usage"), field("hybrid"));
                    told.body(usage.expect("no usage"), hybrid.expect("no object hybrid"));
                } else {
                    let body = answer.json()?;
                    told.body(&body["usage"], &body["hybrid"]);
                }
                attempts += 2;
            }
        }
    }
    let embed = v1::EmbedRequest {
        model: EMBEDDING.to_owned(),
        inputs: vec!["one".to_owned(), "two and three".to_owned()],
        ..v1::EmbedRequest::default()
    };
    told.frame(&caller.ask(&Embed, &embed).await?)?;
    let body = json!({"model": EMBEDDING, "input": ["one", "two and three"]});
    let body = system.post("embeddings", &body).await?.json()?;
    told.body(&body["usage"], &body["hybrid"]);
    Ok(attempts + 2)
}

async fn failed(system: &System) -> anyhow::Result<usize> {
    system.upstream.play(&Script { status: Some(500), ..Script::default() }).await?;
    let reply = system.caller().await?.generate(&named(CHEAP, "Hello")).await?;
    reply.error()?;
    let answer = system.post("chat/completions", &chat(CHEAP, "Hello", false)).await?;
    assert_eq!(answer.status, 502, "{}", answer.text());
    system.upstream.recover().await?;
    Ok(2)
}

async fn cancelled(system: &System, told: &mut Told) -> anyhow::Result<usize> {
    system.upstream.play(&Script { hang: Some(Hang::MidStream), ..Script::default() }).await?;
    let caller = system.caller().await?;
    let mut stream = caller.open(&Generate, &named(CHEAP, "Hello")).await?;
    stream.until(|kind| matches!(kind, Kind::Delta(_)).then_some(())).await?;
    let id = stream.request_id().to_owned();
    caller.publish(&Cancel(domain::id::RequestId::new(id)?), &()).await?;
    let reply = stream.rest().await?;
    assert_eq!(reply.end()?.finish_reason(), v1::FinishReason::Cancelled);
    told.frame(&reply)?;

    let address = format!("{}/v1/chat/completions", system.url());
    let body = chat(CHEAP, "Hello", true).to_string();
    let mut answer = system.client().send(hyper::Method::POST, &address, body).await?;
    answer.next().await?.expect("nothing came");
    drop(answer);
    system.upstream.stats_until("both cancels", PATIENCE, |stats| stats.in_flight == 0).await?;
    system.upstream.recover().await?;
    Ok(2)
}

fn named(model: &str, text: &str) -> v1::GenerateRequest {
    v1::GenerateRequest { model: model.to_owned(), stream: true, ..question(text) }
}

#[tokio::test]
async fn an_event_that_was_not_published_before_a_crash_arrives_after_the_restart_and_counts_once()
-> anyhow::Result<()> {
    let mut system = System::start(Options::cloud()).await?;
    let caller = system.caller().await?;
    let first = caller.generate(&named(CHEAP, "before")).await?;
    system.hub().attempts(first.request_id(), 1).await?;

    // The stream takes nothing more: what is answered now can only be on the coordinator's disk.
    hold_ledger_stream(&system, true).await?;
    let held = caller.generate(&named(CHEAP, "held")).await?;
    held.end()?;
    system.kill(service::REQUEST_COORDINATOR)?;
    assert_eq!(caller.ledger_stream().await?.len(), 1, "the stream took an event that it was not to take");
    hold_ledger_stream(&system, false).await?;
    system.restart(service::REQUEST_COORDINATOR).await?;
    let rows = system.hub().attempts(held.request_id(), 1).await?;
    assert_eq!(rows[0].cost_picodollars, held.end()?.request_cost_picodollars);

    // The hub dies as well, with a burst under way in the ledger.
    let burst = futures::future::try_join_all((0..20).map(|number| {
        let caller = caller.clone();
        async move { caller.generate(&named(CHEAP, &format!("burst {number}"))).await }
    }));
    let mut replies = burst.await?;
    system.kill(service::REQUEST_COORDINATOR)?;
    system.kill(service::OBSERVABILITY_HUB)?;
    system.restart(service::OBSERVABILITY_HUB).await?;
    system.restart(service::REQUEST_COORDINATOR).await?;
    replies.extend([first, held]);
    let hub = system.hub();
    let rows = hub.rows_until("every answer's event", |rows| rows.len() >= replies.len()).await?;
    let mut answered: Vec<&str> = replies.iter().map(system::Reply::request_id).collect();
    let mut kept: Vec<&str> = rows.iter().map(|row| row.request_id.as_str()).collect();
    answered.sort_unstable();
    kept.sort_unstable();
    assert_eq!(kept, answered);
    // After a crash messages may overlap in the stream; an event's id is what counts it once.
    let mut events = caller.ledger_stream().await?;
    events.sort_unstable_by(|one, other| one.event_id.cmp(&other.event_id));
    events.dedup_by(|one, other| one.event_id == other.event_id);
    assert_eq!(Sums::of_events(&events), hub.totals().await?);
    Ok(())
}

/// Whether the ledger's stream refuses every further message.
async fn hold_ledger_stream(system: &System, hold: bool) -> anyhow::Result<()> {
    let jetstream = async_nats::jetstream::new(system.nats.client().await?);
    let stream = jetstream.get_stream(wire::subject::USAGE_STREAM).await?;
    let mut config = stream.cached_info().config.clone();
    config.max_messages = if hold { stream.cached_info().state.messages.try_into()? } else { -1 };
    jetstream.update_stream(config).await?;
    Ok(())
}

#[tokio::test]
async fn usage_is_kept_while_the_hub_is_away_and_counted_when_it_returns() -> anyhow::Result<()> {
    let mut system = System::start(Options::cloud()).await?;
    let caller = system.caller().await?;
    system.kill(service::OBSERVABILITY_HUB)?;
    let reply = caller.generate(&named(CHEAP, "while the hub is away")).await?;
    reply.end()?;
    wait::until("the event in the stream", PATIENCE, async || {
        (caller.ledger_stream().await.ok()?.len() == 1).then_some(())
    })
    .await?;
    system.restart(service::OBSERVABILITY_HUB).await?;
    let rows = system.hub().attempts(reply.request_id(), 1).await?;
    assert_eq!(rows[0].cost_picodollars, reply.end()?.request_cost_picodollars);
    Ok(())
}
