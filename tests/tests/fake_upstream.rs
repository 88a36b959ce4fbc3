//! The provider that the other tests rely on does what they rely on, over real HTTP.

use std::time::Duration;

use e2e::FakeUpstream;
use e2e::fake_upstream::Options;
use e2e::http::Client;
use e2e::upstream::{Garbage, Hang, RetryAfter, Script};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);

fn chat(stream: bool) -> Value {
    json!({
        "model": "gpt-4o-mini",
        "messages": [{"role": "system", "content": "brief"}, {"role": "user", "content": "hello there"}],
        "stream": stream,
    })
}

fn url(upstream: &FakeUpstream) -> String {
    format!("{}/chat/completions", upstream.base_url())
}

/// The text that the events carry.
fn text(events: &[String]) -> String {
    let chunks = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let text = |chunk: Value| Some(chunk.pointer("/choices/0/delta/content")?.as_str()?.to_owned());
    chunks.filter_map(text).collect()
}

const WHOLE_TEXT: &str = "echo: hello there word1 word2 word3 word4 word5 word6 word7";

#[tokio::test]
async fn the_answer_in_one_body_follows_from_the_request() {
    let upstream = FakeUpstream::start().await.unwrap();
    let client = Client::default();
    let first = client.post(&url(&upstream), &chat(false)).await.unwrap().json().unwrap();
    assert_eq!(first["choices"][0]["message"]["content"], WHOLE_TEXT);
    assert_eq!(first["choices"][0]["finish_reason"], "stop");
    // 16 bytes of prompt, 8 pieces of reply.
    assert_eq!(first["usage"]["prompt_tokens"], 4);
    assert_eq!(first["usage"]["completion_tokens"], 8);
    assert_eq!(first["usage"]["total_tokens"], 12);
    let mut second = client.post(&url(&upstream), &chat(false)).await.unwrap().json().unwrap();
    assert_ne!(first["id"], second["id"]);
    second["id"] = first["id"].clone();
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_stream_starts_with_the_role_and_ends_with_done() {
    let upstream = FakeUpstream::start().await.unwrap();
    let answer = Client::default().post(&url(&upstream), &chat(true)).await.unwrap();
    assert_eq!(answer.header("content-type"), "text/event-stream; charset=utf-8");
    let events = answer.events();
    // Role, eight pieces, the end, [DONE]; no usage, since nobody asked for it.
    assert_eq!(events.len(), 11);
    assert_eq!(events[10], "[DONE]");
    let first: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
    let last: Value = serde_json::from_str(&events[9]).unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(text(&events), WHOLE_TEXT);
    assert!(!answer.text().contains("usage"));
}

#[tokio::test]
async fn usage_comes_last_in_a_stream_when_it_is_asked_for() {
    let upstream = FakeUpstream::start().await.unwrap();
    let mut request = chat(true);
    request["stream_options"] = json!({"include_usage": true});
    let events = Client::default().post(&url(&upstream), &request).await.unwrap().events();
    let first: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(first["usage"], Value::Null);
    let usage: Value = serde_json::from_str(&events[10]).unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["total_tokens"], 12);
    assert_eq!(events[11], "[DONE]");
}

#[tokio::test]
async fn max_tokens_cuts_the_reply_and_says_so() {
    let upstream = FakeUpstream::start().await.unwrap();
    let mut request = chat(false);
    request["max_tokens"] = json!(2);
    let answer = Client::default().post(&url(&upstream), &request).await.unwrap().json().unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "echo: hello there word1");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 2);
}

