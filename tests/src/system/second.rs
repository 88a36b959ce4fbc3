//! A second machine beside a [`super::System`]: a nats-server of its own that dials the first one as a leaf, and the services
//! that offer a model.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use tempfile::TempDir;
use wire::subject::service;

use super::MACHINE;
use crate::{Child, Nats, nats, port, workspace};

/// The second machine's name, in its file and as its JetStream domain.
pub const SECOND: &str = "pc2";

/// Its processes. Dropping it kills them.
#[derive(Debug)]
pub struct SecondMachine {
    services: Vec<Child>,
    /// Its bus.
    pub nats: Nats,
    _ports: port::Block,
    _folder: TempDir,
}

impl SecondMachine {
    /// What the first machine's bus needs to be dialled at this port.
    #[must_use]
    pub fn hub(leaf_port: u16) -> String {
        format!("leafnodes {{ listen: \"127.0.0.1:{leaf_port}\", no_advertise: true }}")
    }

    /// Starts the second machine: its bus, its manager, and a pool with these models (entries in TOML) of the shipped folder.
    ///
    /// # Errors
    /// Something is not built or does not start.
    pub async fn start(leaf_port: u16, models: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for the second machine")?;
        let extra = format!(
            "leafnodes {{ reconnect: \"250ms\", remotes: [ {{ url: \"nats-leaf://127.0.0.1:{leaf_port}\" }} ] }}"
        );
        let nats =
            Nats::start_with(nats::Options { domain: SECOND.to_owned(), port: 0, extra, credentials: false })
                .await?;
        let ports = port::Block::reserve()?;
        let file = folder.path().join("pc2.toml");
        std::fs::write(&file, config(folder.path(), &nats.url(), &ports, models)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut services = Vec::new();
        for name in [service::MODEL_MANAGER_SUITE, service::LOCAL_MODEL_POOL] {
            let mut command = Command::new(workspace::binary(name)?);
            command.arg("--config").arg(&file).current_dir(workspace::root());
            services.push(Child::spawn(name, &mut command)?);
        }
        Ok(Self { services, nats, _ports: ports, _folder: folder })
    }

    /// What its processes have written.
    #[must_use]
    pub fn logs(&self) -> String {
        self.services.iter().fold(String::new(), |text, child| {
            format!("{text}--- {SECOND} {}\n{}{}", child.name(), child.stdout(), child.stderr())
        })
    }
}

fn config(folder: &Path, nats: &str, ports: &port::Block, models: &str) -> anyhow::Result<String> {
    let mut free = ports.all();
    let mut port = || free.next().context("no port is left");
    Ok(format!(
        r#"
        [node]
        machine = "{SECOND}"
        data_dir = "{state}"
        [bus]
        url = "{nats}"
        peers = ["{MACHINE}"]
        [model-manager-suite]
        admin_listen = "127.0.0.1:{manager}"
        [local-model-pool]
        tier = "fallback"
        admin_listen = "127.0.0.1:{pool}"
        models_dir = "{models_dir}"
        vram_lease = false
        {models}
        "#,
        state = folder.join("state").display(),
        models_dir = workspace::root().join("models").display(),
        manager = port()?,
        pool = port()?,
    ))
}
