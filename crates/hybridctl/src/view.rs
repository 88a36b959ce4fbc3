//! Messages of the bus as JSON and as words. Names and units are those of `proto/`; money is told twice, whole
//! pico-dollars and exact dollars as text, because other languages' numbers end at 2^53.

mod snapshot;

use domain::fault::Fault;
use domain::units::Money;
use serde::{Deserialize, Serialize};
use wire::v1;

pub(crate) use snapshot::{AgentView, DeploymentView, FlagView, NodeView, ServiceView, StatusView};

/// `REJECT_REASON_NO_PRICE` is `no-price`.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase().replace('_', "-")
}

pub(crate) fn tier(value: i32) -> String {
    v1::Tier::try_from(value)
        .map_or_else(|_| format!("tier-{value}"), |tier| word(tier.as_str_name(), "TIER_"))
}

pub(crate) fn workload_class(value: i32) -> String {
    v1::WorkloadClass::try_from(value)
        .map_or_else(|_| format!("class-{value}"), |class| word(class.as_str_name(), "WORKLOAD_CLASS_"))
}

fn reject_reason(value: i32) -> String {
    v1::RejectReason::try_from(value)
        .map_or_else(|_| format!("reason-{value}"), |reason| word(reason.as_str_name(), "REJECT_REASON_"))
}

pub(crate) fn finish_reason(value: i32) -> String {
    v1::FinishReason::try_from(value)
        .map_or_else(|_| format!("finish-{value}"), |reason| word(reason.as_str_name(), "FINISH_REASON_"))
}

/// `$0.0003`.
pub(crate) fn money(picodollars: i64) -> String {
    Money::picodollars(picodollars).to_string()
}

/// `0.0003`.
pub(crate) fn dollars(picodollars: i64) -> String {
    money(picodollars).replacen('$', "", 1)
}

/// A fault for people: code, message, field, when to try again.
pub(crate) fn fault_text(fault: &Fault) -> String {
    let mut text = fault.to_string();
    let mut more = Vec::new();
    if !fault.field.is_empty() {
        more.push(format!("field {}", fault.field));
    }
    if !fault.provider_code.is_empty() {
        more.push(format!("provider said {}", fault.provider_code));
    }
    if let Some(wait) = fault.retry_after {
        more.push(format!("try again in {:.1} s", wait.as_secs_f64()));
    } else if fault.retryable {
        more.push("may work later".to_owned());
    }
    if !more.is_empty() {
        text.push_str(&format!(" ({})", more.join(", ")));
    }
    crate::table::printable(&text)
}

/// A fault.
#[derive(Debug, Serialize)]
pub(crate) struct FaultView {
    code: &'static str,
    origin: String,
    retryable: bool,
    message: String,
    field: Option<String>,
    retry_after_ms: Option<u64>,
    provider_code: Option<String>,
}

impl From<Fault> for FaultView {
    fn from(fault: Fault) -> Self {
        let code = fault.code.as_str();
        let error = v1::Error::from(fault);
        let filled = |text: String| (!text.is_empty()).then_some(text);
        Self {
            code,
            origin: word(error.origin().as_str_name(), "ERROR_ORIGIN_"),
            retryable: error.retryable,
            message: error.message,
            field: filled(error.field),
            retry_after_ms: (error.retry_after_ms > 0).then_some(error.retry_after_ms),
            provider_code: filled(error.provider_code),
        }
    }
}

/// Tokens of an attempt.
#[derive(Debug, Default, Serialize)]
pub(crate) struct TokensView {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cached_input: u64,
    pub(crate) cache_write: u64,
    pub(crate) reasoning: u64,
    pub(crate) audio_input: u64,
    pub(crate) audio_output: u64,
    /// Milliseconds that were listened to.
    pub(crate) audio_ms: u64,
    /// Characters that were spoken.
    pub(crate) characters: u64,
    pub(crate) estimated: bool,
}

impl From<v1::TokenUsage> for TokensView {
    fn from(usage: v1::TokenUsage) -> Self {
        Self {
            input: usage.input,
            output: usage.output,
            cached_input: usage.cached_input,
            cache_write: usage.cache_write,
            reasoning: usage.reasoning,
            audio_input: usage.audio_input,
            audio_output: usage.audio_output,
            audio_ms: usage.audio_ms,
            characters: usage.characters,
            estimated: usage.estimated,
        }
    }
}