#[tokio::test]
async fn a_wrong_key_is_refused_in_openai_s_shape() {
    let upstream =
        FakeUpstream::start_with(Options { key: Some("right".into()), ..Options::default() }).await.unwrap();
    let right = Client::default().with_key("right");
    for client in [Client::default(), Client::default().with_key("wrong")] {
        // An answer that is kept for one caller is not given to another.
        assert_eq!(right.post(&url(&upstream), &chat(false)).await.unwrap().status, 200);
        let answer = client.post(&url(&upstream), &chat(false)).await.unwrap();
        assert_eq!(answer.status, 401);
        assert_eq!(answer.json().unwrap()["error"]["code"], "invalid_api_key");
    }
    let recorded = upstream.requests().await.unwrap();
    assert_eq!(
        recorded.iter().map(|request| request.authorization).collect::<Vec<_>>(),
        [true, false, true, true]
    );
    assert!(!recorded.iter().any(|request| request.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused() {
    let upstream = FakeUpstream::start().await.unwrap();
    let client = Client::default();
    let mut unknown = chat(false);
    unknown["model"] = json!("gpt-9");
    let answer = client.post(&url(&upstream), &unknown).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.json().unwrap()["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    for bad in [json!({"model": "gpt-4o-mini", "messages": []}), json!({"messages": []}), json!("text")] {
        let answer = client.post(&url(&upstream), &bad).await.unwrap();
        assert_eq!(answer.status, 400, "{bad} was accepted");
        assert_eq!(answer.json().unwrap()["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn what_a_caller_sent_can_be_read_back_whole() {
    let upstream = FakeUpstream::start().await.unwrap();
    let mut request = chat(false);
    request["reasoning_effort"] = json!("low");
    request["metadata"] = json!({"nested": [1, 2.5, "three"]});
    Client::default().post(&url(&upstream), &request).await.unwrap();
    let recorded = upstream.requests().await.unwrap();
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0].body, request);
    assert_eq!(recorded[0].path, "/v1/chat/completions");
    assert_eq!(recorded[0].headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_rate_limit_for_two_requests_ends_by_itself() {
    let upstream = FakeUpstream::start().await.unwrap();
    let client = Client::default();
    let script = Script {
        status: Some(429),
        retry_after: Some(RetryAfter::Seconds(7)),
        next_n: Some(2),
        ..Script::default()
    };
    upstream.play(&script).await.unwrap();
    for stream in [true, false] {
        let answer = client.post(&url(&upstream), &chat(stream)).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "7"));
        assert_eq!(answer.json().unwrap()["error"]["code"], "rate_limit_exceeded");
    }
    let answer = client.post(&url(&upstream), &chat(false)).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (200, ""));
}

#[tokio::test]
async fn an_outage_lasts_until_it_is_taken_back() {
    let upstream = FakeUpstream::start().await.unwrap();
    let client = Client::default();
    upstream.play(&Script { status: Some(500), ..Script::default() }).await.unwrap();
    let answer = client.post(&url(&upstream), &chat(true)).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.json().unwrap()["error"]["type"]),
        (500, &json!("server_error"))
    );
    upstream
        .play(&Script { status: Some(503), body: Some(json!("<html>")), ..Script::default() })
        .await
        .unwrap();
    let answer = client.post(&url(&upstream), &chat(true)).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (503, "<html>"));
    upstream.recover().await.unwrap();
    assert_eq!(client.post(&url(&upstream), &chat(true)).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_script_with_an_unknown_field_is_refused() {
    let upstream = FakeUpstream::start().await.unwrap();
    for bad in [json!({"statu": 500}), json!({"fail_rate": 2}), json!({"hang": "yes"})] {
        let answer = Client::default().put(&format!("{}/control", upstream.url()), &bad).await.unwrap();
        assert_eq!(answer.status, 400, "{bad} was accepted");
    }
}

#[tokio::test]
async fn a_cut_stream_breaks_after_exactly_so_many_bytes() {
    let upstream = FakeUpstream::start().await.unwrap();
    let client = Client::default();
    for kept in [0, 1, 100, 700] {
        upstream.play(&Script { cut_after_bytes: Some(kept), ..Script::default() }).await.unwrap();
        let mut answer =
            client.send(hyper::Method::POST, &url(&upstream), chat(true).to_string()).await.unwrap();
        let mut got = 0;
        let end = loop {
            match answer.next().await {
                Ok(Some(bytes)) => got += bytes.len(),
                end => break end,
            }
        };
        assert!(end.is_err(), "the cut after {kept} bytes looks like a clean end");
        assert_eq!(got, kept);
    }
    upstream.play(&Script { cut_after_bytes: Some(20), ..Script::default() }).await.unwrap();
    client.post(&url(&upstream), &chat(false)).await.unwrap_err();
}

#[tokio::test]
async fn a_caller_that_leaves_a_silent_stream_is_counted() {
    let upstream = FakeUpstream::start().await.unwrap();
    let client = Client::default();
    upstream.play(&Script { hang: Some(Hang::MidStream), ..Script::default() }).await.unwrap();
    let mut answer = client.send(hyper::Method::POST, &url(&upstream), chat(true).to_string()).await.unwrap();
    let first = answer.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"data: "));
    let during = upstream.stats().await.unwrap();
    assert_eq!((during.requests, during.in_flight, during.aborted), (1, 1, 0));
    drop(answer);
    let after = upstream.stats_until("the abort", DEADLINE, |stats| stats.aborted == 1).await.unwrap();
    assert_eq!((after.in_flight, after.answered), (0, 0));
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_headers_is_counted() {
    let upstream = FakeUpstream::start().await.unwrap();
    upstream.play(&Script { hang: Some(Hang::BeforeHeaders), ..Script::default() }).await.unwrap();
    let (client, address, body) = (Client::default(), url(&upstream), chat(false).to_string());
    let waiting = client.send(hyper::Method::POST, &address, body);
    let arrived = upstream.stats_until("the request", DEADLINE, |stats| stats.in_flight == 1);
    tokio::select! {
        answer = waiting => panic!("answered: {answer:?}"),
        arrived = arrived => drop(arrived.unwrap()),
    }
    upstream.stats_until("the abort", DEADLINE, |stats| stats.aborted == 1).await.unwrap();
}

#[tokio::test]
async fn a_whole_answer_is_no_abort_when_the_caller_then_leaves() {
    let upstream = FakeUpstream::start().await.unwrap();
    for stream in [true, false] {
        let client = Client::default();
        client.post(&url(&upstream), &chat(stream)).await.unwrap();
    }
    // Only the connection that asks is left.
    let stats = upstream
        .stats_until("closed connections", DEADLINE, |stats| stats.open_connections == 1)
        .await
        .unwrap();
    assert_eq!((stats.requests, stats.answered, stats.aborted), (2, 2, 0));
}

#[tokio::test]
async fn unusual_but_correct_streams_carry_the_same_text() {
    let upstream = FakeUpstream::start().await.unwrap();
    let client = Client::default();
    for garbage in [Garbage::Crlf, Garbage::Comments, Garbage::NoFinalNewline, Garbage::ByteByByte] {
        upstream.play(&Script { garbage: Some(garbage), ..Script::default() }).await.unwrap();
        let events = client.post(&url(&upstream), &chat(true)).await.unwrap().events();
        assert_eq!(text(&events), WHOLE_TEXT, "{garbage:?}");
        assert_eq!(events.last().unwrap(), "[DONE]", "{garbage:?}");
    }
    upstream.play(&Script { garbage: Some(Garbage::SplitUtf8), ..Script::default() }).await.unwrap();
    let mut answer = client.send(hyper::Method::POST, &url(&upstream), chat(true).to_string()).await.unwrap();
    let mut broken = false;
    while let Some(bytes) = answer.next().await.unwrap() {
        broken |= std::str::from_utf8(&bytes).is_err();
    }
    assert!(broken, "the character came in one piece");
}

#[tokio::test]
async fn malformed_streams_are_malformed_as_named() {
    let upstream = FakeUpstream::start().await.unwrap();
    let client = Client::default();
    let play = async |garbage: Garbage| {
        upstream.play(&Script { garbage: Some(garbage), ..Script::default() }).await.unwrap();
        client.post(&url(&upstream), &chat(true)).await.unwrap()
    };
    let broken = play(Garbage::BrokenJson).await.events();
    assert_eq!(broken.iter().filter(|event| serde_json::from_str::<Value>(event).is_err()).count(), 2);
    assert_ne!(play(Garbage::NoDone).await.events().last().unwrap(), "[DONE]");
    let error = play(Garbage::ErrorWith200).await;
    assert_eq!(error.status, 200);
    assert!(error.events().last().unwrap().contains("server_error"));
    assert!(play(Garbage::LongLine).await.body.len() > 10 << 20);
    assert!(play(Garbage::Html).await.text().starts_with("<html>"));
}

#[tokio::test]
async fn embeddings_come_as_numbers_and_as_base64() {
    use base64::Engine as _;

    let upstream = FakeUpstream::start().await.unwrap();
    let client = Client::default();
    let address = format!("{}/embeddings", upstream.base_url());
    let ask = async |format: &str| {
        let request = json!({
            "model": "text-embedding-3-small", "input": ["one", "twenty"], "encoding_format": format, "dimensions": 4,
        });
        client.post(&address, &request).await.unwrap().json().unwrap()
    };
    let numbers = ask("float").await;
    assert_eq!(numbers["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    assert_eq!(numbers["data"][1]["index"], 1);
    let text = ask("base64").await["data"][1]["embedding"].as_str().unwrap().to_owned();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let decoded: Vec<f32> =
        bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    let expected: Vec<f32> = serde_json::from_value(numbers["data"][1]["embedding"].clone()).unwrap();
    assert_eq!(decoded, expected);
}

#[tokio::test]
async fn models_are_listed_to_those_with_a_key() {
    let options =
        Options { key: Some("right".into()), models: vec!["a".into(), "b".into()], ..Options::default() };
    let upstream = FakeUpstream::start_with(options).await.unwrap();
    let address = format!("{}/models", upstream.base_url());
    assert_eq!(Client::default().get(&address).await.unwrap().status, 401);
    let models = Client::default().with_key("right").get(&address).await.unwrap().json().unwrap();
    let ids: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b"]);
}

#[tokio::test]
async fn one_question_in_two_formats_is_understood_alike_and_no_key_is_kept() {
    let options = Options { key: Some("right-key".into()), models: vec!["m".into()], ..Options::default() };
    let upstream = FakeUpstream::start_with(options).await.unwrap();
    let client = Client::default()
        .with_header("x-api-key", "right-key")
        .unwrap()
        .with_header("anthropic-version", "2023-06-01")
        .unwrap();
    let anthropic = json!({
        "model": "m", "max_tokens": 50, "system": "brief", "messages": [{"role": "user", "content": "hello there"}],
    });
    let address = format!("{}/anthropic/v1/messages", upstream.url());
    let answer = client.post(&address, &anthropic).await.unwrap().json().unwrap();
    assert_eq!(answer["content"][0]["text"], WHOLE_TEXT);
    let google = json!({
        "system_instruction": {"parts": [{"text": "brief"}]},
        "contents": [{"role": "user", "parts": [{"text": "hello there"}]}],
        "generationConfig": {"maxOutputTokens": 50},
    });
    let client = Client::default().with_header("x-goog-api-key", "right-key").unwrap();
    let address = format!("{}/gemini/v1beta/models/m:generateContent", upstream.url());
    let answer = client.post(&address, &google).await.unwrap().json().unwrap();
    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], WHOLE_TEXT);

    let recorded = upstream.requests().await.unwrap();
    assert_eq!(recorded[0].asked, recorded[1].asked);
    assert!(recorded.iter().all(|request| request.asked.is_some() && request.authorization));
    assert!(!format!("{recorded:?}").contains("right-key"));
}

#[tokio::test]
async fn a_field_that_the_provider_does_not_know_is_refused_by_name() {
    let options = Options { models: vec!["m".into()], ..Options::default() };
    let upstream = FakeUpstream::start_with(options).await.unwrap();
    let client = Client::default().with_header("anthropic-version", "2026-10-21").unwrap();
    let cases = [
        (
            "/anthropic/v1/messages",
            json!({"model": "m", "max_tokens": 9, "temperature": 1, "messages": []}),
            "temperature",
        ),
        ("/gemini/v1beta/models/m:generateContent", json!({"contents": [], "seed": 1}), "seed"),
        ("/bedrock/model/m/converse", json!({"messages": [], "seed": 1}), "seed"),
    ];
    for (path, request, field) in cases {
        let answer = client.post(&format!("{}{path}", upstream.url()), &request).await.unwrap();
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains(field), "{path}: {}", answer.text());
    }
}
