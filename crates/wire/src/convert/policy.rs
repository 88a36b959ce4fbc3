//! What the owner decided about routing.

use std::collections::HashMap;

use domain::{
    budget::Scope,
    complexity::Complexity,
    fault::Fault,
    id::{ModelName, TaskName},
    inference::{Level, MethodNeed},
    routing::{
        BudgetLeft, CloudUse, Flag, Mode, ModelTraits, NodeLoad, Policy, Quality, Rule, Tier, Weights, When,
        Worth,
    },
    units::{Bytes, Money, Tokens},
};

use super::{snapshot::optional, tier, workload_class};
use crate::v1;

/// Flags of this kind switch a mode on: `mode.balanced`.
const MODE_FLAG: &str = "mode.";

impl From<Complexity> for v1::Complexity {
    fn from(complexity: Complexity) -> Self {
        match complexity {
            Complexity::Simple => Self::Simple,
            Complexity::Medium => Self::Medium,
            Complexity::Complex => Self::Complex,
        }
    }
}

/// How hard a message says that something is; `None` where it does not, or says something newer than this version.
#[must_use]
pub fn complexity(value: i32) -> Option<Complexity> {
    match v1::Complexity::try_from(value).ok()? {
        v1::Complexity::Unspecified => None,
        v1::Complexity::Simple => Some(Complexity::Simple),
        v1::Complexity::Medium => Some(Complexity::Medium),
        v1::Complexity::Complex => Some(Complexity::Complex),
    }
}

fn level(value: i32) -> Option<Level> {
    match v1::Level::try_from(value).ok()? {
        v1::Level::Unspecified => None,
        v1::Level::Low => Some(Level::Low),
        v1::Level::Medium => Some(Level::Medium),
        v1::Level::High => Some(Level::High),
    }
}

const fn level_code(level: Option<Level>) -> v1::Level {
    match level {
        None => v1::Level::Unspecified,
        Some(Level::Low) => v1::Level::Low,
        Some(Level::Medium) => v1::Level::Medium,
        Some(Level::High) => v1::Level::High,
    }
}

fn method(value: i32) -> Option<MethodNeed> {
    match v1::Method::try_from(value).ok()? {
        v1::Method::Generate => Some(MethodNeed::Generate),
        v1::Method::Embed => Some(MethodNeed::Embed),
        v1::Method::Translate => Some(MethodNeed::Translate),
        v1::Method::Transcribe => Some(MethodNeed::Transcribe),
        v1::Method::Speak => Some(MethodNeed::Speak),
        _ => None,
    }
}

const fn method_code(method: MethodNeed) -> v1::Method {
    match method {
        MethodNeed::Generate => v1::Method::Generate,
        MethodNeed::Embed => v1::Method::Embed,
        MethodNeed::Translate => v1::Method::Translate,
        MethodNeed::Transcribe => v1::Method::Transcribe,
        MethodNeed::Speak => v1::Method::Speak,
    }
}

const fn cloud_code(cloud: CloudUse) -> v1::CloudUse {
    match cloud {
        CloudUse::Never => v1::CloudUse::Never,
        CloudUse::FallbackCriticalOnly => v1::CloudUse::FallbackCriticalOnly,
        CloudUse::Balanced => v1::CloudUse::Balanced,
        CloudUse::Aggressive => v1::CloudUse::Aggressive,
    }
}

impl From<v1::Mode> for Mode {
    /// A use of the cloud that this version does not know is taken as none.
    fn from(wire: v1::Mode) -> Self {
        let cloud = match wire.cloud() {
            v1::CloudUse::Unspecified | v1::CloudUse::Never => CloudUse::Never,
            v1::CloudUse::FallbackCriticalOnly => CloudUse::FallbackCriticalOnly,
            v1::CloudUse::Balanced => CloudUse::Balanced,
            v1::CloudUse::Aggressive => CloudUse::Aggressive,
        };
        let weights = Weights { cost: wire.cost, quality: wire.quality, latency: wire.latency };
        Self { cloud, weights, name: wire.name }
    }
}

fn names<T, E: Into<Fault>>(
    texts: Vec<String>,
    make: impl Fn(String) -> Result<T, E>,
) -> Result<Vec<T>, Fault> {
    texts.into_iter().map(|text| make(text).map_err(Into::into)).collect()
}

impl TryFrom<v1::Rule> for Rule {
    type Error = Fault;

