//! Tables of the ledger and the way from each version of them to the next.
//!
//! `PRAGMA user_version` holds the version. Migrations only go forward; a file written by a newer program is refused
//! rather than guessed at.

use rusqlite::{Connection, TransactionBehavior};

use super::LedgerError;

/// One script for each version, in order; the first makes version 1. A script that was released is never edited.
const MIGRATIONS: [&str; 5] = [VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5];

const VERSION_1: &str = "
CREATE TABLE attempt (
    event_id TEXT PRIMARY KEY NOT NULL,
    request_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    finished_unix_ms INTEGER NOT NULL,
    machine TEXT NOT NULL,
    service TEXT NOT NULL,
    origin_instance TEXT NOT NULL,
    origin_counter INTEGER NOT NULL,
    method TEXT NOT NULL,
    outcome TEXT NOT NULL,
    error_code TEXT NOT NULL,
    agent TEXT NOT NULL,
    task TEXT NOT NULL,
    tenant TEXT NOT NULL,
    requested_model TEXT NOT NULL,
    deployment TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    tier TEXT NOT NULL,
    executed_on TEXT NOT NULL,
    workload_class TEXT NOT NULL,
    tokens_input INTEGER NOT NULL,
    tokens_output INTEGER NOT NULL,
    tokens_cached_input INTEGER NOT NULL,
    tokens_cache_write INTEGER NOT NULL,
    tokens_reasoning INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    cost_picodollars INTEGER NOT NULL,
    time_to_first_token_ms INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    streamed INTEGER NOT NULL,
    decision TEXT NOT NULL,
    provider_request_id TEXT NOT NULL
) STRICT;
CREATE INDEX attempt_by_request ON attempt (request_id, attempt);
CREATE INDEX attempt_by_time ON attempt (finished_unix_ms, event_id, request_id);

CREATE TABLE rollup_hour (
    hour_unix_ms INTEGER NOT NULL,
    tier TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    agent TEXT NOT NULL,
    outcome TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    tokens_input INTEGER NOT NULL,
    tokens_output INTEGER NOT NULL,
    tokens_cached_input INTEGER NOT NULL,
    tokens_cache_write INTEGER NOT NULL,
    tokens_reasoning INTEGER NOT NULL,
    cost_picodollars INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    PRIMARY KEY (hour_unix_ms, tier, provider, model, agent, outcome)
) STRICT, WITHOUT ROWID;

CREATE TABLE origin (
    origin_instance TEXT PRIMARY KEY NOT NULL,
    machine TEXT NOT NULL,
    service TEXT NOT NULL,
    highest_counter INTEGER NOT NULL,
    received INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stream_sequence INTEGER NOT NULL,
    published_unix_ns INTEGER NOT NULL,
    part INTEGER NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    payload_bytes INTEGER NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (stream_sequence, published_unix_ns, part)
) STRICT;
";

/// What was listened to and spoken.
const VERSION_2: &str = "
ALTER TABLE attempt ADD COLUMN audio_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN characters INTEGER NOT NULL DEFAULT 0;
";

