//! The decision.

use std::{cmp::Reverse, collections::HashMap, fmt, sync::Arc, time::Duration};

use super::{AgentPlacement, Deployment, DeploymentState, Plane, Snapshot, Tier};
use crate::{
    classification::{WorkloadClass, classify},
    fault::{Code, Fault, Origin},
    id::{AgentName, DeploymentId, ModelName, RequestId},
    inference::{MethodNeed, Needs, Privacy, Request, TaskProfile},
    pricing::{Most, Price},
    units::{Money, Tokens},
};

/// How many replacements of agents are followed before the matrix is called circular.
const MAX_REPLACEMENTS: usize = 4;

/// What a decision needs to know of a request.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Names the request for gradual roll-out.
    pub id: &'a RequestId,
    /// What a deployment has to offer.
    pub needs: Needs,
    /// Estimated.
    pub input: Tokens,
    /// The caller's bound.
    pub max_output: Option<Tokens>,
    /// Audio to listen to, estimated.
    pub audio: Duration,
    /// Characters to speak.
    pub characters: u64,
    /// Alias, model or deployment the caller named.
    pub model: Option<&'a ModelName>,
    /// Agent the caller named.
    pub agent: Option<&'a AgentName>,
    /// What the caller knows about the task.
    pub profile: &'a TaskProfile,
}

impl<'a> Facts<'a> {
    /// The facts of a request.
    #[must_use]
    pub fn of(request: &'a Request) -> Self {
        let envelope = request.envelope();
        Self {
            id: &envelope.id,
            needs: request.needs(),
            input: request.input_tokens(),
            max_output: request.max_output(),
            audio: request.audio(),
            characters: request.characters(),
            model: envelope.model.as_ref(),
            agent: envelope.agent.as_ref(),
            profile: &envelope.profile,
        }
    }
}

/// What this coordinator has seen of the deployments lately.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Deployments that are left alone for a while, and why.
    pub cooling: HashMap<DeploymentId, String>,
    /// Requests of this coordinator in flight.
    pub outstanding: HashMap<DeploymentId, u32>,
}

/// A deployment that may serve.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The deployment.
    pub deployment: Arc<Deployment>,
    /// The most it can cost.
    pub worst_case_cost: Money,
    /// How its model was chosen.
    pub preference: Preference,
}

/// How a candidate's model was chosen, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    /// The caller named it; its place among the alias's targets.
    Named(usize),
    /// The agent's own model; its place among the alias's targets.
    AgentModel(usize),
    /// The default of its tier.
    TierDefault(usize),
    /// Any model of an allowed tier.
    Any,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.preference {
            Preference::Named(_) => "model asked for",
            Preference::AgentModel(_) => "model of the agent",
            Preference::TierDefault(_) => "default model of the tier",
            Preference::Any => "allowed tier",
        };
        let state = match &self.deployment.state {
            DeploymentState::Warm => "warm",
            DeploymentState::Loading => "loading",
            DeploymentState::Cold => "cold",
            DeploymentState::Down(_) => "down",
        };
        write!(f, "{why}, tier {}, {state}, at most {}", self.deployment.tier.as_str(), self.worst_case_cost)
    }
}

/// Why a deployment was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RejectReason {
    /// Not what the model or alias asked for names.
    ModelMismatch,
    /// The agent or the class is not placed on this tier.
    TierNotAllowed(Tier),
    /// Local-only request, remote deployment.
    Privacy,
    /// Lacks this.
    Capability(&'static str),
    /// Prompt against context.
    ContextTooSmall {
        /// Tokens of the prompt.
        input: Tokens,
        /// Tokens of the context.
        context: Tokens,
    },
    /// Executor gone or unhealthy.
    Down(String),
    /// Left alone for a while.
    Cooldown(String),
    /// Switched off by this flag.
    Flag(String),
    /// Neither priced nor free.
    NoPrice,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ModelMismatch => f.write_str("not the model asked for"),
            Self::TierNotAllowed(tier) => write!(f, "tier {} is not allowed here", tier.as_str()),
            Self::Privacy => f.write_str("the request may not leave the owner's machines"),
            Self::Capability(missing) => write!(f, "does not offer {missing}"),
            Self::ContextTooSmall { input, context } => {
                write!(f, "the prompt has about {input} tokens, the context holds {context}")
            }
            Self::Down(why) => write!(f, "down: {why}"),
            Self::Cooldown(why) => write!(f, "cooling down: {why}"),
            Self::Flag(flag) => write!(f, "switched off by flag {flag}"),
            Self::NoPrice => f.write_str("no price is configured and it is not marked free"),
        }
    }
}

