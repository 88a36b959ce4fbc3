//! Thresholds, tier defaults, aliases and budgets: `config/policies.toml`.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use domain::{
    classification::Thresholds,
    id::ModelName,
    routing::{Alias, Policy, Target, Tier},
    units::{Bytes, Tokens},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    budgets::{self, RawBudget, SharedBudget},
    error::{CatalogError, Place, parse_toml},
    routing::{self, RawModel, RawRouting},
    rules::{self, RawRule},
};

/// Aliases of one file.
const ALIASES_MAX: usize = 1_024;
/// Targets of one alias.
const TARGETS_MAX: usize = 64;
/// Largest weight of a target.
const WEIGHT_MAX: u32 = 1_000;
/// More tokens than any model's context.
const TOKENS_MAX: u64 = 1_000_000_000;

/// What the owner decided about routing and money.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    /// Of rule R1.
    #[serde(default)]
    thresholds: RawThresholds,
    /// Alias or model for requests that name none, by tier.
    #[serde(default)]
    tier_defaults: BTreeMap<String, String>,
    #[serde(default, rename = "alias")]
    aliases: Vec<RawAlias>,
    #[serde(default, rename = "budget")]
    budgets: Vec<RawBudget>,
    #[serde(default)]
    routing: RawRouting,
    #[serde(default, rename = "model")]
    models: Vec<RawModel>,
    #[serde(default, rename = "rule")]
    rules: Vec<RawRule>,
    /// Models of the three tiers of actions: `local-fast`, `local-quality`, `api-fallback`.
    #[serde(default)]
    action_tiers: BTreeMap<String, Vec<String>>,
    /// The tier of each kind of action.
    #[serde(default)]
    actions: BTreeMap<String, String>,
}

/// What a request weighs.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawThresholds {
    /// More tokens a call are heavy.
    heavy_tokens: u64,
    /// More GPU memory is compute-heavy-local.
    compute_heavy_vram_bytes: u64,
    /// What an answer is taken to need when the caller's own bound is larger or absent.
    expected_output_tokens: u64,
}

impl Default for RawThresholds {
    fn default() -> Self {
        let Thresholds { heavy, compute_heavy_vram, expected_output } = Thresholds::default();
        Self {
            heavy_tokens: heavy.get(),
            compute_heavy_vram_bytes: compute_heavy_vram.get(),
            expected_output_tokens: expected_output.get(),
        }
    }
}

/// One name for several models.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawAlias {
    /// As callers name it.
    name: String,
    /// Models or deployments, best first.
    targets: Vec<String>,
    /// Targets that share the load, each with its part: they stand together in the place of the first of them.
    #[serde(default)]
    weights: BTreeMap<String, u32>,
}

pub(super) struct Policies {
    pub(super) thresholds: Thresholds,
    pub(super) aliases: Vec<Alias>,
    pub(super) tier_defaults: Vec<(Tier, ModelName)>,
    pub(super) budgets: Vec<SharedBudget>,
    pub(super) policy: Policy,
}

pub(super) fn parse(file: &Path, text: &str) -> Result<Policies, CatalogError> {
    let raw: RawFile = parse_toml(file, text)?;
    Ok(Policies {
        thresholds: thresholds(Place { file, row: "[thresholds]" }, &raw.thresholds)?,
        tier_defaults: tier_defaults(Place { file, row: "[tier_defaults]" }, raw.tier_defaults)?,
        aliases: aliases(file, raw.aliases)?,
        budgets: budgets::check(file, raw.budgets)?,
        policy: {
            let policy = routing::policy(file, raw.routing, raw.models)?;
            let modes: Vec<&str> = policy.modes.iter().map(|mode| mode.name.as_str()).collect();
            let rules = rules::check(file, raw.rules, raw.action_tiers, raw.actions, &modes)?;
            Policy { rules, ..policy }
        },
    })
}

fn thresholds(place: Place<'_>, raw: &RawThresholds) -> Result<Thresholds, CatalogError> {
    let tokens = |field, count: u64| {
        if (1..=TOKENS_MAX).contains(&count) {
            Ok(Tokens::new(count))
        } else {
            Err(place.wrong(field, count.to_string(), format!("1 to {TOKENS_MAX} tokens")))
        }
    };
    Ok(Thresholds {
        heavy: tokens("heavy_tokens", raw.heavy_tokens)?,
        compute_heavy_vram: Bytes::new(raw.compute_heavy_vram_bytes),
        expected_output: tokens("expected_output_tokens", raw.expected_output_tokens)?,
    })
}

