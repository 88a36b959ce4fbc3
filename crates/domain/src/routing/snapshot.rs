//! What a decision knows of the world.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    Policy,
    load::{BudgetLeft, NodeLoad},
};
use crate::{
    classification::{Thresholds, WorkloadClass},
    id::{AgentName, DeploymentId, FlagName, ModelName, NodeId, RequestId},
    inference::{MethodNeed, Needs},
    pricing::Price,
    units::{Bytes, Tokens},
};

/// Whether a request leaves the owner's machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plane {
    /// To a provider outside.
    Cloud,
    /// Stays on the owner's machines.
    Local,
}

impl Plane {
    /// The token in the executor subject.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Local => "local",
        }
    }
}

/// Where a deployment runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// A cloud provider.
    RemoteApi,
    /// A GPU of the main machine.
    LocalGpu,
    /// The CPU of the main machine.
    LocalCpu,
    /// The second machine.
    Fallback,
    /// Another machine on the LAN.
    Edge,
}

impl Tier {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::RemoteApi, Self::LocalGpu, Self::LocalCpu, Self::Fallback, Self::Edge];

    /// The name in configuration, JSON, flags and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RemoteApi => "remote-api",
            Self::LocalGpu => "local-gpu",
            Self::LocalCpu => "local-cpu",
            Self::Fallback => "fallback",
            Self::Edge => "edge",
        }
    }

    /// The tier of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == name)
    }

    /// Whether a request on this tier leaves the owner's machines.
    #[must_use]
    pub const fn plane(self) -> Plane {
        match self {
            Self::RemoteApi => Plane::Cloud,
            Self::LocalGpu | Self::LocalCpu | Self::Fallback | Self::Edge => Plane::Local,
        }
    }

    /// Where a class goes when no agent says so, best first: light work near and free, heavy work to the remote API
    /// (S0, phase 2.1), compute-heavy work never off the owner's machines.
    #[must_use]
    pub const fn order_for(class: WorkloadClass) -> &'static [Self] {
        match class {
            WorkloadClass::Light => {
                &[Self::LocalCpu, Self::LocalGpu, Self::Fallback, Self::Edge, Self::RemoteApi]
            }
            WorkloadClass::Heavy => {
                &[Self::RemoteApi, Self::LocalGpu, Self::LocalCpu, Self::Fallback, Self::Edge]
            }
            WorkloadClass::ComputeHeavyLocal => &[Self::LocalGpu, Self::Fallback, Self::Edge, Self::LocalCpu],
        }
    }
}

/// Whether a deployment answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeploymentState {
    /// At once.
    Warm,
    /// When its load has finished.
    Loading,
    /// After a load.
    Cold,
    /// Not at all, and why.
    Down(String),
}

/// What a deployment can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "nine independent abilities, as providers list them")]
pub struct Capabilities {
    /// Text from messages.
    pub generate: bool,
    /// Vectors from texts.
    pub embed: bool,
    /// Text in another language, by a model made for it.
    pub translate: bool,
    /// Calls tools.
    pub tools: bool,
    /// Reads pictures.
    pub vision: bool,
    /// Keeps to a JSON schema.
    pub json_schema: bool,
    /// Shows its reasoning.
    pub reasoning: bool,
    /// Text from speech.
    pub transcribe: bool,
    /// Speech from text.
    pub speak: bool,
}

impl Capabilities {
    /// The first thing that is needed and missing. A model that generates can also translate.
    #[must_use]
    pub const fn missing(&self, needs: Needs) -> Option<&'static str> {
        match needs.method {
            MethodNeed::Generate if !self.generate => return Some("generate"),
            MethodNeed::Embed if !self.embed => return Some("embed"),
            MethodNeed::Translate if !self.translate && !self.generate => return Some("translate"),
            MethodNeed::Transcribe if !self.transcribe => return Some("transcribe"),
            MethodNeed::Speak if !self.speak => return Some("speak"),
            _ => {}
        }
        if needs.tools && !self.tools {
            return Some("tools");
        }
        if needs.vision && !self.vision {
            return Some("vision");
        }
        if needs.json_schema && !self.json_schema {
            return Some("json_schema");
        }
        None
    }
}