/// A deployment that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The deployment.
    pub deployment: DeploymentId,
    /// Why.
    pub reason: RejectReason,
}

/// What was decided, and why.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Class of the work.
    pub class: WorkloadClass,
    /// Tokens of the input, estimated.
    pub input: Tokens,
    /// Tokens the answer may have at most.
    pub max_output: Tokens,
    /// The rules that applied, in order.
    pub reasons: Vec<String>,
    /// In the order to try; not empty.
    pub candidates: Vec<Candidate>,
    /// All the others.
    pub rejected: Vec<Rejection>,
    /// Of the snapshot.
    pub snapshot_revision: u64,
}

/// Decides where `facts` may run.
///
/// # Errors
/// `NotFound` for an unknown agent or model, `ContextLengthExceeded` when the prompt fits nowhere it may run,
/// `Unsupported` when nothing offers what is needed, `Unavailable` when everything that could serve is down, cooling or
/// switched off.
pub fn decide(facts: &Facts<'_>, snapshot: &Snapshot, live: &Live) -> Result<Decision, Fault> {
    let mut reasons = Vec::with_capacity(4);
    let agent = facts.agent.map(|name| resolve_agent(name, snapshot, &mut reasons)).transpose()?;
    let agent = agent.filter(|row| {
        let on = snapshot.flag_on(&format!("agent.{}", row.name), facts.id);
        if !on {
            reasons.push(format!("flag agent.{} is off: placed as a request without an agent", row.name));
        }
        on
    });
    let class = match agent {
        Some(row) => {
            reasons.push(format!("agent {} is {} in the matrix (R2)", row.name, row.class.as_str()));
            row.class
        }
        None => {
            let (class, why) = classify(facts.input, facts.max_output, facts.profile, &snapshot.thresholds);
            reasons.push(why);
            class
        }
    };
    let tiers = tiers(facts, agent, class, &mut reasons);
    let wanted = Wanted::new(facts, agent, snapshot)?;

    let max_output = facts.max_output.unwrap_or(snapshot.thresholds.expected_output);
    let mut candidates = Vec::new();
    let mut rejected = Vec::new();
    for deployment in &snapshot.deployments {
        match admit(deployment, facts, snapshot, live, tiers, &wanted) {
            Ok((price, preference)) => candidates.push(Candidate {
                worst_case_cost: price.worst_case(&Most {
                    input: facts.input,
                    output: max_output,
                    audio: facts.audio,
                    characters: facts.characters,
                }),
                deployment: Arc::clone(deployment),
                preference,
            }),
            Err(reason) => rejected.push(Rejection { deployment: deployment.id.clone(), reason }),
        }
    }
    if candidates.is_empty() {
        return Err(nothing_left(facts, &rejected));
    }
    candidates.sort_by_cached_key(|candidate| rank(candidate, tiers, snapshot, live));
    Ok(Decision {
        class,
        input: facts.input,
        max_output,
        reasons,
        candidates,
        rejected,
        snapshot_revision: snapshot.revision,
    })
}

