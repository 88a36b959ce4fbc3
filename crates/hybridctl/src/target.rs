//! Which system a command talks to.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bus::{Bus, CallError};
use domain::fault::Fault;
use domain::id::NodeId;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use service_runtime::Secret;
use tokio_util::sync::CancellationToken;
use wire::permission::User;
use wire::subject::{self, Call, service};
use wire::v1;

/// Read when no flag and no variable names a file and it is there.
pub(crate) const CONFIG_FILE: &str = "config/hybrid.toml";
/// A server that is there answers within this.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Longest wait for an answer that takes no model.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Name of this program on the bus.
const NAME: &str = User::Operator.name();
/// Said where nobody answers.
const HOW_TO_START: &str = "`make up` starts everything";

/// The configuration file: the flag's, HYBRID_CONFIG's, the repository's if it is there.
pub(crate) fn config_file(flag: Option<&PathBuf>) -> Option<PathBuf> {
    flag.cloned()
        .or_else(service_runtime::config::file_in_environment)
        .or_else(|| Some(PathBuf::from(CONFIG_FILE)).filter(|file| file.is_file()))
}

#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Address of the nats-server, in place of the configuration's
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    nats: Option<String>,
    /// Name of the machine, in place of the configuration's
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    machine: Option<String>,
    /// Longest wait for the answer
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Connection")]
    timeout: Option<u64>,
}

/// The parts of the configuration that the command line needs.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Sections {
    bus: bus::Settings,
    #[serde(rename = "request-coordinator")]
    coordinator: Coordinator,
    #[serde(rename = "model-manager-suite")]
    manager: Manager,
    #[serde(rename = "observability-hub")]
    hub: Hub,
    #[serde(rename = "local-model-pool")]
    pool: Pool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Coordinator {
    api_keys: Vec<Secret>,
}

/// The pool's own section has the same default.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Pool {
    models_dir: PathBuf,
}

impl Default for Pool {
    fn default() -> Self {
        Self { models_dir: PathBuf::from("models") }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Manager {
    master_key: Option<Secret>,
}

/// The hub's own section has the same defaults.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Hub {
    admin_listen: SocketAddr,
    read_token: Option<Secret>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7076)), read_token: None }
    }
}

/// The system, as the configuration and the flags say.
#[derive(Debug)]
pub(crate) struct System {
    bus: bus::Settings,
    machine: String,
    coordinator: Coordinator,
    manager: Manager,
    hub: Hub,
    pool: Pool,
    pub(crate) timeout: Option<Duration>,
}

impl Target {
    /// Reads the configuration.
    pub(crate) fn system(&self, config: Option<&PathBuf>) -> anyhow::Result<System> {
        let file = config_file(config);
        let (node, sections) =
            service_runtime::config::read::<Sections>(&service::ALL, file.as_deref(), &[])?;
        let mut bus = sections.bus;
        if let Some(url) = &self.nats {
            bus.url.clone_from(url);
        }
        Ok(System {
            bus,
            machine: self.machine.clone().unwrap_or(node.machine),
            coordinator: sections.coordinator,
            manager: sections.manager,
            hub: sections.hub,
            pool: sections.pool,
            timeout: self.timeout.map(Duration::from_secs),
        })
    }
}

impl System {
    /// Name of the machine, and first token of the product's subjects.
    pub(crate) fn names(&self) -> (&str, &str) {
        (&self.machine, &self.bus.prefix)
    }

    /// Connects, or says that nobody is there.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let instance = uuid::Uuid::now_v7().simple().to_string();
        let stop = CancellationToken::new();
        let connecting = Bus::connect(&self.bus, NAME, &instance, &self.machine, &stop);
        let bus = tokio::time::timeout(CONNECT_MAX, connecting).await.map_err(|_| {
            let seconds = CONNECT_MAX.as_secs();
            anyhow!("no nats-server answers at {} within {seconds} s; {HOW_TO_START}", self.bus.url)
        })??;
        Ok(Connection { bus, url: self.bus.url.clone(), answer_max: self.timeout.unwrap_or(ANSWER_MAX) })
    }

    /// The key to show to a coordinator that wants one. One that cannot be read is not shown: the answer says the rest.
    pub(crate) fn authorization(&self) -> Option<String> {
        use service_runtime::secret::ExposeSecret as _;
        let key = self.coordinator.api_keys.first()?.resolve().ok()?;
        Some(format!("Bearer {}", key.expose_secret()))
    }

    /// The folder of the local models on this machine.
    pub(crate) fn models_dir(&self) -> &Path {
        &self.pool.models_dir
    }

    /// What a manager wants to see before it changes keys; empty where none is configured, or it cannot be read: the answer says
    /// the rest.
    pub(crate) fn master_key(&self) -> String {
        use service_runtime::secret::ExposeSecret as _;
        let key = self.manager.master_key.as_ref().and_then(|key| key.resolve().ok());
        key.map(|key| key.expose_secret().to_owned()).unwrap_or_default()
    }

    /// Where the hub is, and the token for reading.
    pub(crate) fn hub(&self) -> anyhow::Result<(SocketAddr, Option<String>)> {
        use service_runtime::secret::ExposeSecret as _;
        let token = self.hub.read_token.as_ref().map(Secret::resolve).transpose();
        let token = token.context("observability-hub.read_token cannot be read")?;
        Ok((self.hub.admin_listen, token.map(|token| token.expose_secret().to_owned())))
    }
}

/// A connected bus.
pub(crate) struct Connection {
    pub(crate) bus: Bus,
    pub(crate) url: String,
    answer_max: Duration,
}

impl Connection {
    /// Calls a service that answers at once.
    pub(crate) async fn call<C: Call>(
        &self,
        subject: &C,
        request: &C::Message,
        answered_by: &str,
    ) -> anyhow::Result<C::Reply> {
        match self.bus.call_within(subject, request, self.answer_max).await {
            Ok(reply) => Ok(reply),
            Err(CallError::NoResponders(subject)) => Err(self.nobody(&subject, answered_by)),
            Err(CallError::Publish(error)) => Err(Fault::from(error).into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Why a request finds nobody.
    pub(crate) fn nobody(&self, subject: &str, answered_by: &str) -> anyhow::Error {
        anyhow!("nobody answers on {subject} at {}: {answered_by} does not run; {HOW_TO_START}", self.url)
    }

    /// The present routing snapshot of the machine. The bucket is only read: whoever makes it knows the other machines.
    pub(crate) async fn snapshot(&self) -> anyhow::Result<v1::RoutingSnapshot> {
        let machine: &NodeId = self.bus.machine();
        let read = async {
            let store = self.bus.jetstream().get_key_value(subject::CONTROL_BUCKET).await?;
            anyhow::Ok(store.get(subject::snapshot_key(machine)).await?)
        };
        let value = tokio::time::timeout(self.answer_max, read)
            .await
            .with_context(|| format!("JetStream at {} does not answer", self.url))?
            .with_context(|| format!("there is no control bucket at {}; {HOW_TO_START}", self.url))?;
        let value = value.with_context(|| {
            format!(
                "there is no routing snapshot of machine {machine}: model-manager-suite has not run there"
            )
        })?;
        v1::RoutingSnapshot::decode(value).context("the routing snapshot does not decode")
    }

    /// Sends what is left and goes.
    pub(crate) async fn close(self) {
        // Nothing depends on it any more; a server that just went must not hold the command up.
        let _ = tokio::time::timeout(CONNECT_MAX, self.bus.close()).await;
    }
}
