//! One batch, one transaction: rows, hourly sums, origins' counters, dead letters.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{
    Attempt,
    attempt::cut,
    counters::{Delta, PlacementKey, Sums},
    energy, query,
};

/// Milliseconds of an hour, the roll-up's step.
pub(super) const HOUR_MS: i64 = 3_600_000;
/// Milliseconds of a day, the coarser roll-up's step.
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;
/// Tables of sums with their steps; the first column is where a stretch begins.
const ROLLUPS: [(&str, i64); 2] = [("rollup_hour", HOUR_MS), ("rollup_day", DAY_MS)];
/// Dead letters that are kept; the oldest go first.
const DEAD_LETTERS_MAX: i64 = 10_000;
/// Decisions that are kept, a few kilobytes each; the oldest go first.
const DECISIONS_MAX: i64 = 200_000;
/// Bytes of a decision; a larger one is a defect of the publisher and is not kept.
const DECISION_BYTES_MAX: usize = 128 * 1024;
/// Bytes that are kept of a payload that did not decode.
const DEAD_PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes that are kept of the reason.
const DEAD_REASON_BYTES_MAX: usize = 1024;

/// What is written together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Rows.
    pub attempts: Vec<Attempt>,
    /// What could not become a row.
    pub dead_letters: Vec<DeadLetter>,
    /// Why requests were placed where they were: request id, `llm.v1.Decision`.
    pub decisions: Vec<(String, Vec<u8>)>,
}

/// A message, or one event of it, that could not become a row. Kept once, however often it is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number in the stream.
    pub stream_sequence: u64,
    /// When the stream took it, Unix nanoseconds: tells apart the numbers of a stream that was made anew.
    pub published_unix_ns: i64,
    /// Position of the event in its message; `None` where the message itself did not decode.
    pub part: Option<usize>,
    /// Subject it was published to.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// The bytes; at most 64 KiB are kept.
    pub payload: Vec<u8>,
}

/// What a batch came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// New rows.
    pub inserted: u64,
    /// Rows that were there already.
    pub duplicates: u64,
    /// New dead letters.
    pub dead_letters: u64,
}

#[derive(PartialEq, Eq, Hash)]
struct Cell<'a> {
    /// Place in [`ROLLUPS`].
    rollup: usize,
    start_unix_ms: i64,
    tier: &'a str,
    provider: &'a str,
    model: &'a str,
    agent: &'a str,
    tenant: &'a str,
    method: &'a str,
    outcome: &'a str,
}

pub(super) fn write(
    connection: &mut Connection,
    batch: &Batch,
    now_unix_ms: u64,
) -> rusqlite::Result<(Recorded, Delta)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut recorded = Recorded::default();
    let mut cells: HashMap<Cell<'_>, Sums> = HashMap::new();
    let mut placements: BTreeMap<PlacementKey, Sums> = BTreeMap::new();
    let mut origins: HashSet<&str> = HashSet::new();

    for attempt in &batch.attempts {
        if !insert(&transaction, attempt)? {
            recorded.duplicates += 1;
            continue;
        }
        recorded.inserted += 1;
        energy::keep(&transaction, attempt)?;
        let sums = Sums::from(attempt);
        for (rollup, (_, step)) in ROLLUPS.iter().enumerate() {
            let cell = cells.entry(cell(attempt, rollup, *step)).or_default();
            *cell = cell.saturating_add(sums);
        }
        let placement = placements.entry(placement(attempt)).or_default();
        *placement = placement.saturating_add(sums);
        if count_origin(&transaction, attempt)? {
            origins.insert(&attempt.origin_instance);
        }
    }
    for (cell, sums) in &cells {
        add_to_rollup(&transaction, cell, sums)?;
    }
    for letter in &batch.dead_letters {
        recorded.dead_letters += u64::from(keep_dead_letter(&transaction, letter)?);
    }
    if recorded.dead_letters > 0 {
        transaction.execute(
            "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - ?1",
            [DEAD_LETTERS_MAX],
        )?;
    }
    keep_decisions(&transaction, &batch.decisions)?;
    let missing_by_machine =
        if origins.is_empty() { None } else { Some(query::missing_by_machine(&transaction)?) };
    transaction.commit()?;

    let delta = Delta {
        placements,
        duplicates: recorded.duplicates,
        dead_letters: recorded.dead_letters,
        missing_by_machine,
        now_unix_ms,
    };
    Ok((recorded, delta))
}

fn cell(attempt: &Attempt, rollup: usize, step: i64) -> Cell<'_> {
    Cell {
        rollup,
        start_unix_ms: attempt.finished_unix_ms - attempt.finished_unix_ms.rem_euclid(step),
        tier: &attempt.tier,
        provider: &attempt.provider,
        model: &attempt.model,
        agent: &attempt.agent,
        tenant: &attempt.tenant,
        method: &attempt.method,
        outcome: &attempt.outcome,
    }
}

fn placement(attempt: &Attempt) -> PlacementKey {
    PlacementKey {
        tier: attempt.tier.clone(),
        provider: attempt.provider.clone(),
        outcome: attempt.outcome.clone(),
    }
}

