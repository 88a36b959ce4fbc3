//! What the server says about files and jobs.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::provider::{
    Failure,
    jobs::{Ended, Event, Look, Side},
    json::Text,
    refusal::{Refusal, scrub},
};

/// The provider's verdict on what was sent.
pub(super) fn refused(side: &dyn Side, what: &str, code: &str, message: &str) -> Failure {
    let own = code.contains("server") || code.contains("internal");
    let text = format!("{what}: {message}");
    let status = (!own).then_some(400);
    Refusal { status, message: &text, code, ..Refusal::default() }.into_failure(side.provider(), None)
}

#[derive(Deserialize)]
pub(super) struct Named<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
}

#[derive(Deserialize)]
pub(super) struct File<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow, default)]
    pub(super) status: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) status_details: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Listed<'a> {
    #[serde(borrow, default)]
    pub(super) data: Vec<Owned<'a>>,
    #[serde(default)]
    pub(super) has_more: bool,
}

/// A job with the metadata of whoever made it.
#[derive(Deserialize)]
pub(super) struct Owned<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

impl Owned<'_> {
    /// A text of the metadata; others put there what they like.
    pub(super) fn metadata(&self, key: &str) -> Option<String> {
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(self.metadata?.get()).ok()?;
        fields.get(key)?.as_str().map(str::to_owned)
    }
}

#[derive(Deserialize)]
pub(super) struct Problem<'a> {
    #[serde(borrow, default)]
    pub(super) code: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) message: Option<Text<'a>>,
}

impl Problem<'_> {
    fn into_ended(self, side: &dyn Side, what: &str) -> Ended {
        let text = |text: Option<Text<'_>>| text.map(Text::into_string).unwrap_or_default();
        let (code, message) = (text(self.code), text(self.message));
        Ended::Failed(refused(side, what, &code, &message).fault)
    }
}

#[derive(Deserialize)]
struct Problems<'a> {
    #[serde(borrow, default)]
    data: Vec<Problem<'a>>,
}

#[derive(Default, Deserialize)]
struct Counts {
    #[serde(default)]
    completed: u64,
    #[serde(default)]
    failed: u64,
}

#[derive(Deserialize)]
pub(super) struct Batch<'a> {
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow, default)]
    errors: Option<Problems<'a>>,
    #[serde(borrow, default)]
    output_file_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    error_file_id: Option<Text<'a>>,
    #[serde(default)]
    request_counts: Option<Counts>,
    #[serde(default)]
    expires_at: Option<u64>,
}

impl Batch<'_> {
    pub(super) fn into_look(self, side: &dyn Side) -> Look {
        let nothing_said = Problem { code: None, message: None };
        let ended = match &*self.status {
            "completed" => Some(Ended::Completed),
            "failed" => {
                let problem = self.errors.and_then(|errors| errors.data.into_iter().next());
                Some(problem.unwrap_or(nothing_said).into_ended(side, "the batch failed"))
            }
            "expired" => Some(Ended::Expired),
            "cancelled" => Some(Ended::Cancelled),
            _ => None,
        };
        let counts = self.request_counts.unwrap_or_default();
        // successes first: where both files name a request, its answer counts
        let outputs = [self.output_file_id, self.error_file_id];
        Look {
            word: self.status.into_string(),
            ended,
            succeeded: counts.completed,
            failed: counts.failed,
            outputs: outputs
                .into_iter()
                .flatten()
                .map(Text::into_string)
                .filter(|id| !id.is_empty())
                .collect(),
            expires_unix_ms: self.expires_at.unwrap_or(0).saturating_mul(1_000),
            ..Look::default()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Training<'a> {
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow, default)]
    error: Option<Problem<'a>>,
    #[serde(borrow, default)]
    fine_tuned_model: Option<Text<'a>>,
    #[serde(default)]
    trained_tokens: Option<u64>,
}

impl Training<'_> {
    pub(super) fn into_look(self, side: &dyn Side) -> Look {
        let nothing_said = Problem { code: None, message: None };
        let ended = match &*self.status {
            "succeeded" => Some(Ended::Completed),
            "failed" => Some(self.error.unwrap_or(nothing_said).into_ended(side, "the training failed")),
            "cancelled" => Some(Ended::Cancelled),
            _ => None,
        };
        Look {
            word: self.status.into_string(),
            ended,
            fine_tuned_model: self.fine_tuned_model.map(Text::into_string).unwrap_or_default(),
            trained_tokens: self.trained_tokens,
            ..Look::default()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Events<'a> {
    #[serde(borrow, default)]
    data: Vec<Said<'a>>,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(default)]
    created_at: u64,
    #[serde(borrow, default)]
    level: Option<Text<'a>>,
    #[serde(borrow, default)]
    message: Option<Text<'a>>,
}

impl Events<'_> {
    /// Oldest first; the server sends the newest first.
    pub(super) fn into_events(self) -> Vec<Event> {
        let event = |said: Said<'_>| Event {
            at_unix_ms: said.created_at.saturating_mul(1_000),
            level: said.level.map(Text::into_string).unwrap_or_default(),
            message: scrub(&said.message.map(Text::into_string).unwrap_or_default(), None),
        };
        let mut events: Vec<Event> = self.data.into_iter().map(event).collect();
        events.sort_by_key(|event| event.at_unix_ms);
        events
    }
}

/// A line of an output or error file.
#[derive(Deserialize)]
pub(super) struct Row<'a> {
    #[serde(borrow)]
    pub(super) custom_id: Text<'a>,
    #[serde(borrow, default)]
    pub(super) response: Option<Response<'a>>,
    #[serde(borrow, default)]
    pub(super) error: Option<Problem<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Response<'a> {
    pub(super) status_code: u16,
    #[serde(borrow, default)]
    pub(super) request_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) body: Option<&'a RawValue>,
}
