//! The process of an engine.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};

use crate::protocol::Event;
use crate::settings::ModelConfig;

/// Longest line that is read. Events have some hundred bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// How engines are started: this program's own arguments, and which model.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, before those that name the model.
    pub arguments: Vec<OsString>,
}

/// An engine's process. Dropped, it is killed.
pub(super) struct Child {
    process: tokio::process::Child,
    /// Held open for as long as the engine should live.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    line: Vec<u8>,
}

/// The process has ended, in words.
pub(super) struct Exit(pub(super) String);

impl Child {
    pub(super) fn start(launch: &Launch, config: &ModelConfig) -> io::Result<Self> {
        let model = &config.name;
        let mut command = Command::new(&launch.program);
        command.args(&launch.arguments);
        if config.installed {
            // The file of the configuration does not know it.
            let entry = toml::Value::try_from(&config.entry).map_err(io::Error::other)?;
            command.arg("--set").arg(format!("local-model-pool.models=[{entry}]"));
        }
        let mut process = command
            // Quoted, so that no name is read as a number; names hold no quotes.
            .arg("--set")
            .arg(format!("local-model-pool.engine=\"{model}\""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A signal from the terminal is for the pool, which ends its engines in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("the system gave no pipe");
        let stdin = Some(process.stdin.take().ok_or_else(missing)?);
        let stdout = BufReader::new(process.stdout.take().ok_or_else(missing)?);
        tracing::info!(%model, pid = process.id(), "engine started");
        Ok(Self { process, stdin, stdout, line: Vec::new() })
    }

    /// Its process id, while it lives.
    pub(super) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// The next event, or the end. Dropping the future loses nothing.
    pub(super) async fn event(&mut self) -> Result<Event, Exit> {
        loop {
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len() as u64);
            let mut limited = (&mut self.stdout).take(room);
            let read = limited.read_until(b'\n', &mut self.line).await;
            let complete = self.line.ends_with(b"\n") || self.line.len() as u64 >= LINE_BYTES_MAX;
            if complete {
                let line = std::mem::take(&mut self.line);
                match serde_json::from_slice(&line) {
                    Ok(event) => return Ok(event),
                    Err(error) => {
                        tracing::warn!(%error, bytes = line.len(), "an engine wrote a line that is no event")
                    }
                }
            } else if !read.is_ok_and(|read| read > 0) {
                return Err(self.exit().await);
            }
        }
    }

    async fn exit(&mut self) -> Exit {
        Exit(match self.process.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("unknown, {error}"),
        })
    }

    /// Asks the engine to end, and kills it if it does not. Returns when it is gone.
    pub(super) async fn end(&mut self, grace: Duration) {
        self.stdin = None;
        if tokio::time::timeout(grace, self.process.wait()).await.is_err() {
            tracing::warn!(pid = self.process.id(), "an engine did not end when asked and is killed");
            if let Err(error) = self.process.kill().await {
                tracing::error!(%error, "an engine cannot be killed");
            }
        }
    }
}
