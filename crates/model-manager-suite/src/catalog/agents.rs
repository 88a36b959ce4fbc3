//! The agent matrix: `config/agents.toml`.

use std::{collections::HashMap, path::Path};

use domain::{
    classification::WorkloadClass,
    id::{AgentName, ModelName},
    routing::{AgentPlacement, Tier},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::{CatalogError, Place, parse_toml};

/// Agents of one file.
const AGENTS_MAX: usize = 1_024;
/// Length of a note, bytes; it travels in every snapshot.
const NOTE_BYTES_MAX: usize = 512;
/// Replacements that lead from one agent to the one that answers; decisions follow no more.
const REPLACEMENTS_MAX: usize = 4;

pub(super) const CLASSES: [WorkloadClass; 3] =
    [WorkloadClass::Light, WorkloadClass::Heavy, WorkloadClass::ComputeHeavyLocal];

/// The agent matrix.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    #[serde(default, rename = "agent")]
    agents: Vec<RawAgent>,
}

/// Where one agent runs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawAgent {
    /// Letters, digits, `-`, `_`; up to 64.
    name: String,
    /// `light`, `heavy`, `compute-heavy-local`.
    class: String,
    /// Best first: `remote-api`, `local-gpu`, `local-cpu`, `fallback`, `edge`.
    tiers: Vec<String>,
    /// Alias or model; the tier's default when absent.
    model: Option<String>,
    /// Who answers for it now.
    replaced_by: Option<String>,
    /// What the owner's document says.
    #[serde(default)]
    note: String,
}

pub(super) fn parse(file: &Path, text: &str) -> Result<Vec<AgentPlacement>, CatalogError> {
    let raw: RawFile = parse_toml(file, text)?;
    if raw.agents.is_empty() || raw.agents.len() > AGENTS_MAX {
        let count = format!("{} rows", raw.agents.len());
        return Err(Place { file, row: "[[agent]]" }.wrong(
            "agent",
            count,
            format!("1 to {AGENTS_MAX} rows"),
        ));
    }
    let mut agents = Vec::with_capacity(raw.agents.len());
    let mut rows = HashMap::with_capacity(raw.agents.len());
    for (index, raw) in raw.agents.into_iter().enumerate() {
        let row = row_name(index, &raw.name);
        let agent = check(Place { file, row: &row }, raw)?;
        if let Some(earlier) = rows.insert(agent.name.clone(), index) {
            let expected = format!("a name of its own, agent {} has it already", earlier + 1);
            return Err(Place { file, row: &row }.wrong(
                "name",
                format!("{:?}", agent.name.as_str()),
                expected,
            ));
        }
        agents.push(agent);
    }
    check_replacements(file, &agents)?;
    Ok(agents)
}

fn row_name(index: usize, name: &str) -> String {
    format!("agent {} ({})", index + 1, name.chars().take(64).collect::<String>())
}

fn check(place: Place<'_>, raw: RawAgent) -> Result<AgentPlacement, CatalogError> {
    let name = AgentName::new(raw.name).map_err(|error| place.bad_name("name", &error))?;
    let class = CLASSES.into_iter().find(|class| class.as_str() == raw.class);
    let Some(class) = class else {
        let expected = CLASSES.map(WorkloadClass::as_str).join(", ");
        return Err(place.wrong("class", format!("{:?}", raw.class), format!("one of {expected}")));
    };
    if raw.note.len() > NOTE_BYTES_MAX {
        let value = format!("{} bytes long", raw.note.len());
        return Err(place.wrong("note", value, format!("at most {NOTE_BYTES_MAX} bytes")));
    }
    let model = raw.model.map(ModelName::new).transpose();
    let replaced_by = raw.replaced_by.map(AgentName::new).transpose();
    Ok(AgentPlacement {
        name,
        class,
        tiers: tiers(place, &raw.tiers)?,
        model: model.map_err(|error| place.bad_name("model", &error))?,
        replaced_by: replaced_by.map_err(|error| place.bad_name("replaced_by", &error))?,
        note: raw.note,
    })
}

fn tiers(place: Place<'_>, names: &[String]) -> Result<Vec<Tier>, CatalogError> {
    let known = || format!("one or more of {}", Tier::ALL.map(Tier::as_str).join(", "));
    if names.is_empty() {
        return Err(place.wrong("tiers", "[]", known()));
    }
    let mut tiers = Vec::with_capacity(names.len());
    for name in names {
        let Some(tier) = Tier::from_name(name) else {
            return Err(place.wrong("tiers", format!("{name:?}"), known()));
        };
        if tiers.contains(&tier) {
            return Err(place.wrong("tiers", format!("{name:?} twice"), "each tier once"));
        }
        tiers.push(tier);
    }
    Ok(tiers)
}

/// Every replacement leads, in a few steps, to an agent that answers.
fn check_replacements(file: &Path, agents: &[AgentPlacement]) -> Result<(), CatalogError> {
    let by_name: HashMap<_, _> = agents.iter().map(|agent| (&agent.name, agent)).collect();
    for (index, agent) in agents.iter().enumerate() {
        let row = row_name(index, agent.name.as_str());
        let wrong = |value: &AgentName, expected: &str| {
            Place { file, row: &row }.wrong("replaced_by", format!("{:?}", value.as_str()), expected)
        };
        let (mut at, mut steps) = (agent, 0);
        while let Some(next) = &at.replaced_by {
            steps += 1;
            if steps > REPLACEMENTS_MAX {
                let expected = "an agent that answers, at most 4 replacements away and not in a circle";
                return Err(wrong(next, expected));
            }
            at = by_name.get(next).ok_or_else(|| wrong(next, "the name of another row"))?;
        }
    }
    Ok(())
}
