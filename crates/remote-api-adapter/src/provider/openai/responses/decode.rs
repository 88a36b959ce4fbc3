//! Items of an answer as pieces.
//!
//! Dropped on purpose: what the answer repeats of the request (`instructions`, `tools`, `temperature` …), `created_at` and
//! the items' own ids and states. Reasoning that came without its encrypted content is of no use later and not given out.

use domain::{fault::Fault, pricing::TokenUsage, units::Tokens};
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::v1;

use super::super::error::Words;
use crate::provider::{
    Completion,
    exchange::cut,
    json::{Fields, Object, Text, array},
};

/// An answer, whole or at the end of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct Response<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    incomplete_details: Option<Incomplete<'a>>,
    #[serde(borrow, default)]
    pub(super) output: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Incomplete<'a> {
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Usage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    input_tokens_details: Option<InputDetails>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        let input = usage.input_tokens_details.unwrap_or_default();
        let output = usage.output_tokens_details.unwrap_or_default();
        Self {
            input: Tokens::new(usage.input_tokens),
            output: Tokens::new(usage.output_tokens),
            cached_input: Tokens::new(input.cached_tokens.unwrap_or(0)),
            cache_write: Tokens::new(input.cache_write_tokens.unwrap_or(0)),
            cache_write_hour: Tokens::ZERO,
            reasoning: Tokens::new(output.reasoning_tokens.unwrap_or(0)),
            ..TokenUsage::default()
        }
    }
}

impl Response<'_> {
    /// What was counted, also of an answer that failed.
    pub(super) fn used(&self) -> Option<TokenUsage> {
        self.usage.clone().map(TokenUsage::from)
    }

    /// The end of an answer that called `calls` tools.
    ///
    /// # Errors
    /// It failed, or has not ended.
    pub(super) fn end(self, provider: &str, calls: u32) -> Result<Completion, Fault> {
        if let Some(error) = self.error.filter(|error| error.get() != "null") {
            return Err(Words::of_error(error.get()).refusal(None).into_failure(provider, None).fault);
        }
        let why = self.incomplete_details.and_then(|details| details.reason);
        let mut word = None;
        let finish_reason = match (self.status.as_deref(), why.as_deref()) {
            (Some("incomplete"), Some("content_filter")) => v1::FinishReason::ContentFilter,
            (Some("incomplete"), Some("max_output_tokens") | None) => v1::FinishReason::Length,
            (Some("incomplete"), Some(other)) => {
                word = Some(other);
                v1::FinishReason::Length
            }
            (Some("completed") | None, _) if calls > 0 => v1::FinishReason::ToolCalls,
            (Some("completed") | None, _) => v1::FinishReason::Stop,
            _ => return Err(cut(provider)),
        };
        let mut extra = Vec::new();
        if self.service_tier.is_some() || word.is_some() {
            let mut object = Object::begin(&mut extra);
            if let Some(tier) = self.service_tier {
                object.raw("service_tier", tier.get());
            }
            if let Some(word) = word {
                object.text("finish_reason", word);
            }
            object.end();
        }
        Ok(Completion {
            finish_reason,
            usage: self.usage.map(TokenUsage::from),
            model: self.model.map(Text::into_string).unwrap_or_default(),
            provider_request_id: self.id.map(Text::into_string).unwrap_or_default(),
            extra_json: String::from_utf8(extra).unwrap_or_default(),
            ..Completion::default()
        })
    }
}

/// One item of an answer, by its kind.
pub(super) enum Item<'a> {
    Message(Fields<'a>),
    Call(Call<'a>),
    Reasoning(Reasoning<'a>),
    Other,
}

#[derive(Deserialize)]
pub(super) struct Call<'a> {
    #[serde(borrow)]
    pub(super) call_id: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow, default)]
    pub(super) arguments: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Reasoning<'a> {
    #[serde(borrow, default)]
    summary: Option<Vec<Part<'a>>>,
    #[serde(borrow, default)]
    content: Option<Vec<Part<'a>>>,
    #[serde(borrow, default)]
    encrypted_content: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    annotations: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    logprobs: Option<&'a RawValue>,
}

