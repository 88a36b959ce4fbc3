//! The provider on the far side, as a process: see [`crate::upstream`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::Client;
use crate::upstream::{Recorded, Script, Stats};
use crate::{Child, wait, workspace};

/// How long a start may take on a loaded machine.
const START_MAX: Duration = Duration::from_secs(20);

/// What the process is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// See [`crate::upstream::Options::key`].
    pub key: Option<String>,
    /// See [`crate::upstream::Options::service_account`].
    pub service_account: Option<PathBuf>,
    /// See [`crate::upstream::Options::models`]; empty takes the default.
    pub models: Vec<String>,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// What it does from the start.
    pub script: Script,
}

/// A running provider. Dropping it kills the process.
#[derive(Debug)]
pub struct FakeUpstream {
    child: Child,
    address: String,
    client: Client,
}

/// The line that the process prints.
#[derive(Deserialize)]
struct Ready {
    listening: String,
}

impl FakeUpstream {
    /// Starts one that serves everybody.
    ///
    /// # Errors
    /// The program is not built, or does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts one.
    ///
    /// # Errors
    /// The program is not built, or does not come up.
    pub async fn start_with(options: Options) -> anyhow::Result<Self> {
        let mut command = Command::new(workspace::binary("fake-upstream")?);
        command.args(["--listen", &format!("127.0.0.1:{}", options.port)]);
        command.args(options.key.iter().flat_map(|key| ["--key", key]));
        command.args(options.models.iter().flat_map(|model| ["--model", model]));
        if let Some(file) = &options.service_account {
            command.arg("--service-account").arg(file);
        }
        // Read once, at the start.
        let folder = tempfile::tempdir().context("cannot make a folder for the script")?;
        let script = folder.path().join("script.json");
        write_script(&script, &options.script)?;
        command.arg("--script").arg(&script);
        Self::from_child(Child::spawn("fake-upstream", &mut command)?).await
    }

    /// Takes over a process that prints the line of the `fake-upstream` program.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn from_child(mut child: Child) -> anyhow::Result<Self> {
        let ready: Ready = child.line(START_MAX, |line| serde_json::from_str(line).ok()).await?;
        Ok(Self { child, address: ready.listening, client: Client::default() })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://127.0.0.1:<port>/v1`, what a provider's `base_url` is set to.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.url())
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Replaces what it does.
    ///
    /// # Errors
    /// It refuses the script or does not answer.
    pub async fn play(&self, script: &Script) -> anyhow::Result<()> {
        let script = serde_json::to_value(script).context("cannot write the script as JSON")?;
        let answer = self.client.put(&format!("{}/control", self.url()), &script).await?;
        ensure!(answer.status.is_success(), "the script was refused: {}", answer.text());
        Ok(())
    }

    /// Goes back to what it did at the start.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn recover(&self) -> anyhow::Result<()> {
        let answer = self.client.delete(&format!("{}/control", self.url())).await?;
        ensure!(answer.status.is_success(), "not reset: {}", answer.text());
        Ok(())
    }

    /// The requests that arrived, oldest first.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn requests(&self) -> anyhow::Result<Vec<Recorded>> {
        self.read("requests").await
    }

    /// Counts since the start.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn stats(&self) -> anyhow::Result<Stats> {
        self.read("stats").await
    }

    /// Waits until the counts are as they should be.
    ///
    /// # Errors
    /// They are not when the deadline passes; the message shows them.
    pub async fn stats_until(
        &self,
        what: &str,
        deadline: Duration,
        mut accept: impl FnMut(&Stats) -> bool,
    ) -> anyhow::Result<Stats> {
        let probe = async || self.stats().await.ok().filter(&mut accept);
        match wait::until(what, deadline, probe).await {
            Ok(stats) => Ok(stats),
            Err(error) => Err(error.context(format!("the upstream counts {:?}", self.stats().await))),
        }
    }

    async fn read<T: DeserializeOwned>(&self, what: &str) -> anyhow::Result<T> {
        let answer = self.client.get(&format!("{}/control/{what}", self.url())).await?;
        ensure!(answer.status.is_success(), "{what} cannot be read: {}", answer.text());
        serde_json::from_slice(&answer.body).with_context(|| format!("unexpected {what}: {}", answer.text()))
    }
}

fn write_script(file: &Path, script: &Script) -> anyhow::Result<()> {
    let text = serde_json::to_vec(script).context("cannot write the script as JSON")?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
