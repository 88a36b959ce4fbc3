//! Whatever comes in, on either side: a clear typed error, and the service goes on.

#![expect(clippy::panic, clippy::indexing_slicing, reason = "the helpers of tests fail as the tests do")]

use e2e::http::{Answer, Client};
use e2e::system::{CHEAP, EMBEDDING, Options, question};
use e2e::{System, http};
use hyper::Method;
use serde_json::{Value, json};
use wire::subject::service;
use wire::v1::{self, ErrorCode, ErrorOrigin};

const KEY: &str = "sk-of-the-caller";
const MEGABYTE: usize = 1_000_000;
/// What bad requests may leave behind, bytes: a few bodies of the largest size that is taken (8 MiB), which the allocator
/// keeps for the next ones.
const GROWTH_MAX: u64 = 128 << 20;

async fn guarded() -> anyhow::Result<System> {
    System::start(Options { api_keys: vec![KEY.to_owned()], ..Options::cloud() }).await
}

fn chat(fields: Value) -> String {
    let mut body = json!({"model": CHEAP, "messages": [{"role": "user", "content": "Hello"}]});
    let (Some(body_fields), Value::Object(fields)) = (body.as_object_mut(), fields) else {
        return String::new();
    };
    body_fields.extend(fields);
    body.to_string()
}

/// What a request over HTTP gets: status, `code` and `param`.
type Expected = (u16, &'static str, Option<&'static str>);

fn check(what: &str, answer: &Answer, (status, code, param): Expected) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{what}: {text}");
    let error = answer.json().unwrap_or_else(|_| panic!("{what}: no JSON: {text}"))["error"].clone();
    assert_eq!(error["code"], code, "{what}: {text}");
    assert_eq!(error["param"].as_str(), param, "{what}: {text}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty() && error["type"].is_string(), "{what}: {text}");
    assert!(message.len() < 2_000, "{what}: the message has {} bytes", message.len());
}

#[tokio::test]
async fn a_bad_request_over_http_gets_a_typed_error_and_the_next_one_an_answer() -> anyhow::Result<()> {
    let system = guarded().await?;
    let before = system.resident_bytes(service::REQUEST_COORDINATOR)?;
    for (what, body, expected) in bad_chats() {
        let address = format!("{}/v1/chat/completions", system.url());
        let answer = system.client().send(Method::POST, &address, body).await?.rest().await?;
        check(what, &answer, expected);
        still_answers(&system, what).await?;
    }
    for (what, body, expected) in bad_embeddings() {
        check(what, &system.post("embeddings", &body).await?, expected);
    }
    bad_headers_and_places(&system).await?;
    let large: Value =
        chat(json!({"messages": [{"role": "user", "content": "x".repeat(9 * MEGABYTE)}]})).parse()?;
    let many = (0..20).map(|_| system.post("chat/completions", &large));
    for answer in futures::future::join_all(many).await {
        check("a prompt of 9 MB among others", &answer?, (413, "payload_too_large", None));
    }
    still_answers(&system, "all of it").await?;
    let after = system.resident_bytes(service::REQUEST_COORDINATOR)?;
    assert!(after < before + GROWTH_MAX, "the coordinator grew from {before} to {after} bytes");
    Ok(())
}

