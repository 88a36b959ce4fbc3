//! What a key may do, as the command line says it.

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use domain::routing::Tier;
use domain::simulation::Share;
use domain::units::Money;
use wire::v1;

use crate::usage::times;

/// Stands for "no limit".
const NONE: &str = "none";

#[derive(Debug, Default, clap::Args)]
pub(super) struct Change {
    /// Requests in any minute, or none
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<String>,
    /// Tokens in any minute, input and output together, or none
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<String>,
    /// Requests at once, or none
    #[arg(long, value_name = "N")]
    concurrency: Option<String>,
    /// Dollars a day (UTC), or none; 0 = only what costs nothing
    #[arg(long, value_name = "DOLLARS")]
    per_day: Option<String>,
    /// Dollars a month (UTC), or none
    #[arg(long, value_name = "DOLLARS")]
    per_month: Option<String>,
    /// What happens when the money is spent
    #[arg(long, value_enum)]
    when_spent: Option<WhenSpent>,
    /// A machine's part of the money, as in mainpc=0.8; may be given more than once [default: all of it on this machine]
    #[arg(long = "part", value_name = "MACHINE=PART")]
    parts: Vec<String>,
    /// Alias, model or deployment it is for; may be given more than once; any = all
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// Agent it is for; may be given more than once; any = all
    #[arg(long = "agent", value_name = "NAME")]
    agents: Vec<String>,
    /// Tier it is for; may be given more than once; any = all
    #[arg(long = "tier", value_name = "TIER")]
    tiers: Vec<String>,
    /// When it ends: a day, a time, or how long from now (30d), or never
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WhenSpent {
    Reject,
    Local,
    Queue,
}

impl Change {
    /// Puts what was said into the key.
    pub(super) fn apply(&self, key: &mut v1::VirtualKey, now_unix_ms: u64) -> anyhow::Result<()> {
        let limits = key.limits.get_or_insert_default();
        if let Some(text) = &self.requests_per_minute {
            limits.requests_per_minute = count("--requests-per-minute", text)?;
        }
        if let Some(text) = &self.tokens_per_minute {
            limits.tokens_per_minute = count("--tokens-per-minute", text)?;
        }
        if let Some(text) = &self.concurrency {
            let wanted = count("--concurrency", text)?;
            limits.concurrency = u32::try_from(wanted).context("--concurrency is too large")?;
        }
        if let Some(text) = &self.per_day {
            limits.day_picodollars = money("--per-day", text)?;
        }
        if let Some(text) = &self.per_month {
            limits.month_picodollars = money("--per-month", text)?;
        }
        if let Some(when_spent) = self.when_spent {
            let when_spent = match when_spent {
                WhenSpent::Reject => v1::WhenSpent::Reject,
                WhenSpent::Local => v1::WhenSpent::Local,
                WhenSpent::Queue => v1::WhenSpent::Queue,
            };
            limits.set_when_spent(when_spent);
        }
        if !self.parts.is_empty() {
            limits.parts = self.parts.iter().map(|text| part(text)).collect::<anyhow::Result<_>>()?;
        }
        replace(&mut key.models, &self.models);
        replace(&mut key.agents, &self.agents);
        if !self.tiers.is_empty() {
            let mut named = Vec::new();
            replace(&mut named, &self.tiers);
            key.tiers = named.iter().map(|name| tier(name)).collect::<anyhow::Result<_>>()?;
        }
        if let Some(text) = &self.expires {
            key.expires_unix_ms = if text == "never" {
                0
            } else {
                times::ahead_unix_ms(text, now_unix_ms).context("--expires")?
            };
        }
        if let Some(note) = &self.note {
            key.note.clone_from(note);
        }
        Ok(())
    }
}

/// `any` alone makes the list empty, which allows everything.
fn replace(list: &mut Vec<String>, wanted: &[String]) {
    if !wanted.is_empty() {
        *list = wanted.iter().filter(|name| *name != "any").cloned().collect();
    }
}

fn count(name: &str, text: &str) -> anyhow::Result<u64> {
    if text == NONE {
        return Ok(0);
    }
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| anyhow!("{name} is {text:?}, expected a number above 0, or {NONE}"))
}

fn money(name: &str, text: &str) -> anyhow::Result<Option<i64>> {
    if text == NONE {
        return Ok(None);
    }
    let amount: Money = text.parse().with_context(|| name.to_owned())?;
    Ok(Some(amount.as_picodollars()))
}

fn part(text: &str) -> anyhow::Result<v1::KeyPart> {
    let wrong = || anyhow!("--part is {text:?}, expected a machine and its part, as in mainpc=0.8");
    let (machine, part) = text.split_once('=').ok_or_else(wrong)?;
    let part: f64 = part.parse().ok().filter(|part| (0.0..=1.0).contains(part)).ok_or_else(wrong)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000,000")]
    let millionths = (part * f64::from(Share::ALL.as_millionths())).round() as u32;
    Ok(v1::KeyPart { machine: machine.to_owned(), millionths })
}

fn tier(name: &str) -> anyhow::Result<i32> {
    let tier = Tier::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Tier::ALL.into_iter().map(Tier::as_str).collect();
        anyhow!("--tier is {name:?}, expected one of {}", known.join(", "))
    })?;
    Ok(v1::Tier::from(tier).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let mut key = v1::VirtualKey::default();
        let first = Change {
            requests_per_minute: Some("60".to_owned()),
            per_day: Some("1.50".to_owned()),
            parts: vec!["mainpc=0.8".to_owned()],
            models: vec!["gpt-4o".to_owned()],
            tiers: vec!["remote-api".to_owned()],
            expires: Some("1d".to_owned()),
            ..Change::default()
        };
        first.apply(&mut key, 1_000).unwrap();
        let second = Change {
            requests_per_minute: Some("none".to_owned()),
            per_day: Some("0".to_owned()),
            models: vec!["any".to_owned()],
            ..Change::default()
        };
        second.apply(&mut key, 2_000).unwrap();
        let limits = key.limits.unwrap();
        assert_eq!((limits.requests_per_minute, limits.day_picodollars), (0, Some(0)));
        assert_eq!((limits.parts[0].millionths, key.expires_unix_ms), (800_000, 86_401_000));
        assert_eq!((key.models.len(), key.tiers), (0, vec![v1::Tier::RemoteApi.into()]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let text = |text: &str| Some(text.to_owned());
        for (change, name) in [
            (Change { requests_per_minute: text("0"), ..Change::default() }, "--requests-per-minute"),
            (Change { per_month: text("cheap"), ..Change::default() }, "--per-month"),
            (Change { parts: vec!["mainpc".to_owned()], ..Change::default() }, "--part"),
            (Change { tiers: vec!["cloud".to_owned()], ..Change::default() }, "--tier"),
            (Change { expires: text("soon"), ..Change::default() }, "--expires"),
        ] {
            let error = change.apply(&mut v1::VirtualKey::default(), 0).unwrap_err();
            assert!(format!("{error:#}").contains(name), "{error:#}");
        }
    }
}
