//! Workload files, checked whole. Errors name the setting, its value and what was expected.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use domain::pricing::Price;
use domain::simulation::{Api, Electricity, Hardware, Overflow, Rental, Share, Variant, Workload};
use domain::units::{Money, Tokens};
use serde::Deserialize;

/// Stands for every class.
const ALL: &str = "all";
/// Most units a day: a million agents busy each minute.
const UNITS_MAX: u64 = 1_000_000;

/// A workload and the ways to run it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) title: String,
    /// What is counted: `iteration`, `task`.
    pub(super) unit: String,
    pub(super) workload: Workload,
    /// The first is what the others are compared with.
    pub(super) variants: Vec<(String, Variant)>,
    /// Amounts are rounded to whole ones of these.
    pub(super) round_to: Money,
    /// Units a day, ascending.
    pub(super) compare_at: Vec<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: String,
    unit: String,
    units_per_day: u64,
    input_tokens_per_unit: u64,
    output_tokens_per_unit: u64,
    #[serde(default = "cent")]
    round_to: String,
    #[serde(default)]
    compare_at: Vec<u64>,
    classes: BTreeMap<String, f64>,
    models: BTreeMap<String, WrittenModel>,
    variants: Vec<WrittenVariant>,
}

fn cent() -> String {
    "0.01".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenModel {
    input_per_million: String,
    output_per_million: String,
    cached_input_per_million: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenVariant {
    name: String,
    model: String,
    /// Share of each class that goes to the model; `all` for every class.
    to_api: BTreeMap<String, f64>,
    #[serde(default)]
    cached_input_share: f64,
    #[serde(default)]
    batch_share: f64,
    #[serde(default)]
    batch_discount: f64,
    overflow: Option<WrittenOverflow>,
    electricity: Option<WrittenElectricity>,
    rental: Option<WrittenRental>,
    hardware: Option<WrittenHardware>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOverflow {
    above_per_day: u64,
    share: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenElectricity {
    watts: u64,
    hours_per_day: u64,
    per_kwh: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRental {
    per_hour: String,
    hours_per_day: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHardware {
    price: String,
    months: u32,
}

impl Plan {
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let named = || format!("workload {}", file.display());
        let text = std::fs::read_to_string(file).with_context(named)?;
        Self::parse(&text).with_context(named)
    }

    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let written: Written = toml::from_str(text)?;
        let volume = |field: &str, count: u64| {
            let fits = (1..=UNITS_MAX).contains(&count);
            ensure!(fits, "{field} is {count}, expected 1 to {UNITS_MAX} units a day");
            Ok(count)
        };
        let classes = classes(&written.classes)?;
        let models = written
            .models
            .iter()
            .map(|(name, model)| Ok((name.as_str(), price(model).with_context(|| format!("models.{name}"))?)))
            .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        ensure!(!written.variants.is_empty(), "variants is empty, expected at least one");
        let variants = written
            .variants
            .iter()
            .enumerate()
            .map(|(at, variant)| {
                let read = variant.read(&classes, &models).with_context(|| format!("variants[{at}]"))?;
                Ok((variant.name.clone(), read))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut compare_at = written.compare_at.clone();
        compare_at.sort_unstable();
        compare_at.dedup();
        for count in &compare_at {
            volume("compare_at", *count)?;
        }
        Ok(Self {
            workload: Workload {
                units_per_day: volume("units_per_day", written.units_per_day)?,
                input: Tokens::new(written.input_tokens_per_unit),
                output: Tokens::new(written.output_tokens_per_unit),
            },
            title: written.title,
            unit: written.unit,
            variants,
            round_to: money("round_to", &written.round_to)?,
            compare_at,
        })
    }
}

impl WrittenVariant {
    fn read(
        &self,
        classes: &BTreeMap<&str, Share>,
        models: &BTreeMap<&str, Price>,
    ) -> anyhow::Result<Variant> {
        let known = || models.keys().copied().collect::<Vec<_>>().join(", ");
        let price = *models
            .get(self.model.as_str())
            .ok_or_else(|| anyhow!("model is {:?}, expected one of {}", self.model, known()))?;
        let mut to_api = Share::NONE;
        for (class, part) in &self.to_api {
            let part = share(&format!("to_api.{class}"), *part)?;
            let whole = match classes.get(class.as_str()) {
                Some(whole) => *whole,
                None if class == ALL => Share::ALL,
                None => {
                    let names = classes.keys().copied().collect::<Vec<_>>().join(", ");
                    return Err(anyhow!("to_api names {class:?}, expected {ALL} or a class: {names}"));
                }
            };
            to_api = to_api.and(part.of(whole));
        }
        let hours = |field: &str, hours: u64| {
            ensure!(hours <= 24, "{field} is {hours}, expected 0 to 24");
            Ok(hours)
        };
        let overflow = self.overflow.as_ref().map(|overflow| {
            let share = share("overflow.share", overflow.share)?;
            anyhow::Ok(Overflow { above_per_day: overflow.above_per_day, share })
        });
        let electricity = self.electricity.as_ref().map(|electricity| {
            anyhow::Ok(Electricity {
                watts: electricity.watts,
                hours_per_day: hours("electricity.hours_per_day", electricity.hours_per_day)?,
                per_kwh: money("electricity.per_kwh", &electricity.per_kwh)?,
            })
        });
        let rental = self.rental.as_ref().map(|rental| {
            anyhow::Ok(Rental {
                per_hour: money("rental.per_hour", &rental.per_hour)?,
                hours_per_day: hours("rental.hours_per_day", rental.hours_per_day)?,
            })
        });
        let hardware = self.hardware.as_ref().map(|hardware| {
            ensure!(hardware.months > 0, "hardware.months is 0, expected at least 1");
            Ok(Hardware { price: money("hardware.price", &hardware.price)?, months: hardware.months })
        });
        Ok(Variant {
            api: Api {
                share: to_api,
                price,
                cached: share("cached_input_share", self.cached_input_share)?,
                batched: share("batch_share", self.batch_share)?,
                batch_discount: share("batch_discount", self.batch_discount)?,
            },
            overflow: overflow.transpose()?,
            electricity: electricity.transpose()?,
            rental: rental.transpose()?,
            hardware: hardware.transpose()?,
        })
    }
}

fn classes(written: &BTreeMap<String, f64>) -> anyhow::Result<BTreeMap<&str, Share>> {
    let classes = written
        .iter()
        .map(|(name, part)| {
            ensure!(name != ALL, "classes.{ALL} stands for every class, expected another name");
            Ok((name.as_str(), share(&format!("classes.{name}"), *part)?))
        })
        .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let sum: u32 = classes.values().map(|share| share.as_millionths()).sum();
    ensure!(sum == Share::ALL.as_millionths(), "classes add up to {}, expected 1", f64::from(sum) / 1e6);
    Ok(classes)
}

fn price(model: &WrittenModel) -> anyhow::Result<Price> {
    let per_token = |field: &str, text: &str| {
        let picodollars = money(field, text)?.as_picodollars();
        ensure!(picodollars % 1_000_000 == 0, "{field} is {text:?}, expected at most six decimals");
        Ok(Money::picodollars(picodollars / 1_000_000))
    };
    let cached = model.cached_input_per_million.as_ref();
    Ok(Price {
        input: per_token("input_per_million", &model.input_per_million)?,
        output: per_token("output_per_million", &model.output_per_million)?,
        cached_input: cached.map(|text| per_token("cached_input_per_million", text)).transpose()?,
        ..Price::FREE
    })
}

fn money(field: &str, text: &str) -> anyhow::Result<Money> {
    text.parse().with_context(|| field.to_owned())
}

/// Millionths of what is written as a fraction.
fn share(field: &str, part: f64) -> anyhow::Result<Share> {
    ensure!((0.0..=1.0).contains(&part), "{field} is {part}, expected 0 to 1");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000,000")]
    Ok(Share::millionths((part * 1e6).round() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../../../config/workloads/daemon.toml");

    #[test]
    fn what_is_wrong_is_named() {
        for (old, new, expected) in [
            ("units_per_day = 100", "units_per_day = 0", "units_per_day is 0"),
            ("other = 0.10", "other = 0.20", "classes add up to 1.1"),
            ("other = 0.5", "others = 0.5", "to_api names \"others\""),
            ("other = 0.5", "other = 1.5", "to_api.other is 1.5"),
            ("hours_per_day = 1,", "hours_per_day = 25,", "electricity.hours_per_day is 25"),
            ("per_kwh = \"0.25\"", "per_kwh = \"cheap\"", "electricity.per_kwh"),
            ("model = \"claude-sonnet\"", "model = \"sonnet\"", "expected one of claude-sonnet"),
            ("unit = ", "units = ", "unknown field `units`"),
        ] {
            assert!(TEXT.contains(old), "{old}");
            let error = Plan::parse(&TEXT.replacen(old, new, 1)).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
