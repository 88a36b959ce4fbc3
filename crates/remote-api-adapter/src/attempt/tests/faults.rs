//! What goes wrong on the way, and what the caller gets then.

use super::*;

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
async fn what_came_before_an_error_is_given_first_and_the_error_stays_its_own() {
    let events = b"data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n\
                   data: {\"error\":{\"message\":\"slow down\",\"code\":429}}\n\n";
    let upstream = Upstream::start([vec![Act::Send(stream_bytes(events))]]).await;
    let (text, outcome) = ask(&adapter(&upstream, ""), &question(true)).await;
    assert_eq!((text.as_str(), outcome.unwrap_err().code), ("half", Code::RateLimited));
}

#[tokio::test]
async fn a_response_cut_after_any_byte_never_ends_well() {
    let bytes = stream_bytes(STREAM);
    let done = bytes.windows(12).position(|window| window == b"data: [DONE]").unwrap();
    let script = (0..done + 12).map(|k| vec![Act::Send(bytes[..k].to_vec()), Act::Close]);
    let upstream = Upstream::start(script).await;
    let toml = settings(&format!("http://{}/v1", upstream.address), NO_BREAKER)
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
async fn a_full_deployment_says_busy() {
    let upstream = Upstream::start([streamed()]).await;
    let adapter = adapter(&upstream, "");
    let route = adapter.routes.get(DEPLOYMENT).unwrap();
    let held = route.slots.try_acquire().unwrap();
    assert_eq!(ask(&adapter, &question(true)).await.1.unwrap_err().code, Code::Busy);
    drop(held);
    assert!(ask(&adapter, &question(true)).await.1.is_ok());
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
