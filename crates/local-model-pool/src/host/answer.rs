//! Pieces of an answer as messages of the bus.

use serde_json::{Value, json};

use wire::v1;

use crate::engine::{Finish, Likelihood, Piece, TokenLogprob, Usage};

/// Numbers the calls of one answer.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    calls: u32,
}

impl Deltas {
    /// A piece as an item of a delta.
    pub(super) fn item(&mut self, piece: Piece) -> v1::DeltaItem {
        let mut tool_calls = vec![];
        for call in piece.calls {
            tool_calls.push(v1::ToolCallDelta {
                index: self.calls,
                id: call.id,
                name: call.name,
                arguments_json: call.arguments_json,
                extra_json: String::new(),
            });
            self.calls = self.calls.saturating_add(1);
        }
        let extra_json =
            if piece.logprobs.is_empty() { String::new() } else { logprobs(&piece.logprobs).to_string() };
        let (text, reasoning) = (piece.text, piece.reasoning);
        v1::DeltaItem { text, reasoning, tool_calls, extra_json, ..v1::DeltaItem::default() }
    }
}

/// In OpenAI's form, which is how all executors report them.
fn logprobs(tokens: &[TokenLogprob]) -> Value {
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut entry = likelihood(&token.token);
            if let Value::Object(entry) = &mut entry {
                entry.insert("top_logprobs".to_owned(), token.top.iter().map(likelihood).collect());
            }
            entry
        })
        .collect();
    json!({"logprobs": {"content": content, "refusal": null}})
}

fn likelihood(token: &Likelihood) -> Value {
    json!({"token": String::from_utf8_lossy(&token.bytes), "logprob": token.logprob, "bytes": token.bytes})
}

/// The finish reason of a message.
pub(super) const fn finish_reason(finish: Finish) -> v1::FinishReason {
    match finish {
        Finish::Stop => v1::FinishReason::Stop,
        Finish::Length => v1::FinishReason::Length,
        Finish::ToolCalls => v1::FinishReason::ToolCalls,
        Finish::Cancelled => v1::FinishReason::Cancelled,
    }
}

/// Tokens of a message.
pub(super) fn usage(usage: Usage) -> v1::TokenUsage {
    v1::TokenUsage {
        input: usage.input.get(),
        output: usage.output.get(),
        cached_input: usage.cached.get(),
        reasoning: usage.reasoning.get(),
        ..v1::TokenUsage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ToolCall;

    #[test]
    fn calls_are_numbered_over_the_whole_answer() {
        let mut deltas = Deltas::default();
        let piece = |names: &[&str]| Piece {
            calls: names
                .iter()
                .map(|name| ToolCall { name: (*name).to_owned(), ..ToolCall::default() })
                .collect(),
            ..Piece::default()
        };
        let indexes = |item: v1::DeltaItem| item.tool_calls.iter().map(|call| call.index).collect::<Vec<_>>();
        assert_eq!(indexes(deltas.item(piece(&["a", "b"]))), [0, 1]);
        assert_eq!(indexes(deltas.item(piece(&["c"]))), [2]);
    }

    #[test]
    fn logprobs_are_in_the_form_that_clients_know() {
        let token = |text: &str, logprob| Likelihood { bytes: text.as_bytes().to_vec(), logprob };
        let logprobs = vec![TokenLogprob { token: token("ü", -0.5), top: vec![token("u", -0.25)] }];
        let item = Deltas::default().item(Piece { logprobs, ..Piece::default() });
        let expected = r#"{"logprobs":{"content":[{"bytes":[195,188],"logprob":-0.5,"token":"ü","top_logprobs":[{"bytes":[117],"logprob":-0.25,"token":"u"}]}],"refusal":null}}"#;
        assert_eq!(item.extra_json, expected);
    }
}
