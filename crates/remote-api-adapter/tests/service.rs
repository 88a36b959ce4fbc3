//! The real program on a real nats-server, calling a real HTTP server that speaks OpenAI's dialect.
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as the tests do")]

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use bus::{Bus, ReplyStream};
use domain::{
    fault::{Code, Fault},
    id::{NodeId, RequestId},
    routing::Plane,
};
use e2e::{
    Child, Nats, http, port,
    upstream::{Garbage, Hang, Options, Script},
    wait,
};
use prost::Message as _;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{Cancel, Execute, REGISTRATION_KEYS, service},
    v1::{self, DeploymentState, FinishReason, execute_request::Method, reply_frame::Kind},
};

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "canary-4711-key";
const DEPLOYMENT: &str = "mainpc/fake/gpt-4o-mini";

/// A provider that does what the script says.
struct Provider {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Provider {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = Options { key: Some(KEY.to_owned()), script, ..Options::default() };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { e2e::upstream::serve(listener, options).await.unwrap() });
        Self { address, _tasks: tasks }
    }

    async fn stats(&self) -> e2e::upstream::Stats {
        let url = format!("http://{}/control/stats", self.address);
        serde_json::from_value(http::Client::default().get(&url).await.unwrap().json().unwrap()).unwrap()
    }
}

struct Fixture {
    _nats: Nats,
    adapter: Child,
    bus: Bus,
    provider: Provider,
    admin: SocketAddr,
    folder: TempDir,
}

impl Fixture {
    async fn start(script: Script) -> Self {
        Self::start_with(script, |folder| std::fs::write(folder.join("key"), KEY).unwrap()).await
    }

    async fn start_with(script: Script, prepare: impl FnOnce(&Path)) -> Self {
        let (nats, provider) = (Nats::start().await.unwrap(), Provider::start(script).await);
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
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
            name = "fake"
            kind = "openai"
            base_url = "http://{provider}/v1"
            allow_private = true
            api_key = {{ file = "{folder}/key" }}
            retry = {{ retries_max = 0 }}
            health_interval_s = 0
            [[remote-api-adapter.providers.deployments]]
            model = "gpt-4o-mini"
            context_length = 128000
            capabilities = ["generate", "tools"]
            price = {{ input_per_million = "0.15", output_per_million = "0.60" }}
            "#,
            folder = folder.path().display(),
            url = nats.url(),
            provider = provider.address,
            admin = admin,
        );
        let file = folder.path().join("hybrid.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_remote-api-adapter"));
        let adapter = Child::spawn("remote-api-adapter", command.arg("--config").arg(&file)).unwrap();
        let settings = bus::Settings { url: nats.url(), ..bus::Settings::default() };
        let stop = CancellationToken::new();
        let bus =
            Bus::connect(&settings, service::REQUEST_COORDINATOR, "test", "mainpc", &stop).await.unwrap();
        let fixture = Self { _nats: nats, adapter, bus, provider, admin, folder };
        let ready = format!("http://{admin}/readyz");
        let client = http::Client::default();
        wait::until("the adapter", PATIENCE, async || {
            client.get(&ready).await.ok().filter(|answer| answer.status.is_success())
        })
        .await
        .unwrap();
        wait::until("the registration", PATIENCE, async || fixture.deployment().await).await.unwrap();
        fixture
    }

    /// The deployment as it is registered now.
    async fn deployment(&self) -> Option<v1::Deployment> {
        let control = self.bus.control().await.unwrap();
        let stop = CancellationToken::new();
        let mut changes = control.watch(&self.bus, REGISTRATION_KEYS.to_owned(), stop.clone());
        let first = tokio::time::timeout(Duration::from_secs(1), changes.recv()).await;
        stop.cancel();
        let registration = v1::Registration::decode(first.ok()??.value?).unwrap();
        registration.deployments.into_iter().next()
    }

    async fn ask(&self, id: &str) -> ReplyStream {
        let message = v1::Message {
            role: v1::Role::User.into(),
            content: vec![v1::ContentPart {
                part: Some(v1::content_part::Part::Text("hello".to_owned())),
                ..Default::default()
            }],
            ..Default::default()
        };
        let generate = v1::GenerateRequest {
            request_id: id.to_owned(),
            messages: vec![message],
            stream: true,
            ..Default::default()
        };
        let request = v1::ExecuteRequest {
            request_id: id.to_owned(),
            deployment: DEPLOYMENT.to_owned(),
            attempt: 1,
            method: Some(Method::Generate(generate)),
            ..Default::default()
        };
        let machine = NodeId::new("mainpc").unwrap();
        let at = Execute { plane: Plane::Cloud, machine, executor: "any".to_owned() };
        self.bus.open(&at, &request).await.unwrap()
    }

    /// Everything the program has written.
    fn log(&self) -> String {
        self.adapter.stdout() + &self.adapter.stderr()
    }
}

/// Text and last frame of an answer.
async fn last(mut stream: ReplyStream) -> (String, Kind) {
    let mut text = String::new();
    loop {
        let kind = stream.next(PATIENCE).await.unwrap().kind.unwrap();
        let items = match &kind {
            Kind::Delta(delta) => delta.items.clone(),
            Kind::End(end) => end.last_delta.clone().unwrap_or_default().items,
            _ => Vec::new(),
        };
        text.extend(items.into_iter().map(|item| item.text));
        if matches!(kind, Kind::End(_) | Kind::Error(_)) {
            return (text, kind);
        }
    }
}

fn whole() -> String {
    (1..8).fold("echo: hello".to_owned(), |text, number| format!("{text} word{number}"))
}

