//! Attempts over real HTTP.

mod anthropic;
mod bedrock;
mod deadlines;
mod family;
mod faults;
mod google;
mod keys;
mod outages;
mod outside;
mod spent;
mod upstream;

use std::sync::{Arc, Mutex};

use domain::{
    id::{NodeId, RequestId},
    inference::{Embed, Envelope, Generate, Message, Part, PartContent, Role, Sampling, TaskProfile},
};
use service_runtime::Clock;
use tokio::sync::Notify;

use self::upstream::{Act, Upstream, json, stream_bytes};
use super::*;
use crate::{config, settings::AdapterSettings};

const STREAM: &[u8] = include_bytes!("../provider/openai/golden/stream/openai.sse");
const WHOLE: &str = include_str!("../provider/openai/golden/decode/plain.json");
/// 19 input of which 8 cached, 6 output, at the prices of [`settings`].
const COST: i64 = 11 * 1_000_000 + 8 * 500_000 + 6 * 4_000_000;
/// For tests that fail many times on purpose.
const NO_BREAKER: &str = "breaker = { failures = 0, failure_percent = 0 }";
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
async fn a_finished_stream_leaves_its_connection_for_the_next() {
    // the end of the body comes only after the caller has its answer
    let bytes = stream_bytes(STREAM);
    let (answer, end) = bytes.split_at(bytes.len() - 5);
    let go_on = Arc::new(Notify::new());
    let acts = vec![Act::Send(answer.to_vec()), Act::Wait(Arc::clone(&go_on)), Act::Send(end.to_vec())];
    let upstream = Upstream::start([acts]).await;
    let adapter = adapter(&upstream, "");
    // the connection goes back to the pool a moment after the end has come, so the first tries may open another one
    let reused = async {
        loop {
            let before = upstream.connections();
            ask(&adapter, &question(true)).await.1.unwrap();
            if before > 0 && upstream.connections() == before {
                return;
            }
            go_on.notify_one();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reused).await.expect("no connection was ever used again");
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
