//! The deployments of this process: what is registered of them, and how they are reached.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{
    id::{DeploymentId, ModelName, NodeId},
    pricing::Price,
    resilience::{
        breaker::Standing,
        retry::{Budget, Failure, Policy, Progress, Verdict},
    },
    routing::{Capabilities, Tier},
    units::Money,
};
use service_runtime::Clock;
use tokio::sync::{Notify, Semaphore};
use wire::v1;

use crate::{
    circuit::{Circuit, Condition},
    config, connect,
    provider::{Provider, Target, http::Timeouts},
};

mod found;

use found::Finds;

/// Token of this service's executor subject: every adapter of a machine serves the same queue.
pub(crate) const EXECUTOR: &str = "any";
/// Retries that may lie in a provider's budget: what a short hiccup under load takes.
const RETRY_BURST: u32 = 20;

/// A provider with what is shared by its deployments.
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) provider: Box<dyn Provider>,
    pub(crate) timeouts: Timeouts,
    retry: Policy,
    budget: Mutex<Budget>,
    /// Between probes; absent = none.
    pub(crate) probe_every: Option<Duration>,
    /// What the last probes found; absent = nothing wrong.
    unwell: Mutex<Option<String>>,
}

impl Upstream {
    fn new(
        mut provider: config::Provider,
        clock: &Clock,
    ) -> Result<(Arc<Self>, Vec<config::Deployment>), config::Invalid> {
        let deployments = std::mem::take(&mut provider.deployments);
        let (name, timeouts, retry) = (provider.name.clone(), provider.timeouts, provider.retry);
        let budget = Mutex::new(Budget::new(provider.retry_budget_percent, RETRY_BURST));
        let probe_every = provider.health.as_ref().map(|health| health.every);
        let provider = connect::connect(provider, &deployments, clock)?;
        let unwell = Mutex::default();
        Ok((Arc::new(Self { name, provider, timeouts, retry, budget, probe_every, unwell }), deployments))
    }

