//! Energy of attempts that one of our machines computed. Tables of their own: most attempts of a ledger have none.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};

use super::{
    Attempt,
    query::{Range, whole_hours},
    write::HOUR_MS,
};

/// An amount, and how much of it was estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Energy {
    /// Of measured and estimated ones together.
    pub millijoules: i64,
    /// Part of it that was not measured.
    pub estimated_millijoules: i64,
}

impl Energy {
    /// All tiers together.
    #[must_use]
    pub fn total(by_tier: &BTreeMap<String, Self>) -> Self {
        by_tier.values().fold(Self::default(), |sum, tier| Self {
            millijoules: sum.millijoules.saturating_add(tier.millijoules),
            estimated_millijoules: sum.estimated_millijoules.saturating_add(tier.estimated_millijoules),
        })
    }
}

/// Keeps what a new row took, and adds it to its hour.
pub(super) fn keep(transaction: &Transaction<'_>, attempt: &Attempt) -> rusqlite::Result<()> {
    if attempt.energy_millijoules == 0 {
        return Ok(());
    }
    let (millijoules, estimated) = (attempt.energy_millijoules, attempt.energy_estimated);
    transaction
        .prepare_cached("INSERT INTO energy VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![attempt.event_id, millijoules, estimated])?;
    let hour = attempt.finished_unix_ms - attempt.finished_unix_ms.rem_euclid(HOUR_MS);
    transaction
        .prepare_cached(
            "INSERT INTO energy_hour VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET
                 millijoules = millijoules + excluded.millijoules,
                 estimated_millijoules = estimated_millijoules + excluded.estimated_millijoules",
        )?
        .execute(params![hour, attempt.tier, millijoules, if estimated { millijoules } else { 0 }])?;
    Ok(())
}

/// Fills in what each row took.
pub(super) fn fill(connection: &Connection, attempts: &mut [Attempt]) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("SELECT millijoules, estimated FROM energy WHERE event_id = ?1")?;
    for attempt in attempts {
        let mut rows = statement.query([&attempt.event_id])?;
        if let Some(row) = rows.next()? {
            (attempt.energy_millijoules, attempt.energy_estimated) = (row.get(0)?, row.get(1)?);
        }
    }
    Ok(())
}

/// Sums of a range by tier: its whole hours from the roll-up, its two ends from the rows.
pub(super) fn by_tier(connection: &Connection, range: Range) -> rusqlite::Result<BTreeMap<String, Energy>> {
    let whole = whole_hours(range);
    let mut statement = connection.prepare_cached(
        "SELECT tier, sum(millijoules), sum(estimated_millijoules) FROM (
             SELECT tier, millijoules, estimated_millijoules FROM energy_hour
             WHERE hour_unix_ms >= ?2 AND hour_unix_ms < ?3
             UNION ALL
             SELECT tier, millijoules, energy.estimated * millijoules FROM attempt JOIN energy USING (event_id)
             WHERE finished_unix_ms >= ?1 AND finished_unix_ms < ?2
             UNION ALL
             SELECT tier, millijoules, energy.estimated * millijoules FROM attempt JOIN energy USING (event_id)
             WHERE finished_unix_ms >= ?3 AND finished_unix_ms < ?4
         ) GROUP BY tier",
    )?;
    let bounds = params![range.from_unix_ms, whole.from_unix_ms, whole.to_unix_ms, range.to_unix_ms];
    let rows = statement.query_map(bounds, |row| {
        Ok((row.get(0)?, Energy { millijoules: row.get(1)?, estimated_millijoules: row.get(2)? }))
    })?;
    rows.collect()
}
