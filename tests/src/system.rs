//! The product as it runs on one machine: a bus, a provider on the far side, and services as processes of their own, on
//! the repository's own configuration with ports and folders that belong to one test.

mod bus;
mod config;
mod engine;
mod hub;
mod second;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use wire::permission::User;
use wire::subject::service;

pub use bus::{Caller, Reply, Streaming, question};
pub use engine::Engine;
pub use hub::{Hub, Row, Sample, Sums, Tokens, samples, sum};
pub use second::{SECOND, SecondMachine};

use crate::http::Client;
use crate::upstream::Script;
use crate::{Child, FakeUpstream, Nats, fake_upstream, nats, port, wait, workspace};

/// How long anything may take that has no limit of its own, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The machine's name unless a test has several.
pub const MACHINE: &str = "mainpc";
/// The key that the provider wants; in no log, no metric and no row of the ledger.
pub const PROVIDER_KEY: &str = "sk-canary-of-the-provider-5b1f0e";

/// The cheap one of the provider's models that write.
pub const CHEAP: &str = "gpt-4o-mini";
/// The one that the agent `CodeGenerator` gets.
pub const FRONTIER: &str = "gpt-4o";
/// The provider's model for vectors.
pub const EMBEDDING: &str = "text-embedding-3-small";
/// The provider's models that hear and speak, with [`Options::audio`].
pub const AUDIO: [&str; 4] = ["whisper-1", "gpt-4o-mini-transcribe", "tts-1", "gpt-4o-mini-tts"];
/// The bundled model of the local pool.
pub const LOCAL: &str = "demo";

/// What a system is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The machine's name, in the configuration and as the JetStream domain.
    pub machine: &'static str,
    /// The other machines that it shares keys and ledger with.
    pub peers: Vec<&'static str>,
    /// Appended to the server's configuration: the link to the other machines.
    pub nats: String,
    /// The services that run, by name.
    pub services: Vec<&'static str>,
    /// What the provider does from the start.
    pub script: Script,
    /// A second, dearer provider with the same models, for when the first fails.
    pub backup: bool,
    /// Providers also hear and speak.
    pub audio: bool,
    /// Keys that callers have to show; none = everybody may ask.
    pub api_keys: Vec<String>,
    /// Keys of the configuration that hold secrets, and the secrets.
    pub secrets: Vec<(String, String)>,
    /// Keys of the configuration, as in `local-model-pool.models.0.slots`, and what they are set to.
    pub set: Vec<(String, toml::Value)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            machine: MACHINE,
            peers: Vec::new(),
            nats: String::new(),
            services: service::ALL.to_vec(),
            script: Script::default(),
            backup: false,
            audio: false,
            api_keys: Vec::new(),
            secrets: Vec::new(),
            set: Vec::new(),
        }
    }
}

impl Options {
    /// All that a request to the cloud and its account need.
    #[must_use]
    pub fn cloud() -> Self {
        Self::of(&[
            service::OBSERVABILITY_HUB,
            service::MODEL_MANAGER_SUITE,
            service::REMOTE_API_ADAPTER,
            service::REQUEST_COORDINATOR,
        ])
    }

    /// The same and the local pool.
    #[must_use]
    pub fn cloud_and_local() -> Self {
        let mut options = Self::cloud();
        options.services.push(service::LOCAL_MODEL_POOL);
        // Nobody is there to grant a lease.
        options.set("local-model-pool.vram_lease", false)
    }

    /// Exactly these services.
    #[must_use]
    pub fn of(services: &[&'static str]) -> Self {
        Self { services: services.to_vec(), ..Self::default() }
    }

    /// Sets a key of the configuration.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.set.push((key.to_owned(), value.into()));
        self
    }

