//! What the pool says of its models to everybody who routes.

use std::sync::Arc;

use bus::Announcement;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use domain::id::NodeId;
use wire::v1;

use super::EXECUTOR;
use super::status::{Status, Statuses, milliseconds};
use crate::host::PROVIDER;
use crate::settings::ModelConfig;

/// Registers every change until stopped.
pub(super) async fn run(
    machine: NodeId,
    mut statuses: watch::Receiver<Arc<Statuses>>,
    announcement: Announcement,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let deployments = {
            let statuses = statuses.borrow_and_update();
            statuses.models.values().map(|status| deployment(&machine, status)).collect()
        };
        announcement.set_deployments(deployments);
        // the sender ends with the keeper, when the pool ends
        let changed = stop.run_until_cancelled(statuses.changed()).await;
        if changed.is_none_or(|changed| changed.is_err()) {
            stop.cancelled().await;
            return Ok(());
        }
    }
}

/// The id under which a model is registered.
pub(super) fn deployment_id(machine: &NodeId, model: &ModelConfig) -> String {
    format!("{machine}/{PROVIDER}/{}", model.name)
}

fn deployment(machine: &NodeId, status: &Status) -> v1::Deployment {
    let model = &status.config;
    let (state, detail) = status.registered();
    let known = status.description;
    let (context_length, slots, dimensions) = match &status.ready {
        Some(ready) => (ready.context_length, ready.slots, ready.embedding_dimensions),
        None => (
            known.map_or_else(|| model.context_length.unwrap_or(0), |known| known.context_length),
            model.slots,
            known.map_or(0, |known| known.embedding_length),
        ),
    };
    let (load_percent, load) = status.load_told();
    let is_warm = state == v1::DeploymentState::Warm;
    v1::Deployment {
        id: deployment_id(machine, model),
        model: model.name.to_string(),
        provider: PROVIDER.to_owned(),
        tier: v1::Tier::from(model.tier).into(),
        machine: machine.to_string(),
        executor: if is_warm { model.executor.clone() } else { EXECUTOR.to_owned() },
        capabilities: Some(v1::Capabilities {
            generate: model.generate,
            embed: model.embed,
            translate: model.translate,
            json_schema: model.generate,
            tools: known.is_some_and(|known| known.abilities.calls.is_some()),
            reasoning: known.is_some_and(|known| known.abilities.thinks),
            ..v1::Capabilities::default()
        }),
        context_length,
        slots,
        price: None,
        free: true,
        state: state.into(),
        state_detail: detail,
        vram_bytes: if model.gpu_layers > 0 { known.map_or(0, |known| known.memory.get()) } else { 0 },
        embedding_dimensions: dimensions,
        load_estimate_ms: milliseconds(load),
        load_percent,
    }
}
