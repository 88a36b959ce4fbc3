//! Services of the product as they are measured: configured from a template, started on the measured cores.

use std::process::Command;

use anyhow::Context as _;
use e2e::{Child, port, workspace};
use tempfile::TempDir;

use crate::target::Surroundings;

/// Services that start together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Services {
    /// In start order.
    pub(crate) names: &'static [&'static str],
    /// Their configuration, with `@NAME@` where something is filled in.
    pub(crate) template: &'static str,
    /// Free ports that the template asks for.
    pub(crate) ports: &'static [&'static str],
}

/// Services that run.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) children: Vec<Child>,
    /// Their state, gone when dropped.
    pub(crate) folder: TempDir,
    /// What was chosen, in the order of [`Services::ports`].
    pub(crate) ports: Vec<u16>,
}

impl Services {
    /// Starts them, on the bus at `nats`.
    ///
    /// # Errors
    /// A service is not built or does not start.
    pub(crate) fn start(&self, surroundings: &Surroundings, nats: &str) -> anyhow::Result<Started> {
        let folder = tempfile::tempdir().context("cannot make a folder for the services")?;
        let secret = folder.path().join("provider.key");
        std::fs::write(&secret, &surroundings.key).context("cannot write the provider's key")?;
        let ports = port::free_many(self.ports.len())?;
        let values = [
            ("STATE", folder.path().join("state").display().to_string()),
            ("NATS", nats.to_owned()),
            ("UPSTREAM", surroundings.upstream.clone()),
            ("MODEL", surroundings.model.clone()),
            ("KEY_FILE", secret.display().to_string()),
        ];
        let named = self.ports.iter().copied().zip(ports.iter().map(u16::to_string));
        let text = values
            .into_iter()
            .chain(named)
            .fold(self.template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), &value));
        let config = folder.path().join("bench.toml");
        std::fs::write(&config, text).context("cannot write the services' configuration")?;

        let start = |service: &&str| {
            let mut command = Command::new(workspace::binary(service)?);
            command.arg("--config").arg(&config).current_dir(workspace::root());
            surroundings.cores.with(|| Child::spawn(service, &mut command))
        };
        let children = self.names.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Started { children, folder, ports })
    }
}
