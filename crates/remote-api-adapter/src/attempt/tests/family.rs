//! Other members of OpenAI's family, and Ollama, over real HTTP.

use super::*;

const RESPONSES: &[u8] = include_bytes!("../../provider/openai/golden/responses/reasoning.sse");
const LINES: &str = include_str!("../../provider/ollama/golden/stream/plain.ndjson");
const MISSING: &str = r#"{"error":"model \"large\" not found, try pulling it first"}"#;

fn lines(text: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n",
        text.len()
    )
    .into_bytes()
}

fn of_kind(kind: &str, base_url: &str, more: &str) -> Adapter {
    adapter_of(&settings(base_url, more).replace("kind = \"openai\"", &format!("kind = \"{kind}\"")))
}

#[tokio::test]
async fn azure_is_called_at_its_address_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "canary-4711").unwrap();
    let upstream = Upstream::start([streamed()]).await;
    let more = format!("api_key = {{ file = {path:?} }}\nazure = {{ api_version = \"2024-10-21\" }}");
    let adapter = of_kind("azure", &format!("http://{}", upstream.address), &more);
    let (text, outcome) = ask(&adapter, &question(true)).await;
    assert_eq!((text.as_str(), outcome.unwrap().cost_picodollars), ("Vier – das \"ist\" grün.\n", COST));
    let head = &upstream.seen()[0].head;
    assert!(
        head.starts_with(
            "post /openai/deployments/large/chat/completions?api-version=2024-10-21 http/1.1\r\n"
        ),
        "{head}"
    );
    assert!(head.contains("api-key: canary-4711\r\n") && !head.contains("authorization"), "{head}");
}

#[tokio::test]
async fn the_responses_interface_answers_like_the_other() {
    let upstream = Upstream::start([vec![Act::Send(stream_bytes(RESPONSES))]]).await;
    let toml = settings(&format!("http://{}/v1", upstream.address), "") + "api = \"responses\"\n";
    let (text, outcome) = ask(&adapter_of(&toml), &question(true)).await;
    let usage = outcome.unwrap().usage.unwrap();
    assert_eq!((text.as_str(), usage.cached_input, usage.reasoning), ("Vier – grün.\n", 32, 64));
    assert!(upstream.seen()[0].head.starts_with("post /v1/responses "));
}

#[tokio::test]
async fn ollama_answers_in_lines() {
    let upstream = Upstream::start([vec![Act::Send(lines(LINES))]]).await;
    let adapter = of_kind("ollama", &format!("http://{}", upstream.address), "");
    let (text, outcome) = ask(&adapter, &question(true)).await;
    let usage = outcome.unwrap().usage.unwrap();
    assert_eq!((text.as_str(), usage.input, usage.output), ("Vier – grün.\n", 19, 6));
    let seen = &upstream.seen()[0];
    assert!(seen.head.starts_with("post /api/chat ") && seen.body.contains("\"num_ctx\":1000"), "{seen:?}");
}

#[tokio::test]
async fn a_response_in_lines_cut_after_any_byte_never_ends_well() {
    let bytes = lines(LINES);
    let whole = bytes.windows(13).position(|window| window == b"\"done\":true,\"").unwrap();
    // every byte of the body's first part, up to the word that ends it
    let script = (0..whole).map(|k| vec![Act::Send(bytes[..k].to_vec()), Act::Close]);
    let upstream = Upstream::start(script).await;
    let toml = settings(&format!("http://{}", upstream.address), NO_BREAKER)
        .replace("retry = {", "retry = { retries_max = 0,")
        .replace("kind = \"openai\"", "kind = \"ollama\"");
    let adapter = adapter_of(&toml);
    for k in 0..whole {
        let (text, outcome) = ask(&adapter, &question(true)).await;
        let fault = outcome.expect_err(&format!("cut after {k} bytes"));
        assert!(fault.retryable && fault.code == Code::Upstream, "cut after {k} bytes: {fault}");
        assert!("Vier – grün.\n".starts_with(&text), "cut after {k} bytes: {text:?}");
    }
}

#[tokio::test]
async fn a_missing_model_is_an_error_that_says_how_to_get_it() {
    let upstream = Upstream::start([json(404, "", MISSING)]).await;
    let adapter = of_kind("ollama", &format!("http://{}", upstream.address), "");
    let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.retryable, upstream.seen().len()), (Code::NotFound, true, 1));
    assert!(fault.message.contains("pull = true"), "{fault}");
}

