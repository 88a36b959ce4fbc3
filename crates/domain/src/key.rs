//! Virtual keys: who a caller is by the key it shows, what that key is for, and how much it may use.
//!
//! What a key may spend is a [`Budget`] like any other, kept by each machine's part, so it holds whoever counts the requests.
//! Requests and tokens are counted by each coordinator for itself: [`Limits::share`] is its part of them.

use crate::{
    budget::{Budget, Period, Scope, WhenSpent},
    fault::{Code, Fault, Origin},
    id::{AgentName, KeyId, ModelName, NodeId},
    resilience::rate_limit,
    routing::{Decision, Deployment, RejectReason, Rejection, Snapshot, Tier},
    simulation::Share,
    units::Money,
};

/// How keys begin, so that a person, and a scanner of repositories, can tell them from others: `hk_<id>_<secret>`.
pub const PREFIX: &str = "hk_";
/// People are told when so much of a key's money is spent, as of any budget.
const ALERT_AT_MILLIONTHS: u32 = 800_000;

/// How much a key may use; what is absent is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in any minute, at least 1.
    pub requests_per_minute: Option<u64>,
    /// Tokens in any minute, input and output together, at least 1.
    pub tokens_per_minute: Option<u64>,
    /// Requests at once, at least 1.
    pub concurrency: Option<u32>,
}

impl Limits {
    /// The part of one of so many coordinators, rounded up: each has room for one, so together they may let through one less
    /// than their number too much.
    #[must_use]
    pub fn share(&self, coordinators: u32) -> Self {
        let among = coordinators.max(1);
        Self {
            requests_per_minute: self.requests_per_minute.map(|limit| limit.div_ceil(u64::from(among))),
            tokens_per_minute: self.tokens_per_minute.map(|limit| limit.div_ceil(u64::from(among))),
            concurrency: self.concurrency.map(|limit| limit.div_ceil(among)),
        }
    }

    /// The two that are counted by the minute.
    #[must_use]
    pub const fn rates(&self) -> rate_limit::Limits {
        rate_limit::Limits {
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            requests_per_day: None,
        }
    }
}

/// What a key may spend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    /// In a day, UTC.
    pub per_day: Option<Money>,
    /// In a month, UTC.
    pub per_month: Option<Money>,
    /// What happens when it is spent.
    pub when_spent: WhenSpent,
    /// Each machine's part, together at most all; empty = all of it where the key is kept.
    pub parts: Vec<(NodeId, Share)>,
}

/// What a key may be used for; an empty list allows everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Aliases, models or deployments.
    pub models: Vec<ModelName>,
    /// One of them has to be named.
    pub agents: Vec<AgentName>,
    /// Where it may run.
    pub tiers: Vec<Tier>,
}

/// A key, as everybody but its holder knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name; the tenant of its usage events.
    pub id: KeyId,
    /// The machine whose manager keeps it.
    pub machine: NodeId,
    /// SHA-256 of the key; `None` once it is revoked. One round of a fast hash is enough, and slow ones (bcrypt, Argon2) would only
    /// cost time on each request: they are for passwords, which can be guessed; the secret in a key is 256 random bits, which cannot.
    pub sha256: Option<[u8; 32]>,
    /// Unix time in milliseconds; `None` = never.
    pub expires_unix_ms: Option<u64>,
    /// Switched off for now.
    pub disabled: bool,
    /// How much it may use.
    pub limits: Limits,
    /// What it may spend.
    pub spending: Spending,
    /// What it may be used for.
    pub allowed: Allowed,
}

impl Key {
    /// Whether it may be used at this moment.
    ///
    /// # Errors
    /// `Unauthenticated`: it is revoked, disabled or expired.
    pub fn usable(&self, now_unix_ms: u64) -> Result<(), Fault> {
        let refused = |why: &str| {
            let message = format!("key {} {why}", self.id);
            Err(Fault::new(Code::Unauthenticated, Origin::Caller, false, message))
        };
        if self.sha256.is_none() {
            return refused("is revoked");
        }
        if self.disabled {
            return refused("is disabled");
        }
        if self.expires_unix_ms.is_some_and(|expires| expires <= now_unix_ms) {
            return refused("has expired");
        }
        Ok(())
    }