/// False where the event is there already.
fn insert(transaction: &Transaction<'_>, row: &Attempt) -> rusqlite::Result<bool> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO attempt VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
             ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36)
         ON CONFLICT (event_id) DO NOTHING",
    )?;
    let changed = statement.execute(params![
        row.event_id,
        row.request_id,
        row.attempt,
        row.finished_unix_ms,
        row.machine,
        row.service,
        row.origin_instance,
        row.origin_counter,
        row.method,
        row.outcome,
        row.error_code,
        row.agent,
        row.task,
        row.tenant,
        row.requested_model,
        row.deployment,
        row.provider,
        row.model,
        row.tier,
        row.executed_on,
        row.workload_class,
        row.tokens.input,
        row.tokens.output,
        row.tokens.cached_input,
        row.tokens.cache_write,
        row.tokens.reasoning,
        row.estimated,
        row.cost_picodollars,
        row.time_to_first_token_ms,
        row.duration_ms,
        row.streamed,
        row.decision,
        row.provider_request_id,
        row.audio_ms,
        row.characters,
        row.cost_unknown,
    ])?;
    Ok(changed > 0)
}

/// Adds to the sums of a stretch. Money stops at the largest number: `min(old, max - new) + new`; the other columns cannot
/// reach it (see the bounds of [`Attempt`]).
fn add_to_rollup(transaction: &Transaction<'_>, cell: &Cell<'_>, sums: &Sums) -> rusqlite::Result<()> {
    let table = ROLLUPS.get(cell.rollup).map_or("rollup_hour", |(table, _)| table);
    let mut statement = transaction.prepare_cached(&format!(
        "INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
         ON CONFLICT DO UPDATE SET
             requests = requests + excluded.requests,
             attempts = attempts + excluded.attempts,
             tokens_input = tokens_input + excluded.tokens_input,
             tokens_output = tokens_output + excluded.tokens_output,
             tokens_cached_input = tokens_cached_input + excluded.tokens_cached_input,
             tokens_cache_write = tokens_cache_write + excluded.tokens_cache_write,
             tokens_reasoning = tokens_reasoning + excluded.tokens_reasoning,
             cost_unknown = cost_unknown + excluded.cost_unknown,
             cost_picodollars = min(cost_picodollars, 9223372036854775807 - excluded.cost_picodollars)
                 + excluded.cost_picodollars,
             duration_ms = duration_ms + excluded.duration_ms",
    ))?;
    statement.execute(params![
        cell.start_unix_ms,
        cell.tier,
        cell.provider,
        cell.model,
        cell.agent,
        cell.tenant,
        cell.method,
        cell.outcome,
        sums.requests,
        sums.attempts,
        sums.tokens.input,
        sums.tokens.output,
        sums.tokens.cached_input,
        sums.tokens.cache_write,
        sums.tokens.reasoning,
        sums.cost_unknown,
        sums.cost.as_picodollars(),
        sums.duration_ms,
    ])?;
    Ok(())
}

/// Counts a new row for its origin; false where the origin does not number its events.
fn count_origin(transaction: &Transaction<'_>, row: &Attempt) -> rusqlite::Result<bool> {
    if row.origin_counter == 0 || row.origin_instance.is_empty() {
        return Ok(false);
    }
    let mut statement = transaction.prepare_cached(
        "INSERT INTO origin VALUES (?1, ?2, ?3, ?4, 1)
         ON CONFLICT (origin_instance) DO UPDATE SET
             highest_counter = max(highest_counter, excluded.highest_counter),
             received = received + 1",
    )?;
    statement.execute(params![row.origin_instance, row.machine, row.service, row.origin_counter])?;
    Ok(true)
}

/// A request id is the caller's to choose and may come twice: the newest decision is the one that is kept.
fn keep_decisions(transaction: &Transaction<'_>, decisions: &[(String, Vec<u8>)]) -> rusqlite::Result<()> {
    let mut kept = false;
    let mut statement =
        transaction.prepare_cached("INSERT OR REPLACE INTO decision (request_id, plan) VALUES (?1, ?2)")?;
    for (request_id, plan) in decisions {
        if plan.len() <= DECISION_BYTES_MAX {
            statement.execute(params![request_id, plan])?;
            kept = true;
        }
    }
    if kept {
        transaction.execute(
            "DELETE FROM decision WHERE id <= (SELECT max(id) FROM decision) - ?1",
            [DECISIONS_MAX],
        )?;
    }
    Ok(())
}

/// False where the letter is there already.
fn keep_dead_letter(transaction: &Transaction<'_>, letter: &DeadLetter) -> rusqlite::Result<bool> {
    let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let payload = letter.payload.get(..DEAD_PAYLOAD_BYTES_MAX).unwrap_or(&letter.payload);
    // No `ON CONFLICT`: a refused insert would use up a number of the sequence that counts letters.
    let mut statement = transaction.prepare_cached(
        "INSERT INTO dead_letter (stream_sequence, published_unix_ns, part, subject, reason, payload_bytes, payload)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS (
             SELECT 1 FROM dead_letter WHERE stream_sequence = ?1 AND published_unix_ns = ?2 AND part = ?3)",
    )?;
    let changed = statement.execute(params![
        i64::try_from(letter.stream_sequence).unwrap_or(i64::MAX),
        letter.published_unix_ns,
        letter.part.map_or(-1, number),
        letter.subject,
        cut(&letter.reason, DEAD_REASON_BYTES_MAX),
        number(letter.payload.len()),
        payload,
    ])?;
    Ok(changed > 0)
}
