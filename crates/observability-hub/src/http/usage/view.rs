//! What the usage API answers, as JSON. Money is told twice: whole pico-dollars, and exact dollars as text, because
//! JavaScript's numbers end at 2^53.

use std::collections::BTreeMap;

use domain::units::Money;
use serde::Serialize;
use time::{Date, Duration};

use crate::{
    config::Role,
    ledger::{Attempt, Counters, Energy, Group, Range, Summary, TokenCounts},
    reference::Reference,
};

/// Exact dollars without the sign of the currency: `0.0003`.
pub(super) fn dollars(money: Money) -> String {
    money.to_string().replacen('$', "", 1)
}

#[derive(Debug, Serialize)]
pub(in crate::http) struct GroupView {
    /// That began here: a request whose second attempt went elsewhere counts where its first was.
    requests: i64,
    attempts: i64,
    ok: i64,
    failed: i64,
    cancelled: i64,
    tokens: TokenCounts,
    /// Attempts whose cost is not known; the cost is that of the others.
    cost_unknown: i64,
    cost_picodollars: i64,
    cost_dollars: String,
    duration_ms: i64,
}

impl From<&Group> for GroupView {
    fn from(group: &Group) -> Self {
        Self {
            requests: group.sums.requests,
            attempts: group.sums.attempts,
            ok: group.ok,
            failed: group.failed,
            cancelled: group.cancelled,
            tokens: group.sums.tokens,
            cost_unknown: group.sums.cost_unknown,
            cost_picodollars: group.sums.cost.as_picodollars(),
            cost_dollars: dollars(group.sums.cost),
            duration_ms: group.sums.duration_ms,
        }
    }
}

#[derive(Debug, Serialize)]
struct NamedGroupView {
    name: String,
    #[serde(flatten)]
    group: GroupView,
}

/// How complete the ledger is.
#[derive(Debug, Serialize)]
pub(in crate::http) struct LedgerState {
    role: &'static str,
    missing_events: u64,
    dead_letters: u64,
    last_commit_unix_ms: Option<u64>,
}

impl LedgerState {
    pub(in crate::http) fn new(counters: &Counters, role: Role) -> Self {
        Self {
            role: role.name(),
            missing_events: counters.missing(),
            dead_letters: counters.dead_letters,
            last_commit_unix_ms: counters.last_commit_unix_ms,
        }
    }
}

/// Text that was answered (generated, translated; no embeddings, no training), as if one model had answered all of it with as many
/// tokens.
#[derive(Debug, Serialize)]
struct ReferenceView {
    model: String,
    cost_picodollars: i64,
    cost_dollars: String,
    /// What the same answers did cost.
    actual_picodollars: i64,
    /// Below zero when the reference would have been cheaper.
    saved_picodollars: i64,
    saved_dollars: String,
}

#[derive(Debug, Serialize)]
pub(in crate::http) struct SummaryView {
    from_unix_ms: i64,
    to_unix_ms: i64,
    totals: GroupView,
    by_tier: Vec<NamedGroupView>,
    by_provider: Vec<NamedGroupView>,
    by_model: Vec<NamedGroupView>,
    by_agent: Vec<NamedGroupView>,
    by_key: Vec<NamedGroupView>,
    by_day: Vec<NamedGroupView>,
    energy: EnergyView,
    /// Absent where no reference model is configured or its price is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<ReferenceView>,
    ledger: LedgerState,
}

/// What local requests took of this site's electricity, and what that costs. Not part of any `cost_…` of the ledger, which is
/// what providers are paid.
#[derive(Debug, Serialize)]
struct EnergyView {
    millijoules: i64,
    /// Part of it that was estimated by processor time, not measured.
    estimated_millijoules: i64,
    cost_picodollars: i64,
    cost_dollars: String,
    per_kwh_dollars: String,
    by_tier: BTreeMap<String, i64>,
}

impl EnergyView {
    fn new(by_tier: &BTreeMap<String, Energy>, per_kwh: Money) -> Self {
        let total = Energy::total(by_tier);
        let cost = domain::energy::cost(total.millijoules, per_kwh);
        Self {
            millijoules: total.millijoules,
            estimated_millijoules: total.estimated_millijoules,
            cost_picodollars: cost.as_picodollars(),
            cost_dollars: dollars(cost),
            per_kwh_dollars: dollars(per_kwh),
            by_tier: by_tier.iter().map(|(tier, energy)| (tier.clone(), energy.millijoules)).collect(),
        }
    }
}