    /// Whether what its calls may cost has to be set aside.
    #[must_use]
    pub const fn has_budget(&self) -> bool {
        self.spending.per_day.is_some() || self.spending.per_month.is_some()
    }

    /// Its budgets on one machine. Their names have a `:`, which those of configured budgets have not.
    #[must_use]
    pub fn budgets(&self, machine: &NodeId) -> Vec<Budget> {
        let limits = [(Period::Day, self.spending.per_day), (Period::Month, self.spending.per_month)];
        let limits = limits.into_iter().filter_map(|(period, limit)| Some((period, limit?)));
        let budget = |(period, limit)| Budget {
            name: match period {
                Period::Day => format!("key:{}:day", self.id),
                Period::Month => format!("key:{}:month", self.id),
            },
            scope: Scope::Key(self.id.to_string()),
            period,
            limit,
            allowance: self.part(machine),
            when_spent: self.spending.when_spent,
            alert_at: Share::millionths(ALERT_AT_MILLIONTHS),
        };
        limits.map(budget).collect()
    }

    fn part(&self, machine: &NodeId) -> Share {
        if self.spending.parts.is_empty() {
            return if self.machine == *machine { Share::ALL } else { Share::NONE };
        }
        let own = self.spending.parts.iter().find(|(name, _)| name == machine);
        own.map_or(Share::NONE, |(_, share)| *share)
    }

    /// Whether it may be used under this agent's name, or without one.
    ///
    /// # Errors
    /// `PermissionDenied` naming the field `agent`.
    pub fn permits_agent(&self, agent: Option<&AgentName>) -> Result<(), Fault> {
        if self.allowed.agents.is_empty() || agent.is_some_and(|agent| self.allowed.agents.contains(agent)) {
            return Ok(());
        }
        let given = agent.map_or_else(|| "empty".to_owned(), |agent| format!("{:?}", agent.as_str()));
        let message = format!(
            "agent is {given}, expected {}: key {} is for them",
            listed(&self.allowed.agents),
            self.id
        );
        Err(Fault::new(Code::PermissionDenied, Origin::Policy, false, message).in_field("agent"))
    }

    /// The decision without the candidates that the key may not use.
    ///
    /// # Errors
    /// `PermissionDenied` when none is left.
    pub fn restrict(&self, mut decision: Decision, snapshot: &Snapshot) -> Result<Decision, Fault> {
        if self.allowed.models.is_empty() && self.allowed.tiers.is_empty() {
            return Ok(decision);
        }
        let mut kept = Vec::with_capacity(decision.candidates.len());
        for candidate in decision.candidates {
            if self.permits(&candidate.deployment, snapshot) {
                kept.push(candidate);
            } else {
                let deployment = candidate.deployment;
                decision.rejected.push(Rejection { deployment, reason: RejectReason::Key(self.id.clone()) });
            }
        }
        if kept.is_empty() {
            let models = if self.allowed.models.is_empty() {
                "any model".to_owned()
            } else {
                listed(&self.allowed.models)
            };
            let tiers: Vec<&str> = self.allowed.tiers.iter().map(|tier| tier.as_str()).collect();
            let tiers = if tiers.is_empty() { "any tier".to_owned() } else { tiers.join(", ") };
            let message = format!(
                "key {} is for {models} on {tiers}, and nothing of that may serve this request",
                self.id
            );
            return Err(Fault::new(Code::PermissionDenied, Origin::Policy, false, message).in_field("model"));
        }
        decision.candidates = kept;
        Ok(decision)
    }

    fn permits(&self, deployment: &Deployment, snapshot: &Snapshot) -> bool {
        let is =
            |target: &ModelName| deployment.model == *target || deployment.id.as_str() == target.as_str();
        let named = |model: &ModelName| match snapshot.aliases.get(model) {
            Some(alias) => alias.targets.iter().any(|target| is(&target.model)),
            None => is(model),
        };
        (self.allowed.tiers.is_empty() || self.allowed.tiers.contains(&deployment.tier))
            && (self.allowed.models.is_empty() || self.allowed.models.iter().any(named))
    }
}

fn listed<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
