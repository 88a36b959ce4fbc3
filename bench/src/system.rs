//! The system as it is measured: everything that a request passes, and everything that keeps account of it.

use anyhow::Context as _;

use crate::services::{Services, Started};
use crate::target::{Held, Running, Surroundings, start_nats};

/// The local pool is left out: no request of the benchmark goes to a local model.
const SYSTEM: Services = Services {
    names: &["observability-hub", "model-manager-suite", "remote-api-adapter", "request-coordinator"],
    template: include_str!("../system.toml"),
    ports: &["HUB_PORT", "MANAGER_PORT", "ADAPTER_PORT", "COORDINATOR_PORT", "API_PORT"],
};

/// Starts the system on the measured cores.
///
/// # Errors
/// A service is not built or does not start.
pub async fn start(surroundings: &Surroundings) -> anyhow::Result<Running> {
    let nats = start_nats(&surroundings.cores).await?;
    let Started { children, folder, ports } = SYSTEM.start(surroundings, &nats.url())?;
    let api = ports.last().context("no port for the API")?;
    let held = Held { children, nats: Some(nats), folder: Some(folder), ..Held::default() };
    Running::http(&format!("http://127.0.0.1:{api}/v1/chat/completions"), None, &surroundings.model, held)
}