fn tier_defaults(
    place: Place<'_>,
    mut raw: BTreeMap<String, String>,
) -> Result<Vec<(Tier, ModelName)>, CatalogError> {
    let mut defaults = Vec::with_capacity(Tier::ALL.len());
    for tier in Tier::ALL {
        if let Some(model) = raw.remove(tier.as_str()) {
            let model = ModelName::new(model).map_err(|error| place.bad_name(tier.as_str(), &error))?;
            defaults.push((tier, model));
        }
    }
    match raw.into_keys().next() {
        Some(unknown) => {
            let expected = format!("one of {}", Tier::ALL.map(Tier::as_str).join(", "));
            Err(place.wrong("tier", format!("{unknown:?}"), expected))
        }
        None => Ok(defaults),
    }
}

fn aliases(file: &Path, raw: Vec<RawAlias>) -> Result<Vec<Alias>, CatalogError> {
    if raw.len() > ALIASES_MAX {
        let place = Place { file, row: "[[alias]]" };
        return Err(place.wrong(
            "alias",
            format!("{} rows", raw.len()),
            format!("at most {ALIASES_MAX} rows"),
        ));
    }
    let names: Vec<String> = raw.iter().map(|alias| alias.name.clone()).collect();
    let mut seen = HashSet::with_capacity(raw.len());
    let mut aliases = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let row = format!("alias {} ({})", index + 1, raw.name.chars().take(64).collect::<String>());
        let place = Place { file, row: &row };
        if !seen.insert(raw.name.clone()) {
            return Err(place.wrong("name", format!("{:?}", raw.name), "a name of its own"));
        }
        let name = ModelName::new(raw.name).map_err(|error| place.bad_name("name", &error))?;
        let targets = targets(place, raw.targets, &names)?;
        aliases.push(Alias { name, targets: weighted(place, targets, raw.weights)? });
    }
    Ok(aliases)
}

/// Targets are models or deployments: a decision looks one step far.
fn targets(place: Place<'_>, raw: Vec<String>, aliases: &[String]) -> Result<Vec<ModelName>, CatalogError> {
    if raw.is_empty() || raw.len() > TARGETS_MAX {
        let expected = format!("1 to {TARGETS_MAX} models or deployments");
        return Err(place.wrong("targets", format!("{} long", raw.len()), expected));
    }
    let mut targets: Vec<ModelName> = Vec::with_capacity(raw.len());
    for target in raw {
        if aliases.contains(&target) {
            return Err(place.wrong("targets", format!("{target:?}"), "models or deployments, no alias"));
        }
        let target = ModelName::new(target).map_err(|error| place.bad_name("targets", &error))?;
        if targets.contains(&target) {
            return Err(place.wrong("targets", format!("{:?} twice", target.as_str()), "each target once"));
        }
        targets.push(target);
    }
    Ok(targets)
}

/// Gives the targets that have a weight the place of the first of them.
fn weighted(
    place: Place<'_>,
    targets: Vec<ModelName>,
    mut weights: BTreeMap<String, u32>,
) -> Result<Vec<Target>, CatalogError> {
    let mut shared = None;
    let mut placed = Vec::with_capacity(targets.len());
    for mut target in Target::in_order(targets) {
        if let Some(weight) = weights.remove(target.model.as_str()) {
            if !(1..=WEIGHT_MAX).contains(&weight) {
                let value = format!("{weight} for {}", target.model);
                return Err(place.wrong("weights", value, format!("1 to {WEIGHT_MAX}")));
            }
            target.order = *shared.get_or_insert(target.order);
            target.weight = weight;
        }
        placed.push(target);
    }
    match weights.into_keys().next() {
        Some(unknown) => Err(place.wrong("weights", format!("{unknown:?}"), "names that stand in targets")),
        None => {
            placed.sort_by_key(|target| target.order);
            Ok(placed)
        }
    }
}