impl SummaryView {
    pub(in crate::http) fn new(range: Range, summary: &Summary, ledger: LedgerState, per_kwh: Money) -> Self {
        Self {
            from_unix_ms: range.from_unix_ms,
            to_unix_ms: range.to_unix_ms,
            totals: GroupView::from(&summary.totals),
            by_tier: busiest_first(&summary.by_tier),
            by_provider: busiest_first(&summary.by_provider),
            by_model: busiest_first(&summary.by_model),
            by_agent: busiest_first(&summary.by_agent),
            by_key: busiest_first(&summary.by_key),
            by_day: summary
                .by_day
                .iter()
                .map(|(day, group)| NamedGroupView { name: date(*day), group: GroupView::from(group) })
                .collect(),
            energy: EnergyView::new(&summary.energy_by_tier, per_kwh),
            reference: None,
            ledger,
        }
    }

    /// With what the text that was answered would have cost at the reference model.
    pub(super) fn against(mut self, reference: Option<&Reference>, summary: &Summary) -> Self {
        self.reference = reference.map(|reference| {
            let there = reference.cost(&summary.text.tokens);
            let saved = there.as_picodollars().saturating_sub(summary.text.cost.as_picodollars());
            ReferenceView {
                model: reference.name.clone(),
                cost_picodollars: there.as_picodollars(),
                cost_dollars: dollars(there),
                actual_picodollars: summary.text.cost.as_picodollars(),
                saved_picodollars: saved,
                saved_dollars: dollars(Money::picodollars(saved)),
            }
        });
        self
    }
}

fn busiest_first(groups: &BTreeMap<String, Group>) -> Vec<NamedGroupView> {
    let mut views: Vec<NamedGroupView> = groups
        .iter()
        .map(|(name, group)| NamedGroupView { name: name.clone(), group: GroupView::from(group) })
        .collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.group.attempts));
    views
}

/// `2026-01-31` for a day counted from 1970-01-01.
fn date(day: i64) -> String {
    let epoch = Date::from_ordinal_date(1970, 1).ok();
    let date = epoch.and_then(|epoch| epoch.checked_add(Duration::days(day)));
    date.map_or_else(|| format!("day {day}"), |date| date.to_string())
}

/// An attempt as it is shown and exported.
#[derive(Debug, Serialize)]
pub(super) struct AttemptView {
    #[serde(flatten)]
    attempt: Attempt,
    cost_dollars: String,
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self { cost_dollars: dollars(Money::picodollars(attempt.cost_picodollars)), attempt }
    }
}

#[derive(Debug, Serialize)]
pub(in crate::http) struct RequestView {
    request_id: String,
    cost_picodollars: i64,
    cost_dollars: String,
    attempts: Vec<AttemptView>,
}

impl RequestView {
    pub(super) fn new(request_id: String, attempts: Vec<Attempt>) -> Self {
        let cost: Money = attempts.iter().map(|attempt| Money::picodollars(attempt.cost_picodollars)).sum();
        Self {
            request_id,
            cost_picodollars: cost.as_picodollars(),
            cost_dollars: dollars(cost),
            attempts: attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
pub(in crate::http) struct RecentView {
    attempts: Vec<AttemptView>,
    latency: Latency,
}

/// Percentiles over the latest attempts that answered.
#[derive(Debug, Serialize)]
struct Latency {
    attempts: usize,
    duration_ms: Percentiles,
    time_to_first_token_ms: Percentiles,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    p50: Option<i64>,
    p95: Option<i64>,
}

impl RecentView {
    /// Shows the first `shown` of `attempts`; the latencies are those of all.
    pub(super) fn new(mut attempts: Vec<Attempt>, shown: usize) -> Self {
        let answered: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.outcome == "ok").collect();
        let latency = Latency {
            attempts: answered.len(),
            duration_ms: percentiles(answered.iter().map(|attempt| attempt.duration_ms).collect()),
            // 0 stands for an attempt that had no first token, such as an embedding.
            time_to_first_token_ms: percentiles(
                answered.iter().map(|attempt| attempt.time_to_first_token_ms).filter(|ms| *ms > 0).collect(),
            ),
        };
        attempts.truncate(shown);
        Self { attempts: attempts.into_iter().map(AttemptView::from).collect(), latency }
    }
}

/// Nearest rank: the smallest value that at least so many percent of all do not exceed.
fn percentiles(mut values: Vec<i64>) -> Percentiles {
    values.sort_unstable();
    let rank = |percent: usize| {
        let index = (values.len() * percent).div_ceil(100).checked_sub(1)?;
        values.get(index).copied()
    };
    Percentiles { p50: rank(50), p95: rank(95) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let found = percentiles((1..=20).rev().collect());
        assert_eq!((found.p50, found.p95), (Some(10), Some(19)));
        let one = percentiles(vec![7]);
        assert_eq!((one.p50, one.p95), (Some(7), Some(7)));
        assert_eq!(percentiles(Vec::new()).p50, None);
    }

    #[test]
    fn money_is_exact_dollars_without_a_sign() {
        assert_eq!(dollars(Money::picodollars(37_500)), "0.0000000375");
    }

    #[test]
    fn days_are_dates() {
        assert_eq!((date(0), date(20_454)), ("1970-01-01".to_owned(), "2026-01-01".to_owned()));
    }
}