/// One way to run one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Unique over all machines.
    pub id: DeploymentId,
    /// The name callers use.
    pub model: ModelName,
    /// `llama.cpp`, `openai` …
    pub provider: String,
    /// Where it runs.
    pub tier: Tier,
    /// Machine of its executor.
    pub machine: NodeId,
    /// Last token of the executor subject.
    pub executor: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Prompt and answer together.
    pub context_length: Tokens,
    /// Requests it runs at once; at least 1.
    pub slots: u32,
    /// `None`: no price is known, and it may not be called.
    pub price: Option<Price>,
    /// Whether it answers.
    pub state: DeploymentState,
    /// It answers, but has failed often lately.
    pub degraded: bool,
    /// GPU memory while loaded.
    pub vram: Bytes,
    /// Length of embedding vectors; 0 = does not embed.
    pub embedding_dimensions: u32,
    /// Time until it answers while it is not warm; zero = unknown, or it is warm.
    pub load: Duration,
}

/// A row of the agent matrix (R2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPlacement {
    /// The agent.
    pub name: AgentName,
    /// Its class.
    pub class: WorkloadClass,
    /// Where it may run, best first; not empty.
    pub tiers: Vec<Tier>,
    /// Its model, where the matrix names one.
    pub model: Option<ModelName>,
    /// Who answers for it since it was removed or consolidated.
    pub replaced_by: Option<AgentName>,
    /// What the owner's document says about it.
    pub note: String,
}

/// One name for several models or deployments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name callers use.
    pub name: ModelName,
    /// Models or deployments, best first; not empty.
    pub targets: Vec<Target>,
}

impl Alias {
    /// Whether several targets share a place, so that requests are spread over them.
    #[must_use]
    pub fn shares_places(&self) -> bool {
        self.targets.windows(2).any(|pair| matches!(pair, [one, two] if one.order == two.order))
    }
}

/// What an alias stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A model or a deployment.
    pub model: ModelName,
    /// Smaller goes first; targets with the same order share the load.
    pub order: u32,
    /// Part of the load among targets of the same order; at least 1.
    pub weight: u32,
}

impl Target {
    /// Targets one behind the other.
    #[must_use]
    pub fn in_order(models: impl IntoIterator<Item = ModelName>) -> Vec<Self> {
        (0..).zip(models).map(|(order, model)| Self { model, order, weight: 1 }).collect()
    }
}

/// A switch that works without a restart. A flag that does not exist is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// `tier.<tier>`, `provider.<provider>` or `agent.<Agent>`.
    pub name: FlagName,
    /// Off = for nobody.
    pub enabled: bool,
    /// 0 to 100: share of requests it is on for while enabled.
    pub rollout_percent: u32,
}

impl Flag {
    /// Whether it is on for this request: the same request always gets the same answer.
    #[must_use]
    pub fn on_for(&self, request: &RequestId) -> bool {
        // FNV-1a, 64 bit: stable over releases and machines, which std's hasher does not promise
        let hash = request
            .as_str()
            .bytes()
            .chain(self.name.as_str().bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        self.enabled && (hash % 100) < u64::from(self.rollout_percent)
    }
}

/// Everything a decision needs, as one machine's manager saw it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The machine whose coordinators use it.
    pub machine: NodeId,
    /// Grows with each change.
    pub revision: u64,
    /// All of all machines.
    pub deployments: Vec<Arc<Deployment>>,
    /// By name.
    pub aliases: HashMap<ModelName, Alias>,
    /// By name.
    pub agents: HashMap<AgentName, AgentPlacement>,
    /// Of rule R1.
    pub thresholds: Thresholds,
    /// By name.
    pub flags: HashMap<FlagName, Flag>,
    /// Model or alias of each tier for requests that name none.
    pub tier_defaults: HashMap<Tier, ModelName>,
    /// There are budgets: what a call may cost has to be set aside before it is made.
    pub has_budgets: bool,
    /// How the budgets stand that cover this machine's calls.
    pub budgets: Vec<BudgetLeft>,
    /// How busy the GPUs of each machine are.
    pub nodes: HashMap<NodeId, NodeLoad>,
    /// What the owner decided.
    pub policy: Policy,
}

impl Snapshot {
    /// Whether the flag is on for the request.
    #[must_use]
    pub fn flag_on(&self, name: &str, request: &RequestId) -> bool {
        self.flags.get(name).is_none_or(|flag| flag.on_for(request))
    }

    /// Whether the flag was set and is on for the request: for what is off unless somebody switches it on.
    #[must_use]
    pub fn flag_set_for(&self, name: &str, request: &RequestId) -> bool {
        self.flags.get(name).is_some_and(|flag| flag.on_for(request))
    }
}
