//! Who is asked after an answer that was not good enough.

use crate::routing::{Candidate, Tier};

/// What can be expected of a tier. The owner's three tiers are fast local, quality local, API (S1, "Architecture"): a CPU runs
/// the small models, a GPU the good ones; other machines are taken for what their CPU is.
const fn strength(tier: Tier) -> u8 {
    match tier {
        Tier::LocalCpu => 0,
        Tier::Fallback | Tier::Edge => 1,
        Tier::LocalGpu => 2,
        Tier::RemoteApi => 3,
    }
}

/// Whether `other` may do better than `failed`: another model that is not on a weaker tier and, on the same tier, not cheaper.
/// The same model elsewhere would give the same answer.
#[must_use]
pub fn stronger(other: &Candidate, failed: &Candidate) -> bool {
    let rank =
        |candidate: &Candidate| (strength(candidate.deployment.tier), candidate.estimate.worst_case_cost);
    other.deployment.model != failed.deployment.model && rank(other) >= rank(failed)
}
