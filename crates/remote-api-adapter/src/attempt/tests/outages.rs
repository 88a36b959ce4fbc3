//! A provider that is down: breaker, retries, what is registered.

use domain::resilience::breaker::Standing;

use super::*;

const SHORT: &str = "breaker = { open_ms = 150, open_max_ms = 600 }";

fn down() -> Vec<Act> {
    json(503, "", r#"{"error":{"message":"overloaded"}}"#)
}

/// Asks without retries.
fn plain(upstream: &Upstream, more: &str) -> Adapter {
    let toml = settings(&format!("http://{}/v1", upstream.address), more)
        .replace("retry = {", "retry = { retries_max = 0,")
        .replace("slots = 1", "slots = 16");
    adapter_of(&toml)
}

fn standing(adapter: &Adapter) -> Standing {
    adapter.routes.get(DEPLOYMENT).unwrap().circuit.condition().standing
}

async fn until_half_open(adapter: &Adapter) {
    while standing(adapter) != Standing::HalfOpen {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn after_five_failures_in_a_row_the_provider_is_not_called_and_routing_is_told() {
    let upstream = Upstream::start([down()]).await;
    let adapter = plain(&upstream, "");
    for _ in 0..5 {
        assert_eq!(ask(&adapter, &question(true)).await.1.unwrap_err().code, Code::Upstream);
    }
    let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.origin, fault.retryable), (Code::Unavailable, Origin::Provider, true));
    let wait = fault.retry_after.unwrap();
    assert!(wait > Duration::from_secs(25) && wait <= Duration::from_secs(30), "{wait:?}");
    assert!(fault.message.contains("overloaded"), "{fault}");
    assert_eq!(upstream.seen().len(), 5, "an open breaker lets nothing through");

    let registered = &adapter.routes.registered()[0];
    assert_eq!(registered.state(), v1::DeploymentState::Down);
    assert!(registered.state_detail.contains("breaker is open"), "{}", registered.state_detail);
}

#[tokio::test]
async fn half_open_one_request_goes_through_and_its_answer_lets_the_others_follow() {
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut probe = streamed();
    probe.splice(0..0, [Act::Tell(Arc::clone(&asked)), Act::Wait(Arc::clone(&go_on))]);
    let script = [down(), down(), down(), down(), down(), down(), probe, streamed()];
    let upstream = Upstream::start(script).await;
    let adapter = plain(&upstream, SHORT);
    for _ in 0..5 {
        ask(&adapter, &question(true)).await.1.unwrap_err();
    }
    until_half_open(&adapter).await;
    let registered = &adapter.routes.registered()[0];
    assert_eq!(registered.state(), v1::DeploymentState::Warm, "somebody has to try");
    assert!(!registered.state_detail.is_empty());

    // the first probe fails: open again, for longer
    assert_eq!(ask(&adapter, &question(true)).await.1.unwrap_err().code, Code::Upstream);
    assert!(matches!(standing(&adapter), Standing::Open(_)));
    until_half_open(&adapter).await;

    let request = question(true);
    let ((_, outcome), ()) = tokio::join!(ask(&adapter, &request), async {
        asked.notified().await;
        for _ in 0..5 {
            let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
            assert_eq!(fault.code, Code::Unavailable, "a second request went through beside the probe");
        }
        go_on.notify_one();
    });
    outcome.unwrap();
    assert_eq!(upstream.seen().len(), 7);
    assert_eq!(standing(&adapter), Standing::Closed);
    assert!(ask(&adapter, &question(true)).await.1.is_ok());
    let registered = &adapter.routes.registered()[0];
    assert_eq!((registered.state(), registered.state_detail.as_str()), (v1::DeploymentState::Warm, ""));
}

#[tokio::test]
async fn a_probe_that_is_cancelled_leaves_its_place_to_the_next() {
    let hang = vec![Act::Hang];
    let upstream = Upstream::start([down(), down(), down(), down(), down(), hang, streamed()]).await;
    let adapter = plain(&upstream, SHORT);
    for _ in 0..5 {
        ask(&adapter, &question(true)).await.1.unwrap_err();
    }
    until_half_open(&adapter).await;
    let (request, cancel) = (question(true), CancellationToken::new());
    let deadline = Instant::now() + Duration::from_secs(60);
    let order = Order { deployment: DEPLOYMENT, request: &request, deadline, cancel: &cancel };
    let heard = Heard::default();
    let (outcome, ()) = tokio::join!(adapter.run(order, &heard), async {
        while upstream.seen().len() < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    });
    outcome.unwrap();
    assert_eq!(standing(&adapter), Standing::HalfOpen);
    assert!(ask(&adapter, &question(true)).await.1.is_ok());
    assert_eq!(standing(&adapter), Standing::Closed);
}

#[tokio::test]
async fn what_is_not_an_outage_does_not_open_the_breaker() {
    let cases = [
        json(400, "", r#"{"error":{"message":"bad","param":"temperature"}}"#),
        json(404, "", r#"{"error":{"code":"model_not_found"}}"#),
        json(413, "", ""),
    ];
    for answer in cases {
        let upstream = Upstream::start([answer.clone()]).await;
        let adapter = plain(&upstream, "");
        for _ in 0..8 {
            ask(&adapter, &question(true)).await.1.unwrap_err();
        }
        assert_eq!(upstream.seen().len(), 8, "{answer:?} cooled something");
        assert_eq!(adapter.routes.registered()[0].state(), v1::DeploymentState::Warm);
    }
}

#[tokio::test]
async fn retries_stop_when_the_breaker_opens_in_between() {
    let upstream = Upstream::start([down()]).await;
    let adapter = adapter(&upstream, "");
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(ask(&adapter, &question(true)).await.1.unwrap_err().code);
    }
    assert_eq!(upstream.seen().len(), 5, "three calls of the first request, two of the second, none after");
    assert_eq!(
        codes,
        [Code::Upstream, Code::Upstream, Code::Unavailable],
        "who was called for says what came of it"
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_before_anything_was_used_is_asked_for_again_and_counted() {
    let whole_cut =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{\"choices\":";
    let mut stream_cut = stream_bytes(b": nothing yet\n\n");
    stream_cut.truncate(stream_cut.len() - 5);
    for (stream, cut, text) in
        [(false, whole_cut.to_vec(), "Vier, \"grün\"\n"), (true, stream_cut, "Vier – das \"ist\" grün.\n")]
    {
        let answer = if stream { streamed() } else { json(200, "", WHOLE) };
        let upstream = Upstream::start([vec![Act::Send(cut), Act::Close], answer]).await;
        let request = question(stream);
        let (heard, outcome) = ask(&adapter(&upstream, ""), &request).await;
        let end = outcome.unwrap();
        assert_eq!((heard.as_str(), upstream.seen().len()), (text, 2));
        // the provider has read the input twice
        let (usage, input) = (end.usage.unwrap(), request.input_tokens().get());
        assert_eq!((usage.input, usage.output, usage.estimated), (19 + input, 6, true));
        assert_eq!(end.cost_picodollars, COST + i64::try_from(input).unwrap() * 1_000_000);
    }
}

#[tokio::test]
async fn an_error_in_place_of_the_first_piece_is_tried_again_and_one_after_it_is_not() {
    let overloaded = "data: {\"error\":{\"message\":\"busy\",\"type\":\"overloaded_error\"}}\n\n";
    let first = stream_bytes(overloaded.as_bytes());
    let upstream = Upstream::start([vec![Act::Send(first)], streamed()]).await;
    let (text, outcome) = ask(&adapter(&upstream, ""), &question(true)).await;
    assert_eq!(
        (text.as_str(), outcome.is_ok(), upstream.seen().len()),
        ("Vier – das \"ist\" grün.\n", true, 2)
    );

    let piece = "data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n";
    let later = stream_bytes(format!("{piece}{overloaded}").as_bytes());
    let upstream = Upstream::start([vec![Act::Send(later)], streamed()]).await;
    let (text, outcome) = ask(&adapter(&upstream, ""), &question(true)).await;
    assert_eq!((text.as_str(), outcome.is_err(), upstream.seen().len()), ("half", true, 1));
}

#[tokio::test]
async fn garbage_in_place_of_an_answer_is_not_paid_for_twice() {
    let upstream = Upstream::start([json(200, "", "<html>")]).await;
    for stream in [false, true] {
        let before = upstream.seen().len();
        ask(&adapter(&upstream, ""), &question(stream)).await.1.unwrap_err();
        assert_eq!(upstream.seen().len(), before + 1);
    }
}

#[tokio::test]
async fn a_server_that_asks_for_peace_is_left_in_peace() {
    let at = |seconds: u64| httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(seconds));
    let date = at(Clock::system().now_unix_ms() / 1_000 + 60);
    for after in ["60".to_owned(), date] {
        let upstream = Upstream::start([json(503, &format!("retry-after: {after}\r\n"), "{}")]).await;
        let adapter = plain(&upstream, "");
        assert_eq!(ask(&adapter, &question(true)).await.1.unwrap_err().code, Code::Upstream);
        let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
        assert_eq!(fault.code, Code::Unavailable, "{after}: {fault}");
        assert!(fault.retry_after.is_some_and(|wait| wait > Duration::from_secs(55)), "{after}: {fault:?}");
        assert_eq!(upstream.seen().len(), 1, "{after}");
        assert_eq!(adapter.routes.registered()[0].state(), v1::DeploymentState::Down);
    }
}

#[tokio::test]
async fn a_long_outage_is_not_multiplied_by_retries() {
    let upstream = Upstream::start([down()]).await;
    let off = "breaker = { failures = 0, failure_percent = 0 }";
    let adapter = adapter(&upstream, off);
    for _ in 0..300 {
        ask(&adapter, &question(true)).await.1.unwrap_err();
    }
    let retries = upstream.seen().len() - 300;
    // a fifth, and the twenty that lie ready for a hiccup
    assert!((60..=80).contains(&retries), "{retries} retries of 300 requests");
}

#[tokio::test]
async fn a_probe_costs_nothing_and_two_that_fail_take_the_provider_down() {
    let upstream = Upstream::start([json(500, "", "{}"), json(503, "", "{}"), json(200, "", "{}")]).await;
    let adapter = plain(&upstream, "health_interval_s = 1");
    let provider = &adapter.routes.upstreams[0];
    let mut failed = 0;
    assert!(!crate::watch::probe(provider, &mut failed).await, "one may be lost");
    assert_eq!(adapter.routes.registered()[0].state(), v1::DeploymentState::Warm);
    assert!(crate::watch::probe(provider, &mut failed).await);
    let registered = &adapter.routes.registered()[0];
    assert_eq!(registered.state(), v1::DeploymentState::Down);
    assert!(registered.state_detail.contains("503"), "{}", registered.state_detail);
    assert!(crate::watch::probe(provider, &mut failed).await);
    assert_eq!(adapter.routes.registered()[0].state(), v1::DeploymentState::Warm);
    assert!(
        upstream.seen().iter().all(|seen| seen.head.starts_with("get /v1/models ") && seen.body.is_empty())
    );
}

#[tokio::test]
async fn requests_that_never_reached_the_provider_earn_no_retries() {
    let upstream = Upstream::start([down()]).await;
    let adapter = adapter(&upstream, "breaker = { failures = 0, failure_percent = 0 }");
    for _ in 0..150 {
        ask(&adapter, &question(true)).await.1.unwrap_err();
    }
    let mut refused = question(true);
    if let Request::Generate(generate) = &mut refused {
        generate.envelope.extra_json = r#"{"model":"another"}"#.to_owned();
    }
    let before = upstream.seen().len();
    for _ in 0..50 {
        ask(&adapter, &refused).await.1.unwrap_err();
    }
    assert_eq!(upstream.seen().len(), before, "refused on this side");
    ask(&adapter, &question(true)).await.1.unwrap_err();
    // one call, and the retry that may just have become due
    assert!(upstream.seen().len() <= before + 2, "{} calls", upstream.seen().len() - before);
}
