//! The routing snapshot's parts.

use serde::Serialize;
use wire::v1;

use super::{dollars, tier, word, workload_class};

/// A deployment.
#[derive(Debug, Serialize)]
pub(crate) struct DeploymentView {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) provider: String,
    pub(crate) tier: String,
    pub(crate) machine: String,
    pub(crate) state: String,
    pub(crate) state_detail: String,
    pub(crate) capabilities: Vec<&'static str>,
    pub(crate) context_length: u32,
    pub(crate) slots: u32,
    pub(crate) free: bool,
    /// `null` = no price is known.
    pub(crate) price: Option<PriceView>,
    pub(crate) vram_bytes: u64,
    /// 0 = does not embed.
    pub(crate) embedding_dimensions: u32,
}

/// Pico-dollars a token, which are micro-dollars a million tokens.
#[derive(Debug, Serialize)]
pub(crate) struct PriceView {
    pub(crate) input_picodollars: i64,
    pub(crate) output_picodollars: i64,
    pub(crate) input_dollars_per_million: String,
    pub(crate) output_dollars_per_million: String,
}

impl From<v1::Price> for PriceView {
    fn from(price: v1::Price) -> Self {
        let million = |picodollars: i64| dollars(picodollars.saturating_mul(1_000_000));
        Self {
            input_picodollars: price.input,
            output_picodollars: price.output,
            input_dollars_per_million: million(price.input),
            output_dollars_per_million: million(price.output),
        }
    }
}

impl From<v1::Deployment> for DeploymentView {
    fn from(deployment: v1::Deployment) -> Self {
        let can = deployment.capabilities.unwrap_or_default();
        let capabilities = [
            (can.generate, "generate"),
            (can.embed, "embed"),
            (can.translate, "translate"),
            (can.tools, "tools"),
            (can.vision, "vision"),
            (can.json_schema, "json-schema"),
            (can.reasoning, "reasoning"),
            (can.transcribe, "transcribe"),
            (can.speak, "speak"),
        ];
        Self {
            state: word(deployment.state().as_str_name(), "DEPLOYMENT_STATE_"),
            tier: tier(deployment.tier),
            id: deployment.id,
            model: deployment.model,
            provider: deployment.provider,
            machine: deployment.machine,
            state_detail: deployment.state_detail,
            capabilities: capabilities.into_iter().filter(|(can, _)| *can).map(|(_, name)| name).collect(),
            context_length: deployment.context_length,
            slots: deployment.slots,
            free: deployment.free,
            price: deployment.price.map(PriceView::from),
            vram_bytes: deployment.vram_bytes,
            embedding_dimensions: deployment.embedding_dimensions,
        }
    }
}

/// A row of the agent matrix.
#[derive(Debug, Serialize)]
pub(crate) struct AgentView {
    pub(crate) name: String,
    pub(crate) workload_class: String,
    pub(crate) tiers: Vec<String>,
    pub(crate) model: String,
    pub(crate) replaced_by: String,
    pub(crate) note: String,
}

impl From<v1::AgentPlacement> for AgentView {
    fn from(agent: v1::AgentPlacement) -> Self {
        Self {
            workload_class: workload_class(agent.workload_class),
            tiers: agent.tiers.iter().map(|value| tier(*value)).collect(),
            name: agent.name,
            model: agent.model,
            replaced_by: agent.replaced_by,
            note: agent.note,
        }
    }
}

/// A flag.
#[derive(Debug, Serialize)]
pub(crate) struct FlagView {
    pub(crate) name: String,
    pub(crate) enabled: bool,
    pub(crate) rollout_percent: u32,
    pub(crate) updated_unix_ms: u64,
    pub(crate) updated_by: String,
}

impl From<v1::Flag> for FlagView {
    fn from(flag: v1::Flag) -> Self {
        Self {
            name: flag.name,
            enabled: flag.enabled,
            rollout_percent: flag.rollout_percent,
            updated_unix_ms: flag.updated_unix_ms,
            updated_by: flag.updated_by,
        }
    }
}

/// A service as the registry sees it.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceView {
    pub(crate) service: String,
    pub(crate) machine: String,
    pub(crate) instance: String,
    pub(crate) version: String,
    pub(crate) alive: bool,
    pub(crate) ready: bool,
    pub(crate) last_seen_unix_ms: u64,
    pub(crate) in_flight: u32,
}

impl From<v1::ServiceStatus> for ServiceView {
    fn from(status: v1::ServiceStatus) -> Self {
        Self {
            service: status.service,
            machine: status.machine,
            instance: status.instance,
            version: status.version,
            alive: status.alive,
            ready: status.ready,
            last_seen_unix_ms: status.last_seen_unix_ms,
            in_flight: status.in_flight,
        }
    }
}

/// What a machine has.
#[derive(Debug, Serialize)]
pub(crate) struct NodeView {
    pub(crate) machine: String,
    pub(crate) memory_total_bytes: u64,
    pub(crate) memory_available_bytes: u64,
    pub(crate) cpus: u32,
    pub(crate) leased_bytes: u64,
    pub(crate) planned_on: String,
    pub(crate) gpus: Vec<GpuView>,
}

/// A GPU.
#[derive(Debug, Serialize)]
pub(crate) struct GpuView {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) memory_total_bytes: u64,
    pub(crate) memory_used_bytes: u64,
    pub(crate) utilization_percent: u32,
    pub(crate) temperature_celsius: i32,
    pub(crate) power_milliwatts: u64,
}

impl From<v1::NodeStatus> for NodeView {
    fn from(node: v1::NodeStatus) -> Self {
        let has = node.resources.unwrap_or_default();
        Self {
            machine: node.machine,
            memory_total_bytes: has.memory_total_bytes,
            memory_available_bytes: has.memory_available_bytes,
            cpus: has.cpus,
            leased_bytes: has.leased_bytes,
            planned_on: has.planned_on,
            gpus: has.gpus.into_iter().map(GpuView::from).collect(),
        }
    }
}

impl From<v1::GpuState> for GpuView {
    fn from(gpu: v1::GpuState) -> Self {
        Self {
            index: gpu.index,
            name: gpu.name,
            uuid: gpu.uuid,
            memory_total_bytes: gpu.memory_total_bytes,
            memory_used_bytes: gpu.memory_used_bytes,
            utilization_percent: gpu.utilization_percent,
            temperature_celsius: gpu.temperature_celsius,
            power_milliwatts: gpu.power_milliwatts,
        }
    }
}

/// The state of everything, as one machine sees it.
#[derive(Debug, Serialize)]
pub(crate) struct StatusView {
    pub(crate) machine: String,
    pub(crate) nats: String,
    pub(crate) snapshot_revision: u64,
    pub(crate) snapshot_generated_unix_ms: u64,
    /// Between the snapshot's making and now.
    pub(crate) snapshot_age_ms: u64,
    pub(crate) services: Vec<ServiceView>,
    pub(crate) machines: Vec<NodeView>,
}
