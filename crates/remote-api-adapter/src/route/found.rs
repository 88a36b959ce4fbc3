//! Deployments that nobody configured: what servers say that they have.
//!
//! They cost nothing. A deployment that is configured goes before one that is found under the same id. A server that does
//! not answer keeps its deployments, down with the reason; a model that is gone from its list goes at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    id::{DeploymentId, ModelName, NodeId},
    pricing::Price,
    resilience::breaker::Rules,
};
use tokio::sync::Notify;
use wire::v1;

use super::{Route, Upstream};
use crate::{
    circuit::Circuit,
    config,
    provider::{Found, Target, ollama::FOUND_MAX},
};

/// The servers that are asked, and what they said last.
#[derive(Default)]
pub(super) struct Finds(Vec<Find>);

struct Find {
    upstream: Arc<Upstream>,
    /// Calls at once to each model.
    slots: u32,
    /// Of the circuit breakers of what is found.
    breaker: Rules,
    changed: Arc<Notify>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    routes: Vec<Arc<Route>>,
    problem: Option<String>,
}

impl Finds {
    pub(super) fn watch(
        &mut self,
        upstream: &Arc<Upstream>,
        slots: u32,
        breaker: Rules,
        changed: &Arc<Notify>,
    ) {
        let (upstream, changed) = (Arc::clone(upstream), Arc::clone(changed));
        self.0.push(Find { upstream, slots, breaker, changed, seen: Mutex::default() });
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What all models together can be asked at once.
    pub(super) fn slots_max(&self) -> usize {
        self.0.iter().map(|find| find.slots as usize * FOUND_MAX).sum()
    }

    pub(super) fn get(&self, deployment: &str) -> Option<Arc<Route>> {
        self.0.iter().find_map(|find| {
            let seen = find.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.routes.iter().find(|route| route.id.as_str() == deployment).cloned()
        })
    }

    pub(super) fn all(&self) -> Vec<Arc<Route>> {
        let routes = |find: &Find| find.seen.lock().unwrap_or_else(PoisonError::into_inner).routes.clone();
        self.0.iter().flat_map(routes).collect()
    }

    pub(super) fn registered(&self) -> Vec<v1::Deployment> {
        let mut all = Vec::new();
        for find in &self.0 {
            let seen = find.seen.lock().unwrap_or_else(PoisonError::into_inner);
            for route in &seen.routes {
                let mut deployment = Route::registered(route);
                if let Some(reason) = &seen.problem {
                    deployment.set_state(v1::DeploymentState::Down);
                    deployment.state_detail.clone_from(reason);
                }
                all.push(deployment);
            }
        }
        all
    }

    /// Asks all servers, one after the other.
    pub(super) async fn look(&self, machine: &NodeId, configured: &HashMap<String, Arc<Route>>) {
        for find in &self.0 {
            let Some(asked) = find.upstream.provider.discover() else { continue };
            let answer = asked.await;
            let mut seen = find.seen.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(found) => seen.routes = find.routes(found, machine, configured, &seen.routes),
                Err(fault) => {
                    if seen.problem.is_none() {
                        tracing::warn!(provider = %find.upstream.name, %fault, "a server's models cannot be listed");
                    }
                    seen.problem = Some(fault.message);
                    continue;
                }
            }
            if seen.problem.take().is_some() {
                tracing::info!(provider = %find.upstream.name, "a server's models can be listed again");
            }
        }
    }
}

impl Find {
    /// Routes of what was found; those that have not changed stay the same ones, with their calls under way.
    fn routes(
        &self,
        found: Vec<Found>,
        machine: &NodeId,
        configured: &HashMap<String, Arc<Route>>,
        before: &[Arc<Route>],
    ) -> Vec<Arc<Route>> {
        let mut routes = Vec::new();
        for found in found {
            let id = DeploymentId::new(format!("{machine}/{}/{}", self.upstream.name, found.model));
            let (Ok(id), Ok(model)) = (id, ModelName::new(found.model.as_str())) else {
                tracing::debug!(provider = %self.upstream.name, model = %found.model, "a model's name cannot be used");
                continue;
            };
            if configured.contains_key(id.as_str()) {
                continue;
            }
            let deployment = config::Deployment {
                id,
                model,
                target: Target {
                    upstream_model: found.upstream_model,
                    context_length: found.context_length,
                    ..Target::default()
                },
                context_length: found.context_length,
                slots: self.slots,
                capabilities: found.capabilities,
                embedding_dimensions: found.embedding_dimensions,
                free: true,
                price: Price::FREE,
                batch_price: None,
                training_price: None,
            };
            let circuit = Circuit::new(self.breaker, Arc::clone(&self.changed));
            let route = Route::new(deployment, machine, Arc::clone(&self.upstream), circuit);
            let same =
                before.iter().find(|old| old.registered == route.registered && old.target == route.target);
            routes.push(same.map_or_else(|| Arc::new(route), Arc::clone));
        }
        routes
    }
}
