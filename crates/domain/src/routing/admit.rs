//! What may serve at all.

use std::sync::Arc;

use super::{
    BudgetLeft, CloudUse, Deployment, DeploymentState, Facts, Live, Mode, Plane, RejectReason, Rule,
    Snapshot, Tier,
};
use crate::{
    id::AgentName,
    inference::{Level, Privacy},
    pricing::Price,
    units::Money,
};

/// The bounds of one decision.
pub(super) struct Bounds<'a> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) snapshot: &'a Snapshot,
    pub(super) live: &'a Live,
    pub(super) tiers: &'a [Tier],
    pub(super) mode: Option<&'a Mode>,
    pub(super) rule: Option<&'a Rule>,
    /// The cloud may be asked, as far as the mode goes.
    pub(super) cloud: bool,
}

/// Whether the mode lets a request to the cloud: "fallback for critical only" (S3) means what is told to be critical, what
/// the agent matrix places there first, and what names a model itself.
pub(super) fn cloud_allowed(mode: Option<&Mode>, facts: &Facts<'_>, agent_first: Option<Tier>) -> bool {
    match mode.map_or(CloudUse::Balanced, |mode| mode.cloud) {
        CloudUse::Never => false,
        CloudUse::Balanced | CloudUse::Aggressive => true,
        CloudUse::FallbackCriticalOnly => {
            facts.profile.criticality == Some(Level::High)
                || facts.model.is_some()
                || agent_first.is_some_and(|tier| tier.plane() == Plane::Cloud)
        }
    }
}

impl Bounds<'_> {
    /// The price, if the deployment may serve.
    pub(super) fn admit<'d>(&self, deployment: &'d Arc<Deployment>) -> Result<&'d Price, RejectReason> {
        let (facts, snapshot) = (self.facts, self.snapshot);
        let cloud = deployment.tier.plane() == Plane::Cloud;
        if cloud && facts.profile.privacy == Privacy::LocalOnly {
            return Err(RejectReason::Privacy);
        }
        if !self.tiers.contains(&deployment.tier) {
            return Err(RejectReason::TierNotAllowed(deployment.tier));
        }
        if cloud && !self.cloud {
            return Err(RejectReason::Mode(self.mode.map(|mode| mode.name.clone()).unwrap_or_default()));
        }
        if let Some(rule) = self.rule.filter(|rule| cloud && rule.stays_local) {
            return Err(RejectReason::Rule(rule.name.clone()));
        }
        if let Some(missing) = deployment.capabilities.missing(facts.needs) {
            return Err(RejectReason::Capability(missing));
        }
        // at least one token of answer has to fit; an executor that counts exactly has the last word
        if facts.input >= deployment.context_length {
            return Err(RejectReason::ContextTooSmall {
                input: facts.input,
                context: deployment.context_length,
            });
        }
        if !snapshot.flags.is_empty() {
            self.flags(deployment)?;
        }
        let price = deployment.price.as_ref().ok_or(RejectReason::NoPrice)?;
        if let DeploymentState::Down(why) = &deployment.state {
            return Err(RejectReason::Down(why.clone()));
        }
        if let Some(why) = self.live.cooling.get(&deployment.id).filter(|_| !self.live.cooling.is_empty()) {
            return Err(RejectReason::Cooldown(why.clone()));
        }
        Ok(price)
    }

    fn flags(&self, deployment: &Deployment) -> Result<(), RejectReason> {
        let named =
            [format!("tier.{}", deployment.tier.as_str()), format!("provider.{}", deployment.provider)];
        for flag in named {
            if !self.snapshot.flag_on(&flag, self.facts.id) {
                return Err(RejectReason::Flag(flag));
            }
        }
        Ok(())
    }

    /// What is left of the tightest budget that covers a call, in percent.
    ///
    /// # Errors
    /// The budget that has no room for `cost`, where it sends calls to what costs nothing. Others are the reservation's to
    /// refuse or to wait for.
    pub(super) fn budget(&self, deployment: &Deployment, cost: Money) -> Result<i64, RejectReason> {
        if cost == Money::ZERO || self.snapshot.budgets.is_empty() {
            return Ok(100);
        }
        let covering = covering(&self.snapshot.budgets, &deployment.provider, self.facts.agent);
        let mut percent = 100;
        for budget in covering {
            if budget.degrades && budget.left < cost {
                return Err(RejectReason::Budget(budget.name.clone()));
            }
            percent = percent.min(budget.percent());
        }
        Ok(percent)
    }
}

fn covering<'a>(
    budgets: &'a [BudgetLeft],
    provider: &'a str,
    agent: Option<&'a AgentName>,
) -> impl Iterator<Item = &'a BudgetLeft> {
    let agent = agent.map_or("", AgentName::as_str);
    budgets.iter().filter(move |budget| budget.scope.covers_call(provider, agent))
}

/// Whether some paid deployment of the cloud may still be called, as far as budgets go.
pub(super) fn budget_left(snapshot: &Snapshot, agent: Option<&AgentName>) -> bool {
    if snapshot.budgets.is_empty() {
        return true;
    }
    let mut providers =
        snapshot.deployments.iter().filter(|deployment| deployment.tier.plane() == Plane::Cloud);
    providers.any(|deployment| {
        covering(&snapshot.budgets, &deployment.provider, agent).all(|budget| budget.left > Money::ZERO)
    })
}
