//! Decisions, towards the wire only: nobody decides on a decision.

use domain::routing::{Candidate, Decision, RejectReason, Rejection};

use crate::v1;

impl From<&Decision> for v1::Decision {
    /// Agent and requested model are the request's; the caller of this conversion sets them.
    fn from(decision: &Decision) -> Self {
        Self {
            workload_class: v1::WorkloadClass::from(decision.class).into(),
            input_tokens: decision.input.get(),
            output_tokens_max: decision.max_output.get(),
            reasons: decision.reasons.clone(),
            candidates: decision.candidates.iter().map(Into::into).collect(),
            rejected: decision.rejected.iter().map(Into::into).collect(),
            snapshot_revision: decision.snapshot_revision,
            agent: String::new(),
            requested_model: String::new(),
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
            estimated_cost_picodollars: candidate.worst_case_cost.as_picodollars(),
            estimated_latency_ms: 0,
            reason: candidate.to_string(),
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
        };
        Self {
            deployment: rejection.deployment.to_string(),
            reason: reason.into(),
            detail: rejection.reason.to_string(),
        }
    }
}