/// Energy of local attempts, and its sums by hour.
const VERSION_3: &str = "
CREATE TABLE energy (
    event_id TEXT PRIMARY KEY NOT NULL,
    millijoules INTEGER NOT NULL,
    estimated INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE energy_hour (
    hour_unix_ms INTEGER NOT NULL,
    tier TEXT NOT NULL,
    millijoules INTEGER NOT NULL,
    estimated_millijoules INTEGER NOT NULL,
    PRIMARY KEY (hour_unix_ms, tier)
) STRICT, WITHOUT ROWID;
";

/// Why requests were placed where they were.
const VERSION_4: &str = "
CREATE TABLE decision (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id TEXT NOT NULL UNIQUE,
    plan BLOB NOT NULL
) STRICT;
";
/// A table of sums for each stretch of time, and its sums from the rows.
macro_rules! rollup {
    ($table:literal, $start:literal, $step:literal) => {
        concat!(
            "CREATE TABLE ",
            $table,
            " (",
            $start,
            " INTEGER NOT NULL,
    tier TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    agent TEXT NOT NULL,
    tenant TEXT NOT NULL,
    method TEXT NOT NULL,
    outcome TEXT NOT NULL,
    requests INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    tokens_input INTEGER NOT NULL,
    tokens_output INTEGER NOT NULL,
    tokens_cached_input INTEGER NOT NULL,
    tokens_cache_write INTEGER NOT NULL,
    tokens_reasoning INTEGER NOT NULL,
    cost_unknown INTEGER NOT NULL,
    cost_picodollars INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    PRIMARY KEY (",
            $start,
            ", tier, provider, model, agent, tenant, method, outcome)
) STRICT, WITHOUT ROWID;
INSERT INTO ",
            $table,
            " SELECT finished_unix_ms / ",
            $step,
            " * ",
            $step,
            " AS start, tier, provider, model, agent, tenant, method, outcome,
       sum(attempt <= 1), count(*), sum(tokens_input), sum(tokens_output), sum(tokens_cached_input),
       sum(tokens_cache_write), sum(tokens_reasoning), sum(cost_unknown), sum(cost_picodollars), sum(duration_ms)
FROM attempt GROUP BY start, tier, provider, model, agent, tenant, method, outcome;
"
        )
    };
}

/// Unknown costs are marked; sums are kept by key and method too, by hour and by day, and requests are counted, so that a month is
/// summed up without looking at its rows. The sums are made anew from the rows.
const VERSION_5: &str = concat!(
    "ALTER TABLE attempt ADD COLUMN cost_unknown INTEGER NOT NULL DEFAULT 0; DROP TABLE rollup_hour; ",
    rollup!("rollup_hour", "hour_unix_ms", "3600000"),
    rollup!("rollup_day", "day_unix_ms", "86400000"),
);

/// Brings the file to the newest version, all steps in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), LedgerError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let pending = usize::try_from(found)
        .ok()
        .and_then(|done| MIGRATIONS.get(done..))
        .ok_or(LedgerError::UnknownVersion { found, newest })?;
    for script in pending {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "user_version", newest)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        connection.execute("INSERT INTO origin VALUES ('i', 'm', 's', 1, 1)", []).unwrap();
        migrate(&mut connection).unwrap();
        let rows: i64 = connection.query_row("SELECT count(*) FROM origin", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
    }

    #[test]
    fn a_ledger_of_the_first_version_keeps_its_sums() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(VERSION_1).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        for (event, attempt, hour) in [("a", 0, 1), ("b", 1, 1), ("c", 2, 1), ("d", 1, 2)] {
            connection
                .execute(
                    "INSERT INTO attempt SELECT ?1, 'r', ?2, ?3 * 3600000 + 5, 'm', 's', 'i', 1, 'generate', 'ok', '', '', '', '',
                         '', 'd', 'openai', 'gpt', 'remote-api', 'm', 'light', 3, 2, 0, 0, 0, 0, 7, 1, 20, 0, '', ''",
                    rusqlite::params![event, attempt, hour],
                )
                .unwrap();
        }
        migrate(&mut connection).unwrap();
        let sums: Vec<(i64, i64, i64, i64)> = connection
            .prepare("SELECT hour_unix_ms, requests, attempts, cost_picodollars FROM rollup_hour ORDER BY 1")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(sums, [(3_600_000, 2, 3, 21), (7_200_000, 1, 1, 7)]);
        let day: (i64, i64) = connection
            .query_row("SELECT requests, cost_picodollars FROM rollup_day WHERE day_unix_ms = 0", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(day, (3, 28));
    }

    #[test]
    fn a_file_of_a_newer_program_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut connection).unwrap_err();
        assert!(matches!(error, LedgerError::UnknownVersion { found: 99, .. }), "{error}");
    }
}
