//! What goes into a decision, and what comes out.

use std::{fmt, sync::Arc, time::Duration};

use super::{Deployment, DeploymentState, Estimate, Tier};
use crate::{
    classification::WorkloadClass,
    complexity::{Complexity, Signals, signals, tool_turns},
    id::{AgentName, KeyId, ModelName, RequestId},
    inference::{Needs, Request, TaskProfile},
    units::Tokens,
};

/// What a decision needs to know of a request.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Names the request for gradual roll-out.
    pub id: &'a RequestId,
    /// What a deployment has to offer.
    pub needs: Needs,
    /// Estimated, or counted.
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
    /// What was seen of the request, where the caller does not say how hard it is.
    pub signals: Signals,
    /// Calls of tools that the conversation holds already.
    pub tool_turns: u32,
}

impl<'a> Facts<'a> {
    /// The facts of a request, its tokens estimated.
    #[must_use]
    pub fn of(request: &'a Request) -> Self {
        Self::counted(request, request.input_tokens())
    }

    /// The facts of a request whose tokens somebody has counted.
    #[must_use]
    pub fn counted(request: &'a Request, input: Tokens) -> Self {
        let envelope = request.envelope();
        let mut needs = request.needs();
        needs.tools |= envelope.profile.tool_use;
        Self {
            id: &envelope.id,
            needs,
            input,
            max_output: request.max_output(),
            audio: request.audio(),
            characters: request.characters(),
            model: envelope.model.as_ref(),
            agent: envelope.agent.as_ref(),
            profile: &envelope.profile,
            signals: signals(request, input),
            tool_turns: if let Request::Generate(request) = request { tool_turns(request) } else { 0 },
        }
    }

    /// How hard the request is: as the caller says, else as its signals do.
    #[must_use]
    pub fn complexity(&self) -> Complexity {
        self.profile.complexity.unwrap_or_else(|| self.signals.complexity())
    }
}

/// A deployment that may serve.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The deployment.
    pub deployment: Arc<Deployment>,
    /// What it would cost and how long it would take.
    pub estimate: Estimate,
    /// How its model was chosen.
    pub preference: Preference,
}

/// How a candidate's model was chosen, best first. Numbers are places, smallest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    /// The caller named it; its place among the alias's targets.
    Named(u32),
    /// The agent's own model; its place among the alias's targets.
    AgentModel(u32),
    /// The rule that holds routes to it; the alias's place in the route and its own in the alias.
    Rule(u32),
    /// The default of its tier.
    TierDefault(u32),
    /// Any model of an allowed tier.
    Any,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.preference {
            Preference::Named(_) => "model asked for",
            Preference::AgentModel(_) => "model of the agent",
            Preference::Rule(_) => "model of the rule",
            Preference::TierDefault(_) => "default model of the tier",
            Preference::Any => "allowed tier",
        };
        let state = match &self.deployment.state {
            DeploymentState::Warm => "warm",
            DeploymentState::Loading => "loading",
            DeploymentState::Cold => "cold",
            DeploymentState::Down(_) => "down",
        };
        let latency = &self.estimate.latency;
        write!(
            f,
            "{why}, tier {}, {state}, begins in about {} ms",
            self.deployment.tier.as_str(),
            latency.until_start_ms()
        )?;
        if latency.queue_ms > 0 {
            write!(f, " ({} ms of it waiting)", latency.queue_ms)?;
        }
        if latency.eviction_ms > 0 {
            write!(f, ", another model has to go ({} ms)", latency.eviction_ms)?;
        }
        write!(f, ", about {}, at most {}", self.estimate.expected_cost, self.estimate.worst_case_cost)
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
    /// The mode in force does not use the cloud for this request.
    Mode(String),
    /// The rule of this name keeps the request on the owner's machines.
    Rule(String),
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
    /// The budget of this name is spent, and calls that it covers run where they cost nothing.
    Budget(String),
    /// The virtual key may not use it.
    Key(KeyId),
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ModelMismatch => f.write_str("not the model asked for"),
            Self::TierNotAllowed(tier) => write!(f, "tier {} is not allowed here", tier.as_str()),
            Self::Privacy => f.write_str("the request may not leave the owner's machines"),
            Self::Mode(mode) => write!(f, "mode {mode} does not use the cloud for this request"),
            Self::Rule(rule) => write!(f, "rule {rule} keeps the request on the owner's machines"),
            Self::Capability(missing) => write!(f, "does not offer {missing}"),
            Self::ContextTooSmall { input, context } => {
                write!(f, "the prompt has about {input} tokens, the context holds {context}")
            }
            Self::Down(why) => write!(f, "down: {why}"),
            Self::Cooldown(why) => write!(f, "cooling down: {why}"),
            Self::Flag(flag) => write!(f, "switched off by flag {flag}"),
            Self::NoPrice => f.write_str("no price is configured and it is not marked free"),
            Self::Budget(budget) => write!(f, "budget {budget} has no room left for it"),
            Self::Key(id) => write!(f, "key {id} is not for it"),
        }
    }
}

/// A deployment that was passed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// The deployment.
    pub deployment: Arc<Deployment>,
    /// Why.
    pub reason: RejectReason,
}

/// What was decided, and why.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Class of the work.
    pub class: WorkloadClass,
    /// How hard the request is.
    pub complexity: Complexity,
    /// The mode in force.
    pub mode: String,
    /// The rule that held; empty when none did.
    pub rule: String,
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
    /// Cold deployments that would have been first, and should be loaded for later requests.
    pub to_load: Vec<Arc<Deployment>>,
    /// Of the snapshot.
    pub snapshot_revision: u64,
    /// Nobody is to be called: the request, or flag `dry-run`, says so.
    pub dry_run: bool,
}
