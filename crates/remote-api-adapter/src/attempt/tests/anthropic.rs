//! Attempts at Anthropic's API, over real HTTP.

use super::*;

const STREAM: &[u8] = include_bytes!("../../provider/anthropic/golden/stream/cache-write.sse");
const WHOLE: &str = include_str!("../../provider/anthropic/golden/decode/cache-write.json");
/// 3 input, 2,000 read from the cache, 1,500 written to it; at the prices below.
const INPUT_COST: i64 = 3 * 1_000_000 + 2_000 * 500_000 + 1_500 * 1_250_000;
const OUTPUT_PRICE: i64 = 4_000_000;

fn toml(upstream: &Upstream, more: &str) -> String {
    settings(&format!("http://{}/v1", upstream.address), more)
        .replace("kind = \"openai\"", "kind = \"anthropic\"")
        .replace("output_per_million", "cache_write_per_million = \"1.25\", output_per_million")
}

fn anthropic(upstream: &Upstream, more: &str) -> Adapter {
    adapter_of(&toml(upstream, more))
}

fn streams(events: &[u8]) -> Vec<Act> {
    vec![Act::Send(stream_bytes(events))]
}

/// The recording's events up to `event`.
fn until(event: &str) -> Vec<u8> {
    let text = String::from_utf8(STREAM.to_vec()).unwrap();
    text.split_once(&format!("event: {event}")).unwrap().0.as_bytes().to_vec()
}

#[tokio::test]
async fn a_stream_comes_through_with_its_headers_usage_and_cost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "canary-first").unwrap();
    let upstream = Upstream::start([streams(STREAM)]).await;
    let adapter = anthropic(&upstream, &format!("api_key = {{ file = {path:?} }}"));
    let (text, outcome) = ask(&adapter, &question(true)).await;
    let end = outcome.unwrap();
    assert_eq!((text.as_str(), end.cost_picodollars), ("4", INPUT_COST + 2 * OUTPUT_PRICE));
    let usage = end.usage.unwrap();
    assert_eq!(
        (usage.input, usage.cached_input, usage.cache_write, usage.output, usage.estimated),
        (3_503, 2_000, 1_500, 2, false)
    );
    assert_eq!((end.model.as_str(), end.provider_request_id.as_str()), ("claude-sonnet-5-5", "req-1"));
    let seen = &upstream.seen()[0];
    assert!(seen.head.starts_with("post /v1/messages http/1.1\r\n"), "{}", seen.head);
    for header in ["x-api-key: canary-first", "anthropic-version: 2023-06-01", "accept: text/event-stream"] {
        assert!(seen.head.contains(&format!("{header}\r\n")), "{header} is not in {}", seen.head);
    }
    assert!(!seen.head.contains("authorization"), "{}", seen.head);
    assert!(seen.body.contains(r#""model":"large","max_tokens":32000"#), "{}", seen.body);
}

#[tokio::test]
async fn a_whole_answer_travels_in_its_end_also_when_a_stream_was_wanted() {
    let upstream = Upstream::start([json(200, "request-id: req-9\r\n", WHOLE)]).await;
    for stream in [false, true] {
        let (text, outcome) = ask(&anthropic(&upstream, ""), &question(stream)).await;
        let end = outcome.unwrap();
        assert_eq!((text.as_str(), end.cost_picodollars), ("4", INPUT_COST + OUTPUT_PRICE));
        assert_eq!(end.provider_request_id, "req-9");
    }
}

#[tokio::test]
async fn passing_failures_are_tried_again_and_lasting_ones_are_not() {
    let error = |kind: &str| format!(r#"{{"type":"error","error":{{"type":{kind:?},"message":"no"}}}}"#);
    for (status, kind, headers) in [
        (529, "overloaded_error", ""),
        (500, "api_error", ""),
        (504, "timeout_error", ""),
        (429, "rate_limit_error", "retry-after-ms: 1\r\n"),
    ] {
        let upstream = Upstream::start([json(status, headers, &error(kind)), streams(STREAM)]).await;
        let (text, outcome) = ask(&anthropic(&upstream, ""), &question(true)).await;
        assert!(outcome.is_ok() && text == "4" && upstream.seen().len() == 2, "{kind}: {outcome:?}");
    }
    for (status, kind, code) in [
        (400, "invalid_request_error", Code::InvalidArgument),
        (401, "authentication_error", Code::UpstreamAuth),
        (402, "billing_error", Code::UpstreamAuth),
        (403, "permission_error", Code::UpstreamAuth),
        (404, "not_found_error", Code::NotFound),
        (413, "request_too_large", Code::PayloadTooLarge),
    ] {
        let upstream = Upstream::start([json(status, "", &error(kind))]).await;
        let fault = ask(&anthropic(&upstream, ""), &question(true)).await.1.unwrap_err();
        assert_eq!((fault.code, fault.provider_code.as_str(), upstream.seen().len()), (code, kind, 1));
    }
}

#[tokio::test]
async fn a_long_wait_is_left_to_the_caller() {
    let upstream = Upstream::start([json(429, "retry-after: 60\r\n", "{}")]).await;
    let fault = ask(&anthropic(&upstream, ""), &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.retry_after), (Code::RateLimited, Some(Duration::from_secs(60))));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn an_error_inside_a_stream_comes_after_what_was_said_and_repeats_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "canary-first").unwrap();
    let mut events = until("message_delta");
    events.extend(
        b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no canary-first\"}}\n\n",
    );
    let upstream = Upstream::start([streams(&events)]).await;
    let adapter = anthropic(&upstream, &format!("api_key = {{ file = {path:?} }}"));
    let (text, outcome) = ask(&adapter, &question(true)).await;
    let fault = outcome.unwrap_err();
    assert_eq!((text.as_str(), fault.code, fault.retryable), ("4", Code::Upstream, true));
    assert_eq!((fault.provider_code.as_str(), upstream.seen().len()), ("overloaded_error", 1));
    assert!(fault.message.ends_with("no [redacted]"), "{fault}");
    // the input was counted when the message began
    let spent = fault.spent.unwrap();
    assert_eq!((spent.usage.input.get(), spent.usage.cache_write.get()), (3_503, 1_500));
    let output = i64::try_from(spent.usage.output.get()).unwrap();
    assert!(output > 0 && spent.cost.as_picodollars() == INPUT_COST + output * OUTPUT_PRICE, "{spent:?}");
}

