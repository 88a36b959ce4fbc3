//! The real program beside a server that says itself which models it has, and gains and loses one while it runs.
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as the tests do")]

use std::{
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use bus::Bus;
use domain::{id::NodeId, routing::Plane};
use e2e::{Child, Nats, port};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{Execute, REGISTRATION_KEYS, service},
    v1::{self, execute_request::Method, reply_frame::Kind},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Ollama's interface, as far as it is asked here; the state is the list of its models.
fn server(models: Arc<Mutex<Vec<String>>>) -> Router {
    let tags = |State(models): State<Arc<Mutex<Vec<String>>>>| async move {
        let models = models.lock().unwrap().clone();
        let tags: Vec<Value> =
            models.into_iter().map(|name| json!({ "name": name, "digest": name })).collect();
        Json(json!({ "models": tags }))
    };
    let show = || async {
        Json(json!({ "capabilities": ["completion"], "model_info": { "llama.context_length": 8192 } }))
    };
    let chat = |Json(asked): Json<Value>| async move {
        let text = format!("I am {}.", asked.get("model").and_then(Value::as_str).unwrap_or_default());
        let message = json!({ "role": "assistant", "content": text });
        let counts = [("prompt_eval_count", 5), ("eval_count", 4)];
        let mut answer = json!({ "model": "m", "message": message, "done": true, "done_reason": "stop" });
        answer.as_object_mut().unwrap().extend(counts.map(|(name, count)| (name.to_owned(), json!(count))));
        Json(answer)
    };
    Router::new()
        .route("/api/tags", get(tags))
        .route("/api/show", post(show))
        .route("/api/chat", post(chat))
        .with_state(models)
}

async fn ask(bus: &Bus, deployment: &str) -> Kind {
    let message = v1::Message {
        role: v1::Role::User.into(),
        content: vec![v1::ContentPart {
            part: Some(v1::content_part::Part::Text("who are you?".to_owned())),
            ..Default::default()
        }],
        ..Default::default()
    };
    let generate =
        v1::GenerateRequest { request_id: "r1".to_owned(), messages: vec![message], ..Default::default() };
    let request = v1::ExecuteRequest {
        request_id: "r1".to_owned(),
        deployment: deployment.to_owned(),
        attempt: 1,
        method: Some(Method::Generate(generate)),
        ..Default::default()
    };
    let machine = NodeId::new("mainpc").unwrap();
    let at = Execute { plane: Plane::Cloud, machine, executor: "any".to_owned() };
    let mut stream = bus.open(&at, &request).await.unwrap();
    loop {
        let kind = stream.next(PATIENCE).await.unwrap().kind.unwrap();
        if matches!(kind, Kind::End(_) | Kind::Error(_)) {
            return kind;
        }
    }
}

#[tokio::test]
async fn models_come_and_go_with_the_server_that_has_them() {
    let models = Arc::new(Mutex::new(vec!["llama3.2:latest".to_owned()]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    let router = server(Arc::clone(&models));
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });

    let (nats, folder) = (Nats::start().await.unwrap(), tempfile::tempdir().unwrap());
    let admin = SocketAddr::from(([127, 0, 0, 1], port::free().unwrap()));
    let config = format!(
        r#"
        [node]
        machine = "mainpc"
        data_dir = "{folder}/data"
        [bus]
        url = "{url}"
        [remote-api-adapter]
        admin_listen = "{admin}"
        [[remote-api-adapter.providers]]
        name = "lab"
        kind = "ollama"
        base_url = "http://{address}"
        allow_private = true
        ollama = {{ discover = true, context_length_max = 4096 }}
        "#,
        folder = folder.path().display(),
        url = nats.url(),
    );
    let file = folder.path().join("hybrid.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_remote-api-adapter"));
    let _adapter = Child::spawn("remote-api-adapter", command.arg("--config").arg(&file)).unwrap();
    let settings = bus::Settings { url: nats.url(), ..bus::Settings::default() };
    let stop = CancellationToken::new();
    let bus = Bus::connect(&settings, service::REQUEST_COORDINATOR, "test", "mainpc", &stop).await.unwrap();

    let control = bus.control_when_ready(&stop).await.unwrap();
    let mut changes = control.watch(&bus, REGISTRATION_KEYS.to_owned(), stop.clone());
    let mut offered = async |expected: &[&str]| {
        let told = async {
            loop {
                let written = changes.recv().await.unwrap().value.unwrap();
                let deployments = v1::Registration::decode(written).unwrap().deployments;
                let names: Vec<_> = deployments.iter().map(|deployment| deployment.model.as_str()).collect();
                if names == expected {
                    return deployments;
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{expected:?} are not offered"))
    };
    let first = offered(&["llama3.2"]).await;
    assert_eq!(
        (first[0].id.as_str(), first[0].context_length, first[0].free),
        ("mainpc/lab/llama3.2", 4_096, true)
    );
    let answer = ask(&bus, "mainpc/lab/llama3.2").await;
    let Kind::End(end) = answer else { panic!("{answer:?}") };
    assert_eq!(end.last_delta.unwrap().items[0].text, "I am llama3.2:latest.");
    assert_eq!((end.cost_picodollars, end.usage.unwrap().output), (0, 4));

    *models.lock().unwrap() = vec!["qwen3:8b".to_owned()];
    offered(&["qwen3:8b"]).await;
}
