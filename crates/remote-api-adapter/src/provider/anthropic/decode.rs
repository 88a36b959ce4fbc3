//! Answers of the Messages API as pieces.
//!
//! A whole answer and the events of a stream are brought to the same steps: the message begins, blocks begin, grow and end
//! (`blocks`), the message ends. What is not modelled of the message is kept in the end's `extra_json`, the last value of
//! each field. The call's id is the header `request-id`, by which Anthropic finds a call; the message's own is kept as
//! `message_id`.

mod blocks;
mod usage;

use domain::{
    fault::{Code, Fault, Origin},
    pricing::TokenUsage,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::v1;

pub(super) use self::blocks::{Delta, unknown_piece};
pub(super) use self::usage::Usage;
use self::{blocks::Blocks, usage::Counts};
use super::error::Words;
use crate::provider::{
    Completion,
    exchange::malformed,
    json::{Fields, Object, Text, string},
};

/// A message, whole or at its beginning.
#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow, default)]
    content: Option<Vec<Fields<'a>>>,
    #[serde(borrow, default)]
    usage: Option<Usage<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// How a message ended: fields of a whole one, or of the `delta` of a `message_delta`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Ending<'a> {
    #[serde(borrow, default)]
    stop_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    stop_sequence: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stop_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    container: Option<&'a RawValue>,
    #[serde(borrow, default)]
    context_management: Option<&'a RawValue>,
    #[serde(borrow, default)]
    diagnostics: Option<&'a RawValue>,
}

/// What an answer has come to so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) blocks: Blocks,
    finish_reason: Option<v1::FinishReason>,
    counts: Option<Counts>,
    model: String,
    /// Key and JSON value.
    extra: Vec<(&'static str, String)>,
}

impl Tally {
    /// The message of a `message_start`.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn begin(
        &mut self,
        provider: &str,
        json: &[u8],
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), Fault> {
        let message = serde_json::from_slice(json);
        self.take(provider, message.map_err(|error| malformed(provider, "a message", &error))?, items)
    }

    fn take(
        &mut self,
        provider: &str,
        message: Message<'_>,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), Fault> {
        self.model = message.model.map(Text::into_string).unwrap_or_default();
        if let Some(id) = message.id {
            let mut json = Vec::new();
            string(&mut json, &id);
            self.keep("message_id", &String::from_utf8_lossy(&json));
        }
        if let Some(usage) = message.usage {
            self.used(usage);
        }
        for (block, index) in message.content.unwrap_or_default().into_iter().zip(0..) {
            self.blocks.begin(provider, index, block, items)?;
            self.blocks.end(index, items);
        }
        Ok(())
    }

    pub(super) fn used(&mut self, usage: Usage<'_>) {
        for (key, value) in usage.unmodelled() {
            self.keep(key, value.get());
        }
        self.counts.get_or_insert_default().update(&usage);
    }

    /// The message has ended, or says more about how it will.
    pub(super) fn ending(&mut self, ending: &Ending<'_>) {
        if let Some(reason) = &ending.stop_reason {
            self.finish_reason = Some(self.reason(reason));
        }
        let rest = [
            ("stop_sequence", ending.stop_sequence),
            ("stop_details", ending.stop_details),
            ("container", ending.container),
            ("context_management", ending.context_management),
            ("diagnostics", ending.diagnostics),
        ];
        for (key, value) in rest {
            if let Some(value) = value {
                self.keep(key, value.get());
            }
        }
    }

    /// Reasons of which ours says less than the API's are kept beside it.
    fn reason(&mut self, reason: &str) -> v1::FinishReason {
        let (finish_reason, says_all) = match reason {
            "end_turn" | "stop_sequence" => (v1::FinishReason::Stop, true),
            "max_tokens" => (v1::FinishReason::Length, true),
            "model_context_window_exceeded" => (v1::FinishReason::Length, false),
            "tool_use" => (v1::FinishReason::ToolCalls, true),
            "refusal" => (v1::FinishReason::ContentFilter, false),
            // `pause_turn`, and what is yet to be invented: the model ended here
            _ => (v1::FinishReason::Stop, false),
        };
        if !says_all {
            let mut json = Vec::new();
            string(&mut json, reason);
            self.keep("stop_reason", &String::from_utf8_lossy(&json));
        }
        finish_reason
    }

    fn keep(&mut self, key: &'static str, value: &str) {
        match self.extra.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.extra.push((key, value.to_owned())),
        }
    }

    /// What the API has counted so far.
    pub(super) fn usage(&self) -> Option<TokenUsage> {
        self.counts.map(Counts::into_usage)
    }

    /// The end of the answer.
    pub(super) fn into_completion(self, items: Vec<v1::DeltaItem>) -> Completion {
        let mut extra_json = Vec::new();
        if !self.extra.is_empty() {
            let mut object = Object::begin(&mut extra_json);
            for (key, value) in &self.extra {
                object.raw(key, value);
            }
            object.end();
        }
        Completion {
            items,
            finish_reason: self.finish_reason.unwrap_or(v1::FinishReason::Stop),
            usage: self.usage(),
            model: self.model,
            provider_request_id: String::new(),
            embeddings: None,
            transcript: None,
            // made of strings only
            extra_json: String::from_utf8(extra_json).unwrap_or_default(),
        }
    }
}

/// A whole answer.
///
/// # Errors
/// `Upstream` for what is no message; the provider's error where it sent one with status 200.
pub(super) fn message(provider: &str, tally: &mut Tally, body: &[u8]) -> Result<Completion, Fault> {
    let bad = |error| malformed(provider, "an answer", &error);
    let message: Message<'_> = serde_json::from_slice(body).map_err(bad)?;
    if let Some(error) = message.error {
        return Err(Words::of_error(error.get()).into_failure(None, provider, None).fault);
    }
    if message.content.is_none() {
        let message = format!("{provider} sent an answer without content, expected a list of blocks");
        return Err(Fault::new(Code::Upstream, Origin::Provider, true, message));
    }
    let mut items = Vec::new();
    tally.take(provider, message, &mut items)?;
    tally.blocks.end_all(&mut items);
    tally.ending(&serde_json::from_slice(body).map_err(bad)?);
    Ok(std::mem::take(tally).into_completion(items))
}
