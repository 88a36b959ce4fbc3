//! What the pool says of its models.

use bus::{Announcement, Bus};
use futures::stream::{SelectAll, StreamExt};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

use domain::id::NodeId;
use wire::v1;

use super::EXECUTOR;
use crate::host::PROVIDER;
use crate::settings::ModelConfig;
use crate::supervisor::{Model, State, Status};

/// Turns statuses into the registration.
pub(super) struct Registrar {
    machine: NodeId,
    models: Vec<Model>,
}

impl Registrar {
    pub(super) fn new(bus: &Bus, models: &[Model]) -> Self {
        Self { machine: bus.machine().clone(), models: models.to_vec() }
    }

    /// Registers every change until stopped.
    pub(super) async fn run(self, announcement: Announcement, stop: CancellationToken) -> anyhow::Result<()> {
        let mut changes = SelectAll::new();
        for model in &self.models {
            changes.push(WatchStream::new(model.status.clone()));
        }
        loop {
            let deployment = |model: &Model| deployment(&self.machine, &model.config, &model.status.borrow());
            announcement.set_deployments(self.models.iter().map(deployment).collect());
            // The streams end with their supervisors, when the pool ends.
            let changed = stop.run_until_cancelled(changes.next()).await;
            if changed.flatten().is_none() {
                stop.cancelled().await;
                return Ok(());
            }
        }
    }
}

/// The id under which a model is registered.
pub(super) fn deployment_id(machine: &NodeId, model: &ModelConfig) -> String {
    format!("{machine}/{PROVIDER}/{}", model.name)
}

fn deployment(machine: &NodeId, model: &ModelConfig, status: &Status) -> v1::Deployment {
    let (state, detail) = match &status.state {
        State::Cold => (v1::DeploymentState::Cold, "loaded with its next request".to_owned()),
        State::Loading => (v1::DeploymentState::Loading, "loading".to_owned()),
        State::Warm(_) => (v1::DeploymentState::Warm, String::new()),
        State::Down { reason, .. } => (v1::DeploymentState::Down, reason.clone()),
    };
    let known = status.description;
    let (context_length, slots, dimensions) = match &status.state {
        State::Warm(ready) => (ready.context_length, ready.slots, ready.embedding_dimensions),
        _ => (
            known.map_or_else(|| model.context_length.unwrap_or(0), |known| known.context_length),
            model.slots,
            known.map_or(0, |known| known.embedding_length),
        ),
    };
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
    }
}
