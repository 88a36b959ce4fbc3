//! The three things that are measured, each started anew for every round.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use e2e::http::Client;
use e2e::{Child, Nats, wait};
use hyper::Uri;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cores::Cores;
use crate::cpu::Process;
use crate::system;

/// How long a target may take to come up.
pub const START_MAX: Duration = Duration::from_secs(60);

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
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Target {
    /// All, in the order of a round.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Floor, Self::System];

    /// The name in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::System => "system",
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
    /// Where chat completions are asked for.
    pub url: Uri,
    /// Bearer key; none when the target asks for none.
    pub key: Option<String>,
    /// The model as the target calls it.
    pub model: String,
    /// The processes whose processor time counts.
    pub processes: Vec<Process>,
    held: Held,
}

/// What ends with a target; services go before their bus, and their files last.
#[derive(Debug, Default)]
pub struct Held {
    /// Services.
    pub children: Vec<Child>,
    /// The bus.
    pub nats: Option<Nats>,
    /// State.
    pub folder: Option<TempDir>,
}

impl Running {
    /// A target of these processes.
    ///
    /// # Errors
    /// The address is invalid.
    pub fn new(url: &str, key: Option<String>, model: &str, held: Held) -> anyhow::Result<Self> {
        let services = held.children.iter().map(|child| (child.name(), child.pid()));
        let bus = held.nats.iter().map(|nats| ("nats-server", nats.pid()));
        let processes =
            services.chain(bus).map(|(name, pid)| Process { name: name.to_owned(), pid }).collect();
        let url = url.parse().with_context(|| format!("invalid address {url}"))?;
        Ok(Self { url, key, model: model.to_owned(), processes, held })
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
        let client = self.key.iter().fold(Client::default(), |client, key| client.with_key(key));
        let body: Value = serde_json::from_slice(&request(&self.model, prompt, stream))?;
        let answer = client.post(&self.url.to_string(), &body).await?;
        ensure!(answer.status.is_success(), "{} answers {}: {}", self.url, answer.status, answer.text());
        if !stream {
            let text = answer
                .json()?
                .pointer("/choices/0/message/content")
                .and_then(Value::as_str)
                .map(str::to_owned);
            return text.with_context(|| format!("not a chat completion: {}", answer.text()));
        }
        let events = answer.events();
        ensure!(
            events.last().is_some_and(|last| last == "[DONE]"),
            "no end of the stream: {}",
            answer.text()
        );
        let deltas = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
        Ok(deltas
            .filter_map(|chunk| Some(chunk.pointer("/choices/0/delta/content")?.as_str()?.to_owned()))
            .collect())
    }
}

/// The body that is sent.
#[must_use]
pub fn request(model: &str, prompt: &str, stream: bool) -> Bytes {
    let messages = json!([
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": prompt},
    ]);
    json!({"model": model, "messages": messages, "stream": stream}).to_string().into()
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
    Running::new(&url, Some(surroundings.key.clone()), &surroundings.model, Held::default())
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
    let held = Held { children: vec![gateway, worker], nats: Some(nats), folder: None };
    Running::new(&format!("http://{address}/v1/chat/completions"), None, model, held)
}

/// A bus of its own, on the measured cores.
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
