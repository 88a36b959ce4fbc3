//! The things that are measured, each started anew for every round.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bus::Bus;
use bytes::Bytes;
use domain::routing::Plane;
use e2e::http::Client;
use e2e::{Child, Nats, wait};
use hyper::Uri;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use wire::subject::Execute;
use wire::v1;

use crate::cores::Cores;
use crate::cpu::Process;
use crate::load::{Ask, Call, Post};
use crate::{adapter, system};

/// How long a target may take to come up.
pub const START_MAX: Duration = Duration::from_secs(60);
const SYSTEM_PROMPT: &str = "You are a helpful assistant.";
/// Token of the adapter's subject.
const EXECUTOR: &str = "any";
/// The machine as the services are configured.
pub const MACHINE: &str = "bench";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The upstream, without anything in between.
    Direct,
    /// The least that the design can cost, see [`crate::floor`].
    Floor,
    /// The system.
    System,
    /// A bare HTTP proxy, see [`crate::proxy`].
    Proxy,
    /// The adapter alone.
    Adapter,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Target {
    /// All, in the order of a round.
    pub const ALL: [Self; 5] = [Self::Direct, Self::Floor, Self::System, Self::Proxy, Self::Adapter];

    /// The name in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::System => "system",
            Self::Proxy => "proxy",
            Self::Adapter => "adapter",
        }
    }
}

/// What targets need to start.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The provider's `base_url`, ending in `/v1`.
    pub upstream: String,
    /// The key that the provider asks for.
    pub key: String,
    /// The model as the provider calls it.
    pub model: String,
    /// Where measured processes run.
    pub cores: Cores,
}

/// A target that answers. Dropping it ends its processes.
#[derive(Debug)]
pub struct Running {
    /// How it is asked.
    pub way: Way,
    /// The model as the target calls it.
    pub model: String,
    /// The processes whose processor time counts.
    pub processes: Vec<Process>,
    held: Held,
}

/// How a target is asked.
#[derive(Debug, Clone)]
pub enum Way {
    /// Over HTTP.
    Http {
        /// Where chat completions are asked for.
        url: Uri,
        /// Bearer key; none when the target asks for none.
        key: Option<String>,
    },
    /// As an executor of this machine's cloud plane.
    Bus(Bus),
}

/// What ends with a target; services go before their bus, and their files last.
#[derive(Debug, Default)]
pub struct Held {
    /// Services.
    pub children: Vec<Child>,
    /// The bus.
    pub nats: Option<Nats>,
    /// A bus that runs beside the load generator and does not count.
    pub aside: Option<Nats>,
    /// State.
    pub folder: Option<TempDir>,
}

impl Running {
    /// A target of these processes, asked over HTTP.
    ///
    /// # Errors
    /// The address is invalid.
    pub fn http(url: &str, key: Option<String>, model: &str, held: Held) -> anyhow::Result<Self> {
        let url = url.parse().with_context(|| format!("invalid address {url}"))?;
        Ok(Self::new(Way::Http { url, key }, model, held))
    }

    /// A target of these processes.
    #[must_use]
    pub fn new(way: Way, model: &str, held: Held) -> Self {
        let services = held.children.iter().map(|child| (child.name(), child.pid()));
        let bus = held.nats.iter().map(|nats| ("nats-server", nats.pid()));
        let processes =
            services.chain(bus).map(|(name, pid)| Process { name: name.to_owned(), pid }).collect();
        Self { way, model: model.to_owned(), processes, held }
    }

    /// What the load generator sends.
    #[must_use]
    pub fn ask(&self, prompt: &str, stream: bool) -> Ask {
        match &self.way {
            Way::Http { url, key } => {
                let body = request(&self.model, prompt, stream);
                Ask::Http(Post { url: url.clone(), key: key.clone(), body })
            }
            Way::Bus(bus) => {
                let at = Execute {
                    plane: Plane::Cloud,
                    machine: bus.machine().clone(),
                    executor: EXECUTOR.to_owned(),
                };
                Ask::Bus(Call::new(bus.clone(), at, &self.model, generate(prompt, stream)))
            }
        }
    }

    /// What its processes have written to standard error, for a failure's message.
    #[must_use]
    pub fn complaints(&self) -> String {
        let complaint = |child: &Child| format!("{}:\n{}", child.name(), child.stderr());
        self.held.children.iter().map(complaint).collect()
    }

    /// Asks once, and returns the text of the answer: a target that is fast by being wrong must not pass.
    ///
    /// # Errors
    /// No answer, or one that is no chat completion.
    pub async fn answer(&self, prompt: &str, stream: bool) -> anyhow::Result<String> {
        match self.ask(prompt, stream) {
            Ask::Http(post) => answer_of(&post, stream).await,
            Ask::Bus(call) => {
                let mut text = String::new();
                call.ask(|items| text.extend(items.iter().map(|item| item.text.as_str()))).await?;
                Ok(text)
            }
        }
    }
}