fn resolve_agent<'a>(
    name: &AgentName,
    snapshot: &'a Snapshot,
    reasons: &mut Vec<String>,
) -> Result<&'a AgentPlacement, Fault> {
    let mut name = name;
    for _ in 0..=MAX_REPLACEMENTS {
        let Some(row) = snapshot.agents.get(name) else {
            let message = format!(
                "agent {name:?} is not in the matrix, expected one that `hybridctl agents` lists",
                name = name.as_str()
            );
            return Err(Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("agent"));
        };
        let Some(next) = &row.replaced_by else { return Ok(row) };
        reasons.push(format!("agent {name} was replaced by {next}"));
        name = next;
    }
    Err(Fault::internal(format!("the replacements of agent {name} go in a circle")))
}

fn tiers<'a>(
    facts: &Facts<'_>,
    agent: Option<&'a AgentPlacement>,
    class: WorkloadClass,
    reasons: &mut Vec<String>,
) -> &'a [Tier] {
    if let Some(row) = agent {
        return &row.tiers;
    }
    if let Some(model) = facts.model {
        reasons.push(format!("model {model} was asked for"));
    }
    if facts.needs.method == MethodNeed::Embed {
        reasons.push("embeddings stay local where they can (R7)".to_owned());
        return Tier::order_for(WorkloadClass::Light);
    }
    Tier::order_for(class)
}

/// The models that are wanted: the caller's, else the agent's.
struct Wanted<'a> {
    named: Option<&'a [ModelName]>,
    agent: &'a [ModelName],
}

impl<'a> Wanted<'a> {
    fn new(
        facts: &Facts<'a>,
        agent: Option<&'a AgentPlacement>,
        snapshot: &'a Snapshot,
    ) -> Result<Self, Fault> {
        let own = agent.and_then(|row| row.model.as_ref()).map_or(&[][..], |model| snapshot.targets(model));
        let Some(model) = facts.model else { return Ok(Self { named: None, agent: own }) };
        let targets = snapshot.targets(model);
        let known = |target: &ModelName| snapshot.deployments.iter().any(|deployment| is(deployment, target));
        if !snapshot.aliases.contains_key(model) && !known(model) {
            let message = format!(
                "model {:?} is not known, expected an alias, a model or a deployment that `hybridctl models` lists",
                model.as_str()
            );
            return Err(Fault::new(Code::NotFound, Origin::Caller, false, message).in_field("model"));
        }
        Ok(Self { named: Some(targets), agent: own })
    }

    fn preference(&self, deployment: &Deployment, snapshot: &Snapshot) -> Option<Preference> {
        let place = |targets: &[ModelName]| targets.iter().position(|target| is(deployment, target));
        if let Some(named) = self.named {
            return place(named).map(Preference::Named);
        }
        if let Some(index) = place(self.agent) {
            return Some(Preference::AgentModel(index));
        }
        let default = snapshot.tier_defaults.get(&deployment.tier).map(|model| snapshot.targets(model));
        Some(default.and_then(place).map_or(Preference::Any, Preference::TierDefault))
    }
}

fn is(deployment: &Deployment, target: &ModelName) -> bool {
    deployment.model == *target || deployment.id.as_str() == target.as_str()
}

fn admit(
    deployment: &Deployment,
    facts: &Facts<'_>,
    snapshot: &Snapshot,
    live: &Live,
    tiers: &[Tier],
    wanted: &Wanted<'_>,
) -> Result<(Price, Preference), RejectReason> {
    let preference = wanted.preference(deployment, snapshot).ok_or(RejectReason::ModelMismatch)?;
    if facts.profile.privacy == Privacy::LocalOnly && deployment.tier.plane() == Plane::Cloud {
        return Err(RejectReason::Privacy);
    }
    if !tiers.contains(&deployment.tier) {
        return Err(RejectReason::TierNotAllowed(deployment.tier));
    }
    if let Some(missing) = deployment.capabilities.missing(facts.needs) {
        return Err(RejectReason::Capability(missing));
    }
    // at least one token of answer has to fit; an executor that counts exactly has the last word
    if facts.input >= deployment.context_length {
        return Err(RejectReason::ContextTooSmall { input: facts.input, context: deployment.context_length });
    }
    if !snapshot.flags.is_empty() {
        for flag in
            [format!("tier.{}", deployment.tier.as_str()), format!("provider.{}", deployment.provider)]
        {
            if !snapshot.flag_on(&flag, facts.id) {
                return Err(RejectReason::Flag(flag));
            }
        }
    }
    let price = deployment.price.ok_or(RejectReason::NoPrice)?;
    if let DeploymentState::Down(why) = &deployment.state {
        return Err(RejectReason::Down(why.clone()));
    }
    if let Some(why) = live.cooling.get(&deployment.id) {
        return Err(RejectReason::Cooldown(why.clone()));
    }
    Ok((price, preference))
}