#[tokio::test]
async fn a_request_on_the_bus_is_answered_by_the_provider_and_paid_for() {
    let fixture = Fixture::start(Script { cached_tokens: 1, ..Script::default() }).await;
    let deployment = fixture.deployment().await.unwrap();
    assert_eq!((deployment.id.as_str(), deployment.state()), (DEPLOYMENT, DeploymentState::Warm));

    let (text, kind) = last(fixture.ask("r1").await).await;
    let Kind::End(end) = kind else { panic!("{kind:?}") };
    assert_eq!(text, whole());
    let usage = end.usage.unwrap();
    assert_eq!((usage.output, usage.cached_input, usage.estimated), (8, 1, false));
    let cost = i64::try_from(usage.input * 150_000 + usage.output * 600_000).unwrap();
    assert_eq!(end.cost_picodollars, cost);

    let metrics =
        http::Client::default().get(&format!("http://{}/metrics", fixture.admin)).await.unwrap().text();
    for name in [
        "gen_ai_client_operation_duration_seconds_count",
        "gen_ai_client_operation_time_to_first_chunk_seconds_count",
        "gen_ai_client_token_usage",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    for (place, text) in [("metrics", &metrics), ("log", &fixture.log())] {
        for hidden in [KEY, "hello", "echo"] {
            assert!(!text.contains(hidden), "{hidden} is in the {place}:\n{text}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_malformed_is_read_or_ends_with_a_typed_error() {
    let sound =
        [Garbage::Crlf, Garbage::Comments, Garbage::NoDone, Garbage::NoFinalNewline, Garbage::ByteByByte];
    let broken = [Garbage::BrokenJson, Garbage::Html, Garbage::ErrorWith200, Garbage::LongLine];
    let fixture = Fixture::start(Script::default()).await;
    let control = format!("http://{}/control", fixture.provider.address);
    let client = http::Client::default();
    for (number, garbage) in sound.into_iter().chain(broken).enumerate() {
        let script = serde_json::to_value(Script { garbage: Some(garbage), ..Script::default() }).unwrap();
        client.put(&control, &script).await.unwrap();
        let (text, kind) = last(fixture.ask(&format!("r{number}")).await).await;
        match kind {
            Kind::End(_) => assert!(sound.contains(&garbage) && text == whole(), "{garbage:?}: {text}"),
            Kind::Error(error) => {
                let fault = Fault::from(error);
                assert!(
                    broken.contains(&garbage) && whole().starts_with(&text),
                    "{garbage:?}: {fault} {text}"
                );
                assert_eq!(fault.code, Code::Upstream, "{garbage:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_cancel_on_the_bus_ends_the_call_to_the_provider() {
    let fixture = Fixture::start(Script { hang: Some(Hang::MidStream), ..Script::default() }).await;
    let mut stream = fixture.ask("r1").await;
    while !matches!(stream.next(PATIENCE).await.unwrap().kind, Some(Kind::Delta(_))) {}
    fixture.bus.publish(&Cancel(RequestId::new("r1").unwrap()), &()).await.unwrap();
    let (_, kind) = last(stream).await;
    let Kind::End(end) = kind else { panic!("{kind:?}") };
    assert_eq!(end.finish_reason(), FinishReason::Cancelled);
    assert!(end.usage.unwrap().estimated && end.cost_picodollars > 0);
    wait::until("the call's end", PATIENCE, async || {
        (fixture.provider.stats().await.aborted == 1).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_provider_without_key_is_registered_as_down_and_comes_up_with_it() {
    let fixture = Fixture::start_with(Script::default(), |_| ()).await;
    let deployment = fixture.deployment().await.unwrap();
    assert_eq!(deployment.state(), DeploymentState::Down);
    assert!(deployment.state_detail.contains("cannot be read"), "{}", deployment.state_detail);
    let (_, kind) = last(fixture.ask("r1").await).await;
    let Kind::Error(error) = kind else { panic!("{kind:?}") };
    assert_eq!(Fault::from(error).code, Code::UpstreamAuth);

    std::fs::write(fixture.folder.path().join("key"), KEY).unwrap();
    assert!(matches!(last(fixture.ask("r2").await).await.1, Kind::End(_)), "the next request uses the key");
    wait::until("the registration", PATIENCE, async || {
        (fixture.deployment().await?.state() == DeploymentState::Warm).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_stop_finishes_what_runs_and_takes_the_registration_back() {
    let mut fixture = Fixture::start(Script { chunk_delay_ms: 20, ..Script::default() }).await;
    let mut stream = fixture.ask("r1").await;
    while !matches!(stream.next(PATIENCE).await.unwrap().kind, Some(Kind::Delta(_))) {}
    fixture.adapter.signal(rustix::process::Signal::TERM).unwrap();
    assert!(matches!(last(stream).await.1, Kind::End(_)));
    assert!(fixture.adapter.end(PATIENCE).await.unwrap().success());
    assert!(fixture.deployment().await.is_none(), "the registration is still there");
}

#[tokio::test]
async fn a_wrong_setting_is_named_and_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hybrid.toml");
    let config = "[[remote-api-adapter.providers]]\nname = \"a\"\nkind = \"openai\"\nbase_url = \"http://a.example\"\ndeployments = []\n";
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_remote-api-adapter"));
    let mut child = Child::spawn("remote-api-adapter", command.arg("--config").arg(&file)).unwrap();
    assert!(!child.end(PATIENCE).await.unwrap().success());
    let told = child.stdout() + &child.stderr();
    assert!(told.contains("remote-api-adapter.providers[0].base_url"), "{told}");
}