    /// A new call, which earns a part of a retry.
    pub(crate) fn called(&self) {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).deposit();
    }

    /// Whether to call again.
    pub(crate) fn after(&self, failure: Failure, progress: Progress) -> Verdict {
        let jitter = fastrand::u32(0..=1_000);
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        self.retry.decide(failure, progress, jitter, &mut budget)
    }

    /// Takes down what probes have found.
    pub(crate) fn probed(&self, problem: Option<String>) {
        *self.unwell.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    fn unwell(&self) -> Option<String> {
        self.unwell.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One deployment.
pub(crate) struct Route {
    pub(crate) id: DeploymentId,
    pub(crate) model: ModelName,
    pub(crate) target: Target,
    pub(crate) price: Price,
    /// In a batch; absent = no batches.
    pub(crate) batch_price: Option<Price>,
    /// Of a trained token; absent = not known.
    pub(crate) training_price: Option<Money>,
    pub(crate) capabilities: Capabilities,
    pub(crate) slots: Semaphore,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) circuit: Circuit,
    registered: v1::Deployment,
}

/// All deployments, by id.
pub(crate) struct Routes {
    pub(crate) machine: NodeId,
    by_id: HashMap<String, Arc<Route>>,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    finds: Finds,
    /// Told when what [`Routes::registered`] gives has changed and should not wait for the next look.
    pub(crate) changed: Arc<Notify>,
}

impl Routes {
    /// Makes the providers' clients.
    ///
    /// # Errors
    /// A client cannot be built: the machine has no root certificates, for example.
    pub(crate) fn new(
        machine: NodeId,
        providers: Vec<config::Provider>,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        let (mut by_id, mut upstreams, changed) = (HashMap::new(), Vec::new(), Arc::new(Notify::new()));
        let mut finds = Finds::default();
        for provider in providers {
            let (speaks, breaker) = (provider.speaks.clone(), provider.breaker);
            let (upstream, deployments) = Upstream::new(provider, clock)?;
            if let config::Speaks::Ollama(settings) = speaks
                && settings.discover
            {
                finds.watch(&upstream, settings.slots, breaker, &changed);
            }
            upstreams.push(Arc::clone(&upstream));
            for deployment in deployments {
                let circuit = Circuit::new(breaker, Arc::clone(&changed));
                let route = Route::new(deployment, &machine, Arc::clone(&upstream), circuit);
                by_id.insert(route.id.to_string(), Arc::new(route));
            }
        }
        Ok(Self { machine, by_id, upstreams, finds, changed })
    }

    pub(crate) fn get(&self, deployment: &str) -> Option<Arc<Route>> {
        self.by_id.get(deployment).cloned().or_else(|| self.finds.get(deployment))
    }

    /// Whether there are servers that say themselves what they have.
    pub(crate) const fn discovers(&self) -> bool {
        !self.finds.is_empty()
    }

    /// Asks those servers again.
    pub(crate) async fn discover(&self) {
        self.finds.look(&self.machine, &self.by_id).await;
    }

    /// A deployment that was configured, not found.
    pub(crate) fn configured(&self, deployment: &str) -> Option<&Arc<Route>> {
        self.by_id.get(deployment)
    }

    /// The deployments that offer a model, by id.
    pub(crate) fn of_model(&self, model: &str) -> Vec<&Arc<Route>> {
        let mut routes: Vec<_> = self.by_id.values().filter(|route| route.model.as_str() == model).collect();
        routes.sort_by(|a, b| a.id.cmp(&b.id));
        routes
    }

    /// Slots of all deployments together.
    pub(crate) fn slots(&self) -> usize {
        let configured: usize = self.by_id.values().map(|route| route.registered.slots as usize).sum();
        (configured + self.finds.slots_max()).max(1)
    }

    /// All of them, in no order; the configured ones and the found ones.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Route>> {
        self.by_id.values().cloned().chain(self.finds.all())
    }

    /// What to register now, in a stable order: what cannot be called is down, with the reason, and what fails often says so.
    pub(crate) fn registered(&self) -> Vec<v1::Deployment> {
        let mut deployments: Vec<v1::Deployment> =
            self.by_id.values().map(|route| Route::registered(route)).collect();
        deployments.extend(self.finds.registered());
        deployments.sort_by(|a, b| a.id.cmp(&b.id));
        deployments
    }
}

impl Route {
    fn new(
        deployment: config::Deployment,
        machine: &NodeId,
        upstream: Arc<Upstream>,
        circuit: Circuit,
    ) -> Self {
        let config::Deployment {
            id,
            model,
            target,
            context_length,
            slots,
            capabilities,
            free,
            price,
            batch_price,
            training_price,
            ..
        } = deployment;
        let registered = v1::Deployment {
            id: id.to_string(),
            model: model.to_string(),
            provider: upstream.name.clone(),
            tier: v1::Tier::from(Tier::RemoteApi).into(),
            machine: machine.to_string(),
            executor: EXECUTOR.to_owned(),
            capabilities: Some(capabilities.into()),
            context_length,
            slots,
            price: (!free).then(|| price.into()),
            free,
            state: v1::DeploymentState::Warm.into(),
            state_detail: String::new(),
            vram_bytes: 0,
            embedding_dimensions: deployment.embedding_dimensions,
            load_estimate_ms: 0,
            load_percent: 0,
        };
        let slots = Semaphore::new(slots as usize);
        Self {
            id,
            model,
            target,
            price,
            batch_price,
            training_price,
            capabilities,
            slots,
            upstream,
            circuit,
            registered,
        }
    }

    /// What to register of it now.
    fn registered(&self) -> v1::Deployment {
        let mut deployment = self.registered.clone();
        let Condition { standing, detail, .. } = self.circuit.condition();
        let available = self.upstream.provider.available(&self.target.upstream_model);
        let down = available.err().or_else(|| self.upstream.unwell());
        if down.is_some() || matches!(standing, Standing::Open(_)) {
            deployment.set_state(v1::DeploymentState::Down);
        }
        deployment.state_detail = down.unwrap_or(detail);
        deployment
    }
}
