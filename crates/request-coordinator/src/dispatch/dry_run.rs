//! Dry run: decide, say what would be done, and call nobody.

use domain::{fault::Fault, inference::Request, routing::Decision};
use wire::v1;

use super::{Asked, Caller, Coordinator, Event, attempt::millis, usage};

/// Candidates that the answer names.
const NAMED_MAX: usize = 3;

impl Coordinator {
    /// Answers with the plan, in the form of the method: text where text is asked for, no vectors or sound where those are.
    pub(super) async fn dry_run(
        &self,
        asked: &Asked,
        decision: &Decision,
        caller: &Caller,
    ) -> Result<v1::FinishReason, Fault> {
        self.record(usage::dry_run(self, asked, decision)).await;
        if !matches!(asked.request, Request::Embed(_) | Request::Speak(_)) {
            let item = v1::DeltaItem { text: words(decision), ..v1::DeltaItem::default() };
            caller.tell(Event::Delta(v1::Delta { items: vec![item] })).await?;
        }
        let end = v1::End {
            finish_reason: v1::FinishReason::Stop.into(),
            usage: Some(v1::TokenUsage::default()),
            model: decision
                .candidates
                .first()
                .map(|first| first.deployment.model.to_string())
                .unwrap_or_default(),
            embeddings: matches!(asked.request, Request::Embed(_)).then(v1::Embeddings::default),
            total_ms: millis(asked.at.elapsed()),
            ..v1::End::default()
        };
        caller.tell(Event::End(Box::new(end))).await?;
        Ok(v1::FinishReason::Stop)
    }
}

fn words(decision: &Decision) -> String {
    let named: Vec<String> = decision
        .candidates
        .iter()
        .take(NAMED_MAX)
        .map(|candidate| format!("{} ({candidate})", candidate.deployment.id))
        .collect();
    let more = decision.candidates.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(", then {more} more") } else { String::new() };
    format!(
        "Dry run, nobody was called. It would go to {}{more}. Why: {}.",
        named.join(", then "),
        decision.reasons.join("; ")
    )
}
