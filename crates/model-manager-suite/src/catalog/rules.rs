//! The decision matrix: `[[rule]]`, `[action_tiers]` and `[actions]` of `config/policies.toml`.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use domain::{
    classification::WorkloadClass,
    complexity::Complexity,
    id::{ModelName, TaskName},
    inference::{Level, MethodNeed},
    routing::{Rule, Tier, When},
    units::Tokens,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    agents::CLASSES,
    error::{CatalogError, Place},
    routing::{skills, words},
};

/// Rules of one file, those of actions with them: each decision looks at them in turn.
const RULES_MAX: usize = 512;
/// Entries of one list of a rule.
const ENTRIES_MAX: usize = 64;
/// Length of a rule's name, characters.
const NAME_MAX: usize = 64;

/// The three tiers of actions, lowest first: an action that fails on one goes up.
const ACTION_TIERS: [&str; 3] = ["local-fast", "local-quality", "api-fallback"];
const METHODS: [(&str, MethodNeed); 5] = [
    ("generate", MethodNeed::Generate),
    ("embed", MethodNeed::Embed),
    ("translate", MethodNeed::Translate),
    ("transcribe", MethodNeed::Transcribe),
    ("speak", MethodNeed::Speak),
];
const LEVELS: [(&str, Level); 3] = [("low", Level::Low), ("medium", Level::Medium), ("high", Level::High)];

/// A line of the decision matrix. The first that holds is used.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    /// Unique; stands in explanations.
    name: String,
    /// Every condition that is given has to hold; none = always.
    #[serde(default)]
    when: RawWhen,
    /// Aliases, models or deployments, best first; before the tiers.
    #[serde(default)]
    route: Vec<String>,
    /// Tiers, best first; the others follow.
    #[serde(default)]
    tiers: Vec<String>,
    /// Providers that go first.
    #[serde(default)]
    providers: Vec<String>,
    /// Models with one of these skills go first.
    #[serde(default)]
    skills: Vec<String>,
    /// Only the owner's machines may serve.
    #[serde(default)]
    stays_local: bool,
    /// Where it comes from; for readers of the file.
    #[serde(default, rename = "source")]
    _source: String,
}

/// When a rule holds. A list holds when one of its entries does.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawWhen {
    /// `generate`, `embed`, `translate`, `transcribe`, `speak`.
    methods: Vec<String>,
    /// Kinds of task or action, as callers name them.
    tasks: Vec<String>,
    /// `light`, `heavy`, `compute-heavy-local`.
    classes: Vec<String>,
    /// `simple`, `medium`, `complex`; estimated where the caller does not say.
    complexities: Vec<String>,
    /// `low`, `medium`, `high`.
    criticality: Option<String>,
    /// `low`, `medium`, `high`: how soon the answer is wanted.
    latency: Option<String>,
    /// `low`, `medium`, `high`.
    budget_sensitivity: Option<String>,
    /// More tokens of input than this.
    context_over: Option<u64>,
    /// So many tokens of input at most.
    context_up_to: Option<u64>,
    /// Whether tools are to be called.
    tools: Option<bool>,
    /// The conversation holds so many calls of tools at least.
    tool_turns_min: Option<u32>,
    /// Whether some cloud provider may still be paid for.
    budget_left: Option<bool>,
    /// Names of modes, one of which is in force.
    modes: Vec<String>,
    /// The named model has more parameters than this, in millions. Only with this or the next a rule is for requests that
    /// name a model.
    parameters_over_millions: Option<u64>,
    /// The named model has so many parameters at most, in millions.
    parameters_up_to_millions: Option<u64>,
}

pub(super) fn check(
    file: &Path,
    raw: Vec<RawRule>,
    tiers: BTreeMap<String, Vec<String>>,
    actions: BTreeMap<String, String>,
    modes: &[&str],
) -> Result<Vec<Rule>, CatalogError> {
    if raw.len() + actions.len() > RULES_MAX {
        let place = Place { file, row: "[[rule]]" };
        let count = format!("{} rows, those of [actions] with them", raw.len() + actions.len());
        return Err(place.wrong("rule", count, format!("at most {RULES_MAX}")));
    }
    let mut rules = action_rules(file, tiers, actions)?;
    let mut seen: HashSet<String> = rules.iter().map(|rule| rule.name.clone()).collect();
    for (index, raw) in raw.into_iter().enumerate() {
        let row = format!("rule {} ({})", index + 1, raw.name.chars().take(NAME_MAX).collect::<String>());
        let place = Place { file, row: &row };
        let text = |c: char| !c.is_control();
        if raw.name.is_empty() || raw.name.chars().count() > NAME_MAX || !raw.name.chars().all(text) {
            return Err(place.wrong("name", format!("{:?}", raw.name), "1 to 64 characters of text"));
        }
        if !seen.insert(raw.name.clone()) {
            return Err(place.wrong("name", format!("{:?}", raw.name), "a name of its own"));
        }
        rules.push(rule(place, raw, modes)?);
    }
    Ok(rules)
}

