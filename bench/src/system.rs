//! The system as it is measured: everything that a request passes, and everything that keeps account of it.

use std::process::Command;

use anyhow::Context as _;
use e2e::{Child, port, workspace};

use crate::target::{Held, Running, Surroundings, start_nats};

/// The services, in start order. The local pool is left out: no request of the benchmark goes to a local model.
const SERVICES: [&str; 4] =
    ["observability-hub", "model-manager-suite", "remote-api-adapter", "request-coordinator"];
/// Their configuration.
const TEMPLATE: &str = include_str!("../system.toml");
/// Free ports that [`TEMPLATE`] asks for.
const PORTS: [&str; 5] = ["HUB_PORT", "MANAGER_PORT", "ADAPTER_PORT", "COORDINATOR_PORT", "API_PORT"];

/// Starts the system on the measured cores.
///
/// # Errors
/// A service is not built or does not start.
pub async fn start(surroundings: &Surroundings) -> anyhow::Result<Running> {
    let nats = start_nats(&surroundings.cores).await?;
    let folder = tempfile::tempdir().context("cannot make a folder for the system")?;
    let secret = folder.path().join("provider.key");
    std::fs::write(&secret, &surroundings.key).context("cannot write the provider's key")?;
    let ports: Vec<String> = port::free_many(PORTS.len())?.iter().map(u16::to_string).collect();
    let values = [
        ("STATE", folder.path().join("state").display().to_string()),
        ("NATS", nats.url()),
        ("UPSTREAM", surroundings.upstream.clone()),
        ("MODEL", surroundings.model.clone()),
        ("KEY_FILE", secret.display().to_string()),
    ];
    let values = values.into_iter().chain(PORTS.into_iter().zip(ports.iter().cloned()));
    let text =
        values.fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), &value));
    let config = folder.path().join("bench.toml");
    std::fs::write(&config, text).context("cannot write the system's configuration")?;

    let start = |service: &str| {
        let mut command = Command::new(workspace::binary(service)?);
        command.arg("--config").arg(&config).current_dir(workspace::root());
        surroundings.cores.with(|| Child::spawn(service, &mut command))
    };
    let children = SERVICES.into_iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let api = ports.last().context("no port for the API")?;
    let held = Held { children, nats: Some(nats), folder: Some(folder) };
    Running::new(&format!("http://127.0.0.1:{api}/v1/chat/completions"), None, &surroundings.model, held)
}
