//! What the hub answers, as far as it is shown.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) from_unix_ms: i64,
    pub(super) to_unix_ms: i64,
    pub(super) totals: Totals,
    pub(super) by_tier: Vec<Named>,
    pub(super) by_provider: Vec<Named>,
    pub(super) by_model: Vec<Named>,
    pub(super) by_agent: Vec<Named>,
    pub(super) by_key: Vec<Named>,
    pub(super) by_day: Vec<Named>,
    /// None from a hub that does not count it.
    pub(super) energy: Option<Energy>,
    pub(super) reference: Option<Reference>,
    pub(super) ledger: State,
}

#[derive(Debug, Deserialize)]
pub(super) struct Energy {
    pub(super) millijoules: i64,
    pub(super) estimated_millijoules: i64,
    pub(super) cost_picodollars: i64,
    pub(super) per_kwh_dollars: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reference {
    pub(super) model: String,
    pub(super) cost_picodollars: i64,
    pub(super) actual_picodollars: i64,
    pub(super) saved_picodollars: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Totals {
    pub(super) requests: i64,
    #[serde(flatten)]
    pub(super) group: Group,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) group: Group,
}

#[derive(Debug, Deserialize)]
pub(super) struct Group {
    pub(super) attempts: i64,
    pub(super) ok: i64,
    pub(super) failed: i64,
    pub(super) cancelled: i64,
    pub(super) tokens: Tokens,
    pub(super) cost_unknown: i64,
    pub(super) cost_picodollars: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tokens {
    pub(super) input: i64,
    pub(super) output: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) missing_events: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) cost_picodollars: i64,
    pub(super) attempts: Vec<Attempt>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Attempt {
    pub(super) attempt: u32,
    #[serde(flatten)]
    pub(super) ended: Ended,
    pub(super) deployment: String,
    pub(super) tier: String,
    pub(super) tokens: Tokens,
    pub(super) cost_picodollars: i64,
    pub(super) time_to_first_token_ms: i64,
    pub(super) duration_ms: i64,
    #[serde(default)]
    pub(super) energy_millijoules: i64,
    #[serde(default)]
    pub(super) energy_estimated: bool,
    pub(super) decision: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Ended {
    pub(super) outcome: String,
    pub(super) error_code: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) error: Reason,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reason {
    pub(super) code: String,
    pub(super) message: String,
}
