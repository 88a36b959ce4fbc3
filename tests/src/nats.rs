//! A real nats-server with JetStream in a temporary folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_nats::ConnectOptions;
use serde::Deserialize;
use tempfile::TempDir;
use wire::permission::{self, User};

use crate::{Child, credentials, wait, workspace};

/// How long a start may take on a loaded machine.
const START_MAX: Duration = Duration::from_secs(20);

/// Folder of the users' seeds, in the server's.
const CREDENTIALS: &str = "credentials";

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// JetStream domain, as in production: one for each machine.
    pub domain: String,
    /// Client port; 0 lets the server choose. A restart keeps what was chosen.
    pub port: u16,
    /// Appended to the configuration file: leaf links, users, limits.
    pub extra: String,
    /// Users with the permissions of production, and one who may do everything, for looking on; else everybody is let in.
    pub credentials: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { domain: "hub".to_owned(), port: 0, extra: String::new(), credentials: false }
    }
}

/// A running server. Dropping it kills it and removes its store.
#[derive(Debug)]
pub struct Nats {
    child: Child,
    folder: TempDir,
    options: Options,
}

/// What the server writes into its ports file.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl Nats {
    /// Starts a server with the defaults.
    ///
    /// # Errors
    /// There is no nats-server, or it does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts a server.
    ///
    /// # Errors
    /// There is no nats-server, or it does not come up.
    pub async fn start_with(options: Options) -> anyhow::Result<Self> {
        Self::start_by(options, Child::spawn).await
    }

    /// Starts a server through `spawn`, for callers that have to prepare the process.
    ///
    /// # Errors
    /// There is no nats-server, or it does not come up.
    pub async fn start_by(
        mut options: Options,
        spawn: impl FnOnce(&str, &mut Command) -> anyhow::Result<Child>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for nats-server")?;
        if options.credentials {
            options.extra.push_str(&credentials::create(&folder.path().join(CREDENTIALS), &options.domain)?);
        }
        let mut child = launch(&options, folder.path(), spawn)?;
        options.port = port(&mut child, folder.path()).await?;
        Ok(Self { child, folder, options })
    }

    /// `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.options.port)
    }

    /// The server's process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The folder with each user's seed, with [`Options::credentials`].
    #[must_use]
    pub fn credentials(&self) -> Option<PathBuf> {
        self.options.credentials.then(|| self.folder.path().join(CREDENTIALS))
    }

    /// A client of the server, which may do everything.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn client(&self) -> anyhow::Result<async_nats::Client> {
        self.connect(ConnectOptions::new(), credentials::OBSERVER).await
    }

    /// A client with a user's credentials, where there are any, and inbox.
    ///
    /// # Errors
    /// The server does not answer, or does not let the user in.
    pub async fn client_of(&self, user: User) -> anyhow::Result<async_nats::Client> {
        self.client_with(ConnectOptions::new(), user).await
    }

    /// [`Nats::client_of`] with options of one's own.
    ///
    /// # Errors
    /// The server does not answer, or does not let the user in.
    pub async fn client_with(
        &self,
        options: ConnectOptions,
        user: User,
    ) -> anyhow::Result<async_nats::Client> {
        self.connect(options.custom_inbox_prefix(permission::inbox(user.name())), user.name()).await
    }

    async fn connect(&self, options: ConnectOptions, user: &str) -> anyhow::Result<async_nats::Client> {
        let options = match self.credentials() {
            Some(folder) => options.nkey(credentials::seed(&folder, user)?),
            None => options,
        };
        options.connect(self.url()).await.with_context(|| format!("{user} cannot connect to {}", self.url()))
    }

    /// Kills the server as a crash would (SIGKILL). Its port and its store stay reserved for [`Nats::restart`].
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().map(drop)
    }

    /// Starts a killed server again, on the same port and with the same store.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        remove_ports_files(self.folder.path())?;
        self.child = launch(&self.options, self.folder.path(), Child::spawn)?;
        port(&mut self.child, self.folder.path()).await?;
        Ok(())
    }
}

fn launch(
    options: &Options,
    folder: &Path,
    spawn: impl FnOnce(&str, &mut Command) -> anyhow::Result<Child>,
) -> anyhow::Result<Child> {
    let Options { domain, port, extra, .. } = options;
    let listen = if *port == 0 { -1 } else { i32::from(*port) };
    let config = format!(
        r#"listen: "127.0.0.1:{listen}"
max_payload: 8MB
write_deadline: "2s"
ping_interval: "1s"
ping_max: 2
jetstream {{ store_dir: "{}", domain: "{domain}", sync_interval: always }}
{extra}
"#,
        folder.join("store").display()
    );
    let file = folder.join("nats.conf");
    fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
    let program = workspace::nats_server();
    spawn("nats-server", Command::new(&program).arg("-c").arg(&file).arg("--ports_file_dir").arg(folder))
        .with_context(|| {
            format!(
                "nats-server is neither at {} nor on PATH; run scripts/setup.sh",
                workspace::root().join(".tools/bin/nats-server").display()
            )
        })
}

/// Waits for the ports file, which the server writes when it accepts clients.
async fn port(child: &mut Child, folder: &Path) -> anyhow::Result<u16> {
    let outcome = wait::until("nats-server's ports file", START_MAX, async || match child.ended() {
        Ok(None) => read_ports_file(folder).map(Ok),
        Ok(Some(status)) => Some(Err(anyhow!("nats-server ended ({status})"))),
        Err(error) => Some(Err(error)),
    })
    .await
    .and_then(|outcome| outcome);
    outcome.with_context(|| format!("nats-server has written:\n{}", child.stderr()))
}

fn ports_files(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    Ok(entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "ports"))
        .collect())
}

fn read_ports_file(folder: &Path) -> Option<u16> {
    let file = ports_files(folder).ok()?.pop()?;
    // Half-written: the next look sees all of it.
    let ports: Ports = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    ports.nats.first()?.rsplit(':').next()?.parse().ok()
}

fn remove_ports_files(folder: &Path) -> anyhow::Result<()> {
    for file in ports_files(folder)? {
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}
