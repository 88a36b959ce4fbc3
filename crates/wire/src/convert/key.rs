//! Virtual keys, as the control bucket has them.

use domain::{
    budget::WhenSpent,
    fault::Fault,
    id::{AgentName, KeyId, ModelName, NodeId},
    key::{Allowed, Key, Limits, Spending},
    routing::Tier,
    simulation::Share,
    units::Money,
};

use super::tier;
use crate::v1;

/// Names in each list of what a key is for.
const NAMES_MAX: usize = 64;
/// Parts of a key's money.
const PARTS_MAX: usize = 16;
/// Characters of a note.
const NOTE_MAX: usize = 200;

impl TryFrom<v1::VirtualKey> for Key {
    type Error = Fault;

    /// Names of fields in faults are those of the message.
    fn try_from(wire: v1::VirtualKey) -> Result<Self, Fault> {
        let limits = wire.limits.unwrap_or_default();
        let note = wire.note.chars();
        if note.clone().count() > NOTE_MAX || note.clone().any(char::is_control) {
            let message = format!("note is too long or has control characters, expected at most {NOTE_MAX}");
            return Err(Fault::invalid("note", message));
        }
        Ok(Self {
            id: KeyId::new(wire.id)?,
            machine: NodeId::new(wire.machine)?,
            sha256: match wire.sha256.as_slice() {
                [] => None,
                bytes => Some(bytes.try_into().map_err(|_| {
                    Fault::invalid("sha256", format!("sha256 has {} bytes, expected 32", bytes.len()))
                })?),
            }
            .filter(|_| wire.revoked_unix_ms == 0),
            expires_unix_ms: some(wire.expires_unix_ms),
            disabled: wire.disabled,
            spending: spending(&limits)?,
            limits: Limits {
                requests_per_minute: some(limits.requests_per_minute),
                tokens_per_minute: some(limits.tokens_per_minute),
                concurrency: (limits.concurrency > 0).then_some(limits.concurrency),
            },
            allowed: Allowed {
                models: names("models", wire.models, ModelName::new)?,
                agents: names("agents", wire.agents, AgentName::new)?,
                tiers: wire.tiers.iter().map(|value| known_tier(*value)).collect::<Result<_, _>>()?,
            },
        })
    }
}

fn some(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}

fn known_tier(value: i32) -> Result<Tier, Fault> {
    tier(value).ok_or_else(|| Fault::invalid("tiers", format!("tiers has {value}, expected known tiers")))
}

fn names<T, E>(
    field: &str,
    texts: Vec<String>,
    name: impl Fn(String) -> Result<T, E>,
) -> Result<Vec<T>, Fault>
where
    Fault: From<E>,
{
    if texts.len() > NAMES_MAX {
        let message = format!("{field} has {} names, expected at most {NAMES_MAX}", texts.len());
        return Err(Fault::invalid(field, message));
    }
    Ok(texts.into_iter().map(name).collect::<Result<_, _>>()?)
}

fn spending(limits: &v1::KeyLimits) -> Result<Spending, Fault> {
    let money = |field: &str, amount: Option<i64>| match amount {
        Some(amount) if amount < 0 => {
            Err(Fault::invalid(field, format!("{field} is {amount}, expected 0 or more")))
        }
        amount => Ok(amount.map(Money::picodollars)),
    };
    let mut parts = Vec::with_capacity(limits.parts.len().min(PARTS_MAX));
    for part in limits.parts.iter().take(PARTS_MAX + 1) {
        parts.push((NodeId::new(part.machine.clone())?, Share::millionths(part.millionths)));
    }
    let whole = u64::from(Share::ALL.as_millionths());
    let together: u64 = limits.parts.iter().map(|part| u64::from(part.millionths)).sum();
    let twice = parts
        .iter()
        .enumerate()
        .any(|(at, (name, _))| parts.iter().skip(at + 1).any(|(other, _)| other == name));
    if together > whole || limits.parts.len() > PARTS_MAX || twice {
        let message = format!(
            "parts has {} parts of {together} millionths in all, expected at most {PARTS_MAX}, each machine once, together at most {whole}",
            limits.parts.len()
        );
        return Err(Fault::invalid("parts", message));
    }
    Ok(Spending {
        per_day: money("day_picodollars", limits.day_picodollars)?,
        per_month: money("month_picodollars", limits.month_picodollars)?,
        when_spent: match limits.when_spent() {
            v1::WhenSpent::Unspecified | v1::WhenSpent::Reject => WhenSpent::Reject,
            v1::WhenSpent::Local => WhenSpent::Local,
            v1::WhenSpent::Queue => WhenSpent::Queue,
        },
        parts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> v1::VirtualKey {
        v1::VirtualKey {
            id: "ci".to_owned(),
            machine: "mainpc".to_owned(),
            sha256: vec![7; 32],
            limits: Some(v1::KeyLimits {
                day_picodollars: Some(0),
                parts: vec![v1::KeyPart { machine: "pc2".to_owned(), millionths: 400_000 }],
                ..Default::default()
            }),
            tiers: vec![v1::Tier::LocalCpu.into()],
            ..Default::default()
        }
    }

    #[test]
    fn zero_is_no_limit_but_for_money() {
        let key = Key::try_from(key()).unwrap();
        assert_eq!(key.limits, Limits::default());
        assert_eq!((key.spending.per_day, key.spending.per_month), (Some(Money::ZERO), None));
        assert_eq!((key.allowed.tiers, key.sha256), (vec![Tier::LocalCpu], Some([7; 32])));
    }

    #[test]
    fn what_is_wrong_is_named_and_what_is_revoked_has_no_secret() {
        let parts = |millionths| v1::KeyPart { machine: "pc2".to_owned(), millionths };
        let limits = |limits| v1::VirtualKey { limits: Some(limits), ..key() };
        for (field, wrong) in [
            ("key", v1::VirtualKey { id: "a.b".to_owned(), ..key() }),
            ("sha256", v1::VirtualKey { sha256: vec![1; 31], ..key() }),
            ("tiers", v1::VirtualKey { tiers: vec![99], ..key() }),
            ("models", v1::VirtualKey { models: vec!["x".to_owned(); 65], ..key() }),
            ("agent", v1::VirtualKey { agents: vec!["a b".to_owned()], ..key() }),
            ("note", v1::VirtualKey { note: "\u{1b}".to_owned(), ..key() }),
            ("day_picodollars", limits(v1::KeyLimits { day_picodollars: Some(-1), ..Default::default() })),
            ("parts", limits(v1::KeyLimits { parts: vec![parts(1), parts(2)], ..Default::default() })),
            ("parts", limits(v1::KeyLimits { parts: vec![parts(1_000_001)], ..Default::default() })),
        ] {
            assert_eq!(Key::try_from(wrong).unwrap_err().field, field);
        }
        let revoked = v1::VirtualKey { revoked_unix_ms: 1, ..key() };
        assert_eq!(Key::try_from(revoked).unwrap().sha256, None);
    }
}
