//! Modes, models and what time is worth: `[routing]` and `[[model]]` of `config/policies.toml`.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use domain::{
    id::ModelName,
    routing::{CloudUse, Mode, ModelTraits, Policy, Quality, Weights, Worth},
    units::Money,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::{CatalogError, Place};

/// Modes of one file.
const MODES_MAX: usize = 16;
/// Length of a mode's name, as requests may ask for it.
const MODE_NAME_MAX: usize = 32;
/// Models of one file.
const MODELS_MAX: usize = 1_024;
/// Skills of a model or a rule.
pub(super) const SKILLS_MAX: usize = 32;
/// Weights are told in fractions that make one, to a thousandth.
const WHOLE: u32 = 1_000;
/// A caller who waits longer than an hour for the first piece is not in a hurry.
const SOON_MS_MAX: u64 = 3_600_000;
/// More parameters than any model has, in millions.
const PARAMETERS_MILLIONS_MAX: u64 = 100_000_000;

/// How requests are weighed.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRouting {
    /// The mode in force while `hybridctl mode set` has switched on no other.
    default_mode: String,
    /// Modes beside `local-only`, `local-preferred`, `balanced` and `performance`, or in place of them.
    modes: BTreeMap<String, RawMode>,
    /// Percent of utilization over which a GPU is busy and the cloud goes first.
    gpu_busy_over_percent: u32,
    /// The longest wait for a slot or a load of a request whose latency sensitivity is high, milliseconds.
    soon_ms: u64,
    /// US dollars that a second of waiting is worth.
    second_is_worth: String,
    /// US dollars that one step of quality (low, medium, high, very-high) is worth in one answer.
    quality_step_is_worth: String,
    /// Alias or model for requests that name none while flag `router`, or `task.<task>` of their task, is off for them.
    unrouted: Option<String>,
}

impl Default for RawRouting {
    fn default() -> Self {
        let policy = Policy::default();
        let dollars = |money: Money| money.to_string().replacen('$', "", 1);
        Self {
            default_mode: policy.default_mode,
            modes: BTreeMap::new(),
            gpu_busy_over_percent: policy.gpu_busy_over,
            soon_ms: policy.soon_ms,
            second_is_worth: dollars(policy.worth.second),
            quality_step_is_worth: dollars(policy.worth.quality_step),
            unrouted: None,
        }
    }
}

/// How much the cloud is used, and what counts how much.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawMode {
    /// `never`, `fallback-critical-only`, `balanced` or `aggressive`.
    cloud: String,
    weights: RawWeights,
}

/// Parts of one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawWeights {
    cost: f64,
    quality: f64,
    latency: f64,
}

/// What a model is good for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    /// As callers and aliases name it.
    name: String,
    /// `low`, `medium`, `high` or `very-high`; by its size when absent.
    quality: Option<String>,
    /// What it is good at, as in `planning`; rules prefer by skill.
    #[serde(default)]
    skills: Vec<String>,
    /// Read from the name when absent, as in `llama-3.1-8b-instruct`.
    parameters_millions: Option<u64>,
}

pub(super) fn policy(file: &Path, raw: RawRouting, models: Vec<RawModel>) -> Result<Policy, CatalogError> {
    let place = Place { file, row: "[routing]" };
    let modes = modes(file, raw.modes)?;
    if !modes.iter().any(|mode| mode.name == raw.default_mode) {
        let names: Vec<&str> = modes.iter().map(|mode| mode.name.as_str()).collect();
        let expected = format!("one of {}", names.join(", "));
        return Err(place.wrong("default_mode", format!("{:?}", raw.default_mode), expected));
    }
    if raw.gpu_busy_over_percent > 100 {
        let value = raw.gpu_busy_over_percent.to_string();
        return Err(place.wrong("gpu_busy_over_percent", value, "0 to 100"));
    }
    if raw.soon_ms > SOON_MS_MAX {
        let expected = format!("0 to {SOON_MS_MAX} milliseconds");
        return Err(place.wrong("soon_ms", raw.soon_ms.to_string(), expected));
    }
    let money = |field, text: &str| {
        text.parse::<Money>().map_err(|_| place.wrong(field, format!("{text:?}"), "dollars as in \"0.01\""))
    };
    let unrouted = raw.unrouted.map(ModelName::new).transpose();
    Ok(Policy {
        worth: Worth {
            second: money("second_is_worth", &raw.second_is_worth)?,
            quality_step: money("quality_step_is_worth", &raw.quality_step_is_worth)?,
        },
        gpu_busy_over: raw.gpu_busy_over_percent,
        soon_ms: raw.soon_ms,
        unrouted: unrouted.map_err(|error| place.bad_name("unrouted", &error))?,
        default_mode: raw.default_mode,
        modes,
        models: self::models(file, models)?,
        rules: Vec::new(),
        mode_flags: Vec::new(),
    })
}

