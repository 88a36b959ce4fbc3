//! Writes answers.

use serde_json::{Value, json};

use crate::upstream::answer::{Answer, Finish, Usage};
use crate::upstream::asked::signature;
use crate::upstream::body::Piece;
use crate::upstream::event_stream;
use crate::upstream::stream::{Framing, Streamed};

const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::ContentFilter => "content_filtered",
    }
}

/// `inputTokens` is what came neither from the cache nor went to it; `totalTokens` is everything.
fn usage(usage: &Usage) -> Value {
    json!({
        "inputTokens": usage.input - usage.cached - usage.cache_write,
        "outputTokens": usage.output,
        "totalTokens": usage.input + usage.output,
        "cacheReadInputTokens": usage.cached,
        "cacheWriteInputTokens": usage.cache_write,
    })
}

pub(super) fn whole(answer: &Answer) -> Value {
    let mut content = Vec::new();
    if !answer.reasoning.is_empty() {
        let text = answer.reasoning.concat();
        let sign = signature(&text);
        content.push(json!({"reasoningContent": {"reasoningText": {"text": text, "signature": sign}}}));
    }
    if !answer.text.is_empty() {
        content.push(json!({"text": answer.text.concat()}));
    }
    content.extend(answer.calls.iter().map(|call| {
        let id = format!("tooluse_{}", call.id);
        json!({"toolUse": {"toolUseId": id, "name": call.name, "input": call.arguments()}})
    }));
    json!({
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": reason(answer.finish),
        "usage": usage(&answer.usage),
        "metrics": {"latencyMs": 7},
    })
}

/// A frame; like the real ones, each has some padding of its own that says nothing.
fn event(name: &str, mut payload: Value) -> Piece {
    if let Some(fields) = payload.as_object_mut() {
        fields.insert("p".to_owned(), "abcdefghijklmnop".into());
    }
    Piece::sealed(event_stream::event(name, &payload))
}

fn delta(index: usize, delta: Value) -> Piece {
    event("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}))
}

pub(super) fn stream(answer: &Answer) -> Streamed {
    let mut pieces = vec![event("messageStart", json!({"role": "assistant"}))];
    let mut index = 0;
    // only tool calls announce their block
    let end = |pieces: &mut Vec<Piece>, index: &mut usize| {
        pieces.push(event("contentBlockStop", json!({"contentBlockIndex": *index})));
        *index += 1;
    };
    if !answer.reasoning.is_empty() {
        let thought = |content: Value| delta(index, json!({"reasoningContent": content}));
        pieces.extend(answer.reasoning.iter().map(|text| thought(json!({"text": text}))));
        pieces.push(thought(json!({"signature": signature(&answer.reasoning.concat())})));
        end(&mut pieces, &mut index);
    }
    let text_index = index;
    if !answer.text.is_empty() {
        pieces.extend(answer.text.iter().map(|text| delta(index, json!({"text": text}))));
        end(&mut pieces, &mut index);
    }
    for call in &answer.calls {
        let start = json!({"toolUse": {"toolUseId": format!("tooluse_{}", call.id), "name": call.name}});
        pieces.push(event("contentBlockStart", json!({"contentBlockIndex": index, "start": start})));
        pieces.extend(call.arguments.iter().map(|input| delta(index, json!({"toolUse": {"input": input}}))));
        end(&mut pieces, &mut index);
    }
    pieces.push(event("messageStop", json!({"stopReason": reason(answer.finish)})));
    pieces.push(event("metadata", json!({"usage": usage(&answer.usage), "metrics": {"latencyMs": 7}})));
    let error = json!({"message": "Bedrock is unable to process your request."});
    Streamed {
        framing: Framing::EventStream,
        pieces,
        // the usage is no part of the answer, but without it nobody can pay
        ending: 2,
        accent: delta(text_index, json!({"text": "é"})),
        error: Piece::sealed(event_stream::exception("serviceUnavailableException", &error)),
    }
}
