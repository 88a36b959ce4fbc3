//! What the owner wants of routing, beyond the agent matrix: modes, rules, what models are good for, what time is worth.

use std::collections::HashMap;

use super::{Flag, Tier};
use crate::{
    classification::WorkloadClass,
    complexity::Complexity,
    id::{ModelName, RequestId, TaskName},
    inference::{Level, MethodNeed},
    units::{Money, Tokens},
};

/// How much the cloud is used (S3: `allow_cloud`, `cloud_usage_strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudUse {
    /// Not at all.
    Never,
    /// Behind the owner's machines, and only for what is critical.
    FallbackCriticalOnly,
    /// Where class and rules place a request there, and as the fallback of everything else.
    Balanced,
    /// Wherever the score is better.
    Aggressive,
}

impl CloudUse {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Never, Self::FallbackCriticalOnly, Self::Balanced, Self::Aggressive];

    /// The name in configuration and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::FallbackCriticalOnly => "fallback-critical-only",
            Self::Balanced => "balanced",
            Self::Aggressive => "aggressive",
        }
    }
}

/// What counts how much in the score, in thousandths; together 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Money.
    pub cost: u32,
    /// How good the model is.
    pub quality: u32,
    /// Time.
    pub latency: u32,
}

/// A way to weigh the owner's machines against the cloud (R6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mode {
    /// As in `hybridctl mode set <name>`.
    pub name: String,
    /// How much the cloud is used.
    pub cloud: CloudUse,
    /// Of the score.
    pub weights: Weights,
}

impl Mode {
    /// The four modes of S3 with its weights. It gives none for `local-only`; they are those of `local-preferred`.
    #[must_use]
    pub fn of_the_owner() -> Vec<Self> {
        let mode = |name: &str, cloud, cost, quality, latency| Self {
            name: name.to_owned(),
            cloud,
            weights: Weights { cost, quality, latency },
        };
        vec![
            mode("local-only", CloudUse::Never, 600, 250, 150),
            mode("local-preferred", CloudUse::FallbackCriticalOnly, 600, 250, 150),
            mode("balanced", CloudUse::Balanced, 400, 400, 200),
            mode("performance", CloudUse::Aggressive, 200, 600, 200),
        ]
    }
}

/// How good a model's answers are (S3: `quality_tier`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// Small talk, labels.
    Low,
    /// Everyday questions.
    Medium,
    /// Code and long texts.
    High,
    /// The frontier.
    VeryHigh,
}

impl Quality {
    /// All of them, lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::VeryHigh];

    /// The name in configuration and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::VeryHigh => "very-high",
        }
    }

    /// Steps below the best.
    #[must_use]
    pub const fn steps_missing(self) -> i64 {
        match self {
            Self::Low => 3,
            Self::Medium => 2,
            Self::High => 1,
            Self::VeryHigh => 0,
        }
    }
}

/// What the owner says of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelTraits {
    /// How good it is; by its size when absent.
    pub quality: Option<Quality>,
    /// What it is good at, as in `planning` (S3: `capabilities`).
    pub skills: Vec<String>,
    /// Parameters in millions; read from the name when absent.
    pub parameters_millions: Option<u64>,
}

/// When a rule holds: every condition that is there. Lists hold when one entry does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct When {
    /// What is asked for.
    pub methods: Vec<MethodNeed>,
    /// Kind of task or action.
    pub tasks: Vec<TaskName>,
    /// Class of rule R1.
    pub classes: Vec<WorkloadClass>,
    /// Told or estimated.
    pub complexities: Vec<Complexity>,
    /// How much depends on the answer.
    pub criticality: Option<Level>,
    /// How soon it is wanted.
    pub latency: Option<Level>,
    /// How much money matters.
    pub budget_sensitivity: Option<Level>,
    /// More tokens of input than this.
    pub context_over: Option<Tokens>,
    /// So many tokens of input at most.
    pub context_up_to: Option<Tokens>,
    /// The model is to call tools.
    pub tools: Option<bool>,
    /// Calls of tools that the conversation holds already, at least: an agent's loop.
    pub tool_turns_min: Option<u32>,
    /// Some cloud deployment may still be paid for.
    pub budget_left: Option<bool>,
    /// The mode in force.
    pub modes: Vec<String>,
    /// The named model has more parameters than this, in millions. With it or the next the rule is for requests that name a
    /// model; without both for those that name none.
    pub parameters_over: Option<u64>,
    /// The named model has so many parameters at most, in millions.
    pub parameters_up_to: Option<u64>,
}

/// A line of the owner's decision matrix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Unique; stands in explanations.
    pub name: String,
    /// When it holds.
    pub when: When,
    /// Aliases or models, best first; before the tiers.
    pub route: Vec<ModelName>,
    /// Tiers, best first; the others follow.
    pub tiers: Vec<Tier>,
    /// Providers that go first.
    pub providers: Vec<String>,
    /// Skills whose models go first.
    pub skills: Vec<String>,
    /// Only the owner's machines may serve.
    pub stays_local: bool,
}

/// What makes seconds, dollars and quality comparable (R16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worth {
    /// Of a second that a caller waits.
    pub second: Money,
    /// Of one step of quality ([`Quality`]) in one answer.
    pub quality_step: Money,
}

impl Default for Worth {
    /// A person's hour at $36 is a cent a second; an answer one step better is taken to be worth two.
    fn default() -> Self {
        let cent = Money::PICODOLLARS_PER_DOLLAR / 100;
        Self { second: Money::picodollars(cent), quality_step: Money::picodollars(2 * cent) }
    }
}