/// Remembers how far things were said to be.
#[derive(Default)]
struct Told(Mutex<Vec<(&'static str, u32)>>);

impl Pieces for Told {
    async fn piece(&self, _item: v1::DeltaItem) -> Result<(), Fault> {
        Ok(())
    }

    fn phase(&self, phase: &'static str) {
        self.progress(phase, 0);
    }

    fn progress(&self, phase: &'static str, percent: u32) {
        self.0.lock().unwrap().push((phase, percent));
    }
}

#[tokio::test]
async fn a_missing_model_is_fetched_while_the_caller_hears_how_far_it_is() {
    let go_on = Arc::new(Notify::new());
    let progress = "{\"status\":\"pulling\",\"digest\":\"sha256:a\",\"total\":200,\"completed\":100}\n";
    let end = "{\"status\":\"success\"}\n";
    let mut pulled = lines(progress);
    pulled.truncate(pulled.len() - 5);
    let rest = format!("{:x}\r\n{end}\r\n0\r\n\r\n", end.len()).into_bytes();
    let upstream = Upstream::start([
        json(404, "", MISSING),
        vec![Act::Send(pulled), Act::Wait(Arc::clone(&go_on)), Act::Send(rest)],
        vec![Act::Send(lines(LINES))],
    ])
    .await;
    let adapter = of_kind("ollama", &format!("http://{}", upstream.address), "ollama = { pull = true }");
    let (told, cancel, request) = (Told::default(), CancellationToken::new(), question(true));
    let deadline = Instant::now() + Duration::from_secs(60);
    let order = Order { deployment: DEPLOYMENT, request: &request, deadline, cancel: &cancel };
    let half = async {
        while !told.0.lock().unwrap().contains(&("loading", 50)) {
            tokio::task::yield_now().await;
        }
        go_on.notify_one();
    };
    let (outcome, ()) = tokio::join!(adapter.run(order, &told), half);
    let items = outcome.unwrap().last_delta.unwrap().items;
    assert_eq!(items.iter().map(|item| item.text.as_str()).collect::<String>(), "Vier – grün.\n");
    let paths: Vec<_> =
        upstream.seen().iter().map(|seen| seen.head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/api/chat", "/api/pull", "/api/chat"]);
}

#[tokio::test]
async fn a_fetch_that_fails_is_the_answer() {
    let failed = lines("{\"error\":\"pull model manifest: file does not exist\"}\n");
    let upstream = Upstream::start([json(404, "", MISSING), vec![Act::Send(failed)]]).await;
    let adapter = of_kind("ollama", &format!("http://{}", upstream.address), "ollama = { pull = true }");
    let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
    assert!(fault.retryable && fault.message.contains("file does not exist"), "{fault}");
}

fn discovering(upstream: &Upstream) -> Adapter {
    adapter_of(&format!(
        "[[providers]]\nname = \"acme\"\nkind = \"ollama\"\nbase_url = \"http://{}\"\nallow_private = true\n\
         ollama = {{ discover = true, context_length_max = 4096 }}\n",
        upstream.address
    ))
}

#[tokio::test]
async fn models_of_a_server_are_offered_without_being_listed() {
    let tags = r#"{"models":[{"name":"large:latest","digest":"a"},{"name":"ü","digest":"b"}]}"#;
    let show = r#"{"capabilities":["completion","tools"],"model_info":{"llama.context_length":131072}}"#;
    let upstream = Upstream::start([
        json(200, "", tags),
        json(200, "", show),
        json(200, "", show),
        vec![Act::Send(lines(LINES))],
        // the second look asks for nothing that is known already
        json(200, "", tags),
        json(500, "", "{}"),
    ])
    .await;
    let adapter = discovering(&upstream);
    assert!(adapter.routes.discovers() && adapter.routes.registered().is_empty());
    adapter.routes.discover().await;
    let registered = adapter.routes.registered();
    assert_eq!(registered.len(), 1, "a name that cannot be used is left out: {registered:?}");
    let found = &registered[0];
    assert_eq!((found.id.as_str(), found.model.as_str(), found.free), (DEPLOYMENT, "large", true));
    assert_eq!((found.context_length, found.slots, found.state()), (4_096, 4, v1::DeploymentState::Warm));
    let (text, outcome) = ask(&adapter, &question(true)).await;
    assert_eq!((text.as_str(), outcome.unwrap().cost_picodollars), ("Vier – grün.\n", 0));
    assert!(upstream.seen()[3].body.contains(r#""model":"large:latest""#));

    adapter.routes.discover().await;
    assert_eq!((adapter.routes.registered(), upstream.seen().len()), (registered, 5));
    // a server that does not say keeps its models, down with the reason
    adapter.routes.discover().await;
    let down = &adapter.routes.registered()[0];
    assert_eq!(down.state(), v1::DeploymentState::Down);
    assert!(down.state_detail.contains("500"), "{}", down.state_detail);
}
