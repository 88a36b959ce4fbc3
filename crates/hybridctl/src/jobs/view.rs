//! Jobs and results as JSON and as words.

use serde::Serialize;
use wire::v1::{self, ProviderJobKind as Kind, ProviderJobState as State, batch_result};

use crate::view::{FaultView, TokensView, dollars, fault_text, finish_reason, money};

/// A job.
#[derive(Debug, Serialize)]
pub(super) struct JobView {
    pub(super) job_id: String,
    kind: &'static str,
    pub(super) state: &'static str,
    /// Nothing will change any more.
    pub(super) ended: bool,
    cancelling: bool,
    deployment: String,
    provider: String,
    model: String,
    provider_job_id: String,
    provider_state: String,
    submitted_unix_ms: u64,
    finished_unix_ms: u64,
    expires_unix_ms: u64,
    counts: Option<CountsView>,
    usage: Option<TokensView>,
    /// `null` = not known.
    cost_picodollars: Option<i64>,
    cost_dollars: Option<String>,
    fine_tuned_model: String,
    error: Option<FaultView>,
    events: Vec<EventView>,
    #[serde(skip)]
    problem: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct CountsView {
    total: u64,
    succeeded: u64,
    failed: u64,
    accounted: u64,
}

#[derive(Debug, Serialize)]
struct EventView {
    at_unix_ms: u64,
    level: String,
    message: String,
}

impl From<v1::ProviderJob> for JobView {
    fn from(job: v1::ProviderJob) -> Self {
        let fault = job.error.clone().map(domain::fault::Fault::from);
        let (state, ended) = match job.state() {
            State::Receiving => ("receiving", false),
            State::Queued => ("queued", false),
            State::Running => ("running", false),
            State::Collecting => ("collecting", false),
            State::Succeeded => ("succeeded", true),
            State::Failed => ("failed", true),
            State::Cancelled => ("cancelled", true),
            State::Expired => ("expired", true),
            State::Unspecified => ("unknown", false),
        };
        Self {
            kind: match job.kind() {
                Kind::Batch => "batch",
                Kind::FineTune => "fine-tune",
                Kind::Unspecified => "unknown",
            },
            state,
            ended,
            cancelling: job.cancelling,
            counts: job.counts.map(|counts| CountsView {
                total: counts.total,
                succeeded: counts.succeeded,
                failed: counts.failed,
                accounted: counts.accounted,
            }),
            usage: job.usage.map(TokensView::from),
            cost_picodollars: job.cost_picodollars,
            cost_dollars: job.cost_picodollars.map(dollars),
            problem: fault.as_ref().map(fault_text).unwrap_or_default(),
            error: fault.map(FaultView::from),
            events: job.events.into_iter().map(EventView::from).collect(),
            job_id: job.job_id,
            deployment: job.deployment,
            provider: job.provider,
            model: job.model,
            provider_job_id: job.provider_job_id,
            provider_state: job.provider_state,
            submitted_unix_ms: job.submitted_unix_ms,
            finished_unix_ms: job.finished_unix_ms,
            expires_unix_ms: job.expires_unix_ms,
            fine_tuned_model: job.fine_tuned_model,
        }
    }
}

impl From<v1::ProviderJobEvent> for EventView {
    fn from(event: v1::ProviderJobEvent) -> Self {
        Self { at_unix_ms: event.at_unix_ms, level: event.level, message: event.message }
    }
}

impl JobView {
    /// How far it is, in a line.
    pub(super) fn progress(&self) -> String {
        let mut text = format!("{} {}", self.job_id, self.state);
        if !self.provider_state.is_empty() {
            text.push_str(&format!(" ({})", self.provider_state));
        }
        if let Some(counts) = self.counts {
            let done = counts.succeeded + counts.failed;
            text.push_str(&format!(", {done} of {} requests", counts.total));
        }
        if self.cancelling {
            text.push_str(", a cancel is on its way");
        }
        if !self.problem.is_empty() {
            text.push_str(&format!(", {}", self.problem));
        }
        text
    }

    fn cost(&self) -> String {
        match self.cost_picodollars {
            Some(cost) => money(cost),
            None if self.ended => "unknown".to_owned(),
            None => String::new(),
        }
    }

