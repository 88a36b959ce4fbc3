//! The deployments of this process: what is registered of them, and how they are reached.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{
    id::{DeploymentId, ModelName, NodeId},
    pricing::Price,
    resilience::retry::{Budget, Failure, Policy, Progress, Verdict},
    routing::{Capabilities, Tier},
};
use reqwest::header::HeaderMap;
use service_runtime::{Clock, Secret};
use tokio::sync::Semaphore;
use wire::v1;

use crate::{
    config,
    credential::Credential,
    provider::{
        Dialect, Disabled, Provider, Target,
        azure::Azure,
        exchange::Exchange,
        http::{Timeouts, Transport},
        ollama::{Ollama, Server, Side},
        openai::OpenAi,
    },
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
    registered: v1::Deployment,
}

/// All deployments, by id.
pub(crate) struct Routes {
    pub(crate) machine: NodeId,
    by_id: HashMap<String, Arc<Route>>,
    upstreams: Vec<Arc<Upstream>>,
    finds: Finds,
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
        let (mut by_id, mut upstreams) = (HashMap::new(), Vec::new());
        let mut finds = Finds::default();
        for provider in providers {
            let speaks = provider.speaks.clone();
            let (upstream, deployments) = connect(provider, clock)?;
            if let config::Speaks::Ollama(settings) = speaks
                && settings.discover
            {
                finds.watch(&upstream, settings.slots);
            }
            upstreams.push(Arc::clone(&upstream));
            for deployment in deployments {
                let route = Route::new(deployment, &machine, Arc::clone(&upstream));
                by_id.insert(route.id.to_string(), Arc::new(route));
            }
        }
        Ok(Self { machine, by_id, upstreams, finds })
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

    /// Slots of all deployments together.
    pub(crate) fn slots(&self) -> usize {
        let configured: usize = self.by_id.values().map(|route| route.registered.slots as usize).sum();
        (configured + self.finds.slots_max()).max(1)
    }

    /// What to register now, in a stable order: a provider that cannot be called has its deployments down, with the reason.
    pub(crate) fn registered(&self) -> Vec<v1::Deployment> {
        let down: HashMap<&str, String> = self
            .upstreams
            .iter()
            .filter_map(|upstream| Some((upstream.name.as_str(), upstream.provider.available().err()?)))
            .collect();
        let mut deployments: Vec<v1::Deployment> = self
            .by_id
            .values()
            .map(|route| {
                let mut deployment = route.registered.clone();
                if let Some(reason) = down.get(route.upstream.name.as_str()) {
                    deployment.set_state(v1::DeploymentState::Down);
                    deployment.state_detail.clone_from(reason);
                }
                deployment
            })
            .collect();
        deployments.extend(self.finds.registered());
        deployments.sort_by(|a, b| a.id.cmp(&b.id));
        deployments
    }
}

/// Makes one provider's client.
fn connect(
    provider: config::Provider,
    clock: &Clock,
) -> Result<(Arc<Upstream>, Vec<config::Deployment>), config::Invalid> {
    let config::Provider { name, speaks, base_url, api_key, allow_private, headers, timeouts, .. } = provider;
    let transport = Transport::new(&name, timeouts, allow_private, base_url.scheme() == "https");
    let client: Box<dyn Provider> = match transport {
        Ok(transport) => {
            let way = Way { name: name.clone(), headers, api_key, transport, clock: clock.clone() };
            match speaks {
                config::Speaks::OpenAi(flavor) => {
                    let dialect = OpenAi::new(name.clone(), flavor, &base_url)?;
                    Box::new(way.exchange(dialect))
                }
                config::Speaks::Azure { addresses, auth } => {
                    Box::new(way.exchange(Azure { name: name.clone(), addresses, auth }))
                }
                config::Speaks::Ollama(settings) => {
                    let dialect = Ollama::new(name.clone(), &base_url, settings.pull)?;
                    let side = way.side();
                    Box::new(Server::new(way.exchange(dialect), side, settings))
                }
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
    };
    Ok((Arc::new(upstream), provider.deployments))
}

/// What every call to a provider needs, whatever its dialect.
struct Way {
    name: String,
    headers: HeaderMap,
    api_key: Option<Secret>,
    transport: Transport,
    clock: Clock,
}

impl Way {
    fn exchange<D: Dialect>(self, dialect: D) -> Exchange<D> {
        let Self { name, headers, api_key, transport, clock } = self;
        Exchange { name, dialect, headers, credential: api_key.map(Credential::new), transport, clock }
    }

    /// For calls that answer no request.
    fn side(&self) -> Side {
        Side {
            name: self.name.clone(),
            transport: self.transport.clone(),
            headers: self.headers.clone(),
            credential: self.api_key.clone().map(Credential::new),
        }
    }
}

impl Route {
    fn new(deployment: config::Deployment, machine: &NodeId, upstream: Arc<Upstream>) -> Self {
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
        Self { id, model, target, price, capabilities, slots, upstream, registered }
    }
}
