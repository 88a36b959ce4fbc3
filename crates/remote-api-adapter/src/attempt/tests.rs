//! Attempts over real HTTP.

#[path = "upstream.rs"]
mod upstream;

use std::sync::Mutex;

use domain::{
    id::{NodeId, RequestId},
    inference::{Embed, Envelope, Generate, Message, Part, PartContent, Role, Sampling, TaskProfile},
};
use service_runtime::Clock;

use self::upstream::{Act, Upstream, json, stream_bytes};
use super::*;
use crate::{config, settings::AdapterSettings};

const STREAM: &[u8] = include_bytes!("../provider/openai/golden/stream/openai.sse");
const WHOLE: &str = include_str!("../provider/openai/golden/decode/plain.json");
/// 19 input of which 8 cached, 6 output, at the prices of [`settings`].
const COST: i64 = 11 * 1_000_000 + 8 * 500_000 + 6 * 4_000_000;
const DEPLOYMENT: &str = "mainpc/acme/large";

fn settings(base_url: &str, more: &str) -> String {
    format!(
        r#"
[[providers]]
name = "acme"
kind = "openai"
base_url = "{base_url}"
allow_private = true
retry = {{ backoff_base_ms = 1, backoff_max_ms = 2 }}
{more}
[[providers.deployments]]
model = "large"
context_length = 1000
slots = 1
capabilities = ["generate", "embed"]
price = {{ input_per_million = "1", cached_input_per_million = "0.5", output_per_million = "4" }}
"#
    )
}

fn adapter_of(toml: &str) -> Adapter {
    let machine = NodeId::new("mainpc").unwrap();
    let settings: AdapterSettings = toml::from_str(toml).unwrap();
    let providers = config::check(&settings, &machine).unwrap();
    Adapter { routes: Routes::new(machine, providers, &Clock::system()).unwrap(), metrics: Metrics::new() }
}

fn adapter(upstream: &Upstream, more: &str) -> Adapter {
    adapter_of(&settings(&format!("http://{}/v1", upstream.address), more))
}

fn envelope() -> Envelope {
    Envelope {
        id: RequestId::new("r1").unwrap(),
        model: None,
        agent: None,
        profile: TaskProfile::default(),
        deadline: None,
        extra_json: String::new(),
    }
}

fn question(stream: bool) -> Request {
    let text =
        Part { content: PartContent::Text("What is two and two?".to_owned()), extra_json: String::new() };
    Request::Generate(Generate {
        envelope: envelope(),
        messages: vec![Message {
            role: Role::User,
            content: vec![text],
            tool_calls: Vec::new(),
            tool_call_id: String::new(),
            name: String::new(),
            extra_json: String::new(),
        }],
        sampling: Sampling::default(),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        stream,
    })
}

#[derive(Default)]
struct Heard(Mutex<Vec<v1::DeltaItem>>);

impl Heard {
    fn text(&self) -> String {
        self.0.lock().unwrap().iter().map(|item| item.text.as_str()).collect()
    }
}

impl Pieces for Heard {
    async fn piece(&self, item: v1::DeltaItem) -> Result<(), Fault> {
        self.0.lock().unwrap().push(item);
        Ok(())
    }