/// Reads an item.
///
/// # Errors
/// It is of no such shape.
pub(super) fn item(json: &RawValue) -> Result<Item<'_>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow, rename = "type")]
        kind: Text<'a>,
    }
    Ok(match &*serde_json::from_str::<Kind<'_>>(json.get())?.kind {
        "message" => Item::Message(serde_json::from_str(json.get())?),
        "function_call" => Item::Call(serde_json::from_str(json.get())?),
        "reasoning" => Item::Reasoning(serde_json::from_str(json.get())?),
        _ => Item::Other,
    })
}

impl Reasoning<'_> {
    pub(super) const fn can_come_back(&self) -> bool {
        self.encrypted_content.is_some()
    }

    /// Its text, or what is shown of it.
    pub(super) fn text(&self) -> String {
        let text = |parts: &Option<Vec<Part<'_>>>| {
            let parts = parts.iter().flatten().filter_map(|part| part.text.as_deref());
            parts.collect::<Vec<_>>().join("\n\n")
        };
        let content = text(&self.content);
        if content.is_empty() { text(&self.summary) } else { content }
    }
}

/// Pieces of a whole message.
///
/// # Errors
/// It is of no such shape.
pub(super) fn message(fields: &Fields<'_>, items: &mut Vec<v1::DeltaItem>) -> Result<(), serde_json::Error> {
    let parts = fields.get("content").map_or("[]", RawValue::get);
    for part in serde_json::from_str::<Vec<Part<'_>>>(parts)? {
        if part.kind.as_deref() == Some("refusal") {
            items.extend(part.refusal.map(|refusal| extra("refusal", refusal.get())));
            continue;
        }
        let mut piece = match part.logprobs.filter(|list| !matches!(list.get(), "null" | "[]")) {
            Some(list) => logprobs(list.get()),
            None => v1::DeltaItem::default(),
        };
        piece.text = part.text.map(Text::into_string).unwrap_or_default();
        if piece != v1::DeltaItem::default() {
            items.push(piece);
        }
        items.extend(part.annotations.unwrap_or_default().into_iter().map(annotation));
    }
    items.extend(phase(fields));
    Ok(())
}

/// Which part of the work a message belongs to, where the model says so.
pub(super) fn phase(fields: &Fields<'_>) -> Option<v1::DeltaItem> {
    fields.get("phase").filter(|phase| phase.get() != "null").map(|phase| extra("phase", phase.get()))
}

/// A piece that is one unmodelled field.
pub(super) fn extra(name: &'static str, json: &str) -> v1::DeltaItem {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.raw(name, json);
    object.end();
    v1::DeltaItem { extra_json: String::from_utf8(out).unwrap_or_default(), ..v1::DeltaItem::default() }
}

/// Log probabilities in chat's form, one level deeper.
pub(super) fn logprobs(list: &str) -> v1::DeltaItem {
    extra("logprobs", &format!("{{\"content\":{list}}}"))
}

/// Items that chat has no word for, to be sent back as they stand.
pub(super) fn output_items(items: &[String]) -> String {
    format!("{{\"output_items\":[{}]}}", items.join(","))
}

/// A citation in chat's form: its fields one level deeper.
pub(super) fn annotation(json: &RawValue) -> v1::DeltaItem {
    let mut out = Vec::new();
    // cannot fail: nothing is refused
    drop(array(&mut out, [json], |out, json| {
        let fields = serde_json::from_str::<Fields<'_>>(json.get()).unwrap_or_default();
        if fields.get("type").is_none_or(|kind| kind.get() != "\"url_citation\"") {
            out.extend_from_slice(json.get().as_bytes());
            return Ok(());
        }
        let mut object = Object::begin(out);
        object.text("type", "url_citation");
        let (_, fields) = fields.split("type");
        Object::wrap(object.nested("url_citation"), &fields);
        object.end();
        Ok(())
    }));
    extra("annotations", &String::from_utf8(out).unwrap_or_default())
}
