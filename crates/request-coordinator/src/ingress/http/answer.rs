//! Answers in OpenAI's format.

use domain::routing::Decision;
use serde::Serialize;
use serde_json::value::RawValue;
use wire::v1::{self, DeltaItem, End, FinishReason};

mod carried;
mod whole;

pub(super) use carried::answer_fields;
use carried::{Carried, OF_ANSWER, OF_CALL, OF_MESSAGE};
pub(super) use whole::Gathered;

/// What every part of one answer repeats.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) id: String,
    /// Unix time, seconds.
    pub(super) created: u64,
    pub(super) model: String,
}

#[derive(Debug, Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hybrid: Option<&'a Hybrid>,
    #[serde(flatten)]
    carried: Carried<'a>,
}

#[derive(Debug, Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: ChunkDelta<'a>,
    finish_reason: Option<&'static str>,
    /// The provider's own word, where ours is only its meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    native_finish_reason: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a RawValue>,
}

#[derive(Debug, Default, Serialize)]
struct ChunkDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ChunkToolCall<'a>>,
    #[serde(flatten)]
    carried: Carried<'a>,
}

#[derive(Debug, Serialize)]
struct ChunkToolCall<'a> {
    index: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    kind: &'static str,
    function: Function<'a>,
    #[serde(flatten)]
    carried: Carried<'a>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    arguments: &'a str,
}

/// Tokens, as OpenAI counts them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<v1::TokenUsage> for Usage {
    fn from(usage: v1::TokenUsage) -> Self {
        Self {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.input.saturating_add(usage.output),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_input },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning },
        }
    }
}

/// What only this system knows of the answer.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Hybrid {
    request_id: String,
    tier: &'static str,
    deployment: String,
    provider: String,
    machine: String,
    /// Which attempt answered, starting at 1.
    attempt: u32,
    /// What all attempts cost, US dollars, exact.
    cost_usd: String,
    time_to_first_token_ms: u64,
    total_ms: u64,
    class: &'static str,
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    usage_estimated: bool,
}

impl Hybrid {
    pub(super) fn new(request_id: &str, decision: Option<&Decision>, end: &End) -> Self {
        let cost = domain::units::Money::picodollars(end.request_cost_picodollars).to_string();
        Self {
            request_id: request_id.to_owned(),
            tier: wire::convert::tier(end.tier).map_or("unknown", domain::routing::Tier::as_str),
            deployment: end.deployment.clone(),
            provider: end.provider.clone(),
            machine: end.machine.clone(),
            attempt: end.attempt,
            cost_usd: cost.replace('$', ""),
            time_to_first_token_ms: end.time_to_first_token_ms,
            total_ms: end.total_ms,
            class: decision.map_or("unknown", |decision| decision.class.as_str()),
            reasons: decision.map(|decision| decision.reasons.clone()).unwrap_or_default(),
            usage_estimated: end.usage.as_ref().is_some_and(|usage| usage.estimated),
        }
    }
}

pub(super) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Unspecified | FinishReason::Stop | FinishReason::Cancelled => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
    }
}

/// Appends one server-sent event.
fn event(out: &mut Vec<u8>, value: &impl Serialize) {
    out.extend_from_slice(b"data: ");
    // plain structs of texts and numbers: this cannot fail, and a failure would only shorten the event
    let start = out.len();
    serde_json::to_writer(&mut *out, value).ok();
    // carried JSON may be laid out in lines, and an event has only one; inside of texts line breaks are escaped
    for byte in out.get_mut(start..).unwrap_or_default() {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\n\n");
}

impl<'a> ChunkChoice<'a> {
    const fn of(delta: ChunkDelta<'a>) -> Self {
        Self { index: 0, delta, finish_reason: None, native_finish_reason: None, logprobs: None }
    }
}

impl Head {
    fn chunk<'a>(&'a self, choices: &'a [ChunkChoice<'a>]) -> Chunk<'a> {
        Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            choices,
            usage: None,
            hybrid: None,
            carried: Carried::default(),
        }
    }

    /// The first chunk, which only says who speaks.
    pub(super) fn begin(&self, out: &mut Vec<u8>) {
        let delta = ChunkDelta { role: Some("assistant"), content: Some(""), ..ChunkDelta::default() };
        event(out, &self.chunk(&[ChunkChoice::of(delta)]));
    }

    /// One chunk for each piece.
    pub(super) fn pieces(&self, out: &mut Vec<u8>, items: &[DeltaItem]) {
        for item in items {
            let tool_calls = item.tool_calls.iter().map(|call| ChunkToolCall {
                index: call.index,
                id: &call.id,
                kind: if call.id.is_empty() { "" } else { "function" },
                function: Function { name: &call.name, arguments: &call.arguments_json },
                carried: Carried::read(&call.extra_json, OF_CALL),
            });
            let mut carried = Carried::read(&item.extra_json, OF_MESSAGE);
            let logprobs = carried.take("logprobs");
            let delta = ChunkDelta {
                role: None,
                content: (!item.text.is_empty()).then_some(item.text.as_str()),
                reasoning_content: (!item.reasoning.is_empty()).then_some(item.reasoning.as_str()),
                tool_calls: tool_calls.collect(),
                carried,
            };
            let says_something = delta.content.is_some()
                || delta.reasoning_content.is_some()
                || !delta.tool_calls.is_empty()
                || !delta.carried.is_empty()
                || logprobs.is_some();
            if says_something {
                event(out, &self.chunk(&[ChunkChoice { logprobs, ..ChunkChoice::of(delta) }]));
            }
        }
    }

    /// The last chunks: finish reason, then usage if it was asked for, then the terminator.
    pub(super) fn finish(&self, out: &mut Vec<u8>, end: &End, hybrid: &Hybrid, include_usage: bool) {
        if let Some(last) = &end.last_delta {
            self.pieces(out, &last.items);
        }
        let mut carried = Carried::read(&end.extra_json, OF_ANSWER);
        let choice = ChunkChoice {
            finish_reason: Some(finish_reason(end.finish_reason())),
            native_finish_reason: carried.take("finish_reason"),
            ..ChunkChoice::of(ChunkDelta::default())
        };
        event(out, &Chunk { hybrid: Some(hybrid), carried, ..self.chunk(&[choice]) });
        if include_usage {
            event(out, &Chunk { usage: Some(end.usage.unwrap_or_default().into()), ..self.chunk(&[]) });
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// An error in the middle of a stream: an event, and no terminator after it.
pub(super) fn broken(out: &mut Vec<u8>, fault: &domain::fault::Fault) {
    event(out, &super::error::body(fault));
}

#[cfg(test)]
mod tests;
