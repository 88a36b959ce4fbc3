//! One entry for each deployment, whoever offers it.
//!
//! A model that is loaded is offered by its engine (warm, on the engine's own executor) and by the pool that would load it
//! (cold, on the pool's): the better state wins, and with it the executor that requests go to. Equal executors on one subject
//! (two adapters of one machine) add their slots.

use std::{cmp::Reverse, collections::BTreeMap};

use wire::v1::{Deployment, DeploymentState};

use super::Instance;

/// One service's offer of a deployment.
#[derive(Clone, Copy)]
struct Offer<'a> {
    instance: &'a Instance,
    started_unix_ms: u64,
    deployment: &'a Deployment,
}

impl<'a> Offer<'a> {
    /// Smallest is best: from somebody alive, in the best state, latest started; the name last, so that chance has no part.
    fn rank(&self) -> (bool, u8, Reverse<u64>, &'a str) {
        let state = match self.deployment.state() {
            DeploymentState::Warm => 0,
            DeploymentState::Loading => 1,
            DeploymentState::Cold => 2,
            DeploymentState::Down | DeploymentState::Unspecified => 3,
        };
        (!self.instance.alive, state, Reverse(self.started_unix_ms), &self.instance.identity.instance)
    }

    /// Whether requests to `other` may as well reach this one.
    fn shares_with(&self, other: &Self) -> bool {
        let (one, two) = (self.deployment, other.deployment);
        self.instance.alive
            && one.machine == two.machine
            && one.executor == two.executor
            && one.state == two.state
    }
}

/// All deployments of all services, each once, in the order of their ids.
pub(super) fn deployments<'a>(instances: impl Iterator<Item = &'a Instance>) -> Vec<Deployment> {
    let mut offers: BTreeMap<&str, Vec<Offer<'_>>> = BTreeMap::new();
    for instance in instances {
        let Some(registered) = &instance.registration else { continue };
        for deployment in &registered.deployments {
            let started_unix_ms = registered.started_unix_ms;
            let offer = Offer { instance, started_unix_ms, deployment };
            offers.entry(&deployment.id).or_default().push(offer);
        }
    }
    offers.into_values().filter_map(|offers| best(&offers)).collect()
}

fn best(offers: &[Offer<'_>]) -> Option<Deployment> {
    let best = offers.iter().min_by_key(|offer| offer.rank())?;
    let mut deployment = best.deployment.clone();
    if best.instance.alive {
        deployment.slots = offers
            .iter()
            .filter(|offer| offer.shares_with(best))
            .fold(0, |sum: u32, offer| sum.saturating_add(offer.deployment.slots.max(1)));
    } else {
        deployment.set_state(DeploymentState::Down);
        deployment.state_detail = if best.instance.withdrawn {
            format!("{} has stopped", best.instance.identity)
        } else {
            format!("no heartbeat from {}", best.instance.identity)
        };
    }
    Some(deployment)
}
