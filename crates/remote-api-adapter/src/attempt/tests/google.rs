//! Google's services over real HTTP: addresses, keys, tokens and refusals.

use super::*;

const STREAM: &[u8] = include_bytes!("../../provider/gemini/golden/stream/thinking.sse");
const WHOLE: &str = include_str!("../../provider/gemini/golden/decode/thinking-cached.json");
const RSA: &str = include_str!("../../provider/gemini/token/key_file/test-rsa.pem");
const GRANTED: &str = r#"{"access_token":"token-1","expires_in":3599,"token_type":"Bearer"}"#;

fn google(kind: &str, upstream: &Upstream, more: &str) -> Adapter {
    let kind = format!("kind = \"{kind}\"");
    let version = if more.contains("vertex") { "v1" } else { "v1beta" };
    let base_url = format!("http://{}/{version}", upstream.address);
    adapter_of(&settings(&base_url, more).replace("kind = \"openai\"", &kind))
}

/// A key file that names this server as the one that grants tokens, as Google writes it: over several lines.
fn key_file(upstream: &Upstream, id: &str) -> String {
    let file = serde_json::json!({
        "type": "service_account",
        "private_key_id": id,
        "private_key": RSA,
        "client_email": "robot@example.iam.gserviceaccount.com",
        "token_uri": format!("http://{}/token", upstream.address),
    });
    serde_json::to_string_pretty(&file).unwrap()
}

/// A provider whose key is such a file.
fn vertex(upstream: &Upstream) -> (tempfile::TempDir, Adapter) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.json");
    std::fs::write(&path, key_file(upstream, "key-1")).unwrap();
    let more = format!(
        "api_key = {{ file = {path:?} }}\nvertex = {{ project = \"example\", location = \"europe-west4\" }}"
    );
    let adapter = google("vertex", upstream, &more);
    (folder, adapter)
}

fn streamed() -> Vec<Act> {
    vec![Act::Send(stream_bytes(
        &String::from_utf8(STREAM.to_vec()).unwrap().replace("\r\n", "\n").into_bytes(),
    ))]
}

/// The paths that were asked, in order.
fn asked(upstream: &Upstream) -> Vec<String> {
    let path = |head: String| head.split(' ').nth(1).unwrap().to_owned();
    upstream.seen().into_iter().map(|seen| path(seen.head)).collect()
}

const STREAMS: &str = "/v1/projects/example/locations/europe-west4/publishers/google/models/large:streamgeneratecontent?alt=sse";