    /// What this version does not know of a list (a method, a tier) is left out.
    fn try_from(wire: v1::Rule) -> Result<Self, Fault> {
        let when = wire.when.unwrap_or_default();
        let tiers: Vec<Tier> = wire.tiers.iter().filter_map(|value| tier(*value)).collect();
        Ok(Self {
            name: wire.name,
            when: When {
                methods: when.methods.iter().filter_map(|value| method(*value)).collect(),
                classes: when.classes.iter().filter_map(|value| workload_class(*value)).collect(),
                complexities: when.complexities.iter().filter_map(|value| complexity(*value)).collect(),
                criticality: level(when.criticality),
                latency: level(when.latency),
                budget_sensitivity: level(when.budget_sensitivity),
                context_over: when.context_over.map(Tokens::new),
                context_up_to: when.context_up_to.map(Tokens::new),
                tools: when.tools,
                tool_turns_min: when.tool_turns_min,
                budget_left: when.budget_left,
                modes: when.modes,
                parameters_over: when.parameters_over,
                parameters_up_to: when.parameters_up_to,
                tasks: names(when.tasks, TaskName::new)?,
            },
            route: names(wire.route, ModelName::new)?,
            tiers,
            providers: wire.providers,
            skills: wire.skills,
            stays_local: wire.stays_local,
        })
    }
}

impl From<&Rule> for v1::Rule {
    fn from(rule: &Rule) -> Self {
        let when = &rule.when;
        Self {
            name: rule.name.clone(),
            when: Some(v1::RuleCondition {
                methods: when.methods.iter().map(|method| method_code(*method).into()).collect(),
                tasks: when.tasks.iter().map(ToString::to_string).collect(),
                classes: when.classes.iter().map(|class| v1::WorkloadClass::from(*class).into()).collect(),
                complexities: when.complexities.iter().map(|one| v1::Complexity::from(*one).into()).collect(),
                criticality: level_code(when.criticality).into(),
                latency: level_code(when.latency).into(),
                budget_sensitivity: level_code(when.budget_sensitivity).into(),
                context_over: when.context_over.map(Tokens::get),
                context_up_to: when.context_up_to.map(Tokens::get),
                tools: when.tools,
                tool_turns_min: when.tool_turns_min,
                budget_left: when.budget_left,
                parameters_over: when.parameters_over,
                parameters_up_to: when.parameters_up_to,
                modes: when.modes.clone(),
            }),
            route: rule.route.iter().map(ToString::to_string).collect(),
            tiers: rule.tiers.iter().map(|tier| v1::Tier::from(*tier).into()).collect(),
            providers: rule.providers.clone(),
            skills: rule.skills.clone(),
            stays_local: rule.stays_local,
        }
    }
}

fn traits(wire: v1::ModelTraits) -> Result<(ModelName, ModelTraits), Fault> {
    let quality = match wire.quality() {
        v1::ModelQuality::Unspecified => None,
        v1::ModelQuality::Low => Some(Quality::Low),
        v1::ModelQuality::Medium => Some(Quality::Medium),
        v1::ModelQuality::High => Some(Quality::High),
        v1::ModelQuality::VeryHigh => Some(Quality::VeryHigh),
    };
    let parameters_millions = (wire.parameters_millions > 0).then_some(wire.parameters_millions);
    Ok((ModelName::new(wire.model)?, ModelTraits { quality, skills: wire.skills, parameters_millions }))
}

const fn quality_code(quality: Option<Quality>) -> v1::ModelQuality {
    match quality {
        None => v1::ModelQuality::Unspecified,
        Some(Quality::Low) => v1::ModelQuality::Low,
        Some(Quality::Medium) => v1::ModelQuality::Medium,
        Some(Quality::High) => v1::ModelQuality::High,
        Some(Quality::VeryHigh) => v1::ModelQuality::VeryHigh,
    }
}

impl TryFrom<v1::Policy> for Policy {
    type Error = Fault;

    /// Modes that are switched on are flags; see [`mode_flags`].
    fn try_from(wire: v1::Policy) -> Result<Self, Fault> {
        let rules: Result<Vec<Rule>, Fault> = wire.rules.into_iter().map(Rule::try_from).collect();
        let models: Result<HashMap<_, _>, Fault> = wire.models.into_iter().map(traits).collect();
        Ok(Self {
            default_mode: wire.default_mode,
            modes: wire.modes.into_iter().map(Mode::from).collect(),
            rules: rules?,
            models: models?,
            worth: Worth {
                second: Money::picodollars(wire.second_picodollars),
                quality_step: Money::picodollars(wire.quality_step_picodollars),
            },
            gpu_busy_over: wire.gpu_busy_over_percent,
            soon_ms: wire.soon_ms,
            unrouted: optional(wire.unrouted, ModelName::new)?,
            mode_flags: Vec::new(),
        })
    }
}