/// A decision.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DecisionView {
    pub(crate) workload_class: String,
    pub(crate) complexity: String,
    /// The mode in force.
    pub(crate) mode: String,
    /// The rule that held; empty = none.
    pub(crate) rule: String,
    /// Nobody was called.
    pub(crate) dry_run: bool,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens_max: u64,
    pub(crate) reasons: Vec<String>,
    pub(crate) candidates: Vec<CandidateView>,
    /// Left out where the decision is kept.
    #[serde(default)]
    pub(crate) candidates_omitted: u32,
    pub(crate) rejected: Vec<RejectionView>,
    #[serde(default)]
    pub(crate) rejected_omitted: u32,
    pub(crate) snapshot_revision: u64,
    pub(crate) agent: String,
    pub(crate) requested_model: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CandidateView {
    pub(crate) deployment: String,
    pub(crate) model: String,
    pub(crate) provider: String,
    pub(crate) tier: String,
    pub(crate) machine: String,
    pub(crate) estimated_cost_picodollars: i64,
    pub(crate) estimated_cost_dollars: String,
    /// `null` = unknown.
    pub(crate) estimated_latency_ms: Option<u64>,
    /// When the answer is as long as answers are.
    pub(crate) expected_cost_picodollars: i64,
    pub(crate) estimated_start_ms: u64,
    /// Time, money and quality in one figure; smallest is best.
    pub(crate) score_picodollars: i64,
    pub(crate) reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RejectionView {
    pub(crate) deployment: String,
    pub(crate) reason: String,
    pub(crate) detail: String,
}

impl From<v1::Decision> for DecisionView {
    fn from(decision: v1::Decision) -> Self {
        Self {
            workload_class: workload_class(decision.workload_class),
            complexity: word(decision.complexity().as_str_name(), "COMPLEXITY_"),
            mode: decision.mode,
            rule: decision.rule,
            dry_run: decision.dry_run,
            candidates_omitted: decision.candidates_omitted,
            rejected_omitted: decision.rejected_omitted,
            input_tokens: decision.input_tokens,
            output_tokens_max: decision.output_tokens_max,
            reasons: decision.reasons,
            candidates: decision.candidates.into_iter().map(CandidateView::from).collect(),
            rejected: decision.rejected.into_iter().map(RejectionView::from).collect(),
            snapshot_revision: decision.snapshot_revision,
            agent: decision.agent,
            requested_model: decision.requested_model,
        }
    }
}

impl From<v1::Candidate> for CandidateView {
    fn from(candidate: v1::Candidate) -> Self {
        Self {
            tier: tier(candidate.tier),
            deployment: candidate.deployment,
            model: candidate.model,
            provider: candidate.provider,
            machine: candidate.machine,
            estimated_cost_picodollars: candidate.estimated_cost_picodollars,
            estimated_cost_dollars: dollars(candidate.estimated_cost_picodollars),
            estimated_latency_ms: Some(candidate.estimated_latency_ms).filter(|ms| *ms > 0),
            expected_cost_picodollars: candidate.expected_cost_picodollars,
            estimated_start_ms: candidate.estimated_start_ms,
            score_picodollars: candidate.score_picodollars,
            reason: candidate.reason,
        }
    }
}

impl From<v1::Rejection> for RejectionView {
    fn from(rejection: v1::Rejection) -> Self {
        Self {
            deployment: rejection.deployment,
            reason: reject_reason(rejection.reason),
            detail: rejection.detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::fault::{Code, Origin};

    use super::*;

    #[test]
    fn enumerations_are_words_and_unknown_ones_numbers() {
        assert_eq!(tier(v1::Tier::RemoteApi.into()), "remote-api");
        assert_eq!(workload_class(v1::WorkloadClass::ComputeHeavyLocal.into()), "compute-heavy-local");
        assert_eq!(reject_reason(v1::RejectReason::NoPrice.into()), "no-price");
        assert_eq!(tier(99), "tier-99");
    }

    #[test]
    fn a_fault_tells_code_message_field_and_when_to_try_again() {
        let fault = Fault::new(Code::RateLimited, Origin::Provider, true, "slow\x1b[2J down")
            .in_field("model")
            .after(Duration::from_millis(1_500));
        let text = fault_text(&fault);
        assert_eq!(text, "rate_limited: slow\u{fffd}[2J down (field model, try again in 1.5 s)");
        let json = serde_json::to_value(FaultView::from(fault)).unwrap();
        assert_eq!(json["code"], "rate_limited");
        assert_eq!(json["origin"], "provider");
        assert_eq!(json["retry_after_ms"], 1_500);
        assert!(json["provider_code"].is_null());
    }

    #[test]
    fn a_decision_keeps_the_order_of_its_candidates_in_json() {
        let candidate = |name: &str, cost| v1::Candidate {
            deployment: name.to_owned(),
            tier: v1::Tier::LocalCpu.into(),
            estimated_cost_picodollars: cost,
            ..v1::Candidate::default()
        };
        let decision = v1::Decision {
            workload_class: v1::WorkloadClass::Light.into(),
            candidates: vec![candidate("b", 0), candidate("a", 37_500)],
            rejected: vec![v1::Rejection {
                deployment: "c".to_owned(),
                reason: v1::RejectReason::Privacy.into(),
                detail: "local only".to_owned(),
            }],
            ..v1::Decision::default()
        };
        let json = serde_json::to_value(DecisionView::from(decision)).unwrap();
        assert_eq!(json["candidates"][0]["deployment"], "b");
        assert_eq!(json["candidates"][1]["estimated_cost_dollars"], "0.0000000375");
        assert_eq!(json["candidates"][1]["tier"], "local-cpu");
        assert!(json["candidates"][0]["estimated_latency_ms"].is_null());
        assert_eq!(json["rejected"][0]["reason"], "privacy");
    }
}