    fn phase(&self, _phase: &'static str) {}
}

async fn ask(adapter: &Adapter, request: &Request) -> (String, Result<v1::End, Fault>) {
    let (heard, cancel) = (Heard::default(), CancellationToken::new());
    let deadline = Instant::now() + Duration::from_secs(60);
    let order = Order { deployment: DEPLOYMENT, request, deadline, cancel: &cancel };
    let outcome = adapter.run(order, &heard).await;
    let rest = outcome.as_ref().ok().and_then(|end| end.last_delta.clone()).unwrap_or_default();
    (heard.text() + &rest.items.iter().map(|item| item.text.as_str()).collect::<String>(), outcome)
}

fn streamed() -> Vec<Act> {
    vec![Act::Send(stream_bytes(STREAM))]
}

#[tokio::test]
async fn a_stream_comes_through_with_usage_cost_and_ids() {
    let upstream = Upstream::start([streamed()]).await;
    let (text, outcome) = ask(&adapter(&upstream, ""), &question(true)).await;
    let end = outcome.unwrap();
    assert_eq!(text, "Vier – das \"ist\" grün.\n");
    assert_eq!(end.cost_picodollars, COST);
    let usage = end.usage.unwrap();
    assert_eq!(
        (usage.input, usage.output, usage.cached_input, usage.reasoning, usage.estimated),
        (19, 6, 8, 2, false)
    );
    assert_eq!(end.finish_reason(), v1::FinishReason::Stop);
    assert_eq!(
        (end.deployment.as_str(), end.provider.as_str(), end.machine.as_str()),
        (DEPLOYMENT, "acme", "mainpc")
    );
    assert_eq!((end.model.as_str(), end.tier()), ("gpt-4o-mini-2024-07-18", v1::Tier::RemoteApi));
    assert_eq!(end.provider_request_id, "chatcmpl-AbC123");
    let seen = upstream.seen();
    assert!(seen[0].head.starts_with("post /v1/chat/completions http/1.1\r\n"), "{}", seen[0].head);
    assert!(!seen[0].head.contains("authorization"), "no key was configured");
    assert!(seen[0].body.contains(r#""model":"large""#) && seen[0].body.contains(r#""include_usage":true"#));
}

#[tokio::test]
async fn a_whole_answer_travels_in_its_end() {
    let upstream = Upstream::start([json(200, "", WHOLE)]).await;
    let (text, outcome) = ask(&adapter(&upstream, ""), &question(false)).await;
    assert_eq!(text, "Vier, \"grün\"\n");
    assert_eq!(outcome.unwrap().cost_picodollars, COST);
}

#[tokio::test]
async fn a_server_that_does_not_stream_still_answers_a_stream() {
    let upstream = Upstream::start([json(200, "", WHOLE)]).await;
    assert_eq!(ask(&adapter(&upstream, ""), &question(true)).await.0, "Vier, \"grün\"\n");
}

#[tokio::test]
async fn embeddings_come_in_the_order_of_their_texts() {
    let body = include_str!("../provider/openai/golden/decode/embeddings.json");
    let upstream = Upstream::start([json(200, "x-request-id: req-9\r\n", body)]).await;
    let inputs = vec!["a".to_owned(), "b".to_owned()];
    let request = Request::Embed(Embed { envelope: envelope(), inputs, dimensions: None });
    let end = ask(&adapter(&upstream, ""), &request).await.1.unwrap();
    let vectors = end.embeddings.unwrap().embeddings;
    assert_eq!(vectors[0].values, [1.0, -0.001]);
    assert_eq!((end.cost_picodollars, end.provider_request_id.as_str()), (5_000_000, "req-9"));
    assert!(upstream.seen()[0].head.starts_with("post /v1/embeddings "));
}

#[tokio::test]
async fn usage_that_the_provider_kept_to_itself_is_estimated_and_says_so() {
    let events = b"data: {\"choices\":[{\"delta\":{\"content\":\"12345678\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let upstream = Upstream::start([vec![Act::Send(stream_bytes(events))]]).await;
    let request = question(true);
    let end = ask(&adapter(&upstream, ""), &request).await.1.unwrap();
    let usage = end.usage.unwrap();
    assert_eq!((usage.input, usage.output, usage.estimated), (request.input_tokens().get(), 2, true));
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_before_the_caller_sees_anything() {
    for failing in [
        json(500, "", "{}"),
        json(529, "", "{}"),
        json(429, "retry-after-ms: 1\r\n", "{}"),
        vec![Act::Close],
        vec![Act::Send(b"HTTP/1.1 200".to_vec()), Act::Close],
    ] {
        let upstream = Upstream::start([failing.clone(), streamed()]).await;
        let (text, outcome) = ask(&adapter(&upstream, ""), &question(true)).await;
        assert!(outcome.is_ok(), "{failing:?}: {outcome:?}");
        assert_eq!((text.as_str(), upstream.seen().len()), ("Vier – das \"ist\" grün.\n", 2));
    }
}

#[tokio::test]
async fn a_lasting_failure_is_reported_after_two_retries() {
    let upstream = Upstream::start([json(503, "", r#"{"error":{"message":"overloaded"}}"#)]).await;
    let fault = ask(&adapter(&upstream, ""), &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.retryable, upstream.seen().len()), (Code::Upstream, true, 3));
}

#[tokio::test]
async fn a_long_wait_is_left_to_the_caller() {
    let upstream = Upstream::start([json(429, "retry-after: 60\r\n", "{}")]).await;
    let fault = ask(&adapter(&upstream, ""), &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.retry_after), (Code::RateLimited, Some(Duration::from_secs(60))));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    let cases = [
        (400, r#"{"error":{"message":"bad","param":"temperature"}}"#, Code::InvalidArgument),
        (400, r#"{"error":{"code":"context_length_exceeded"}}"#, Code::ContextLengthExceeded),
        (401, r#"{"error":{"message":"no"}}"#, Code::UpstreamAuth),
        (404, r#"{"error":{"code":"model_not_found"}}"#, Code::NotFound),
        (413, "", Code::PayloadTooLarge),
        (429, r#"{"error":{"code":"insufficient_quota"}}"#, Code::UpstreamAuth),
    ];
    for (status, body, code) in cases {
        let upstream = Upstream::start([json(status, "", body)]).await;
        let fault = ask(&adapter(&upstream, ""), &question(true)).await.1.unwrap_err();
        assert_eq!((fault.code, upstream.seen().len()), (code, 1), "{status} {body}");
    }
}

#[tokio::test]
async fn an_error_with_status_200_is_a_fault() {
    let events = b"data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n";
    let upstream = Upstream::start([vec![Act::Send(stream_bytes(events))]]).await;
    let fault = ask(&adapter(&upstream, ""), &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.provider_code.as_str()), (Code::Upstream, "server_error"));
}

#[tokio::test]
async fn a_response_cut_after_any_byte_never_ends_well() {
    let bytes = stream_bytes(STREAM);
    let done = bytes.windows(12).position(|window| window == b"data: [DONE]").unwrap();
    let script = (0..done + 12).map(|k| vec![Act::Send(bytes[..k].to_vec()), Act::Close]);
    let upstream = Upstream::start(script).await;
    let toml = settings(&format!("http://{}/v1", upstream.address), "")
        .replace("retry = {", "retry = { retries_max = 0,");
    let adapter = adapter_of(&toml);
    for k in 0..done + 12 {
        let (text, outcome) = ask(&adapter, &question(true)).await;
        let fault = outcome.expect_err(&format!("cut after {k} bytes"));
        assert!(fault.retryable && fault.code == Code::Upstream, "cut after {k} bytes: {fault}");
        assert!("Vier – das \"ist\" grün.\n".starts_with(&text), "cut after {k} bytes: {text:?}");
    }
}

#[tokio::test]
async fn silence_ends_each_phase_with_a_timeout() {
    let first = String::from_utf8(STREAM.to_vec()).unwrap();
    let some: String = first.split_inclusive("\n\n").take(3).collect();
    let begun = |events: &str| {
        let mut bytes = stream_bytes(events.as_bytes());
        bytes.truncate(bytes.len() - 5);
        vec![Act::Send(bytes), Act::Hang]
    };
    let cases = [
        (vec![Act::Hang], "first_token_ms = 50", true, ""),
        (begun(": still here\n\n"), "first_token_ms = 50", true, ""),
        (begun(&some), "idle_ms = 50", true, "Vier – das \"ist\""),
        (begun(&some), "total_ms = 50", true, "Vier – das \"ist\""),
        (vec![Act::Hang], "total_ms = 50", false, ""),
    ];
    for (acts, limit, stream, said) in cases {
        let mut upstream = Upstream::start([acts]).await;
        let adapter = adapter(&upstream, &format!("timeouts = {{ {limit} }}"));
        let (text, outcome) = ask(&adapter, &question(stream)).await;
        let fault = outcome.expect_err(limit);
        assert_eq!(
            (fault.code, fault.origin, text.as_str()),
            (Code::Timeout, Origin::Provider, said),
            "{limit}"
        );
        upstream.closed.recv().await.expect("the connection is closed");
        assert_eq!(upstream.seen().len(), 1, "{limit}: a timeout is not tried again");
    }
}

#[tokio::test]
async fn a_cancel_closes_the_upstream_connection_and_is_accounted() {
    let mut bytes = stream_bytes(b"data: {\"choices\":[{\"delta\":{\"content\":\"12345678\"}}]}\n\n");
    bytes.truncate(bytes.len() - 5);
    let mut upstream = Upstream::start([vec![Act::Send(bytes), Act::Hang]]).await;
    let adapter = adapter(&upstream, "");
    let cancel = CancellationToken::new();
    struct CancelAtFirst(CancellationToken);
    impl Pieces for CancelAtFirst {
        async fn piece(&self, _item: v1::DeltaItem) -> Result<(), Fault> {
            self.0.cancel();
            Ok(())
        }
        fn phase(&self, _phase: &'static str) {}
    }
    let request = question(true);
    let deadline = Instant::now() + Duration::from_secs(60);
    let order = Order { deployment: DEPLOYMENT, request: &request, deadline, cancel: &cancel };
    let end = adapter.run(order, &CancelAtFirst(cancel.clone())).await.unwrap();
    assert_eq!(end.finish_reason(), v1::FinishReason::Cancelled);
    let usage = end.usage.unwrap();
    assert_eq!((usage.input, usage.output, usage.estimated), (request.input_tokens().get(), 2, true));
    assert!(end.cost_picodollars > 0);
    upstream.closed.recv().await.expect("the connection is closed");
    // and the slot is free again
    assert_eq!(adapter.routes.get(DEPLOYMENT).unwrap().slots.available_permits(), 1);
}

#[tokio::test]
async fn a_full_deployment_says_busy() {
    let upstream = Upstream::start([streamed()]).await;
    let adapter = adapter(&upstream, "");
    let held = adapter.routes.get(DEPLOYMENT).unwrap().slots.try_acquire().unwrap();
    assert_eq!(ask(&adapter, &question(true)).await.1.unwrap_err().code, Code::Busy);
    drop(held);
    assert!(ask(&adapter, &question(true)).await.1.is_ok());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Upstream::start([streamed()]).await;
    let location = format!("location: http://{}/v1/chat/completions\r\n", other.address);
    let upstream = Upstream::start([json(307, &location, "")]).await;
    let fault = ask(&adapter(&upstream, ""), &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.provider_code.as_str()), (Code::Upstream, "307"));
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn a_public_name_that_resolves_to_this_machine_is_not_connected_to() {
    let upstream = Upstream::start([streamed()]).await;
    let toml = settings(&format!("https://localhost:{}/v1", upstream.address.port()), "")
        .replace("allow_private = true", "");
    let fault = ask(&adapter_of(&toml), &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.origin), (Code::Unavailable, Origin::Policy), "{fault}");
    assert!(fault.message.contains("loopback"), "{fault}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let fault =
        ask(&adapter_of(&settings(&format!("http://{address}"), "")), &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.origin, fault.retryable), (Code::Unavailable, Origin::Provider, true));
}

#[tokio::test]
async fn a_server_without_tls_at_an_https_address_is_unavailable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://{}/v1", listener.local_addr().unwrap());
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 no\r\n\r\n").await;
        }
    });
    let fault = ask(&adapter_of(&settings(&base_url, "")), &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.retryable), (Code::Unavailable, true), "{fault}");
}

#[tokio::test]
async fn a_refused_key_is_read_once_more_and_never_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "canary-first").unwrap();
    let body = r#"{"error":{"message":"bad key canary-first, canary-other"}}"#;
    let upstream = Upstream::start([json(401, "", body), json(401, "", body), streamed(), streamed()]).await;
    let adapter = adapter(&upstream, &format!("api_key = {{ file = {path:?} }}"));

    let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
    assert_eq!(fault.code, Code::UpstreamAuth);
    assert!(!format!("{fault:?}").contains("canary-first"), "{fault:?}");
    assert_eq!(upstream.seen().len(), 1, "the same key is not tried twice");

    // rotated so that nothing shows: only the refusal leads to the new one
    let when = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "canary-other").unwrap();
    std::fs::File::options().append(true).open(&path).unwrap().set_modified(when).unwrap();
    assert!(ask(&adapter, &question(true)).await.1.is_ok());
    let keys: Vec<String> = upstream.seen().iter().map(|seen| seen.head.clone()).collect();
    assert!(keys[1].contains("authorization: bearer canary-first"));
    assert!(keys[2].contains("authorization: bearer canary-other"));
}

#[tokio::test]
async fn a_key_is_not_repeated_from_inside_an_answer_either() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "canary-first").unwrap();
    let event = b"data: {\"error\":{\"message\":\"no credit for canary-first\"}}\n\n";
    let upstream = Upstream::start([vec![Act::Send(stream_bytes(event))]]).await;
    let adapter = adapter(&upstream, &format!("api_key = {{ file = {path:?} }}"));
    let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
    assert!(fault.message.ends_with("no credit for [redacted]"), "{fault:?}");
}

