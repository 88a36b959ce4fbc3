//! Decisions, towards the wire only: nobody decides on a decision.

use domain::routing::{Candidate, Decision, RejectReason, Rejection};

use crate::v1;

/// Candidates of a decision that is kept.
const KEPT_CANDIDATES_MAX: usize = 32;
/// Rejections of a decision that is kept: those that say more than "another model" first.
const KEPT_REJECTED_MAX: usize = 64;

/// The decision in the size in which the ledger keeps it.
#[must_use]
pub fn kept(decision: &Decision) -> v1::Decision {
    let telling = |rejection: &&Rejection| rejection.reason != RejectReason::ModelMismatch;
    let rejected = decision.rejected.iter();
    let first = rejected.clone().filter(telling).chain(rejected.filter(|rejection| !telling(rejection)));
    let omitted = |all: usize, max: usize| u32::try_from(all.saturating_sub(max)).unwrap_or(u32::MAX);
    v1::Decision {
        candidates: decision.candidates.iter().take(KEPT_CANDIDATES_MAX).map(Into::into).collect(),
        rejected: first.take(KEPT_REJECTED_MAX).map(Into::into).collect(),
        candidates_omitted: omitted(decision.candidates.len(), KEPT_CANDIDATES_MAX),
        rejected_omitted: omitted(decision.rejected.len(), KEPT_REJECTED_MAX),
        ..head(decision)
    }
}

/// Everything but candidates and rejections. Agent and requested model are the request's; the caller sets them.
fn head(decision: &Decision) -> v1::Decision {
    v1::Decision {
        workload_class: v1::WorkloadClass::from(decision.class).into(),
        input_tokens: decision.input.get(),
        output_tokens_max: decision.max_output.get(),
        reasons: decision.reasons.clone(),
        snapshot_revision: decision.snapshot_revision,
        complexity: v1::Complexity::from(decision.complexity).into(),
        mode: decision.mode.clone(),
        rule: decision.rule.clone(),
        dry_run: decision.dry_run,
        ..v1::Decision::default()
    }
}

impl From<&Decision> for v1::Decision {
    /// Agent and requested model are the request's; the caller of this conversion sets them.
    fn from(decision: &Decision) -> Self {
        Self {
            candidates: decision.candidates.iter().map(Into::into).collect(),
            rejected: decision.rejected.iter().map(Into::into).collect(),
            ..head(decision)
        }
    }
}

impl From<&Candidate> for v1::Candidate {
    fn from(candidate: &Candidate) -> Self {
        let deployment = &candidate.deployment;
        Self {
            deployment: deployment.id.to_string(),
            model: deployment.model.to_string(),
            provider: deployment.provider.clone(),
            tier: v1::Tier::from(deployment.tier).into(),
            machine: deployment.machine.to_string(),
            estimated_cost_picodollars: candidate.estimate.worst_case_cost.as_picodollars(),
            estimated_latency_ms: candidate.estimate.latency.whole_ms(),
            reason: candidate.to_string(),
            expected_cost_picodollars: candidate.estimate.expected_cost.as_picodollars(),
            estimated_start_ms: candidate.estimate.latency.until_start_ms(),
            score_picodollars: candidate.estimate.score,
        }
    }
}

impl From<&Rejection> for v1::Rejection {
    fn from(rejection: &Rejection) -> Self {
        let reason = match rejection.reason {
            RejectReason::ModelMismatch => v1::RejectReason::ModelMismatch,
            RejectReason::TierNotAllowed(_) => v1::RejectReason::TierNotAllowed,
            RejectReason::Privacy => v1::RejectReason::Privacy,
            RejectReason::Capability(_) => v1::RejectReason::Capability,
            RejectReason::ContextTooSmall { .. } => v1::RejectReason::ContextTooSmall,
            RejectReason::Down(_) => v1::RejectReason::Down,
            RejectReason::Cooldown(_) => v1::RejectReason::Cooldown,
            RejectReason::Flag(_) => v1::RejectReason::Flag,
            RejectReason::NoPrice => v1::RejectReason::NoPrice,
            RejectReason::Mode(_) => v1::RejectReason::Mode,
            RejectReason::Rule(_) => v1::RejectReason::Rule,
            RejectReason::Budget(_) => v1::RejectReason::Budget,
            RejectReason::Key(_) => v1::RejectReason::Key,
        };
        Self {
            deployment: rejection.deployment.id.to_string(),
            reason: reason.into(),
            detail: rejection.reason.to_string(),
        }
    }
}
