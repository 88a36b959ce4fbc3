//! Answers in OpenAI's format.

use domain::routing::Decision;
use serde::Serialize;
use wire::v1::{self, DeltaItem, End, FinishReason};

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
}

#[derive(Debug, Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: ChunkDelta<'a>,
    finish_reason: Option<&'static str>,
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
}

#[derive(Debug, Serialize)]
struct ChunkToolCall<'a> {
    index: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    kind: &'static str,
    function: Function<'a>,
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
    serde_json::to_writer(&mut *out, value).ok();
    out.extend_from_slice(b"\n\n");
}

impl Head {
    fn chunk(&self, out: &mut Vec<u8>, delta: ChunkDelta<'_>, finish: Option<&'static str>) {
        let choices = [ChunkChoice { index: 0, delta, finish_reason: finish }];
        self.raw(out, &choices, None, None);
    }

    fn raw(
        &self,
        out: &mut Vec<u8>,
        choices: &[ChunkChoice<'_>],
        usage: Option<Usage>,
        hybrid: Option<&Hybrid>,
    ) {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            choices,
            usage,
            hybrid,
        };
        event(out, &chunk);
    }

    /// The first chunk, which only says who speaks.
    pub(super) fn begin(&self, out: &mut Vec<u8>) {
        let delta = ChunkDelta { role: Some("assistant"), content: Some(""), ..ChunkDelta::default() };
        self.chunk(out, delta, None);
    }

    /// One chunk for each piece.
    pub(super) fn pieces(&self, out: &mut Vec<u8>, items: &[DeltaItem]) {
        for item in items {
            let tool_calls = item.tool_calls.iter().map(|call| ChunkToolCall {
                index: call.index,
                id: &call.id,
                kind: if call.id.is_empty() { "" } else { "function" },
                function: Function { name: &call.name, arguments: &call.arguments_json },
            });
            let delta = ChunkDelta {
                role: None,
                content: (!item.text.is_empty()).then_some(item.text.as_str()),
                reasoning_content: (!item.reasoning.is_empty()).then_some(item.reasoning.as_str()),
                tool_calls: tool_calls.collect(),
            };
            if delta.content.is_some() || delta.reasoning_content.is_some() || !delta.tool_calls.is_empty() {
                self.chunk(out, delta, None);
            }
        }
    }

    /// The last chunks: finish reason, then usage if it was asked for, then the terminator.
    pub(super) fn finish(&self, out: &mut Vec<u8>, end: &End, hybrid: &Hybrid, include_usage: bool) {
        if let Some(last) = &end.last_delta {
            self.pieces(out, &last.items);
        }
        let choice = ChunkChoice {
            index: 0,
            delta: ChunkDelta::default(),
            finish_reason: Some(finish_reason(end.finish_reason())),
        };
        self.raw(out, &[choice], None, Some(hybrid));
        if include_usage {
            self.raw(out, &[], Some(end.usage.unwrap_or_default().into()), None);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// An error in the middle of a stream: an event, and no terminator after it.
pub(super) fn broken(out: &mut Vec<u8>, fault: &domain::fault::Fault) {
    event(out, &super::error::body(fault));
}

/// The whole answer in one object.
#[derive(Debug, Serialize)]
pub(super) struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice; 1],
    usage: Usage,
    hybrid: Hybrid,
}

#[derive(Debug, Serialize)]
struct Choice {
    index: u32,
    message: Answered,
    finish_reason: &'static str,
    logprobs: Option<()>,
}

#[derive(Debug, Serialize)]
struct Answered {
    role: &'static str,
    content: Option<String>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CalledTool>,
}

#[derive(Debug, Default, Serialize)]
struct CalledTool {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CalledFunction,
}

#[derive(Debug, Default, Serialize)]
struct CalledFunction {
    name: String,
    arguments: String,
}

/// Pieces put together.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    text: String,
    reasoning: String,
    calls: std::collections::BTreeMap<u32, CalledTool>,
}

impl Gathered {
    pub(super) fn add(&mut self, items: Vec<DeltaItem>) {
        for item in items {
            if self.text.is_empty() {
                self.text = item.text;
            } else {
                self.text.push_str(&item.text);
            }
            self.reasoning.push_str(&item.reasoning);
            for call in item.tool_calls {
                let whole = self
                    .calls
                    .entry(call.index)
                    .or_insert_with(|| CalledTool { kind: "function", ..CalledTool::default() });
                whole.id.push_str(&call.id);
                whole.function.name.push_str(&call.name);
                whole.function.arguments.push_str(&call.arguments_json);
            }
        }
    }

    pub(super) fn completion<'a>(self, head: &'a Head, end: &End, hybrid: Hybrid) -> Completion<'a> {
        let tool_calls: Vec<_> = self.calls.into_values().collect();
        let content = (!self.text.is_empty() || tool_calls.is_empty()).then_some(self.text);
        let message = Answered {
            role: "assistant",
            content,
            refusal: None,
            reasoning_content: self.reasoning,
            tool_calls,
        };
        let finish_reason = finish_reason(end.finish_reason());
        Completion {
            id: &head.id,
            object: "chat.completion",
            created: head.created,
            model: &head.model,
            choices: [Choice { index: 0, message, finish_reason, logprobs: None }],
            usage: end.usage.unwrap_or_default().into(),
            hybrid,
        }
    }
}
