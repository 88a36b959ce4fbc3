//! How long anything may take, and how soon a cancel is through.

use super::*;

/// How soon a cancel has to have closed the connection.
const SOON: Duration = Duration::from_secs(1);

/// The start of a stream, which then does not end.
fn begun(events: &str) -> Vec<u8> {
    let mut bytes = stream_bytes(events.as_bytes());
    bytes.truncate(bytes.len() - 5);
    bytes
}

fn some_events() -> String {
    String::from_utf8(STREAM.to_vec()).unwrap().split_inclusive("\n\n").take(3).collect()
}

#[tokio::test]
async fn silence_ends_each_phase_with_a_timeout() {
    let hangs = |events: &str| vec![Act::Send(begun(events)), Act::Hang];
    let whole_begins = Act::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{".to_vec(),
    );
    let cases = [
        (vec![Act::Hang], "first_token_ms = 50", true, "", "the first token"),
        (hangs(": still here\n\n"), "first_token_ms = 50", true, "", "the first token"),
        (hangs(&some_events()), "idle_ms = 50", true, "Vier – das \"ist\"", "more of the answer"),
        (hangs(&some_events()), "total_ms = 50", true, "Vier – das \"ist\"", "no whole answer"),
        (vec![Act::Hang], "total_ms = 50", false, "", "no whole answer"),
        (vec![whole_begins, Act::Hang], "idle_ms = 50", false, "", "more of the answer"),
    ];
    for (acts, limit, stream, said, expected) in cases {
        let mut upstream = Upstream::start([acts]).await;
        let adapter = adapter(&upstream, &format!("timeouts = {{ {limit} }}"));
        let (text, outcome) = ask(&adapter, &question(stream)).await;
        let fault = outcome.expect_err(limit);
        assert_eq!(
            (fault.code, fault.origin, text.as_str()),
            (Code::Timeout, Origin::Provider, said),
            "{limit}"
        );
        assert!(fault.message.contains(expected), "{limit}: {fault}");
        upstream.closed.recv().await.expect("the connection is closed");
        assert_eq!(upstream.seen().len(), 1, "{limit}: a timeout is not tried again");
        let health = adapter.routes.get(DEPLOYMENT).unwrap().circuit.condition().summary;
        assert_eq!((health.calls, health.failures), (1, 1), "{limit}: silence is the provider's failure");
    }
}

