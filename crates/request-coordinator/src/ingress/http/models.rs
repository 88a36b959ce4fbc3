//! `GET /v1/models`: aliases and models that can be asked for, from the routing snapshot.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
};
use domain::{
    fault::{Code, Fault, Origin},
    routing::{DeploymentState, Snapshot},
};
use serde_json::{Value, json};

use super::error::Refused;
use crate::dispatch::Coordinator;

pub(super) async fn list(State(coordinator): State<Arc<Coordinator>>) -> Result<Json<Value>, Refused> {
    let models = models(&*coordinator.snapshots.current()?);
    Ok(Json(json!({ "object": "list", "data": models.into_values().collect::<Vec<_>>() })))
}

pub(super) async fn one(
    State(coordinator): State<Arc<Coordinator>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refused> {
    let mut models = models(&*coordinator.snapshots.current()?);
    models.remove(&id).map(Json).ok_or_else(|| {
        let start: String = id.chars().take(128).collect();
        let message = format!("model {start:?} is not known, expected one that GET /v1/models lists");
        Refused(Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("model"))
    })
}

fn models(snapshot: &Snapshot) -> BTreeMap<String, Value> {
    let entry = |id: &str, owned_by: &str, more: Value| json!({ "id": id, "object": "model", "created": 0, "owned_by": owned_by, "hybrid": more });
    let mut models = BTreeMap::new();
    for deployment in &snapshot.deployments {
        let up = !matches!(deployment.state, DeploymentState::Down(_));
        let more = json!({
            "tier": deployment.tier.as_str(),
            "machine": deployment.machine.as_str(),
            "deployment": deployment.id.as_str(),
            "context_length": deployment.context_length.get(),
            "available": up,
        });
        let id = deployment.model.as_str();
        // of several deployments the one that is up speaks for the model
        if up || !models.contains_key(id) {
            models.insert(id.to_owned(), entry(id, &deployment.provider, more));
        }
    }
    for alias in snapshot.aliases.values() {
        let targets: Vec<&str> = alias.targets.iter().map(|target| target.model.as_str()).collect();
        models.insert(
            alias.name.to_string(),
            entry(alias.name.as_str(), "alias", json!({ "targets": targets })),
        );
    }
    models
}
