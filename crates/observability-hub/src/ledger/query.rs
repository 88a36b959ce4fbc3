//! What the ledger can be asked. Sums over a range come from the sums of its whole days and hours, and from the rows for the
//! two ends, so they are exact for any range and quick for long ones.

use std::collections::BTreeMap;

use domain::units::Money;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{
    Attempt, TokenCounts,
    counters::{PlacementKey, Sums},
    energy::{self, Energy},
    write::{DAY_MS, HOUR_MS},
};

/// Attempts that finished at `from_unix_ms` or later and before `to_unix_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First millisecond.
    pub from_unix_ms: i64,
    /// Millisecond behind the last.
    pub to_unix_ms: i64,
}

/// Where a page ended: the last row's time and event id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Of the last row.
    pub finished_unix_ms: i64,
    /// Of the last row.
    pub event_id: String,
}

impl From<&Attempt> for Cursor {
    fn from(attempt: &Attempt) -> Self {
        Self { finished_unix_ms: attempt.finished_unix_ms, event_id: attempt.event_id.clone() }
    }
}

/// Sums of one group with its attempts by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Group {
    /// Over all outcomes.
    pub sums: Sums,
    /// Attempts that answered.
    pub ok: i64,
    /// Attempts that failed.
    pub failed: i64,
    /// Attempts that the caller gave up.
    pub cancelled: i64,
}

impl Group {
    fn add(&mut self, outcome: &str, sums: Sums) {
        self.sums = self.sums.saturating_add(sums);
        let count = match outcome {
            "ok" => &mut self.ok,
            "failed" => &mut self.failed,
            "cancelled" => &mut self.cancelled,
            _ => return,
        };
        *count = count.saturating_add(sums.attempts);
    }
}

/// Sums of a range, whole and by group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Everything.
    pub totals: Group,
    /// By tier.
    pub by_tier: BTreeMap<String, Group>,
    /// By provider.
    pub by_provider: BTreeMap<String, Group>,
    /// By model that served.
    pub by_model: BTreeMap<String, Group>,
    /// By agent; the empty name stands for requests that named none.
    pub by_agent: BTreeMap<String, Group>,
    /// By virtual key; the empty name stands for requests that showed none.
    pub by_key: BTreeMap<String, Group>,
    /// By UTC day, counted from 1970-01-01.
    pub by_day: BTreeMap<i64, Group>,
    /// What local attempts took, by tier.
    pub energy_by_tier: BTreeMap<String, Energy>,
    /// What attempts have generated and translated that answered: what a reference model would have been paid for.
    pub text: Sums,
}

impl Summary {
    fn add(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let outcome = row.get_ref("outcome")?.as_str()?;
        let method = row.get_ref("method")?.as_str()?;
        let sums = sums(row, 8)?;
        self.totals.add(outcome, sums);
        for (groups, column) in [
            (&mut self.by_tier, "tier"),
            (&mut self.by_provider, "provider"),
            (&mut self.by_model, "model"),
            (&mut self.by_agent, "agent"),
            (&mut self.by_key, "tenant"),
        ] {
            let name = row.get_ref(column)?.as_str()?;
            match groups.get_mut(name) {
                Some(group) => group.add(outcome, sums),
                None => groups.entry(name.to_owned()).or_default().add(outcome, sums),
            }
        }
        self.by_day.entry(row.get("day")?).or_default().add(outcome, sums);
        if outcome == "ok" && matches!(method, "generate" | "translate") {
            self.text = self.text.saturating_add(sums);
        }
        Ok(())
    }
}

