//! The routing snapshot and its parts.

use std::{collections::HashMap, sync::Arc, time::Duration};

use domain::{
    classification::Thresholds,
    fault::Fault,
    id::{AgentName, DeploymentId, FlagName, ModelName, NodeId},
    pricing::Price,
    routing::{
        AgentPlacement, Alias, BudgetLeft, Capabilities, Deployment, DeploymentState, Flag, Policy, Snapshot,
        Target,
    },
    units::{Bytes, Tokens},
};

use super::{
    policy::{mode_flags, node_load},
    tier, workload_class,
};
use crate::v1;

impl From<v1::Capabilities> for Capabilities {
    fn from(wire: v1::Capabilities) -> Self {
        Self {
            generate: wire.generate,
            embed: wire.embed,
            translate: wire.translate,
            tools: wire.tools,
            vision: wire.vision,
            json_schema: wire.json_schema,
            reasoning: wire.reasoning,
            transcribe: wire.transcribe,
            speak: wire.speak,
        }
    }
}

impl From<Capabilities> for v1::Capabilities {
    fn from(capabilities: Capabilities) -> Self {
        Self {
            generate: capabilities.generate,
            embed: capabilities.embed,
            translate: capabilities.translate,
            tools: capabilities.tools,
            vision: capabilities.vision,
            json_schema: capabilities.json_schema,
            reasoning: capabilities.reasoning,
            transcribe: capabilities.transcribe,
            speak: capabilities.speak,
        }
    }
}

impl TryFrom<v1::Deployment> for Deployment {
    type Error = Fault;

    fn try_from(wire: v1::Deployment) -> Result<Self, Fault> {
        // what is warm has nothing to explain, unless it fails often
        let degraded = wire.state() == v1::DeploymentState::Warm && !wire.state_detail.is_empty();
        let state = match wire.state() {
            v1::DeploymentState::Warm => DeploymentState::Warm,
            v1::DeploymentState::Loading => DeploymentState::Loading,
            v1::DeploymentState::Cold => DeploymentState::Cold,
            v1::DeploymentState::Down | v1::DeploymentState::Unspecified => {
                DeploymentState::Down(wire.state_detail)
            }
        };
        let id = DeploymentId::new(wire.id)?;
        let Some(tier) = tier(wire.tier) else {
            return Err(Fault::invalid(
                "tier",
                format!("deployment {id}: tier is {}, expected a known tier", wire.tier),
            ));
        };
        if wire.executor.is_empty()
            || !wire.executor.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            let message = format!(
                "deployment {id}: executor is {:?}, expected letters, digits, `-` or `_`",
                wire.executor
            );
            return Err(Fault::invalid("executor", message));
        }
        let price = wire.price.map(Price::from).or(wire.free.then_some(Price::FREE));
        if price.is_some_and(|price| price.input.as_picodollars() < 0 || price.output.as_picodollars() < 0) {
            return Err(Fault::invalid(
                "price",
                format!("deployment {id}: a price is negative, expected 0 or more"),
            ));
        }
        Ok(Self {
            id,
            model: ModelName::new(wire.model)?,
            provider: wire.provider,
            tier,
            machine: NodeId::new(wire.machine)?,
            executor: wire.executor,
            capabilities: wire.capabilities.unwrap_or_default().into(),
            context_length: Tokens::new(u64::from(wire.context_length)),
            slots: wire.slots.max(1),
            price,
            state,
            degraded,
            vram: Bytes::new(wire.vram_bytes),
            embedding_dimensions: wire.embedding_dimensions,
            load: Duration::from_millis(wire.load_estimate_ms),
        })
    }
}

impl TryFrom<v1::AgentPlacement> for AgentPlacement {
    type Error = Fault;

    fn try_from(wire: v1::AgentPlacement) -> Result<Self, Fault> {
        let name = AgentName::new(wire.name)?;
        let class = workload_class(wire.workload_class).ok_or_else(|| {
            Fault::invalid("workload_class", format!("agent {name}: expected a known class"))
        })?;
        Ok(Self {
            class,
            tiers: wire.tiers.iter().filter_map(|value| tier(*value)).collect(),
            model: optional(wire.model, ModelName::new)?,
            replaced_by: optional(wire.replaced_by, AgentName::new)?,
            note: wire.note,
            name,
        })
    }
}

impl From<&AgentPlacement> for v1::AgentPlacement {
    fn from(row: &AgentPlacement) -> Self {
        Self {
            name: row.name.to_string(),
            workload_class: v1::WorkloadClass::from(row.class).into(),
            tiers: row.tiers.iter().map(|tier| v1::Tier::from(*tier).into()).collect(),
            model: row.model.as_ref().map(ToString::to_string).unwrap_or_default(),
            replaced_by: row.replaced_by.as_ref().map(ToString::to_string).unwrap_or_default(),
            note: row.note.clone(),
        }
    }
}

