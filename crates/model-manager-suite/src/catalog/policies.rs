//! Thresholds, tier defaults, aliases and budgets: `config/policies.toml`.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use domain::{
    classification::Thresholds,
    id::ModelName,
    routing::{Alias, Tier},
    units::{Bytes, Tokens},
};
use serde::Deserialize;

use super::{
    budgets::{self, RawBudget, SharedBudget},
    error::{CatalogError, Place, parse_toml},
};

/// Aliases of one file.
const ALIASES_MAX: usize = 1_024;
/// Targets of one alias.
const TARGETS_MAX: usize = 64;
/// More tokens than any model's context.
const TOKENS_MAX: u64 = 1_000_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    thresholds: RawThresholds,
    #[serde(default)]
    tier_defaults: BTreeMap<String, String>,
    #[serde(default, rename = "alias")]
    aliases: Vec<RawAlias>,
    #[serde(default, rename = "budget")]
    budgets: Vec<RawBudget>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawThresholds {
    heavy_tokens: u64,
    compute_heavy_vram_bytes: u64,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlias {
    name: String,
    targets: Vec<String>,
}

pub(super) struct Policies {
    pub(super) thresholds: Thresholds,
    pub(super) aliases: Vec<Alias>,
    pub(super) tier_defaults: Vec<(Tier, ModelName)>,
    pub(super) budgets: Vec<SharedBudget>,
}

pub(super) fn parse(file: &Path, text: &str) -> Result<Policies, CatalogError> {
    let raw: RawFile = parse_toml(file, text)?;
    Ok(Policies {
        thresholds: thresholds(Place { file, row: "[thresholds]" }, &raw.thresholds)?,
        tier_defaults: tier_defaults(Place { file, row: "[tier_defaults]" }, raw.tier_defaults)?,
        aliases: aliases(file, raw.aliases)?,
        budgets: budgets::check(file, raw.budgets)?,
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
        aliases.push(Alias { name, targets: targets(place, raw.targets, &names)? });
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