impl From<&Policy> for v1::Policy {
    fn from(policy: &Policy) -> Self {
        let mut models: Vec<v1::ModelTraits> = policy
            .models
            .iter()
            .map(|(model, traits)| v1::ModelTraits {
                model: model.to_string(),
                quality: quality_code(traits.quality).into(),
                skills: traits.skills.clone(),
                parameters_millions: traits.parameters_millions.unwrap_or(0),
            })
            .collect();
        // the same policy is the same message
        models.sort_unstable_by(|one, two| one.model.cmp(&two.model));
        let mode = |mode: &Mode| v1::Mode {
            name: mode.name.clone(),
            cloud: cloud_code(mode.cloud).into(),
            cost: mode.weights.cost,
            quality: mode.weights.quality,
            latency: mode.weights.latency,
        };
        Self {
            default_mode: policy.default_mode.clone(),
            modes: policy.modes.iter().map(mode).collect(),
            rules: policy.rules.iter().map(Into::into).collect(),
            models,
            second_picodollars: policy.worth.second.as_picodollars(),
            quality_step_picodollars: policy.worth.quality_step.as_picodollars(),
            gpu_busy_over_percent: policy.gpu_busy_over,
            soon_ms: policy.soon_ms,
            unrouted: policy.unrouted.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// The modes that are switched on, newest first. Modes that the policy does not have are left out.
pub(super) fn mode_flags(flags: &[v1::Flag], policy: &Policy) -> Result<Vec<(String, Flag)>, Fault> {
    let mode = |flag: &v1::Flag| {
        flag.name.strip_prefix(MODE_FLAG).filter(|name| policy.mode(name).is_some()).map(str::to_owned)
    };
    let mut found: Vec<(u64, String, Flag)> = flags
        .iter()
        .filter_map(|flag| Some((flag.updated_unix_ms, mode(flag)?, Flag::try_from(flag.clone()))))
        .map(|(at, name, flag)| Ok((at, name, flag?)))
        .collect::<Result<_, Fault>>()?;
    found.sort_unstable_by(|one, two| two.0.cmp(&one.0).then_with(|| one.1.cmp(&two.1)));
    Ok(found.into_iter().map(|(_, name, flag)| (name, flag)).collect())
}

impl TryFrom<v1::BudgetLeft> for BudgetLeft {
    type Error = Fault;

    fn try_from(wire: v1::BudgetLeft) -> Result<Self, Fault> {
        let scope = Scope::parse(&wire.scope).ok_or_else(|| {
            let message = format!("budget {}: scope is {:?}, expected a known scope", wire.name, wire.scope);
            Fault::invalid("scope", message)
        })?;
        Ok(Self {
            scope,
            name: wire.name,
            allowed: Money::picodollars(wire.allowed_picodollars),
            left: Money::picodollars(wire.left_picodollars),
            degrades: wire.degrades,
        })
    }
}

impl From<&BudgetLeft> for v1::BudgetLeft {
    fn from(budget: &BudgetLeft) -> Self {
        Self {
            name: budget.name.clone(),
            scope: budget.scope.to_string(),
            allowed_picodollars: budget.allowed.as_picodollars(),
            left_picodollars: budget.left.as_picodollars(),
            degrades: budget.degrades,
        }
    }
}

/// How busy a machine's GPUs are.
pub(super) fn node_load(resources: &v1::NodeResources) -> NodeLoad {
    let free =
        resources.gpus.iter().map(|gpu| gpu.memory_total_bytes.saturating_sub(gpu.memory_used_bytes)).sum();
    NodeLoad {
        gpu_utilization_percent: resources.gpus.iter().map(|gpu| gpu.utilization_percent).max().unwrap_or(0),
        gpu_memory_free: (!resources.gpus.is_empty()).then_some(Bytes::new(free)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_comes_back_as_it_was() {
        let rule = Rule {
            name: "long".to_owned(),
            when: When {
                methods: vec![MethodNeed::Generate],
                tasks: vec![TaskName::new("code").unwrap()],
                complexities: vec![Complexity::Medium],
                context_over: Some(Tokens::new(16_000)),
                latency: Some(Level::High),
                budget_left: Some(true),
                parameters_over: Some(3_000),
                ..When::default()
            },
            route: vec![ModelName::new("cloud/mid").unwrap()],
            tiers: vec![Tier::RemoteApi],
            providers: vec!["groq".to_owned()],
            skills: vec!["planning".to_owned()],
            stays_local: false,
        };
        let model = ModelTraits {
            quality: Some(Quality::High),
            skills: vec!["qa".to_owned()],
            parameters_millions: Some(7),
        };
        let policy = Policy {
            rules: vec![rule],
            models: HashMap::from([(ModelName::new("m").unwrap(), model)]),
            unrouted: Some(ModelName::new("cloud/frontier").unwrap()),
            ..Policy::default()
        };
        assert_eq!(Policy::try_from(v1::Policy::from(&policy)).unwrap(), policy);
    }

    #[test]
    fn the_mode_that_was_switched_on_last_comes_first() {
        let flag = |name: &str, at| v1::Flag {
            name: name.to_owned(),
            enabled: true,
            rollout_percent: 100,
            updated_unix_ms: at,
            ..v1::Flag::default()
        };
        let flags = [
            flag("mode.balanced", 1),
            flag("mode.local-only", 2),
            flag("mode.unheard-of", 3),
            flag("tier.edge", 4),
        ];
        let found = mode_flags(&flags, &Policy::default()).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["local-only", "balanced"]);
    }
}