fn rule(place: Place<'_>, raw: RawRule, modes: &[&str]) -> Result<Rule, CatalogError> {
    let rule = Rule {
        name: raw.name,
        when: when(place, raw.when, modes)?,
        route: list(place, "route", raw.route, |name| {
            ModelName::new(name).map_err(|error| error.expected.to_owned())
        })?,
        tiers: list(place, "tiers", raw.tiers, |name| Tier::from_name(&name).ok_or_else(known_tiers))?,
        providers: words(place, "providers", raw.providers)?,
        skills: skills(place, raw.skills)?,
        stays_local: raw.stays_local,
    };
    let idle =
        rule.route.is_empty() && rule.tiers.is_empty() && rule.providers.is_empty() && rule.skills.is_empty();
    if idle && !rule.stays_local {
        return Err(place.wrong("route", "empty", "one of route, tiers, providers, skills or stays_local"));
    }
    Ok(rule)
}

fn known_tiers() -> String {
    format!("one of {}", Tier::ALL.map(Tier::as_str).join(", "))
}

fn when(place: Place<'_>, raw: RawWhen, modes: &[&str]) -> Result<When, CatalogError> {
    let known = |names: Vec<&str>| format!("one of {}", names.join(", "));
    let level = |field, text: Option<String>| {
        let found = text.map(|text| named(&LEVELS, &text).ok_or(text)).transpose();
        found.map_err(|text| place.wrong(field, format!("{text:?}"), "low, medium or high"))
    };
    Ok(When {
        methods: list(place, "when.methods", raw.methods, |text| {
            named(&METHODS, &text).ok_or_else(|| known(METHODS.map(|(name, _)| name).to_vec()))
        })?,
        tasks: list(place, "when.tasks", raw.tasks, |text| {
            TaskName::new(text).map_err(|error| error.expected.to_owned())
        })?,
        classes: list(place, "when.classes", raw.classes, |text| {
            let class = CLASSES.into_iter().find(|class| class.as_str() == text);
            class.ok_or_else(|| known(CLASSES.map(WorkloadClass::as_str).to_vec()))
        })?,
        complexities: list(place, "when.complexities", raw.complexities, |text| {
            let complexity = Complexity::ALL.into_iter().find(|complexity| complexity.as_str() == text);
            complexity.ok_or_else(|| known(Complexity::ALL.map(Complexity::as_str).to_vec()))
        })?,
        criticality: level("when.criticality", raw.criticality)?,
        latency: level("when.latency", raw.latency)?,
        budget_sensitivity: level("when.budget_sensitivity", raw.budget_sensitivity)?,
        context_over: raw.context_over.map(Tokens::new),
        context_up_to: raw.context_up_to.map(Tokens::new),
        tools: raw.tools,
        tool_turns_min: raw.tool_turns_min,
        budget_left: raw.budget_left,
        modes: list(place, "when.modes", raw.modes, |mode| {
            if modes.contains(&mode.as_str()) { Ok(mode) } else { Err(known(modes.to_vec())) }
        })?,
        parameters_over: raw.parameters_over_millions,
        parameters_up_to: raw.parameters_up_to_millions,
    })
}

fn named<T: Copy>(known: &[(&str, T)], text: &str) -> Option<T> {
    known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

/// Each entry once, and not too many.
fn list<T: PartialEq>(
    place: Place<'_>,
    field: &'static str,
    raw: Vec<String>,
    read: impl Fn(String) -> Result<T, String>,
) -> Result<Vec<T>, CatalogError> {
    if raw.len() > ENTRIES_MAX {
        return Err(place.wrong(field, format!("{} long", raw.len()), format!("at most {ENTRIES_MAX}")));
    }
    let mut entries = Vec::with_capacity(raw.len());
    for text in raw {
        let shown = format!("{:?}", text.chars().take(80).collect::<String>());
        let entry = read(text).map_err(|expected| place.wrong(field, shown.clone(), expected))?;
        if entries.contains(&entry) {
            return Err(place.wrong(field, format!("{shown} twice"), "each entry once"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// One rule for each action: its tier's models, then those of the tiers above.
fn action_rules(
    file: &Path,
    mut tiers: BTreeMap<String, Vec<String>>,
    actions: BTreeMap<String, String>,
) -> Result<Vec<Rule>, CatalogError> {
    let place = Place { file, row: "[action_tiers]" };
    let mut routes = Vec::with_capacity(ACTION_TIERS.len());
    for tier in ACTION_TIERS {
        let raw = tiers.remove(tier).unwrap_or_default();
        routes.push(list(place, tier, raw, |name| {
            ModelName::new(name).map_err(|error| error.expected.to_owned())
        })?);
    }
    let expected = format!("one of {}", ACTION_TIERS.join(", "));
    if let Some(unknown) = tiers.into_keys().next() {
        return Err(place.wrong("tier", format!("{unknown:?}"), expected));
    }
    let place = Place { file, row: "[actions]" };
    let mut rules = Vec::with_capacity(actions.len());
    for (action, tier) in actions {
        let task = TaskName::new(action.clone()).map_err(|error| place.bad_name("action", &error))?;
        let index = ACTION_TIERS.iter().position(|known| *known == tier);
        let Some(index) = index else {
            return Err(place.wrong("tier", format!("{tier:?} for {task}"), expected));
        };
        let mut route: Vec<ModelName> = Vec::new();
        for model in routes.iter().skip(index).flatten() {
            if !route.contains(model) {
                route.push(model.clone());
            }
        }
        if route.is_empty() {
            let value = format!("{tier:?} for {task}");
            return Err(place.wrong("tier", value, "a tier that has models in [action_tiers]"));
        }
        rules.push(Rule {
            name: format!("action {task}"),
            when: When { tasks: vec![task], ..When::default() },
            route,
            ..Rule::default()
        });
    }
    Ok(rules)
}