pub(super) fn summary(connection: &Connection, range: Range) -> rusqlite::Result<Summary> {
    let hours = whole_hours(range);
    let days = whole(hours, DAY_MS);
    let mut statement = connection.prepare_cached(
        "SELECT day, tier, provider, model, agent, tenant, method, outcome, sum(requests), sum(attempts),
                sum(tokens_input), sum(tokens_output), sum(tokens_cached_input), sum(tokens_cache_write),
                sum(tokens_reasoning), sum(cost_unknown), sum(cost_picodollars / 1000000),
                sum(cost_picodollars % 1000000), sum(duration_ms)
         FROM (
             SELECT day_unix_ms / :day_ms AS day, tier, provider, model, agent, tenant, method, outcome, requests, attempts,
                    tokens_input, tokens_output, tokens_cached_input, tokens_cache_write, tokens_reasoning, cost_unknown,
                    cost_picodollars, duration_ms
             FROM rollup_day WHERE day_unix_ms >= :days_from AND day_unix_ms < :days_to
             UNION ALL
             SELECT hour_unix_ms / :day_ms, tier, provider, model, agent, tenant, method, outcome, requests, attempts,
                    tokens_input, tokens_output, tokens_cached_input, tokens_cache_write, tokens_reasoning, cost_unknown,
                    cost_picodollars, duration_ms
             FROM rollup_hour WHERE hour_unix_ms >= :hours_from AND hour_unix_ms < :days_from
             UNION ALL
             SELECT hour_unix_ms / :day_ms, tier, provider, model, agent, tenant, method, outcome, requests, attempts,
                    tokens_input, tokens_output, tokens_cached_input, tokens_cache_write, tokens_reasoning, cost_unknown,
                    cost_picodollars, duration_ms
             FROM rollup_hour WHERE hour_unix_ms >= :days_to AND hour_unix_ms < :hours_to
             UNION ALL
             SELECT finished_unix_ms / :day_ms, tier, provider, model, agent, tenant, method, outcome, attempt <= 1, 1,
                    tokens_input, tokens_output, tokens_cached_input, tokens_cache_write, tokens_reasoning, cost_unknown,
                    cost_picodollars, duration_ms
             FROM attempt WHERE finished_unix_ms >= :from AND finished_unix_ms < :hours_from
             UNION ALL
             SELECT finished_unix_ms / :day_ms, tier, provider, model, agent, tenant, method, outcome, attempt <= 1, 1,
                    tokens_input, tokens_output, tokens_cached_input, tokens_cache_write, tokens_reasoning, cost_unknown,
                    cost_picodollars, duration_ms
             FROM attempt WHERE finished_unix_ms >= :hours_to AND finished_unix_ms < :to
         ) GROUP BY day, tier, provider, model, agent, tenant, method, outcome",
    )?;
    let mut rows = statement.query(named_params! {
        ":day_ms": DAY_MS,
        ":from": range.from_unix_ms,
        ":hours_from": hours.from_unix_ms,
        ":days_from": days.from_unix_ms,
        ":days_to": days.to_unix_ms,
        ":hours_to": hours.to_unix_ms,
        ":to": range.to_unix_ms,
    })?;
    let mut summary = Summary { energy_by_tier: energy::by_tier(connection, range)?, ..Summary::default() };
    while let Some(row) = rows.next()? {
        summary.add(row)?;
    }
    Ok(summary)
}

/// The whole hours inside `range`.
pub(super) fn whole_hours(range: Range) -> Range {
    whole(range, HOUR_MS)
}

/// The whole steps inside `range`. Where there are none, both ends are the range's end: what is finer answers alone.
fn whole(range: Range, step: i64) -> Range {
    let from = range.from_unix_ms.saturating_add(step - 1);
    let from = from - from.rem_euclid(step);
    let to = range.to_unix_ms - range.to_unix_ms.rem_euclid(step);
    if from < to {
        Range { from_unix_ms: from, to_unix_ms: to }
    } else {
        Range { from_unix_ms: range.to_unix_ms, to_unix_ms: range.to_unix_ms }
    }
}

/// Sums from eleven columns that begin at `first`; money comes in two, so that SQLite's sum cannot overflow.
fn sums(row: &Row<'_>, first: usize) -> rusqlite::Result<Sums> {
    let millions: i64 = row.get(first + 8)?;
    let rest: i64 = row.get(first + 9)?;
    let picodollars = i128::from(millions) * 1_000_000 + i128::from(rest);
    Ok(Sums {
        requests: row.get(first)?,
        attempts: row.get(first + 1)?,
        tokens: TokenCounts {
            input: row.get(first + 2)?,
            output: row.get(first + 3)?,
            cached_input: row.get(first + 4)?,
            cache_write: row.get(first + 5)?,
            reasoning: row.get(first + 6)?,
        },
        cost_unknown: row.get(first + 7)?,
        cost: Money::picodollars(i64::try_from(picodollars).unwrap_or(i64::MAX)),
        duration_ms: row.get(first + 10)?,
    })
}

pub(super) fn placements(connection: &Connection) -> rusqlite::Result<Vec<(PlacementKey, Sums)>> {
    connection
        .prepare(
            "SELECT tier, provider, outcome, sum(requests), sum(attempts),
                    sum(tokens_input), sum(tokens_output), sum(tokens_cached_input), sum(tokens_cache_write),
                    sum(tokens_reasoning), sum(cost_unknown), sum(cost_picodollars / 1000000), sum(cost_picodollars % 1000000),
                    sum(duration_ms)
             FROM rollup_day GROUP BY tier, provider, outcome",
        )?
        .query_map([], |row| {
            let key = PlacementKey { tier: row.get(0)?, provider: row.get(1)?, outcome: row.get(2)? };
            Ok((key, sums(row, 3)?))
        })?
        .collect()
}