#[tokio::test]
async fn a_provider_without_its_key_is_down_until_the_key_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let upstream = Upstream::start([streamed()]).await;
    let adapter = adapter(&upstream, &format!("api_key = {{ file = {path:?} }}"));
    let registered = adapter.routes.registered();
    assert_eq!(registered[0].state(), v1::DeploymentState::Down);
    assert!(registered[0].state_detail.contains("key"), "{}", registered[0].state_detail);
    assert_eq!(ask(&adapter, &question(true)).await.1.unwrap_err().code, Code::UpstreamAuth);
    assert!(upstream.seen().is_empty());

    std::fs::write(&path, "k").unwrap();
    assert_eq!(adapter.routes.registered()[0].state(), v1::DeploymentState::Warm);
    assert!(ask(&adapter, &question(true)).await.1.is_ok());
}

#[tokio::test]
async fn configured_headers_are_sent_and_nothing_of_the_caller() {
    let upstream = Upstream::start([streamed()]).await;
    let more = "organization = \"org-1\"\nextra_headers = { X-Title = \"hybrid\" }";
    ask(&adapter(&upstream, more), &question(true)).await.1.unwrap();
    let head = &upstream.seen()[0].head;
    assert!(
        head.contains("openai-organization: org-1\r\n") && head.contains("x-title: hybrid\r\n"),
        "{head}"
    );
    assert!(!head.contains("r1"), "the request's id is not for the provider: {head}");
}