    /// For the list: job, kind, state, deployment, done, failed, of, cost.
    pub(super) fn row(self) -> [String; 8] {
        let cost = self.cost();
        let count = |count: fn(&CountsView) -> u64| {
            self.counts.as_ref().map(|counts| count(counts).to_string()).unwrap_or_default()
        };
        [
            self.job_id.clone(),
            self.kind.to_owned(),
            self.state.to_owned(),
            self.deployment.clone(),
            count(|counts| counts.succeeded),
            count(|counts| counts.failed),
            count(|counts| counts.total),
            cost,
        ]
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            self.progress(),
            format!("{} on {} ({} of {})", self.kind, self.deployment, self.model, self.provider),
        ];
        let mut fact = |name: &str, value: String| {
            if !value.is_empty() {
                lines.push(format!("{name}: {value}"));
            }
        };
        fact("the provider's id", self.provider_job_id.clone());
        if let Some(counts) = self.counts {
            fact(
                "requests",
                format!(
                    "{} answered, {} failed, {} in the ledger",
                    counts.succeeded, counts.failed, counts.accounted
                ),
            );
        }
        if let Some(usage) = &self.usage {
            fact("tokens", format!("{}+{}", usage.input, usage.output));
        }
        fact("cost", self.cost());
        fact("new model", self.fine_tuned_model.clone());
        lines.extend(self.events.iter().map(|event| format!("- {}: {}", event.level, event.message)));
        lines
    }
}

/// What became of a request.
#[derive(Debug, Serialize)]
pub(super) struct ResultView {
    custom_id: String,
    request_id: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Answer(Box<AnswerView>),
    Error { error: FaultView },
    Nothing {},
}

#[derive(Debug, Serialize)]
struct AnswerView {
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    embeddings: Vec<Vec<f32>>,
    finish_reason: String,
    model: String,
    usage: TokensView,
    cost_picodollars: i64,
    cost_dollars: String,
}

#[derive(Debug, Serialize)]
struct CallView {
    id: String,
    name: String,
    arguments_json: String,
}

impl From<v1::BatchResult> for ResultView {
    fn from(result: v1::BatchResult) -> Self {
        let outcome = match result.outcome {
            Some(batch_result::Outcome::End(end)) => Outcome::Answer(Box::new(end.into())),
            Some(batch_result::Outcome::Error(error)) => {
                Outcome::Error { error: FaultView::from(domain::fault::Fault::from(error)) }
            }
            None => Outcome::Nothing {},
        };
        Self { custom_id: result.custom_id, request_id: result.request_id, outcome }
    }
}

impl From<v1::End> for AnswerView {
    fn from(end: v1::End) -> Self {
        let items = end.last_delta.map(|delta| delta.items).unwrap_or_default();
        let call = |call: &v1::ToolCallDelta| CallView {
            id: call.id.clone(),
            name: call.name.clone(),
            arguments_json: call.arguments_json.clone(),
        };
        Self {
            text: items.iter().map(|item| item.text.as_str()).collect(),
            reasoning: items.iter().map(|item| item.reasoning.as_str()).collect(),
            tool_calls: items.iter().flat_map(|item| &item.tool_calls).map(call).collect(),
            embeddings: end
                .embeddings
                .map(|embeddings| embeddings.embeddings.into_iter().map(|vector| vector.values).collect())
                .unwrap_or_default(),
            finish_reason: finish_reason(end.finish_reason),
            model: end.model,
            usage: end.usage.map(TokensView::from).unwrap_or_default(),
            cost_picodollars: end.cost_picodollars,
            cost_dollars: dollars(end.cost_picodollars),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_that_is_not_known_is_no_zero() {
        let job = v1::ProviderJob {
            job_id: "t".to_owned(),
            kind: Kind::FineTune.into(),
            state: State::Succeeded.into(),
            ..v1::ProviderJob::default()
        };
        let view = JobView::from(job.clone());
        assert!(view.lines().contains(&"cost: unknown".to_owned()), "{:?}", view.lines());
        assert!(serde_json::to_value(&view).unwrap()["cost_picodollars"].is_null());
        let paid = JobView::from(v1::ProviderJob { cost_picodollars: Some(0), ..job });
        assert!(paid.lines().contains(&"cost: $0.00".to_owned()), "{:?}", paid.lines());
    }

    #[test]
    fn a_result_is_an_answer_or_an_error() {
        let item = |text: &str| v1::DeltaItem { text: text.to_owned(), ..Default::default() };
        let end = v1::End {
            last_delta: Some(v1::Delta { items: vec![item("a"), item("b")] }),
            cost_picodollars: 37_500,
            ..v1::End::default()
        };
        let result = |outcome| v1::BatchResult {
            custom_id: "x".to_owned(),
            outcome: Some(outcome),
            ..Default::default()
        };
        let json = serde_json::to_value(ResultView::from(result(batch_result::Outcome::End(end)))).unwrap();
        assert_eq!((&json["text"], &json["cost_dollars"]), (&"ab".into(), &"0.0000000375".into()));
        let error = v1::Error { code: v1::ErrorCode::Timeout.into(), ..Default::default() };
        let json =
            serde_json::to_value(ResultView::from(result(batch_result::Outcome::Error(error)))).unwrap();
        assert_eq!((&json["custom_id"], &json["error"]["code"]), (&"x".into(), &"timeout".into()));
    }
}