#[tokio::test]
async fn a_response_cut_after_any_byte_never_ends_well() {
    let bytes = stream_bytes(STREAM);
    let stop: &[u8] = b"data: {\"type\":\"message_stop\"}";
    let end = bytes.windows(stop.len()).position(|window| window == stop).unwrap() + stop.len();
    let upstream = Upstream::start((0..end).map(|k| vec![Act::Send(bytes[..k].to_vec()), Act::Close])).await;
    let adapter = adapter_of(&toml(&upstream, NO_BREAKER).replace("retry = {", "retry = { retries_max = 0,"));
    for k in 0..end {
        let (text, outcome) = ask(&adapter, &question(true)).await;
        let fault = outcome.expect_err(&format!("cut after {k} bytes"));
        assert!(fault.retryable && fault.code == Code::Upstream, "cut after {k} bytes: {fault}");
        assert!("4".starts_with(&text), "cut after {k} bytes: {text:?}");
    }
}

#[tokio::test]
async fn a_cancel_closes_the_upstream_connection_and_is_accounted() {
    let mut bytes = stream_bytes(&until("message_delta"));
    bytes.truncate(bytes.len() - 5);
    let mut upstream = Upstream::start([vec![Act::Send(bytes), Act::Hang]]).await;
    let adapter = anthropic(&upstream, "");
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
    assert!(end.usage.unwrap().estimated && end.cost_picodollars > 0);
    upstream.closed.recv().await.expect("the connection is closed");
}

#[tokio::test]
async fn what_anthropic_does_not_offer_is_refused_before_the_call() {
    let upstream = Upstream::start([streams(STREAM)]).await;
    let embed =
        Request::Embed(Embed { envelope: envelope(), inputs: vec!["a".to_owned()], dimensions: None });
    let fault = ask(&anthropic(&upstream, ""), &embed).await.1.unwrap_err();
    assert_eq!((fault.code, fault.field.as_str(), fault.retryable), (Code::Unsupported, "model", true));
    assert!(upstream.seen().is_empty());
}