fn bad_chats() -> Vec<(&'static str, Vec<u8>, Expected)> {
    let invalid = |param| (400, "invalid_argument", Some(param));
    let of = |what, fields: Value, expected| (what, chat(fields).into_bytes(), expected);
    let said = |message: Value| json!({"messages": [message]});
    vec![
        of("no messages", json!({"messages": []}), invalid("messages")),
        of("an unknown role", said(json!({"role": "wizard", "content": "x"})), invalid("messages[0].role")),
        of("a message without content", said(json!({"role": "user"})), invalid("messages[0].content")),
        of(
            "a part without a kind",
            said(json!({"role": "user", "content": [{"text": "x"}]})),
            invalid("messages[0].content[0].type"),
        ),
        of(
            "a file as an image",
            said(
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}),
            ),
            invalid("messages[0].content[0].image_url.url"),
        ),
        of("temperature 9", json!({"temperature": 9}), invalid("temperature")),
        of("a temperature in words", json!({"temperature": "hot"}), invalid("temperature")),
        of("top_p 0", json!({"top_p": 0}), invalid("top_p")),
        of("no tokens", json!({"max_tokens": 0}), invalid("max_tokens")),
        of("fewer than no tokens", json!({"max_tokens": -1}), invalid("max_tokens")),
        of("three answers", json!({"n": 3}), invalid("n")),
        of("seventeen stops", json!({"stop": vec!["x"; 17]}), invalid("stop")),
        of("a tool that is no function", json!({"tools": [{"type": "spell"}]}), invalid("tools[0].type")),
        of("a choice of nothing", json!({"tool_choice": 7}), invalid("tool_choice")),
        of(
            "a format nobody knows",
            json!({"response_format": {"type": "xml"}}),
            invalid("response_format.type"),
        ),
        of("an unknown model", json!({"model": "gpt-99"}), (404, "not_found", Some("model"))),
        of("a model that cannot be a name", json!({"model": "a b"}), invalid("model")),
        of("a model that cannot write", json!({"model": EMBEDDING}), (400, "unsupported", None)),
        of(
            "a prompt of 9 MB",
            json!({"messages": [{"role": "user", "content": "x".repeat(9 * MEGABYTE)}]}),
            (413, "payload_too_large", None),
        ),
        ("malformed JSON", b"{\"messages\": [".to_vec(), invalid("body")),
        ("nothing", Vec::new(), invalid("body")),
        ("a list", b"[]".to_vec(), invalid("body")),
        ("no messages at all", b"{}".to_vec(), invalid("messages")),
        ("bytes that are no text", b"{\"messages\": \"\xff\xfe\"}".to_vec(), invalid("body")),
        ("brackets without end", b"[".repeat(100_000), invalid("body")),
    ]
}

fn bad_embeddings() -> Vec<(&'static str, Value, Expected)> {
    let invalid = |param| (400, "invalid_argument", Some(param));
    vec![
        ("nothing to embed", json!({"model": EMBEDDING, "input": []}), invalid("input")),
        ("an empty text", json!({"model": EMBEDDING, "input": ["a", ""]}), invalid("input[1]")),
        ("no input", json!({"model": EMBEDDING}), invalid("input")),
        (
            "another encoding",
            json!({"model": EMBEDDING, "input": "a", "encoding_format": "hex"}),
            invalid("encoding_format"),
        ),
        ("a model that cannot embed", json!({"model": CHEAP, "input": "a"}), (400, "unsupported", None)),
    ]
}

