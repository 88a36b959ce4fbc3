//! The adapter's process with every provider configured, one far side for each.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bus::{Bus, ReplyStream};
use domain::{
    id::{NodeId, RequestId},
    routing::Plane,
};
use e2e::{
    Child, Nats, http, port, service_account,
    upstream::{self, Asked, Options, Recorded, Script, Stats, Trouble},
    wait,
};
use prost::Message as _;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{Cancel, Execute, REGISTRATION_KEYS, service},
    v1::{self, DeploymentState, execute_request::Method},
};

use crate::row::Row;

/// How long anything may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const ACCESS_KEY_ID: &str = upstream::ACCESS_KEY_ID;
const KEY: &str = "canary-4711-key";
/// Errors that every provider has a way to tell. Each is told by a provider of its own: what it teaches the adapter about that
/// provider is no other's business.
pub(crate) const TROUBLES: [Trouble; 8] = [
    Trouble::Invalid,
    Trouble::ContextLength,
    Trouble::WrongKey,
    Trouble::OutOfCredit,
    Trouble::NotFound,
    Trouble::RateLimited,
    Trouble::Overloaded,
    Trouble::Server,
];

/// Where a provider's far side is, and what is shown to it.
pub(crate) struct Place {
    /// `http://127.0.0.1:<port>`.
    pub(crate) url: String,
    pub(crate) key_file: PathBuf,
    pub(crate) access_key_id_file: PathBuf,
    pub(crate) service_account_file: PathBuf,
}

pub(crate) struct Fixture {
    _nats: Nats,
    adapter: Child,
    bus: Bus,
    places: Vec<(&'static str, Place)>,
    client: http::Client,
    next: AtomicU64,
    _tasks: JoinSet<()>,
    _folder: TempDir,
}

impl Fixture {
    pub(crate) async fn start(rows: &'static [Row]) -> Self {
        let nats = Nats::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut tasks = JoinSet::new();
        let mut places = Vec::new();
        for row in rows {
            places.push((row.name, far_side(row, folder.path(), &mut tasks).await));
        }
        let admin = SocketAddr::from(([127, 0, 0, 1], port::free().unwrap()));
        let mut config = format!(
            "[node]\nmachine = \"mainpc\"\ndata_dir = \"{}/data\"\n[bus]\nurl = \"{}\"\n[remote-api-adapter]\nadmin_listen = \"{admin}\"\n",
            folder.path().display(),
            nats.url(),
        );
        let mut deployments = 0;
        for (row, (_, place)) in rows.iter().zip(&places) {
            config.push_str(&whole_provider(row, place));
            deployments += 4 + usize::from(row.translation.is_some());
            for number in 0..TROUBLES.len() {
                config.push_str(&provider(row, place, &format!("{}-{number}", row.name)));
                config.push_str(&deployment("chat", row.chat, CHAT, row.deployment));
                deployments += 1;
            }
        }
        let file = folder.path().join("hybrid.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_remote-api-adapter"));
        let adapter = Child::spawn("remote-api-adapter", command.arg("--config").arg(&file)).unwrap();
        let settings = bus::Settings { url: nats.url(), ..bus::Settings::default() };
        let stop = CancellationToken::new();
        let bus =
            Bus::connect(&settings, service::REQUEST_COORDINATOR, "test", "mainpc", &stop).await.unwrap();
        let mut fixture = Self {
            _nats: nats,
            adapter,
            bus,
            places,
            client: http::Client::default(),
            next: AtomicU64::new(0),
            _tasks: tasks,
            _folder: folder,
        };
        fixture.wait_until_ready(&format!("http://{admin}/readyz"), deployments).await;
        fixture
    }

    async fn wait_until_ready(&mut self, url: &str, deployments: usize) {
        let (client, adapter) = (&self.client, &mut self.adapter);
        let ready = wait::until("the adapter", PATIENCE, async || {
            if let Ok(Some(status)) = adapter.ended() {
                return Some(Err(status));
            }
            client.get(url).await.ok().filter(|answer| answer.status.is_success()).map(|_| Ok(()))
        });
        let ready = ready.await.unwrap();
        assert!(ready.is_ok(), "{}{}", self.adapter.stdout(), self.adapter.stderr());
        wait::until("the registration", PATIENCE, async || {
            let warm =
                self.registered().await.iter().filter(|one| one.state() == DeploymentState::Warm).count();
            (warm == deployments).then_some(())
        })
        .await
        .unwrap();
    }

    async fn registered(&self) -> Vec<v1::Deployment> {
        let control = self.bus.control().await.unwrap();
        let stop = CancellationToken::new();
        let mut changes = control.watch(&self.bus, REGISTRATION_KEYS.to_owned(), stop.clone());
        let first = tokio::time::timeout(Duration::from_secs(1), changes.recv()).await;
        stop.cancel();
        let value = first.ok().flatten().and_then(|change| change.value);
        value.map(|value| v1::Registration::decode(value).unwrap().deployments).unwrap_or_default()
    }