/// The owner's four, and those of the file in their place or beside them.
fn modes(file: &Path, raw: BTreeMap<String, RawMode>) -> Result<Vec<Mode>, CatalogError> {
    let mut modes = Mode::of_the_owner();
    if raw.len() > MODES_MAX {
        let place = Place { file, row: "[routing.modes]" };
        return Err(place.wrong("modes", format!("{} modes", raw.len()), format!("at most {MODES_MAX}")));
    }
    for (name, raw) in raw {
        let row = format!("[routing.modes.{}]", name.chars().take(MODE_NAME_MAX).collect::<String>());
        let place = Place { file, row: &row };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || name.len() > MODE_NAME_MAX || !name.chars().all(plain) {
            return Err(place.wrong("name", format!("{name:?}"), "1 to 32 letters, digits or `-`"));
        }
        let cloud = CloudUse::ALL.into_iter().find(|cloud| cloud.as_str() == raw.cloud);
        let cloud = cloud.ok_or_else(|| {
            let expected = format!("one of {}", CloudUse::ALL.map(CloudUse::as_str).join(", "));
            place.wrong("cloud", format!("{:?}", raw.cloud), expected)
        })?;
        let mode = Mode { weights: weights(place, &raw.weights)?, cloud, name };
        match modes.iter_mut().find(|known| known.name == mode.name) {
            Some(known) => *known = mode,
            None => modes.push(mode),
        }
    }
    Ok(modes)
}

fn weights(place: Place<'_>, raw: &RawWeights) -> Result<Weights, CatalogError> {
    let part = |field, value: f64| {
        if (0.0..=1.0).contains(&value) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000")]
            Ok((value * f64::from(WHOLE)).round() as u32)
        } else {
            Err(place.wrong(field, value.to_string(), "a part from 0 to 1"))
        }
    };
    let weights = Weights {
        cost: part("weights.cost", raw.cost)?,
        quality: part("weights.quality", raw.quality)?,
        latency: part("weights.latency", raw.latency)?,
    };
    let sum = weights.cost + weights.quality + weights.latency;
    if sum != WHOLE {
        let value = format!("{} in all", f64::from(sum) / f64::from(WHOLE));
        return Err(place.wrong("weights", value, "parts that make 1"));
    }
    Ok(weights)
}

fn models(file: &Path, raw: Vec<RawModel>) -> Result<HashMap<ModelName, ModelTraits>, CatalogError> {
    if raw.len() > MODELS_MAX {
        let place = Place { file, row: "[[model]]" };
        return Err(place.wrong(
            "model",
            format!("{} rows", raw.len()),
            format!("at most {MODELS_MAX} rows"),
        ));
    }
    let mut models = HashMap::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let row = format!("model {} ({})", index + 1, raw.name.chars().take(64).collect::<String>());
        let place = Place { file, row: &row };
        let name = ModelName::new(raw.name).map_err(|error| place.bad_name("name", &error))?;
        let quality = raw.quality.map(|text| {
            let expected = format!("one of {}", Quality::ALL.map(Quality::as_str).join(", "));
            let known = Quality::ALL.into_iter().find(|quality| quality.as_str() == text);
            known.ok_or_else(|| place.wrong("quality", format!("{text:?}"), expected))
        });
        let parameters = raw.parameters_millions;
        if parameters.is_some_and(|count| !(1..=PARAMETERS_MILLIONS_MAX).contains(&count)) {
            let value = parameters.unwrap_or_default().to_string();
            let expected = format!("1 to {PARAMETERS_MILLIONS_MAX}");
            return Err(place.wrong("parameters_millions", value, expected));
        }
        let traits = ModelTraits {
            quality: quality.transpose()?,
            skills: skills(place, raw.skills)?,
            parameters_millions: parameters,
        };
        let known = name.clone();
        if models.insert(name, traits).is_some() {
            return Err(place.wrong("name", format!("{:?}", known.as_str()), "a name of its own"));
        }
    }
    Ok(models)
}

pub(super) fn skills(place: Place<'_>, skills: Vec<String>) -> Result<Vec<String>, CatalogError> {
    words(place, "skills", skills)
}

/// Names that only this file uses: providers, skills.
pub(super) fn words(
    place: Place<'_>,
    field: &'static str,
    words: Vec<String>,
) -> Result<Vec<String>, CatalogError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let bad = words.iter().find(|word| word.is_empty() || word.len() > 64 || !word.chars().all(plain));
    if let Some(bad) = bad {
        let start: String = bad.chars().take(64).collect();
        return Err(place.wrong(field, format!("{start:?}"), "1 to 64 letters, digits, `-`, `_` or `.`"));
    }
    if words.len() > SKILLS_MAX {
        return Err(place.wrong(field, format!("{} long", words.len()), format!("at most {SKILLS_MAX}")));
    }
    Ok(words)
}