#[tokio::test]
async fn a_stream_of_the_gemini_api_comes_through_with_its_key_in_a_header() {
    let upstream = Upstream::start([streamed()]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "canary-key").unwrap();
    let adapter = google("gemini", &upstream, &format!("api_key = {{ file = {path:?} }}"));
    let (text, outcome) = ask(&adapter, &question(true)).await;
    let end = outcome.unwrap();
    assert_eq!((text.as_str(), end.model.as_str()), ("Yes.", "gemini-3.5-flash"));
    // 3 plain and 8 cached input, 22 output
    assert_eq!(end.cost_picodollars, 3 * 1_000_000 + 8 * 500_000 + 22 * 4_000_000);
    assert_eq!((end.provider_request_id.as_str(), end.usage.unwrap().reasoning), ("JZ5taLzZ", 20));
    let head = &upstream.seen()[0].head;
    assert!(
        head.starts_with("post /v1beta/models/large:streamgeneratecontent?alt=sse http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("x-goog-api-key: canary-key\r\n") && !head.contains("authorization"), "{head}");
}

#[tokio::test]
async fn a_stream_that_breaks_after_its_reason_is_no_success() {
    let mut bytes =
        stream_bytes(&String::from_utf8(STREAM.to_vec()).unwrap().replace("\r\n", "\n").into_bytes());
    bytes.truncate(bytes.len() - b"0\r\n\r\n".len());
    let upstream = Upstream::start([vec![Act::Send(bytes), Act::Close]]).await;
    let fault = ask(&google("gemini", &upstream, ""), &question(true)).await.1.unwrap_err();
    assert_eq!(fault.code, Code::Upstream);
}

#[tokio::test]
async fn a_wait_in_the_body_is_obeyed() {
    let body = |seconds: &str| {
        format!(
            r#"[{{"error":{{"code":429,"message":"Quota exceeded.","status":"RESOURCE_EXHAUSTED","details":[
            {{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{seconds}s"}}]}}}}]"#
        )
    };
    let upstream = Upstream::start([json(429, "", &body("0.01")), json(200, "", WHOLE)]).await;
    assert_eq!(ask(&google("gemini", &upstream, ""), &question(false)).await.0, "4");
    let upstream = Upstream::start([json(429, "", &body("41"))]).await;
    let fault = ask(&google("gemini", &upstream, ""), &question(false)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.retry_after), (Code::RateLimited, Some(Duration::from_secs(41))));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn embeddings_of_the_gemini_api_come_in_one_call() {
    let body = include_str!("../../provider/gemini/golden/decode/embeddings-batch.json");
    let upstream = Upstream::start([json(200, "", body)]).await;
    let inputs = vec!["a".to_owned(), "b".to_owned()];
    let request = Request::Embed(Embed { envelope: envelope(), inputs, dimensions: None });
    let end = ask(&google("gemini", &upstream, ""), &request).await.1.unwrap();
    assert_eq!(end.embeddings.unwrap().embeddings[1].values, [0.0, 1.0, 0.5]);
    assert!(end.usage.unwrap().estimated, "this method does not count");
    assert_eq!(asked(&upstream), ["/v1beta/models/large:batchembedcontents"]);
}

#[tokio::test]
async fn vertex_gets_one_token_for_many_calls() {
    let upstream = Upstream::start([json(200, "", GRANTED), streamed()]).await;
    let (_folder, adapter) = vertex(&upstream);
    for _ in 0..3 {
        assert_eq!(ask(&adapter, &question(true)).await.0, "Yes.");
    }
    assert_eq!(asked(&upstream), ["/token", STREAMS, STREAMS, STREAMS]);
    let seen = upstream.seen();
    assert!(
        seen[0]
            .body
            .starts_with("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJ")
    );
    assert!(!seen[0].head.contains("authorization"), "{}", seen[0].head);
    assert!(seen[1].head.contains("authorization: bearer token-1\r\n"), "{}", seen[1].head);
}

#[tokio::test]
async fn each_of_several_key_files_keeps_its_token() {
    let second = GRANTED.replace("token-1", "token-2");
    let whole = || json(200, "", WHOLE);
    let upstream =
        Upstream::start([json(200, "", GRANTED), whole(), json(200, "", &second), whole(), whole()]).await;
    let folder = tempfile::tempdir().unwrap();
    let keys = ["key-1", "key-2"].map(|id| {
        let path = folder.path().join(id);
        std::fs::write(&path, key_file(&upstream, id)).unwrap();
        format!("{{ file = {path:?} }}")
    });
    let more = format!(
        "api_keys = [{}]\nvertex = {{ project = \"example\", location = \"europe-west4\" }}",
        keys.join(", ")
    );
    let adapter = google("vertex", &upstream, &more);
    for _ in 0..4 {
        assert_eq!(ask(&adapter, &question(false)).await.0, "4");
    }
    let shown = |seen: &upstream::Seen| {
        let line = seen.head.lines().find_map(|line| line.strip_prefix("authorization: bearer "));
        line.unwrap_or("a grant").to_owned()
    };
    let shown: Vec<String> = upstream.seen().iter().map(shown).collect();
    assert_eq!(shown, ["a grant", "token-1", "a grant", "token-2", "token-1", "token-2"]);
}

#[tokio::test]
async fn calls_that_come_together_wait_for_one_token() {
    let go_on = Arc::new(Notify::new());
    let slow = [vec![Act::Wait(Arc::clone(&go_on))], json(200, "", GRANTED)].concat();
    let upstream = Upstream::start([slow, json(200, "", WHOLE)]).await;
    let folder_and_adapter = vertex(&upstream);
    let adapter = &folder_and_adapter.1;
    let route = adapter.routes.get(DEPLOYMENT).unwrap();
    let request = question(false);
    let call = || async {
        let mut answer = route
            .upstream
            .provider
            .open(Call { target: &route.target, request: &request }, &AtomicBool::new(false))
            .await
            .unwrap();
        matches!(answer.next().await.unwrap(), Step::Done(_))
    };
    let waiting = async {
        while upstream.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        go_on.notify_one();
    };
    let (one, two, three, ()) = tokio::join!(call(), call(), call(), waiting);
    assert!(one && two && three);
    assert_eq!(asked(&upstream).iter().filter(|path| *path == "/token").count(), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_used_again() {
    let refused =
        json(401, "", r#"{"error":{"code":401,"message":"token-1 is no good","status":"UNAUTHENTICATED"}}"#);
    let again = GRANTED.replace("token-1", "token-2");
    let upstream =
        Upstream::start([json(200, "", GRANTED), refused, json(200, "", &again), json(200, "", WHOLE)]).await;
    let (_folder, adapter) = vertex(&upstream);
    let fault = ask(&adapter, &question(false)).await.1.unwrap_err();
    assert_eq!(fault.code, Code::UpstreamAuth);
    assert!(!fault.message.contains("token-1"), "{fault}");
    assert_eq!(ask(&adapter, &question(false)).await.0, "4");
    assert!(upstream.seen()[3].head.contains("bearer token-2"), "{}", upstream.seen()[3].head);
}

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_within_the_call() {
    let refused = json(401, "", r#"{"error":{"code":401,"status":"UNAUTHENTICATED"}}"#);
    let again = GRANTED.replace("token-1", "token-2");
    let acts =
        [json(200, "", GRANTED), json(200, "", WHOLE), refused, json(200, "", &again), json(200, "", WHOLE)];
    let upstream = Upstream::start(acts).await;
    let (_folder, adapter) = vertex(&upstream);
    assert_eq!(ask(&adapter, &question(false)).await.0, "4");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    assert_eq!(ask(&adapter, &question(false)).await.0, "4");
    assert!(upstream.seen()[4].head.contains("bearer token-2"), "{}", upstream.seen()[4].head);
}

#[tokio::test]
async fn a_token_is_replaced_before_it_expires() {
    let again = GRANTED.replace("token-1", "token-2");
    let acts = [json(200, "", GRANTED), json(200, "", WHOLE), json(200, "", &again), json(200, "", WHOLE)];
    let upstream = Upstream::start(acts).await;
    let (_folder, adapter) = vertex(&upstream);
    assert_eq!(ask(&adapter, &question(false)).await.0, "4");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3_599 - 119)).await;
    tokio::time::resume();
    assert_eq!(ask(&adapter, &question(false)).await.0, "4");
    assert!(upstream.seen()[3].head.contains("bearer token-2"), "{}", upstream.seen()[3].head);
}

#[tokio::test]
async fn a_refused_key_file_is_reported_and_an_endpoint_out_of_order_is_tried_again() {
    let body = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    let upstream = Upstream::start([json(400, "", body)]).await;
    let (_folder, adapter) = vertex(&upstream);
    let fault = ask(&adapter, &question(false)).await.1.unwrap_err();
    assert_eq!((fault.code, upstream.seen().len()), (Code::UpstreamAuth, 1));
    assert!(fault.message.contains("Invalid JWT Signature."), "{fault}");

    let upstream = Upstream::start([json(503, "", "{}"), json(200, "", GRANTED), json(200, "", WHOLE)]).await;
    let (_folder, adapter) = vertex(&upstream);
    assert_eq!(ask(&adapter, &question(false)).await.0, "4");
}

#[tokio::test]
async fn a_key_file_that_is_none_takes_its_deployments_down() {
    let upstream = Upstream::start([streamed()]).await;
    let (folder, adapter) = vertex(&upstream);
    assert_eq!(adapter.routes.registered()[0].state_detail, "");
    std::fs::write(folder.path().join("key.json"), "{\"type\": \"service_account\"}").unwrap();
    // the file is looked at once a second
    let says = || adapter.routes.registered()[0].state_detail.contains("client_email is missing");
    let noticed = async || says().then_some(());
    e2e::wait::until("the broken file to be noticed", Duration::from_secs(10), noticed).await.unwrap();
    // an access token does as well
    std::fs::write(folder.path().join("key.json"), "a-token\n").unwrap();
    assert_eq!(ask(&adapter, &question(true)).await.0, "Yes.");
    assert!(upstream.seen()[0].head.contains("authorization: bearer a-token\r\n"));
}