    /// Puts a secret into a file and sets a key of the configuration to it.
    #[must_use]
    pub fn secret(mut self, key: &str, value: &str) -> Self {
        self.secrets.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets what the provider does from the start.
    #[must_use]
    pub fn script(mut self, script: Script) -> Self {
        self.script = script;
        self
    }
}

/// A running system. Dropping it kills every process; if the test has failed, their last words are shown.
#[derive(Debug)]
pub struct System {
    services: BTreeMap<&'static str, Child>,
    /// The provider.
    pub upstream: FakeUpstream,
    /// The second one, with [`Options::backup`].
    pub backup: Option<FakeUpstream>,
    /// The bus.
    pub nats: Nats,
    ports: config::Ports,
    config: PathBuf,
    folder: TempDir,
    /// See [`Options::audio`].
    hears: bool,
}

impl System {
    /// Starts everything at once and waits until all of it is ready and the coordinator knows what can be called.
    ///
    /// # Errors
    /// Something is not built, does not come up, or does not become ready; the message carries what it has written.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for the system")?;
        let hears = options.audio;
        let audio: &[&str] = if options.audio { &AUDIO } else { &[] };
        let models = [CHEAP, FRONTIER, EMBEDDING].iter().chain(audio);
        let models: Vec<String> = models.map(|model| (*model).to_owned()).collect();
        // a link between two servers of a test is without accounts, as are then its users
        let on_bus = nats::Options {
            domain: options.machine.to_owned(),
            port: 0,
            extra: options.nats.clone(),
            credentials: options.nats.is_empty(),
        };
        let nats = Nats::start_with(on_bus);
        let provider = || {
            FakeUpstream::start_with(fake_upstream::Options {
                key: Some(PROVIDER_KEY.to_owned()),
                models: models.clone(),
                script: options.script.clone(),
                ..fake_upstream::Options::default()
            })
        };
        let (nats, upstream) = tokio::try_join!(nats, provider())?;
        let backup = if options.backup { Some(provider().await?) } else { None };
        let ports = config::Ports::new(port::Block::reserve()?, options.api_keys.clone());
        let providers: Vec<String> =
            [Some(&upstream), backup.as_ref()].into_iter().flatten().map(FakeUpstream::base_url).collect();
        let config = config::write(folder.path(), &nats, &providers, &ports, &options)?;
        let mut system =
            Self { services: BTreeMap::new(), upstream, backup, nats, ports, config, folder, hears };
        for service in &options.services {
            system.launch(service)?;
        }
        system.ready().await?;
        Ok(system)
    }

    fn launch(&mut self, service: &'static str) -> anyhow::Result<()> {
        let mut command = Command::new(workspace::binary(service)?);
        command.arg("--config").arg(&self.config).current_dir(workspace::root());
        self.services.insert(service, Child::spawn(service, &mut command)?);
        Ok(())
    }