async fn bad_headers_and_places(system: &System) -> anyhow::Result<()> {
    let url = |path: &str| format!("{}{path}", system.url());
    let hello: Value = chat(json!({})).parse()?;
    let invalid = |param| (400, "invalid_argument", Some(param));
    let headers = [
        ("x-hybrid-agent", "Nobody", (404, "not_found", Some("agent"))),
        ("x-hybrid-agent", "a.b", invalid("agent")),
        ("x-hybrid-privacy", "secret", invalid("x-hybrid-privacy")),
        ("x-hybrid-deadline-ms", "soon", invalid("x-hybrid-deadline-ms")),
        ("x-hybrid-deadline-ms", "99999999999", invalid("deadline_ms")),
    ];
    for (name, value, expected) in headers {
        let client = system.client().with_header(name, value)?;
        check(
            &format!("{name}: {value}"),
            &client.post(&url("/v1/chat/completions"), &hello).await?,
            expected,
        );
    }
    let keyless = Client::default();
    let unknown = (401, "unauthenticated", None);
    for (what, client) in [
        ("no key", keyless.clone()),
        ("a wrong key", keyless.clone().with_key("sk-of-somebody-else")),
        ("part of the key", keyless.clone().with_key("sk-of-the-caller-")),
        ("another scheme", keyless.with_header("authorization", "Basic c2s6")?),
    ] {
        check(what, &client.post(&url("/v1/chat/completions"), &hello).await?, unknown);
        check(what, &client.get(&url("/v1/models")).await?, unknown);
    }
    let client = system.client();
    check("an unknown address", &client.post(&url("/v2/chat"), &hello).await?, (404, "not_found", None));
    check(
        "an unknown model",
        &client.get(&url("/v1/models/gpt-99")).await?,
        (404, "not_found", Some("model")),
    );
    let wrong = (405, "invalid_argument", Some("method"));
    check("another method", &client.get(&url("/v1/chat/completions")).await?, wrong);
    check("another method", &client.delete(&url("/v1/models")).await?, wrong);
    let large = client.with_header("x-large", &"x".repeat(MEGABYTE))?;
    // Refused while it is still being sent: the answer, or the end of the connection before it.
    if let Ok(answer) = large.post(&url("/v1/chat/completions"), &hello).await {
        assert_eq!(answer.status, 431, "headers of 1 MB: {}", answer.text());
    }
    Ok(())
}

async fn still_answers(system: &System, after: &str) -> anyhow::Result<()> {
    let answer: http::Answer = system.post("chat/completions", &chat(json!({})).parse()?).await?;
    assert_eq!(answer.status, 200, "after {after}: {}", answer.text());
    Ok(())
}

#[tokio::test]
async fn a_bad_request_on_the_bus_gets_a_typed_error_and_the_next_one_an_answer() -> anyhow::Result<()> {
    let system = guarded().await?;
    let caller = system.caller().await?;
    let good = v1::GenerateRequest { model: CHEAP.to_owned(), ..question("Hello") };
    let before = system.resident_bytes(service::REQUEST_COORDINATOR)?;
    for (what, request, code, field) in bad_requests(&good) {
        let reply = caller.generate(&request).await?;
        refused(what, reply.error()?, code, field);
    }
    let encoded = prost::Message::encode_to_vec(&good);
    let named = v1::GenerateRequest { agent: "ServiceRegistry".to_owned(), ..good.clone() };
    let named = prost::Message::encode_to_vec(&named);
    let places = [
        (
            "no protobuf",
            "llm.v1.req.generate",
            b"\xff\xff\xff\xff".to_vec(),
            ErrorCode::InvalidArgument,
            "payload",
        ),
        (
            "half a message",
            "llm.v1.req.generate",
            encoded[..encoded.len() / 2].to_vec(),
            ErrorCode::InvalidArgument,
            "payload",
        ),
        ("text", "llm.v1.req.embed", b"{\"inputs\": []}".to_vec(), ErrorCode::InvalidArgument, "payload"),
        ("an unknown agent", "llm.v1.agent.Nobody.generate", encoded.clone(), ErrorCode::NotFound, "agent"),
        (
            "an unknown method",
            "llm.v1.agent.CodeGenerator.dance",
            encoded.clone(),
            ErrorCode::NotFound,
            "subject",
        ),
        ("two agents", "llm.v1.agent.CodeGenerator.generate", named, ErrorCode::InvalidArgument, "agent"),
        ("nothing to embed", "llm.v1.req.embed", Vec::new(), ErrorCode::InvalidArgument, "input"),
        ("nothing to translate", "llm.v1.req.translate", Vec::new(), ErrorCode::InvalidArgument, "text"),
    ];
    for (what, subject, payload, code, field) in places {
        let reply = caller.open_bytes(subject, payload).await?.rest().await?;
        refused(what, reply.error()?, code, field);
    }
    for key in [None, Some("sk-of-somebody-else")] {
        let reply = caller.with_key(key).generate(&good).await?;
        refused("a wrong key", reply.error()?, ErrorCode::Unauthenticated, "");
    }
    // Over the bus's own limit it does not even leave the caller; just under it, it does not fit on the way on.
    let sized =
        |bytes: usize| v1::GenerateRequest { model: CHEAP.to_owned(), ..question(&"x".repeat(bytes)) };
    let error = caller.generate(&sized(9 * MEGABYTE)).await.expect_err("9 MB went over a bus that takes 8");
    assert!(format!("{error:#}").contains("payload"), "{error:#}");
    let limit = system.nats.client().await?.server_info().max_payload;
    // Beside the text: the rest of the message, and the header with the key.
    let overhead = prost::Message::encoded_len(&sized(MEGABYTE)) - MEGABYTE;
    let reply = caller.generate(&sized(limit - overhead - 100)).await?;
    let error = reply.error()?;
    assert!(
        matches!(error.code(), ErrorCode::PayloadTooLarge | ErrorCode::ContextLengthExceeded),
        "just under the limit: {error:?}"
    );
    let garbage = (0..200).map(|_| async {
        caller.open_bytes("llm.v1.req.generate", vec![0xff; 64 << 10]).await?.rest().await
    });
    for reply in futures::future::join_all(garbage).await {
        refused("garbage", reply?.error()?, ErrorCode::InvalidArgument, "payload");
    }
    caller.generate(&good).await?.end()?;
    let after = system.resident_bytes(service::REQUEST_COORDINATOR)?;
    assert!(after < before + GROWTH_MAX, "the coordinator grew from {before} to {after} bytes");
    Ok(())
}

