//! Budgets: rows of `config/policies.toml`.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use domain::{
    budget::{Budget, Period, Scope, WhenSpent},
    id::{KeyId, NodeId},
    simulation::Share,
    units::Money,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::{CatalogError, Place};

/// Budgets of one file: each call asks all of them.
const BUDGETS_MAX: usize = 64;
/// Length of a budget's name and of what it is for, characters.
const NAME_MAX: usize = 64;

/// What calls may cost.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBudget {
    name: String,
    scope: String,
    period: String,
    limit: String,
    when_spent: String,
    #[serde(default = "alert_percent")]
    alert_percent: u32,
    machines: BTreeMap<String, f64>,
}

/// The owner's documents alert at 80 %.
const fn alert_percent() -> u32 {
    80
}

/// A budget and the parts that machines have of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedBudget {
    budget: Budget,
    parts: BTreeMap<String, Share>,
}

impl SharedBudget {
    /// The budget as this machine keeps it: one that has no part of it may spend nothing.
    #[must_use]
    pub fn of(&self, machine: &NodeId) -> Budget {
        let allowance = self.parts.get(machine.as_str()).copied().unwrap_or(Share::NONE);
        Budget { allowance, ..self.budget.clone() }
    }
}

pub(super) fn check(file: &Path, raw: Vec<RawBudget>) -> Result<Vec<SharedBudget>, CatalogError> {
    if raw.len() > BUDGETS_MAX {
        let place = Place { file, row: "[[budget]]" };
        let expected = format!("at most {BUDGETS_MAX} rows");
        return Err(place.wrong("budget", format!("{} rows", raw.len()), expected));
    }
    let mut seen = HashSet::with_capacity(raw.len());
    let mut budgets = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let row = format!("budget {} ({})", index + 1, raw.name.chars().take(NAME_MAX).collect::<String>());
        let place = Place { file, row: &row };
        if !seen.insert(raw.name.clone()) {
            return Err(place.wrong("name", format!("{:?}", raw.name), "a name of its own"));
        }
        budgets.push(budget(place, raw)?);
    }
    Ok(budgets)
}

fn budget(place: Place<'_>, raw: RawBudget) -> Result<SharedBudget, CatalogError> {
    if !is_name(&raw.name) {
        let expected = format!("1 to {NAME_MAX} letters, digits, `-`, `_` or `.`");
        return Err(place.wrong("name", format!("{:?}", raw.name), expected));
    }
    let limit: Money = raw
        .limit
        .parse()
        .map_err(|_| place.wrong("limit", format!("{:?}", raw.limit), "dollars, as in \"10.00\""))?;
    if !(1..=100).contains(&raw.alert_percent) {
        return Err(place.wrong("alert_percent", raw.alert_percent.to_string(), "1 to 100"));
    }
    let budget = Budget {
        scope: scope(place, &raw.scope)?,
        period: match raw.period.as_str() {
            "day" => Period::Day,
            "month" => Period::Month,
            other => return Err(place.wrong("period", format!("{other:?}"), "\"day\" or \"month\"")),
        },
        limit,
        allowance: Share::NONE,
        when_spent: match raw.when_spent.as_str() {
            "reject" => WhenSpent::Reject,
            "local" => WhenSpent::Local,
            "queue" => WhenSpent::Queue,
            other => {
                let expected = "\"reject\", \"local\" or \"queue\"";
                return Err(place.wrong("when_spent", format!("{other:?}"), expected));
            }
        },
        alert_at: Share::millionths(raw.alert_percent * 10_000),
        name: raw.name,
    };
    Ok(SharedBudget { budget, parts: parts(place, raw.machines)? })
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().count() <= NAME_MAX && text.chars().all(plain)
}

fn scope(place: Place<'_>, text: &str) -> Result<Scope, CatalogError> {
    let scope = match text.split_once(':') {
        None if text == "all" => Some(Scope::All),
        Some(("provider", name)) if is_name(name) => Some(Scope::Provider(name.to_owned())),
        Some(("agent", name)) if is_name(name) => Some(Scope::Agent(name.to_owned())),
        Some(("key", id)) => KeyId::new(id).ok().map(|id| Scope::Key(id.into_string())),
        _ => None,
    };
    scope.ok_or_else(|| {
        let expected = "\"all\", \"provider:<name>\", \"agent:<name>\" or \"key:<id>\"";
        place.wrong("scope", format!("{:?}", text.chars().take(80).collect::<String>()), expected)
    })
}

/// Parts of the whole: together at most all of it, so that machines that do not hear each other cannot overspend.
fn parts(place: Place<'_>, raw: BTreeMap<String, f64>) -> Result<BTreeMap<String, Share>, CatalogError> {
    let mut parts = BTreeMap::new();
    let mut together = 0_u32;
    for (machine, part) in raw {
        let machine = NodeId::new(machine).map_err(|error| place.bad_name("machines", &error))?;
        if !(0.0..=1.0).contains(&part) {
            return Err(place.wrong("machines", format!("{part} for {machine}"), "a part from 0 to 1"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000,000")]
        let millionths = (part * 1e6).round() as u32;
        together += millionths;
        parts.insert(machine.to_string(), Share::millionths(millionths));
    }
    if parts.is_empty() || together > Share::ALL.as_millionths() {
        let value = format!("{} in all", f64::from(together) / 1e6);
        return Err(place.wrong("machines", value, "a part for each machine, together at most 1"));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::error::parse_toml;

    #[derive(Deserialize)]
    struct Rows {
        budget: Vec<RawBudget>,
    }

    const ROW: &str = r#"
        [[budget]]
        name = "cloud-day"
        scope = "provider:openai"
        period = "day"
        limit = "10.00"
        when_spent = "local"
        machines = { mainpc = 0.7, pc2 = 0.3 }
    "#;

    fn read(text: &str) -> Result<Vec<SharedBudget>, CatalogError> {
        let rows: Rows = parse_toml(Path::new("policies.toml"), text)?;
        check(Path::new("policies.toml"), rows.budget)
    }

    #[test]
    fn each_machine_keeps_its_part() {
        let budgets = read(ROW).unwrap();
        let allowed = |machine: &str| budgets[0].of(&NodeId::new(machine).unwrap()).allowed().to_string();
        assert_eq!([allowed("mainpc"), allowed("pc2"), allowed("other")], ["$7.00", "$3.00", "$0.00"]);
        assert_eq!(budgets[0].budget.alert_at, Share::millionths(800_000));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (old, new, expected) in [
            ("\"cloud-day\"", "\"cloud day\"", "name is \"cloud day\""),
            ("provider:openai", "openai", "scope is \"openai\""),
            ("\"day\"", "\"week\"", "period is \"week\", expected \"day\" or \"month\""),
            ("10.00", "-1", "limit is \"-1\", expected dollars"),
            ("\"local\"", "\"panic\"", "when_spent is \"panic\""),
            ("pc2 = 0.3", "pc2 = 0.31", "machines is 1.01 in all"),
            ("pc2 = 0.3", "pc2 = -0.3", "machines is -0.3 for pc2"),
            ("period", "perod", "unknown field `perod`"),
        ] {
            assert!(ROW.contains(old), "{old}");
            let error = read(&ROW.replacen(old, new, 1)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let twice = read(&format!("{ROW}{ROW}")).unwrap_err().to_string();
        assert!(twice.contains("budget 2 (cloud-day): name is"), "{twice}");
    }
}
