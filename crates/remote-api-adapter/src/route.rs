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
};
use reqwest::{Url, header::HeaderMap};
use service_runtime::Clock;
use tokio::sync::{Notify, Semaphore};
use wire::v1;

use crate::{
    circuit::{Circuit, Condition},
    config,
    keys::Keys,
    provider::{
        Dialect, Disabled, Provider, Target,
        exchange::Exchange,
        http::{Timeouts, Transport},
        openai::OpenAi,
    },
    settings::Kind,
};

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
        for provider in providers {
            let breaker = provider.breaker;
            let (upstream, deployments) = connect(provider, clock)?;
            upstreams.push(Arc::clone(&upstream));
            for deployment in deployments {
                let circuit = Circuit::new(breaker, Arc::clone(&changed));
                let route = Route::new(deployment, &machine, Arc::clone(&upstream), circuit);
                by_id.insert(route.id.to_string(), Arc::new(route));
            }
        }
        Ok(Self { machine, by_id, upstreams, changed })
    }

    pub(crate) fn get(&self, deployment: &str) -> Option<&Arc<Route>> {
        self.by_id.get(deployment)
    }

    /// Slots of all deployments together.
    pub(crate) fn slots(&self) -> usize {
        self.by_id.values().map(|route| route.registered.slots as usize).sum::<usize>().max(1)
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Route> {
        self.by_id.values().map(Arc::as_ref)
    }

    /// What to register now, in a stable order: what cannot be called is down, with the reason, and what fails often says so.
    pub(crate) fn registered(&self) -> Vec<v1::Deployment> {
        let mut deployments: Vec<v1::Deployment> = self.all().map(Route::registered).collect();
        deployments.sort_by(|a, b| a.id.cmp(&b.id));
        deployments
    }
}

/// What every client needs, whatever its dialect.
struct Client {
    name: String,
    headers: HeaderMap,
    keys: Keys,
    transport: Transport,
    clock: Clock,
    health: Option<Url>,
}

impl Client {
    fn speaking<D: Dialect>(self, dialect: D) -> Box<dyn Provider> {
        let Self { name, headers, keys, transport, clock, health } = self;
        Box::new(Exchange { name, dialect, headers, keys, transport, clock, health })
    }
}

/// Makes one provider's client.
fn connect(
    provider: config::Provider,
    clock: &Clock,
) -> Result<(Arc<Upstream>, Vec<config::Deployment>), config::Invalid> {
    let config::Provider { name, kind, base_url, keys, allow_private, headers, timeouts, health, .. } =
        provider;
    let (probe_every, health) = health.map(|health| (health.every, health.url)).unzip();
    let client: Box<dyn Provider> =
        match Transport::new(&name, timeouts, allow_private, base_url.scheme() == "https") {
            Ok(transport) => {
                let (keys, clock) = (Keys::new(&name, keys), clock.clone());
                let client = Client { name: name.clone(), headers, keys, transport, clock, health };
                match kind {
                    Kind::OpenAi => client.speaking(OpenAi::new(name.clone(), &base_url)?),
                }
            }
            Err(error) => Box::new(Disabled {
                reason: format!("{name}: no HTTPS client can be made: {:#}", anyhow::Error::new(error)),
            }),
        };
    let upstream = Upstream {
        name,
        provider: client,
        timeouts,
        retry: provider.retry,
        budget: Mutex::new(Budget::new(provider.retry_budget_percent, RETRY_BURST)),
        probe_every,
        unwell: Mutex::default(),
    };
    Ok((Arc::new(upstream), provider.deployments))
}

impl Route {
    fn new(
        deployment: config::Deployment,
        machine: &NodeId,
        upstream: Arc<Upstream>,
        circuit: Circuit,
    ) -> Self {
        let config::Deployment {
            id, model, target, context_length, slots, capabilities, free, price, ..
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
        };
        let slots = Semaphore::new(slots as usize);
        Self { id, model, target, price, capabilities, slots, upstream, circuit, registered }
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
