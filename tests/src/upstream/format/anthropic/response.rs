//! Writes answers.

use serde_json::{Value, json};

use crate::upstream::answer::{Answer, Finish, Usage};
use crate::upstream::asked::signature;
use crate::upstream::body::{ID_DIGITS, Piece};
use crate::upstream::stream::{Framing, Streamed, named};

const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::ContentFilter => "refusal",
    }
}

/// `input_tokens` is what came neither from the cache nor went to it.
fn usage(usage: &Usage, output: u64) -> Value {
    json!({
        "input_tokens": usage.input - usage.cached - usage.cache_write,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        "service_tier": "standard",
    })
}

fn message(answer: &Answer, content: &[Value], stop_reason: Option<&str>, usage: Value) -> Value {
    json!({
        "id": format!("msg_{ID_DIGITS}"),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": usage,
    })
}

pub(super) fn whole(answer: &Answer) -> Value {
    let mut content = Vec::new();
    if !answer.reasoning.is_empty() {
        let text = answer.reasoning.concat();
        content.push(json!({"type": "thinking", "signature": signature(&text), "thinking": text}));
    }
    if !answer.text.is_empty() {
        content.push(json!({"type": "text", "text": answer.text.concat()}));
    }
    content.extend(answer.calls.iter().map(|call| {
        let id = format!("toolu_{}", call.id);
        json!({"type": "tool_use", "id": id, "name": call.name, "input": call.arguments()})
    }));
    message(answer, &content, Some(reason(answer.finish)), usage(&answer.usage, answer.usage.output))
}

fn event(kind: &str, mut body: Value) -> Piece {
    if let Some(fields) = body.as_object_mut() {
        fields.insert("type".to_owned(), kind.into());
    }
    named(kind, &body)
}

fn delta(index: usize, delta: Value) -> Piece {
    event("content_block_delta", json!({"index": index, "delta": delta}))
}

fn block(pieces: &mut Vec<Piece>, index: usize, begin: Value, deltas: impl Iterator<Item = Value>) {
    pieces.push(event("content_block_start", json!({"index": index, "content_block": begin})));
    pieces.extend(deltas.map(|one| delta(index, one)));
    pieces.push(event("content_block_stop", json!({"index": index})));
}

pub(super) fn stream(answer: &Answer) -> Streamed {
    let begun = message(answer, &[], None, usage(&answer.usage, 1));
    let mut pieces = vec![event("message_start", json!({"message": begun})), event("ping", json!({}))];
    let mut index = 0;
    if !answer.reasoning.is_empty() {
        let sign = json!({"type": "signature_delta", "signature": signature(&answer.reasoning.concat())});
        let deltas = answer.reasoning.iter().map(|text| json!({"type": "thinking_delta", "thinking": text}));
        let begin = json!({"type": "thinking", "thinking": "", "signature": ""});
        block(&mut pieces, index, begin, deltas.chain([sign]));
        index += 1;
    }
    let text_index = index;
    if !answer.text.is_empty() {
        let deltas = answer.text.iter().map(|text| json!({"type": "text_delta", "text": text}));
        block(&mut pieces, index, json!({"type": "text", "text": ""}), deltas);
        index += 1;
    }
    for call in &answer.calls {
        let deltas =
            call.arguments.iter().map(|json| json!({"type": "input_json_delta", "partial_json": json}));
        let id = format!("toolu_{}", call.id);
        let begin = json!({"type": "tool_use", "id": id, "name": call.name, "input": {}});
        block(&mut pieces, index, begin, deltas);
        index += 1;
    }
    let ended = json!({"stop_reason": reason(answer.finish), "stop_sequence": null});
    let used = json!({
        "output_tokens": answer.usage.output,
        "output_tokens_details": {"thinking_tokens": answer.usage.reasoning},
    });
    pieces.push(event("message_delta", json!({"delta": ended, "usage": used})));
    pieces.push(event("message_stop", json!({})));
    let error = json!({"error": {"type": "overloaded_error", "message": "Overloaded"}});
    Streamed {
        framing: Framing::Sse,
        pieces,
        ending: 1,
        accent: delta(text_index, json!({"type": "text_delta", "text": "é"})),
        error: event("error", error),
    }
}
