//! Where the adapter connects, and what it shows of itself there.

use super::*;

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
async fn a_refused_key_rests_until_it_is_changed_and_is_never_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "canary-first").unwrap();
    let body = r#"{"error":{"message":"bad key canary-first, canary-other"}}"#;
    let refusal = json(401, "", body);
    let upstream = Upstream::start([refusal.clone(), streamed(), refusal]).await;
    let adapter = adapter(&upstream, &format!("api_key = {{ file = {path:?} }}"));

    for _ in 0..3 {
        let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
        assert_eq!(fault.code, Code::UpstreamAuth);
        assert!(!format!("{fault:?}").contains("canary-first"), "{fault:?}");
    }
    assert_eq!(upstream.seen().len(), 1, "a refused key is not tried again");
    let registered = &adapter.routes.registered()[0];
    assert_eq!(registered.state(), v1::DeploymentState::Down);
    assert!(registered.state_detail.contains("no key is accepted"), "{}", registered.state_detail);

    // rotated so that nothing shows: it is read all the same, since it was refused
    let rotate = |key: &str| {
        let when = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, key).unwrap();
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(when).unwrap();
    };
    rotate("canary-other");
    assert_eq!(adapter.routes.registered()[0].state(), v1::DeploymentState::Warm);
    assert!(ask(&adapter, &question(true)).await.1.is_ok());
    assert!(upstream.seen()[1].head.contains("authorization: bearer canary-other"));

    // the answer repeats the new one, with which it is refused again
    let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, upstream.seen().len()), (Code::UpstreamAuth, 3));
    assert!(!format!("{fault:?}").contains("canary-other"), "{fault:?}");
}

#[tokio::test]
async fn a_key_that_is_changed_while_it_is_in_use_is_tried_again_within_the_same_call() {
    for status in [401, 403] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "canary-first").unwrap();
        let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut refusal = json(status, "", "{}");
        refusal.splice(0..0, [Act::Tell(Arc::clone(&asked)), Act::Wait(Arc::clone(&go_on))]);
        let upstream = Upstream::start([refusal, streamed()]).await;
        let adapter = adapter(&upstream, &format!("api_key = {{ file = {path:?} }}"));
        let request = question(true);
        let ((_, outcome), ()) = tokio::join!(ask(&adapter, &request), async {
            asked.notified().await;
            std::fs::write(&path, "canary-other").unwrap();
            go_on.notify_one();
        });
        assert!(outcome.is_ok(), "{status}: {outcome:?}");
        assert!(upstream.seen()[1].head.contains("authorization: bearer canary-other"));
    }
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
