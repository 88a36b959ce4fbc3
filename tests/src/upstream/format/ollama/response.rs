//! Writes answers.

use serde_json::{Value, json};

use crate::upstream::answer::{Answer, Called, Finish};
use crate::upstream::body::Piece;
use crate::upstream::stream::{Framing, Streamed, line};

/// Ollama knows two reasons; a call of a tool is a stop.
const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Stop | Finish::ToolCalls | Finish::ContentFilter => "stop",
    }
}

fn body(answer: &Answer, message: Value) -> Value {
    json!({"model": answer.model, "created_at": "2025-01-01T00:00:00.000000Z", "message": message, "done": false})
}

fn say(answer: &Answer, field: &str, text: &str) -> Value {
    let mut message = json!({"role": "assistant", "content": ""});
    if let Some(fields) = message.as_object_mut() {
        fields.insert(field.to_owned(), text.into());
    }
    body(answer, message)
}

fn call(index: usize, call: &Called) -> Value {
    let id = format!("call_{}", call.id);
    json!({"id": id, "function": {"index": index, "name": call.name, "arguments": call.arguments()}})
}

/// Puts the end on: why, how long, how many tokens.
fn ended(answer: &Answer, mut body: Value) -> Value {
    let end = json!({
        "done": true,
        "done_reason": reason(answer.finish),
        "total_duration": 4_883_583_458_u64,
        "load_duration": 1_334_875,
        "prompt_eval_count": answer.usage.input,
        "prompt_eval_duration": 342_546_000,
        "eval_count": answer.usage.output,
        "eval_duration": 4_535_599_000_u64,
    });
    if let (Value::Object(body), Value::Object(end)) = (&mut body, end) {
        body.extend(end);
    }
    body
}

pub(super) fn whole(answer: &Answer) -> Value {
    let mut message = json!({"role": "assistant", "content": answer.text.concat()});
    if let Some(fields) = message.as_object_mut() {
        if !answer.reasoning.is_empty() {
            fields.insert("thinking".to_owned(), answer.reasoning.concat().into());
        }
        if !answer.calls.is_empty() {
            let calls = answer.calls.iter().enumerate().map(|(index, one)| call(index, one));
            fields.insert("tool_calls".to_owned(), calls.collect());
        }
    }
    ended(answer, body(answer, message))
}

pub(super) fn stream(answer: &Answer) -> Streamed {
    let mut pieces: Vec<Piece> =
        answer.reasoning.iter().map(|text| line(&say(answer, "thinking", text))).collect();
    pieces.extend(answer.text.iter().map(|text| line(&say(answer, "content", text))));
    pieces.extend(answer.calls.iter().enumerate().map(|(index, one)| {
        let calls = json!([call(index, one)]);
        line(&body(answer, json!({"role": "assistant", "content": "", "tool_calls": calls})))
    }));
    pieces.push(line(&ended(answer, say(answer, "content", ""))));
    let error = json!({"error": "an error was encountered while running the model"});
    Streamed {
        framing: Framing::Lines,
        pieces,
        ending: 1,
        accent: line(&say(answer, "content", "é")),
        error: line(&error),
    }
}