/// Origins number their events from 1 without a gap, so what is missing is the highest number less the rows.
pub(super) fn missing_by_machine(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    connection
        .prepare_cached(
            "SELECT machine, sum(max(highest_counter - received, 0)) FROM origin GROUP BY machine",
        )?
        .query_map([], |row| {
            let missing: i64 = row.get(1)?;
            Ok((row.get(0)?, missing.unsigned_abs()))
        })?
        .collect()
}

pub(super) fn dead_letters_ever(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = connection.query_row(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'dead_letter'), 0)",
        [],
        |row| row.get(0),
    )?;
    Ok(count.unsigned_abs())
}

pub(super) fn attempts_of(connection: &Connection, request_id: &str) -> rusqlite::Result<Vec<Attempt>> {
    let mut attempts: Vec<Attempt> = connection
        .prepare_cached(
            "SELECT * FROM attempt WHERE request_id = ?1 ORDER BY attempt, finished_unix_ms LIMIT 1000",
        )?
        .query_map([request_id], attempt)?
        .collect::<rusqlite::Result<_>>()?;
    energy::fill(connection, &mut attempts)?;
    Ok(attempts)
}

pub(super) fn decision_of(connection: &Connection, request_id: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT plan FROM decision WHERE request_id = ?1")?
        .query_row([request_id], |row| row.get(0))
        .optional()
}

pub(super) fn recent(connection: &Connection, count_max: u32) -> rusqlite::Result<Vec<Attempt>> {
    let mut attempts: Vec<Attempt> = connection
        .prepare_cached("SELECT * FROM attempt ORDER BY finished_unix_ms DESC, event_id DESC LIMIT ?1")?
        .query_map([count_max], attempt)?
        .collect::<rusqlite::Result<_>>()?;
    energy::fill(connection, &mut attempts)?;
    Ok(attempts)
}

pub(super) fn page(
    connection: &Connection,
    range: Range,
    after: Option<&Cursor>,
    count_max: u32,
) -> rusqlite::Result<Vec<Attempt>> {
    let (after_time, after_id) = match after {
        Some(cursor) => (cursor.finished_unix_ms, cursor.event_id.as_str()),
        None => (range.from_unix_ms, ""),
    };
    let mut attempts: Vec<Attempt> = connection
        .prepare_cached(
            "SELECT * FROM attempt
             WHERE (finished_unix_ms, event_id) > (?1, ?2) AND finished_unix_ms < ?3
             ORDER BY finished_unix_ms, event_id LIMIT ?4",
        )?
        .query_map(params![after_time, after_id, range.to_unix_ms, count_max], attempt)?
        .collect::<rusqlite::Result<_>>()?;
    energy::fill(connection, &mut attempts)?;
    Ok(attempts)
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        event_id: row.get("event_id")?,
        request_id: row.get("request_id")?,
        attempt: row.get("attempt")?,
        finished_unix_ms: row.get("finished_unix_ms")?,
        machine: row.get("machine")?,
        service: row.get("service")?,
        origin_instance: row.get("origin_instance")?,
        origin_counter: row.get("origin_counter")?,
        method: row.get("method")?,
        outcome: row.get("outcome")?,
        error_code: row.get("error_code")?,
        agent: row.get("agent")?,
        task: row.get("task")?,
        tenant: row.get("tenant")?,
        requested_model: row.get("requested_model")?,
        deployment: row.get("deployment")?,
        provider: row.get("provider")?,
        model: row.get("model")?,
        tier: row.get("tier")?,
        executed_on: row.get("executed_on")?,
        workload_class: row.get("workload_class")?,
        tokens: TokenCounts {
            input: row.get("tokens_input")?,
            output: row.get("tokens_output")?,
            cached_input: row.get("tokens_cached_input")?,
            cache_write: row.get("tokens_cache_write")?,
            reasoning: row.get("tokens_reasoning")?,
        },
        audio_ms: row.get("audio_ms")?,
        characters: row.get("characters")?,
        estimated: row.get("estimated")?,
        cost_picodollars: row.get("cost_picodollars")?,
        time_to_first_token_ms: row.get("time_to_first_token_ms")?,
        duration_ms: row.get("duration_ms")?,
        streamed: row.get("streamed")?,
        decision: row.get("decision")?,
        provider_request_id: row.get("provider_request_id")?,
        // Kept apart: see `energy::fill`.
        energy_millijoules: 0,
        energy_estimated: false,
        cost_unknown: row.get("cost_unknown")?,
    })
}