impl TryFrom<v1::ModelAlias> for Alias {
    type Error = Fault;

    fn try_from(wire: v1::ModelAlias) -> Result<Self, Fault> {
        let mut orders = wire.orders.into_iter();
        let mut weights = wire.weights.into_iter();
        let targets: Result<Vec<_>, Fault> = (0..)
            .zip(wire.targets)
            .map(|(place, model)| {
                let (order, weight) = (orders.next().unwrap_or(place), weights.next().unwrap_or(1).max(1));
                Ok(Target { model: ModelName::new(model)?, order, weight })
            })
            .collect();
        Ok(Self { name: ModelName::new(wire.name)?, targets: targets? })
    }
}

impl From<&Alias> for v1::ModelAlias {
    fn from(alias: &Alias) -> Self {
        Self {
            name: alias.name.to_string(),
            targets: alias.targets.iter().map(|target| target.model.to_string()).collect(),
            orders: alias.targets.iter().map(|target| target.order).collect(),
            weights: alias.targets.iter().map(|target| target.weight).collect(),
        }
    }
}

impl TryFrom<v1::Flag> for Flag {
    type Error = Fault;

    fn try_from(wire: v1::Flag) -> Result<Self, Fault> {
        let name = FlagName::new(wire.name)?;
        if name.as_str().starts_with('.') || name.as_str().ends_with('.') || name.as_str().contains("..") {
            return Err(Fault::invalid(
                "flag",
                format!("flag is {:?}, expected no empty part between points", name.as_str()),
            ));
        }
        if wire.rollout_percent > 100 {
            let message = format!("rollout_percent is {}, expected 0 to 100", wire.rollout_percent);
            return Err(Fault::invalid("rollout_percent", message));
        }
        Ok(Self { name, enabled: wire.enabled, rollout_percent: wire.rollout_percent })
    }
}

impl TryFrom<v1::RoutingSnapshot> for Snapshot {
    type Error = Fault;

    fn try_from(wire: v1::RoutingSnapshot) -> Result<Self, Fault> {
        let thresholds = wire.thresholds.map_or_else(Thresholds::default, |wire| Thresholds {
            heavy: Tokens::new(wire.heavy_tokens),
            compute_heavy_vram: Bytes::new(wire.compute_heavy_vram_bytes),
            expected_output: Tokens::new(wire.expected_output_tokens),
        });
        let deployments: Result<Vec<_>, Fault> = wire
            .deployments
            .into_iter()
            .map(|deployment| Deployment::try_from(deployment).map(Arc::new))
            .collect();
        let mut aliases = HashMap::with_capacity(wire.aliases.len());
        for alias in wire.aliases {
            let alias = Alias::try_from(alias)?;
            aliases.insert(alias.name.clone(), alias);
        }
        let mut policy = wire.policy.map_or_else(|| Ok(Policy::default()), Policy::try_from)?;
        policy.mode_flags = mode_flags(&wire.flags, &policy)?;
        let budgets: Result<Vec<_>, Fault> = wire.budgets.into_iter().map(BudgetLeft::try_from).collect();
        let mut nodes = HashMap::with_capacity(wire.nodes.len());
        for node in wire.nodes {
            if let Some(resources) = &node.resources {
                nodes.insert(NodeId::new(node.machine)?, node_load(resources));
            }
        }
        let mut agents = HashMap::with_capacity(wire.agents.len());
        for row in wire.agents {
            let row = AgentPlacement::try_from(row)?;
            agents.insert(row.name.clone(), row);
        }
        let mut flags = HashMap::with_capacity(wire.flags.len());
        for flag in wire.flags {
            let flag = Flag::try_from(flag)?;
            flags.insert(flag.name.clone(), flag);
        }
        let mut tier_defaults = HashMap::with_capacity(wire.tier_defaults.len());
        for default in wire.tier_defaults {
            if let Some(tier) = tier(default.tier) {
                tier_defaults.insert(tier, ModelName::new(default.model)?);
            }
        }
        Ok(Self {
            machine: NodeId::new(wire.machine)?,
            revision: wire.revision,
            deployments: deployments?,
            aliases,
            agents,
            thresholds,
            flags,
            tier_defaults,
            has_budgets: wire.has_budgets,
            budgets: budgets?,
            nodes,
            policy,
        })
    }
}

pub(super) fn optional<T, E>(
    text: String,
    make: impl FnOnce(String) -> Result<T, E>,
) -> Result<Option<T>, E> {
    if text.is_empty() { Ok(None) } else { make(text).map(Some) }
}