    /// Asks the deployment `<provider>/<model>`; the id is for [`Fixture::cancel`].
    pub(crate) async fn open(&self, provider: &str, model: &str, method: Method) -> (String, ReplyStream) {
        let id = format!("r{}", self.next.fetch_add(1, Ordering::Relaxed));
        let mut method = method;
        match &mut method {
            Method::Generate(request) => request.request_id.clone_from(&id),
            Method::Embed(request) => request.request_id.clone_from(&id),
            Method::Translate(request) => request.request_id.clone_from(&id),
            Method::Transcribe(request) => request.request_id.clone_from(&id),
            Method::Speak(request) => request.request_id.clone_from(&id),
        }
        let request = v1::ExecuteRequest {
            request_id: id.clone(),
            deployment: format!("mainpc/{provider}/{model}"),
            attempt: 1,
            method: Some(method),
            ..Default::default()
        };
        let machine = NodeId::new("mainpc").unwrap();
        let at = Execute { plane: Plane::Cloud, machine, executor: "any".to_owned() };
        (id, self.bus.open(&at, &request).await.unwrap())
    }

    pub(crate) async fn cancel(&self, id: &str) {
        self.bus.publish(&Cancel(RequestId::new(id).unwrap()), &()).await.unwrap();
    }

    fn control(&self, row: &Row, what: &str) -> String {
        let place = self.places.iter().find(|(name, _)| *name == row.name).unwrap();
        format!("{}/control{what}", place.1.url)
    }

    /// Tells the far side what to do, and forgets what it saw.
    pub(crate) async fn play(&self, row: &Row, script: Script) {
        let told =
            self.client.put(&self.control(row, ""), &serde_json::to_value(script).unwrap()).await.unwrap();
        assert!(told.status.is_success(), "{}", told.text());
        self.client.delete(&self.control(row, "/requests")).await.unwrap();
    }

    /// What the far side was asked since [`Fixture::play`].
    pub(crate) async fn asked(&self, row: &Row) -> Vec<Asked> {
        let answer = self.client.get(&self.control(row, "/requests")).await.unwrap();
        let requests: Vec<Recorded> = serde_json::from_slice(&answer.body).unwrap();
        requests.into_iter().filter_map(|request| request.asked).collect()
    }

    /// The most memory that the adapter has had at once, bytes.
    pub(crate) fn memory_max(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.adapter.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }

    pub(crate) async fn stats(&self, row: &Row) -> Stats {
        let answer = self.client.get(&self.control(row, "/stats")).await.unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }
}

async fn far_side(row: &Row, folder: &Path, tasks: &mut JoinSet<()>) -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let file = |name: &str| folder.join(format!("{}-{name}", row.name));
    let place = Place {
        url,
        key_file: file("key"),
        access_key_id_file: file("key-id"),
        service_account_file: file("account.json"),
    };
    std::fs::write(&place.key_file, KEY).unwrap();
    std::fs::write(&place.access_key_id_file, ACCESS_KEY_ID).unwrap();
    let has_account = row.kind == "vertex";
    if has_account {
        service_account::write(&place.service_account_file, &format!("{}/vertex/token", place.url)).unwrap();
    }
    let models = [row.chat, row.embedding, row.hearing, row.speaking].into_iter().chain(row.translation);
    let options = Options {
        key: Some(KEY.to_owned()),
        service_account: has_account.then(|| place.service_account_file.clone()),
        models: models.map(str::to_owned).collect(),
        ..Options::default()
    };
    tasks.spawn(async move { upstream::serve(listener, options).await.unwrap() });
    place
}

const CHAT: &str = r#"["generate", "translate", "tools", "vision", "json_schema", "reasoning"]"#;

/// Further settings of every provider. A question is put once, however the last one ended, and nothing else is asked.
const CALM: &str =
    "retry = { retries_max = 0 }\nbreaker = { failures = 0, failure_percent = 0 }\nhealth_interval_s = 0";

fn provider(row: &Row, place: &Place, name: &str) -> String {
    let settings = (row.settings)(place);
    format!(
        "[[remote-api-adapter.providers]]\nname = \"{name}\"\nkind = \"{}\"\nallow_private = true\n{CALM}\n{settings}\n",
        row.kind,
    )
}

fn deployment(model: &str, upstream_model: &str, capabilities: &str, more: &str) -> String {
    format!(
        "[[remote-api-adapter.providers.deployments]]\nmodel = \"{model}\"\nupstream_model = \"{upstream_model}\"\ncontext_length = 128000\ncapabilities = {capabilities}\nprice = {{ input_per_million = \"1\", output_per_million = \"2\" }}\n{more}\n",
    )
}

fn audio(model: &str, upstream_model: &str, capability: &str, price: &str) -> String {
    format!(
        "[[remote-api-adapter.providers.deployments]]\nmodel = \"{model}\"\nupstream_model = \"{upstream_model}\"\ncontext_length = 16000\ncapabilities = [\"{capability}\"]\nprice = {{ {price} }}\n",
    )
}

fn whole_provider(row: &Row, place: &Place) -> String {
    let mut text = provider(row, place, row.name);
    text.push_str(&deployment("chat", row.chat, CHAT, row.deployment));
    text.push_str(&deployment("embed", row.embedding, r#"["embed"]"#, ""));
    text.push_str(&audio("hear", row.hearing, "transcribe", "audio_per_hour = \"0.36\""));
    text.push_str(&audio("speak", row.speaking, "speak", "characters_per_million = \"15\""));
    if let Some(model) = row.translation {
        text.push_str(&deployment("translate", model, r#"["translate"]"#, ""));
    }
    text
}