async fn answer_of(post: &Post, stream: bool) -> anyhow::Result<String> {
    let client = post.key.iter().fold(Client::default(), |client, key| client.with_key(key));
    let body: Value = serde_json::from_slice(&post.body)?;
    let answer = client.post(&post.url.to_string(), &body).await?;
    ensure!(answer.status.is_success(), "{} answers {}: {}", post.url, answer.status, answer.text());
    if !stream {
        let text =
            answer.json()?.pointer("/choices/0/message/content").and_then(Value::as_str).map(str::to_owned);
        return text.with_context(|| format!("not a chat completion: {}", answer.text()));
    }
    let events = answer.events();
    ensure!(events.last().is_some_and(|last| last == "[DONE]"), "no end of the stream: {}", answer.text());
    let deltas = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    Ok(deltas
        .filter_map(|chunk| Some(chunk.pointer("/choices/0/delta/content")?.as_str()?.to_owned()))
        .collect())
}

/// The body that is sent.
#[must_use]
pub fn request(model: &str, prompt: &str, stream: bool) -> Bytes {
    let messages = json!([
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": prompt},
    ]);
    json!({"model": model, "messages": messages, "stream": stream}).to_string().into()
}

/// The same as a message of the bus, without its id.
fn generate(prompt: &str, stream: bool) -> v1::GenerateRequest {
    let says = |role: v1::Role, text: &str| v1::Message {
        role: role.into(),
        content: vec![v1::ContentPart {
            part: Some(v1::content_part::Part::Text(text.to_owned())),
            ..Default::default()
        }],
        ..Default::default()
    };
    let messages = vec![says(v1::Role::System, SYSTEM_PROMPT), says(v1::Role::User, prompt)];
    v1::GenerateRequest { messages, stream, ..Default::default() }
}

/// Starts a target and waits until it answers.
///
/// # Errors
/// A program is missing, or the target does not come up; the message carries what its processes have to say.
pub async fn start(target: Target, surroundings: &Surroundings) -> anyhow::Result<Running> {
    let running = match target {
        Target::Direct => direct(surroundings)?,
        Target::Floor => floor(surroundings).await?,
        Target::System => system::start(surroundings).await?,
        Target::Proxy => proxy(surroundings).await?,
        Target::Adapter => adapter::start(surroundings).await?,
    };
    let what = format!("the first answer of {}", target.name());
    let mut last = None;
    let ready = wait::until(&what, START_MAX, async || {
        running.answer("ready?", false).await.map_err(|error| last = Some(error)).ok()
    });
    match ready.await {
        Ok(_) => Ok(running),
        Err(error) => Err(error.context(format!("last: {last:?}\n{}", running.complaints()))),
    }
}

fn direct(surroundings: &Surroundings) -> anyhow::Result<Running> {
    let url = format!("{}/chat/completions", surroundings.upstream);
    Running::http(&url, Some(surroundings.key.clone()), &surroundings.model, Held::default())
}

async fn proxy(surroundings: &Surroundings) -> anyhow::Result<Running> {
    let Surroundings { upstream, key, model, cores } = surroundings;
    let upstream: Uri = upstream.parse().with_context(|| format!("invalid address {upstream}"))?;
    let host = upstream.authority().context("the upstream has no host")?;
    let this = std::env::current_exe().context("cannot find the running executable")?;
    let mut proxy = Command::new(&this);
    proxy.args(["proxy", "--upstream", host.as_str()]);
    let mut proxy = cores.with(|| Child::spawn("proxy", &mut proxy))?;
    let address = listening(&mut proxy).await?;
    let url = format!("http://{address}{}/chat/completions", upstream.path());
    Running::http(&url, Some(key.clone()), model, Held { children: vec![proxy], ..Held::default() })
}

async fn floor(surroundings: &Surroundings) -> anyhow::Result<Running> {
    let Surroundings { upstream, key, model, cores } = surroundings;
    let nats = start_nats(cores).await?;
    let this = std::env::current_exe().context("cannot find the running executable")?;
    let mut worker = Command::new(&this);
    worker.args(["floor-worker", "--nats", &nats.url(), "--key", key]);
    worker.args(["--upstream", &format!("{upstream}/chat/completions")]);
    let mut worker = cores.with(|| Child::spawn("floor-worker", &mut worker))?;
    listening(&mut worker).await?;
    let mut gateway = Command::new(&this);
    gateway.args(["floor-gateway", "--nats", &nats.url()]);
    let mut gateway = cores.with(|| Child::spawn("floor-gateway", &mut gateway))?;
    let address = listening(&mut gateway).await?;
    let held = Held { children: vec![gateway, worker], nats: Some(nats), ..Held::default() };
    Running::http(&format!("http://{address}/v1/chat/completions"), None, model, held)
}

/// A bus of its own, on these cores.
///
/// # Errors
/// There is no nats-server, or it does not come up.
pub async fn start_nats(cores: &Cores) -> anyhow::Result<Nats> {
    let pinned = |name: &str, command: &mut Command| cores.with(|| Child::spawn(name, command));
    Nats::start_by(e2e::nats::Options::default(), pinned).await
}

#[derive(Deserialize)]
struct Listening {
    listening: String,
}

async fn listening(child: &mut Child) -> anyhow::Result<String> {
    let line = child.line(START_MAX, |line| serde_json::from_str::<Listening>(line).ok()).await?;
    Ok(line.listening)
}