/// Everything the owner decided about routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The mode where none is switched on.
    pub default_mode: String,
    /// By name.
    pub modes: Vec<Mode>,
    /// The first that holds is used.
    pub rules: Vec<Rule>,
    /// What the owner says of models.
    pub models: HashMap<ModelName, ModelTraits>,
    /// Exchange rates of the score.
    pub worth: Worth,
    /// Percent of utilization over which a GPU is busy (S2: 80).
    pub gpu_busy_over: u32,
    /// A request that wants its answer soon is not left waiting longer than this for its start, milliseconds (S0: "sub-second").
    pub soon_ms: u64,
    /// Model or alias for requests that name none while the router is off for them.
    pub unrouted: Option<ModelName>,
    /// Switched on at run time, newest first: flags `mode.<name>`.
    pub mode_flags: Vec<(String, Flag)>,
}

impl Default for Policy {
    /// The owner's modes and no rule.
    fn default() -> Self {
        Self {
            default_mode: "balanced".to_owned(),
            modes: Mode::of_the_owner(),
            rules: Vec::new(),
            models: HashMap::new(),
            worth: Worth::default(),
            gpu_busy_over: 80,
            soon_ms: 1_000,
            unrouted: None,
            mode_flags: Vec::new(),
        }
    }
}

impl Policy {
    /// The mode of that name.
    #[must_use]
    pub fn mode(&self, name: &str) -> Option<&Mode> {
        self.modes.iter().find(|mode| mode.name == name)
    }

    /// The mode in force for a request: the one it asks for, else the newest that is switched on, else the default. What the
    /// owner keeps off the cloud stays off it, whatever a request asks for.
    #[must_use]
    pub fn mode_for(&self, request: &RequestId, asked: Option<&str>) -> Option<&Mode> {
        let on = self.mode_flags.iter().find(|(_, flag)| flag.on_for(request));
        let owners = self.mode(on.map_or(&self.default_mode, |(name, _)| name));
        let kept_home = owners.is_some_and(|mode| mode.cloud == CloudUse::Never);
        match asked.and_then(|name| self.mode(name)) {
            Some(asked) if !kept_home || asked.cloud == CloudUse::Never => Some(asked),
            _ => owners,
        }
    }

    /// How good a model is: as the owner says, else by its size, as S1 and S2 sort models into tiers; a model of unknown size
    /// is high in the cloud and low at home.
    #[must_use]
    pub fn quality(&self, model: &ModelName, tier: Tier) -> Quality {
        if let Some(quality) = self.models.get(model).and_then(|traits| traits.quality) {
            return quality;
        }
        match self.parameters_millions(model) {
            Some(0..3_000) => Quality::Low,
            Some(3_000..13_000) => Quality::Medium,
            Some(13_000..70_000) => Quality::High,
            Some(_) => Quality::VeryHigh,
            None if tier == Tier::RemoteApi => Quality::High,
            None => Quality::Low,
        }
    }

    /// Parameters of a model, in millions: as the owner says, else as its name says.
    #[must_use]
    pub fn parameters_millions(&self, model: &ModelName) -> Option<u64> {
        let told = self.models.get(model).and_then(|traits| traits.parameters_millions);
        told.or_else(|| parameters_in_name(model.as_str()))
    }
}

/// Millions of parameters in a model's name: `tinyllama-1.1b-chat` has 1,100, `mixtral-8x7b` 56,000, `gpt-4o` says nothing.
#[must_use]
pub fn parameters_in_name(name: &str) -> Option<u64> {
    name.split(['-', '_', ':', '/']).find_map(|part| {
        let part = part.to_ascii_lowercase();
        let (number, unit) = part.strip_suffix('b').map(|number| (number, 1_000)).or_else(|| {
            let number = part.strip_suffix('m')?;
            Some((number, 1))
        })?;
        let (experts, size) = number.split_once('x').unwrap_or(("1", number));
        let (whole, decimals) = size.split_once('.').unwrap_or((size, "0"));
        let whole: u64 = whole.parse().ok()?;
        let tenth: u64 = decimals.get(..1)?.parse().ok()?;
        let experts: u64 = experts.parse().ok()?;
        (whole < 10_000 && experts < 1_000).then_some(experts * (whole * unit + tenth * unit / 10))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_stands_in_the_name() {
        for (name, millions) in [
            ("tinyllama-1.1b-chat", Some(1_100)),
            ("llama-3.1-8b-instruct", Some(8_000)),
            ("qwen2.5-coder-32b-instruct", Some(32_000)),
            ("mixtral:8x7b", Some(56_000)),
            ("nllb-200-distilled-600m", Some(600)),
            ("gpt-4o", None),
            ("claude-sonnet-4-5", None),
            ("b-m", None),
        ] {
            assert_eq!(parameters_in_name(name), millions, "{name}");
        }
    }

    #[test]
    fn a_request_cannot_ask_its_way_out_of_the_owners_machines() {
        let id = RequestId::new("r").unwrap();
        let mut policy = Policy::default();
        assert_eq!(policy.mode_for(&id, Some("performance")).unwrap().name, "performance");
        assert_eq!(policy.mode_for(&id, Some("no such mode")).unwrap().name, "balanced");
        policy.default_mode = "local-only".to_owned();
        assert_eq!(policy.mode_for(&id, Some("performance")).unwrap().name, "local-only");
    }
}
