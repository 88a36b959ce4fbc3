//! Writes answers.

use serde_json::{Value, json};

use crate::upstream::answer::{Answer, Finish};
use crate::upstream::asked::signature;
use crate::upstream::body::ID_DIGITS;
use crate::upstream::stream::{Framing, Streamed, data};

/// What differs between the houses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Whether calls have ids.
    pub(super) with_ids: bool,
}

const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::ToolCalls => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::ContentFilter => "SAFETY",
    }
}

/// `candidatesTokenCount` has no thoughts in it, `promptTokenCount` has what came from the cache.
fn usage(answer: &Answer) -> Value {
    let usage = &answer.usage;
    let mut counts = json!({
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output - usage.reasoning,
        "totalTokenCount": usage.input + usage.output,
    });
    if let Some(fields) = counts.as_object_mut() {
        let optional = [("cachedContentTokenCount", usage.cached), ("thoughtsTokenCount", usage.reasoning)];
        for (name, count) in optional.into_iter().filter(|(_, count)| *count > 0) {
            fields.insert(name.to_owned(), count.into());
        }
    }
    counts
}

fn body(answer: &Answer, parts: &[Value], finish: Option<&str>, usage: Value) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if let Some((fields, finish)) = candidate.as_object_mut().zip(finish) {
        fields.insert("finishReason".to_owned(), finish.into());
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": answer.model,
        "responseId": format!("gemini-{ID_DIGITS}"),
    })
}

impl Shape {
    /// All calls; the first one carries the signature of the reasoning behind them.
    fn calls(self, answer: &Answer) -> Vec<Value> {
        let part = |(index, call): (usize, &crate::upstream::answer::Called)| {
            let mut function = json!({"name": call.name, "args": call.arguments()});
            if let Some(fields) = function.as_object_mut().filter(|_| self.with_ids) {
                fields.insert("id".to_owned(), call.id.as_str().into());
            }
            let mut part = json!({"functionCall": function});
            if let Some(fields) = part.as_object_mut().filter(|_| index == 0) {
                fields.insert("thoughtSignature".to_owned(), signature(&call.name).into());
            }
            part
        };
        answer.calls.iter().enumerate().map(part).collect()
    }

    pub(super) fn whole(self, answer: &Answer) -> Value {
        let mut parts = Vec::new();
        if !answer.reasoning.is_empty() {
            parts.push(json!({"text": answer.reasoning.concat(), "thought": true}));
        }
        if !answer.text.is_empty() {
            let mut part = json!({"text": answer.text.concat()});
            if let Some(fields) = part.as_object_mut().filter(|_| !answer.reasoning.is_empty()) {
                let sign = signature(&answer.reasoning.concat());
                fields.insert("thoughtSignature".to_owned(), sign.into());
            }
            parts.push(part);
        }
        parts.extend(self.calls(answer));
        body(answer, &parts, Some(reason(answer.finish)), usage(answer))
    }

    pub(super) fn stream(self, answer: &Answer) -> Streamed {
        let so_far = json!({"promptTokenCount": answer.usage.input, "totalTokenCount": answer.usage.input});
        let chunk = |part: Value| data(&body(answer, &[part], None, so_far.clone()));
        let thoughts = answer.reasoning.iter().map(|text| chunk(json!({"text": text, "thought": true})));
        let texts = answer.text.iter().map(|text| chunk(json!({"text": text})));
        let mut pieces: Vec<_> = thoughts.chain(texts).collect();
        if !answer.calls.is_empty() {
            pieces.push(data(&body(answer, &self.calls(answer), None, so_far.clone())));
        }
        let last = if answer.reasoning.is_empty() || !answer.calls.is_empty() {
            json!({"text": ""})
        } else {
            json!({"text": "", "thoughtSignature": signature(&answer.reasoning.concat())})
        };
        pieces.push(data(&body(answer, &[last], Some(reason(answer.finish)), usage(answer))));
        let error =
            json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}});
        Streamed {
            framing: Framing::Sse,
            pieces,
            ending: 1,
            accent: chunk(json!({"text": "é"})),
            error: data(&error),
        }
    }
}