fn refused(what: &str, error: &v1::Error, code: ErrorCode, field: &str) {
    assert_eq!((error.code(), error.field.as_str()), (code, field), "{what}: {error:?}");
    assert_eq!(error.origin(), ErrorOrigin::Caller, "{what}: {error:?}");
    assert!(!error.retryable && !error.message.is_empty(), "{what}: {error:?}");
}

fn bad_requests(
    good: &v1::GenerateRequest,
) -> Vec<(&'static str, v1::GenerateRequest, ErrorCode, &'static str)> {
    let good = || good.clone();
    let sampled = |sampling| v1::GenerateRequest { sampling: Some(sampling), ..good() };
    let hot = v1::Sampling { temperature: Some(9.0), ..v1::Sampling::default() };
    let nan = v1::Sampling { temperature: Some(f32::NAN), ..v1::Sampling::default() };
    let none = v1::Sampling { max_tokens: Some(0), ..v1::Sampling::default() };
    let invalid = ErrorCode::InvalidArgument;
    vec![
        ("no messages", v1::GenerateRequest { messages: Vec::new(), ..good() }, invalid, "messages"),
        (
            "a message without role",
            v1::GenerateRequest { messages: vec![v1::Message::default()], ..good() },
            invalid,
            "messages[0].role",
        ),
        ("temperature 9", sampled(hot), invalid, "temperature"),
        ("no number", sampled(nan), invalid, "temperature"),
        ("no tokens", sampled(none), invalid, "max_tokens"),
        (
            "an unknown agent",
            v1::GenerateRequest { agent: "Nobody".to_owned(), ..good() },
            ErrorCode::NotFound,
            "agent",
        ),
        (
            "an unknown model",
            v1::GenerateRequest { model: "gpt-99".to_owned(), ..good() },
            ErrorCode::NotFound,
            "model",
        ),
        (
            "an id with a dot",
            v1::GenerateRequest { request_id: "a.b".to_owned(), ..good() },
            invalid,
            "request_id",
        ),
        (
            "a deadline in a year",
            v1::GenerateRequest { deadline_ms: 1 << 35, ..good() },
            invalid,
            "deadline_ms",
        ),
        (
            "no JSON beside it",
            v1::GenerateRequest { extra_json: "[1]".to_owned(), ..good() },
            invalid,
            "extra_json",
        ),
    ]
}
