//! What this coordinator has seen of the deployments lately.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{
    fault::Fault,
    id::{DeploymentId, ModelName},
    resilience::cooldown::{Cooldowns, Rules},
    routing::{Deployment, Live, Speed, Tier},
    units::Tokens,
};
use tokio::time::Instant;

/// Cooldowns and requests in flight. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LiveState {
    began: Instant,
    state: Arc<Mutex<State>>,
}

struct State {
    cooldowns: Cooldowns,
    outstanding: HashMap<DeploymentId, u32>,
    /// Shared with the decisions that read them: most requests change none.
    speeds: Arc<HashMap<DeploymentId, Speed>>,
    siblings: Arc<HashMap<Tier, HashMap<ModelName, Speed>>>,
}

/// Deployments whose speed is remembered; further ones are taken to be as quick as their tier.
const SPEEDS_MAX: usize = 4_096;

impl Default for LiveState {
    fn default() -> Self {
        let state = State {
            cooldowns: Cooldowns::new(Rules::default()),
            outstanding: HashMap::new(),
            speeds: Arc::default(),
            siblings: Arc::default(),
        };
        Self { began: Instant::now(), state: Arc::new(Mutex::new(state)) }
    }
}

impl LiveState {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As a decision needs it.
    pub(crate) fn read(&self) -> Live {
        let state = self.lock();
        Live {
            cooling: state.cooldowns.cooling(self.began.elapsed()),
            outstanding: state.outstanding.clone(),
            speeds: Arc::clone(&state.speeds),
            siblings: Arc::clone(&state.siblings),
        }
    }

    /// A request goes to the deployment; it is over when the guard is dropped.
    pub(crate) fn enter(&self, deployment: &Arc<Deployment>) -> Outstanding {
        *self.lock().outstanding.entry(deployment.id.clone()).or_default() += 1;
        Outstanding { live: self.clone(), deployment: Arc::clone(deployment) }
    }
}

/// A request that is with a deployment.
pub(crate) struct Outstanding {
    live: LiveState,
    deployment: Arc<Deployment>,
}

impl Outstanding {
    /// The answer's first piece came after `start`, its last after `whole`, and it has so many tokens.
    pub(crate) fn succeeded(&self, start: Duration, whole: Duration, output: Tokens) {
        let Deployment { id, tier, model, .. } = &*self.deployment;
        let mut state = self.live.lock();
        state.cooldowns.succeeded(id);
        let before = state.speeds.get(id).copied();
        if before.is_some() || state.speeds.len() < SPEEDS_MAX {
            let speed = Speed::with(before, start, whole, output);
            Arc::make_mut(&mut state.speeds).insert(id.clone(), speed);
            let siblings = Arc::make_mut(&mut state.siblings).entry(*tier).or_default();
            let before = siblings.get(model).copied();
            siblings.insert(model.clone(), Speed::with(before, start, whole, output));
        }
    }

    pub(crate) fn failed(&self, fault: &Fault) {
        let now = self.live.began.elapsed();
        self.live.lock().cooldowns.failed(&self.deployment.id, fault, now);
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        let mut state = self.live.lock();
        if let Some(count) = state.outstanding.get_mut(&self.deployment.id) {
            *count -= 1;
            if *count == 0 {
                state.outstanding.remove(&self.deployment.id);
            }
        }
    }
}