    /// Waits until every service that runs says that it is ready, and the models that they offer can be called.
    ///
    /// # Errors
    /// Not within [`PATIENCE`], or a process has ended; the message carries what it has written.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let names: Vec<&'static str> = self.services.keys().copied().collect();
        for service in names {
            self.service_ready(service).await?;
        }
        let mut expected = Vec::new();
        let runs = |service| self.services.contains_key(service);
        if !runs(service::REQUEST_COORDINATOR) || !runs(service::MODEL_MANAGER_SUITE) {
            return Ok(());
        }
        if runs(service::REMOTE_API_ADAPTER) {
            expected.extend([CHEAP, FRONTIER, EMBEDDING]);
            expected.extend(if self.hears { AUDIO.as_slice() } else { &[] });
        }
        if runs(service::LOCAL_MODEL_POOL) {
            expected.push(LOCAL);
        }
        wait::until("the models in the routing snapshot", PATIENCE, async || {
            let available = self.available_models().await.ok()?;
            expected.iter().all(|model| available.iter().any(|other| other == model)).then_some(())
        })
        .await
        .with_context(|| self.logs())
    }

    /// Waits until one service says that it is ready.
    ///
    /// # Errors
    /// Not within [`PATIENCE`], or it has ended; the message carries what it has written.
    pub async fn service_ready(&mut self, service: &'static str) -> anyhow::Result<()> {
        let address = format!("{}/readyz", self.admin_url(service));
        let client = Client::default();
        let child = self.services.get_mut(service).with_context(|| format!("{service} does not run"))?;
        let outcome = wait::until(&format!("{service} to be ready"), PATIENCE, async || {
            if let Ok(Some(status)) = child.ended() {
                return Some(Err(status));
            }
            let answer = client.get(&address).await.ok()?;
            answer.status.is_success().then_some(Ok(()))
        })
        .await;
        let words = || format!("{service} has written:\n{}{}", child.stdout(), child.stderr());
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => bail!("{service} ended ({status}); {}", words()),
            Err(error) => Err(error.context(words())),
        }
    }

    async fn available_models(&self) -> anyhow::Result<Vec<String>> {
        let answer = self.client().get(&format!("{}/v1/models", self.url())).await?;
        let list = answer.json()?;
        let models = list.get("data").and_then(Value::as_array).context("no data")?;
        let available = |model: &&Value| model.pointer("/hybrid/available") == Some(&Value::Bool(true));
        Ok(models
            .iter()
            .filter(available)
            .filter_map(|model| Some(model.get("id")?.as_str()?.to_owned()))
            .collect())
    }

    /// Address of the OpenAI-compatible interface, without `/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        self.ports.url(config::API)
    }

    /// Address of a service's health and metrics.
    #[must_use]
    pub fn admin_url(&self, service: &str) -> String {
        self.ports.url(service)
    }

    /// A client that shows the first of the keys that callers need, if there are any.
    #[must_use]
    pub fn client(&self) -> Client {
        match self.ports.keys.first() {
            Some(key) => Client::default().with_key(key),
            None => Client::default(),
        }
    }

    /// POST of a JSON body to `/v1/<path>`.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<crate::http::Answer> {
        self.client().post(&format!("{}/v1/{path}", self.url()), body).await
    }

    /// A caller on the bus.
    ///
    /// # Errors
    /// The bus does not answer.
    pub async fn caller(&self) -> anyhow::Result<Caller> {
        let (client, operator) =
            tokio::try_join!(self.nats.client_of(User::Caller), self.nats.client_of(User::Operator))?;
        Ok(Caller::new(client, operator, self.ports.keys.first().cloned()))
    }

    /// The hub.
    #[must_use]
    pub fn hub(&self) -> Hub {
        Hub::new(self.admin_url(service::OBSERVABILITY_HUB))
    }

    /// The configuration that every service was started with.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// A folder of this system alone.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program of the workspace on this system's configuration, run to its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = tokio::process::Command::new(workspace::binary(program)?);
        command.env("HYBRID_CONFIG", &self.config).args(arguments).current_dir(workspace::root());
        let ended = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await;
        ended.with_context(|| format!("{program} {arguments:?} does not end"))?.context("cannot start it")
    }

    /// A service's process.
    ///
    /// # Errors
    /// It does not run.
    pub fn service(&mut self, service: &str) -> anyhow::Result<&mut Child> {
        self.services.get_mut(service).with_context(|| format!("{service} does not run"))
    }

    /// Kills a service as a crash would (SIGKILL).
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, service: &str) -> anyhow::Result<()> {
        self.service(service)?.kill().map(drop)
    }

    /// [`System::kill`] while others use the system; it has to be restarted before anything else is asked of it.
    ///
    /// # Errors
    /// It does not run.
    pub fn strike(&self, service: &str) -> anyhow::Result<()> {
        let child = self.services.get(service).with_context(|| format!("{service} does not run"))?;
        child.signal(Signal::KILL)
    }

    /// Starts a service again, on the same configuration and data, and waits until it is ready.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self, service: &'static str) -> anyhow::Result<()> {
        self.services.remove(service);
        self.launch(service)?;
        self.service_ready(service).await
    }

    /// The processes that the local pool has started, one for each model, once there are `count` of them.
    ///
    /// # Errors
    /// There are not within [`PATIENCE`].
    pub async fn engines(&self, count: usize) -> anyhow::Result<Vec<Engine>> {
        let pool = self.services.get(service::LOCAL_MODEL_POOL).context("no pool runs")?.pid();
        wait::until("the engines", PATIENCE, async || {
            let found = engine::children(pool);
            (found.len() == count).then(|| found.into_iter().map(Engine::new).collect())
        })
        .await
    }

    /// Resident memory of a service, bytes.
    ///
    /// # Errors
    /// It does not run.
    pub fn resident_bytes(&self, service: &str) -> anyhow::Result<u64> {
        let pid = self.services.get(service).with_context(|| format!("{service} does not run"))?.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("no such process")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")?;
        Ok(kilobytes * 1024)
    }

    /// What all processes have written.
    #[must_use]
    pub fn logs(&self) -> String {
        self.services.values().fold(String::new(), |text, child| {
            format!("{text}--- {}\n{}{}", child.name(), child.stdout(), child.stderr())
        })
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "a failed test shows what the processes had to say")]
            {
                eprintln!("{}", self.logs());
            }
        }
    }
}

/// Fails unless `output` ended well.
///
/// # Errors
/// The status and everything it has written.
pub fn succeeded(output: &Output) -> anyhow::Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} with:\n{text}{errors}", output.status);
    Ok(text)
}