#[tokio::test]
async fn a_body_that_drips_is_not_waited_for_without_end() {
    let pause = Duration::from_millis(10);
    let head = |kind: &str, status: u16| {
        Act::Send(
            format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: 100000\r\n\r\n")
                .into_bytes(),
        )
    };
    let drips = |text: &str| Act::Drip(text.as_bytes().to_vec(), pause);
    let cases = [
        // each byte comes well within the limit for silence
        (
            head("application/json", 200),
            drips(&" ".repeat(5_000)),
            "total_ms = 300",
            false,
            "no whole answer",
        ),
        (
            head("text/event-stream", 200),
            drips(&":\n".repeat(2_500)),
            "first_token_ms = 300",
            true,
            "the first token",
        ),
    ];
    for (head, body, limit, stream, expected) in cases {
        let mut upstream = Upstream::start([vec![head, body]]).await;
        let adapter = adapter(&upstream, &format!("timeouts = {{ idle_ms = 5000, {limit} }}"));
        let began = Instant::now();
        let fault = ask(&adapter, &question(stream)).await.1.unwrap_err();
        assert_eq!(fault.code, Code::Timeout, "{limit}");
        assert!(fault.message.contains(expected), "{limit}: {fault}");
        assert!(began.elapsed() < Duration::from_secs(3), "{limit}: {:?}", began.elapsed());
        upstream.closed.recv().await.expect("the connection is closed");
    }
    // an error's explanation that drips: the status is known, the words are not worth the wait
    let upstream = Upstream::start([vec![head("text/plain", 400), drips(&"x".repeat(5_000))]]).await;
    let adapter = adapter(&upstream, "timeouts = { idle_ms = 200 }");
    let began = Instant::now();
    let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
    assert_eq!(fault.code, Code::InvalidArgument);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_connection_that_is_not_taken_or_does_not_speak_tls_ends_with_a_timeout() {
    // accepts by the system alone and never says a word of TLS
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("https://{}/v1", mute.local_addr().unwrap());
    let toml = settings(&base_url, "timeouts = { connect_ms = 200 }")
        .replace("retry = {", "retry = { retries_max = 0,");
    let began = Instant::now();
    let fault = ask(&adapter_of(&toml), &question(true)).await.1.unwrap_err();
    assert_eq!(
        (fault.code, fault.origin, fault.retryable),
        (Code::Timeout, Origin::Provider, true),
        "{fault}"
    );
    assert!(fault.message.contains("did not take the connection"), "{fault}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_callers_own_deadline_is_not_the_providers_failure() {
    let mut upstream = Upstream::start([vec![Act::Hang]]).await;
    let adapter = adapter(&upstream, "");
    let (request, cancel) = (question(true), CancellationToken::new());
    for _ in 0..6 {
        let deadline = Instant::now() + Duration::from_millis(30);
        let order = Order { deployment: DEPLOYMENT, request: &request, deadline, cancel: &cancel };
        let fault = adapter.run(order, &Heard::default()).await.unwrap_err();
        assert_eq!((fault.code, fault.origin), (Code::Timeout, Origin::Policy));
        upstream.closed.recv().await.expect("the connection is closed");
    }
    assert_eq!(upstream.seen().len(), 6, "the circuit breaker opened");
}

/// Cancels when it is told that something came.
struct CancelAtFirst(CancellationToken);

impl Pieces for CancelAtFirst {
    async fn piece(&self, _item: v1::DeltaItem) -> Result<(), Fault> {
        self.0.cancel();
        Ok(())
    }

    fn phase(&self, _phase: &'static str) {}
}

#[tokio::test]
async fn a_cancel_closes_the_upstream_connection_and_is_accounted() {
    let bytes = begun("data: {\"choices\":[{\"delta\":{\"content\":\"12345678\"}}]}\n\n");
    let mut upstream = Upstream::start([vec![Act::Send(bytes), Act::Hang]]).await;
    let adapter = adapter(&upstream, "");
    let cancel = CancellationToken::new();
    let request = question(true);
    let deadline = Instant::now() + Duration::from_secs(60);
    let order = Order { deployment: DEPLOYMENT, request: &request, deadline, cancel: &cancel };
    let end = adapter.run(order, &CancelAtFirst(cancel.clone())).await.unwrap();
    assert_eq!(end.finish_reason(), v1::FinishReason::Cancelled);
    let usage = end.usage.unwrap();
    assert_eq!((usage.input, usage.output, usage.estimated), (request.input_tokens().get(), 2, true));
    assert!(end.cost_picodollars > 0);
    tokio::time::timeout(SOON, upstream.closed.recv()).await.expect("the connection is still open").unwrap();
    // and the slot is free again
    assert_eq!(adapter.routes.get(DEPLOYMENT).unwrap().slots.available_permits(), 1);
}

#[tokio::test]
async fn a_cancel_is_through_within_a_second_whatever_is_waited_for() {
    let whole =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{\"choices\":";
    let cases = [
        ("the head of a stream", true, vec![]),
        ("the first token", true, vec![Act::Send(begun(": wait\n\n"))]),
        ("the head of a whole answer", false, vec![]),
        ("the rest of a whole answer", false, vec![Act::Send(whole.to_vec())]),
        ("the time to try again", true, json(429, "retry-after-ms: 1900\r\n", "{}")),
    ];
    for (what, stream, mut acts) in cases {
        let asked = Arc::new(Notify::new());
        acts.extend([Act::Tell(Arc::clone(&asked)), Act::Hang]);
        let mut upstream = Upstream::start([acts]).await;
        let adapter = adapter(&upstream, "");
        let (cancel, request) = (CancellationToken::new(), question(stream));
        let deadline = Instant::now() + Duration::from_secs(60);
        let order = Order { deployment: DEPLOYMENT, request: &request, deadline, cancel: &cancel };
        let heard = Heard::default();
        let (outcome, at) = tokio::join!(adapter.run(order, &heard), async {
            asked.notified().await;
            // the answer's first bytes are on their way
            tokio::time::sleep(Duration::from_millis(50)).await;
            cancel.cancel();
            Instant::now()
        });
        assert!(at.elapsed() < SOON, "{what}: {:?}", at.elapsed());
        assert_eq!(outcome.unwrap().finish_reason(), v1::FinishReason::Cancelled, "{what}");
        drop(adapter);
        let closed = tokio::time::timeout(SOON, upstream.closed.recv()).await;
        closed.unwrap_or_else(|_| panic!("{what}: the connection is still open")).unwrap();
        assert_eq!(upstream.seen().len(), 1, "{what}");
    }
}