type Rank = (Preference, usize, Preference, u8, bool, bool, Money, bool, Reverse<u32>, DeploymentId);

fn rank(candidate: &Candidate, tiers: &[Tier], snapshot: &Snapshot, live: &Live) -> Rank {
    let deployment = &candidate.deployment;
    let tier = tiers.iter().position(|tier| *tier == deployment.tier).unwrap_or(usize::MAX);
    // a model that was asked for by name goes before the tier, everything else after it
    let before_tier = match candidate.preference {
        named @ Preference::Named(_) => named,
        Preference::AgentModel(_) | Preference::TierDefault(_) | Preference::Any => Preference::Any,
    };
    let warmth = match deployment.state {
        DeploymentState::Warm => 0,
        DeploymentState::Loading => 1,
        DeploymentState::Cold => 2,
        DeploymentState::Down(_) => 3,
    };
    let far = deployment.machine != snapshot.machine;
    let busy = live.outstanding.get(&deployment.id).copied().unwrap_or(0);
    let free_slots = deployment.slots.saturating_sub(busy);
    let (full, degraded, id) = (free_slots == 0, deployment.degraded, deployment.id.clone());
    let cost = candidate.worst_case_cost;
    (before_tier, tier, candidate.preference, warmth, far, full, cost, degraded, Reverse(free_slots), id)
}

fn nothing_left(facts: &Facts<'_>, rejected: &[Rejection]) -> Fault {
    // the reason that came nearest to serving tells the caller most
    let context = rejected.iter().filter_map(|rejection| match rejection.reason {
        RejectReason::ContextTooSmall { context, .. } => Some(context),
        _ => None,
    });
    let may_recover = rejected.iter().any(|rejection| {
        matches!(rejection.reason, RejectReason::Down(_) | RejectReason::Cooldown(_) | RejectReason::Flag(_))
    });
    if let (Some(context), false) = (context.max(), may_recover) {
        let message = format!(
            "the prompt has about {} tokens, the largest context allowed here holds {context}",
            facts.input
        );
        return Fault::new(Code::ContextLengthExceeded, Origin::Caller, false, message).in_field("messages");
    }
    let mut why: Vec<String> = rejected
        .iter()
        .filter(|rejection| rejection.reason != RejectReason::ModelMismatch)
        .take(8)
        .map(|rejection| format!("{}: {}", rejection.deployment, rejection.reason))
        .collect();
    if why.is_empty() {
        why.push("no executor has registered a deployment".to_owned());
    }
    let unable =
        |reason: &RejectReason| matches!(reason, RejectReason::ModelMismatch | RejectReason::Capability(_));
    let lacks = rejected.iter().any(|rejection| matches!(rejection.reason, RejectReason::Capability(_)));
    let (code, retryable) = if lacks && rejected.iter().all(|rejection| unable(&rejection.reason)) {
        (Code::Unsupported, false)
    } else {
        (Code::Unavailable, may_recover || rejected.is_empty())
    };
    Fault::new(code, Origin::Policy, retryable, format!("nothing may serve this request: {}", why.join("; ")))
}