#[tokio::test]
async fn a_finished_stream_leaves_its_connection_for_the_next() {
    let upstream = Upstream::start([streamed()]).await;
    let adapter = adapter(&upstream, "");
    for _ in 0..5 {
        ask(&adapter, &question(true)).await.1.unwrap();
    }
    assert_eq!(upstream.seen().len(), 5);
    assert!(upstream.connections() <= 2, "{} connections", upstream.connections());
}

#[tokio::test]
async fn what_is_registered_names_the_price_and_the_abilities() {
    let upstream = Upstream::start([streamed()]).await;
    let registered = adapter(&upstream, "").routes.registered();
    let deployment = domain::routing::Deployment::try_from(registered[0].clone()).unwrap();
    assert_eq!(deployment.id.as_str(), DEPLOYMENT);
    assert_eq!(
        (deployment.tier, deployment.executor.as_str(), deployment.slots),
        (Tier::RemoteApi, "any", 1)
    );
    assert_eq!(deployment.price.unwrap().output.as_picodollars(), 4_000_000);
    assert!(deployment.capabilities.generate && !deployment.capabilities.vision);
}

#[tokio::test]
async fn an_unknown_deployment_is_not_found() {
    let upstream = Upstream::start([streamed()]).await;
    let (request, cancel) = (question(true), CancellationToken::new());
    let order =
        Order { deployment: "other/x/y", request: &request, deadline: Instant::now(), cancel: &cancel };
    let fault = adapter(&upstream, "").run(order, &Heard::default()).await.unwrap_err();
    assert_eq!(fault.code, Code::NotFound);
}
