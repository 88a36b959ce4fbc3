//! A kept decision, as JSON: the shape of `hybridctl plan --json`.

use serde::Serialize;
use wire::v1;

use super::view::dollars;
use domain::units::Money;

#[derive(Debug, Serialize)]
pub(in crate::http) struct DecisionView {
    workload_class: String,
    complexity: String,
    mode: String,
    rule: String,
    dry_run: bool,
    input_tokens: u64,
    output_tokens_max: u64,
    reasons: Vec<String>,
    candidates: Vec<CandidateView>,
    candidates_omitted: u32,
    rejected: Vec<RejectionView>,
    rejected_omitted: u32,
    snapshot_revision: u64,
    agent: String,
    requested_model: String,
}

#[derive(Debug, Serialize)]
struct CandidateView {
    deployment: String,
    model: String,
    provider: String,
    tier: String,
    machine: String,
    estimated_cost_picodollars: i64,
    estimated_cost_dollars: String,
    expected_cost_picodollars: i64,
    estimated_latency_ms: Option<u64>,
    estimated_start_ms: u64,
    score_picodollars: i64,
    reason: String,
}

#[derive(Debug, Serialize)]
struct RejectionView {
    deployment: String,
    reason: String,
    detail: String,
}

/// `REMOTE_API` without its prefix, as everywhere else: `remote-api`.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase().replace('_', "-")
}

impl From<v1::Decision> for DecisionView {
    fn from(plan: v1::Decision) -> Self {
        Self {
            workload_class: word(plan.workload_class().as_str_name(), "WORKLOAD_CLASS_"),
            complexity: word(plan.complexity().as_str_name(), "COMPLEXITY_"),
            mode: plan.mode,
            rule: plan.rule,
            dry_run: plan.dry_run,
            input_tokens: plan.input_tokens,
            output_tokens_max: plan.output_tokens_max,
            reasons: plan.reasons,
            candidates: plan.candidates.into_iter().map(Into::into).collect(),
            candidates_omitted: plan.candidates_omitted,
            rejected: plan.rejected.into_iter().map(Into::into).collect(),
            rejected_omitted: plan.rejected_omitted,
            snapshot_revision: plan.snapshot_revision,
            agent: plan.agent,
            requested_model: plan.requested_model,
        }
    }
}

impl From<v1::Candidate> for CandidateView {
    fn from(candidate: v1::Candidate) -> Self {
        Self {
            tier: word(candidate.tier().as_str_name(), "TIER_"),
            deployment: candidate.deployment,
            model: candidate.model,
            provider: candidate.provider,
            machine: candidate.machine,
            estimated_cost_picodollars: candidate.estimated_cost_picodollars,
            estimated_cost_dollars: dollars(Money::picodollars(candidate.estimated_cost_picodollars)),
            expected_cost_picodollars: candidate.expected_cost_picodollars,
            estimated_latency_ms: Some(candidate.estimated_latency_ms).filter(|ms| *ms > 0),
            estimated_start_ms: candidate.estimated_start_ms,
            score_picodollars: candidate.score_picodollars,
            reason: candidate.reason,
        }
    }
}

impl From<v1::Rejection> for RejectionView {
    fn from(rejection: v1::Rejection) -> Self {
        Self {
            reason: word(rejection.reason().as_str_name(), "REJECT_REASON_"),
            deployment: rejection.deployment,
            detail: rejection.detail,
        }
    }
}
