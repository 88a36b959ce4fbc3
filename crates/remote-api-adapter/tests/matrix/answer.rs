//! An answer as the adapter gave it, put together from its pieces.

use std::collections::BTreeMap;

use bus::ReplyStream;
use domain::fault::Fault;
use serde_json::{Map, Value};
use wire::v1::{self, reply_frame::Kind};

use crate::fixture::PATIENCE;

/// A call of a tool.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
    pub(crate) extra: Map<String, Value>,
}

/// Everything that came.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Frames with pieces before the end.
    pub(crate) frames: usize,
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) audio: Vec<u8>,
    /// By index.
    pub(crate) calls: BTreeMap<u32, Call>,
    /// What has to be sent back with the message.
    pub(crate) extra: Map<String, Value>,
    pub(crate) end: v1::End,
}

/// What is the same whoever answers.
#[derive(Debug, PartialEq)]
pub(crate) struct Canonical {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    /// Name and arguments.
    pub(crate) calls: Vec<(String, Value)>,
    pub(crate) finish: v1::FinishReason,
    pub(crate) input: u64,
    pub(crate) output: u64,
}

/// Takes one JSON object into another; lists are added up, since they come in pieces.
fn merge(into: &mut Map<String, Value>, json: &str) {
    if json.is_empty() {
        return;
    }
    let more: Map<String, Value> = serde_json::from_str(json).unwrap();
    for (name, value) in more {
        match (into.get_mut(&name), value) {
            (Some(Value::Array(list)), Value::Array(mut more)) => list.append(&mut more),
            (_, value) => drop(into.insert(name, value)),
        }
    }
}

impl Answer {
    /// Reads a stream to its end; with the fault comes what came before it.
    pub(crate) async fn read(mut stream: ReplyStream) -> Result<Self, (Fault, Self)> {
        let mut answer = Self::default();
        loop {
            match stream.next(PATIENCE).await.unwrap().kind.unwrap() {
                Kind::Delta(delta) => {
                    answer.frames += 1;
                    answer.take(delta);
                }
                Kind::End(mut end) => {
                    answer.take(end.last_delta.take().unwrap_or_default());
                    answer.end = end;
                    return Ok(answer);
                }
                Kind::Error(error) => return Err((Fault::from(error), answer)),
                Kind::Accepted(_) | Kind::Heartbeat(_) => {}
            }
        }
    }

    fn take(&mut self, delta: v1::Delta) {
        for item in delta.items {
            self.text.push_str(&item.text);
            self.audio.extend(&item.audio);
            self.reasoning.push_str(&item.reasoning);
            merge(&mut self.extra, &item.extra_json);
            for piece in item.tool_calls {
                let call = self.calls.entry(piece.index).or_default();
                call.id.push_str(&piece.id);
                call.name.push_str(&piece.name);
                call.arguments.push_str(&piece.arguments_json);
                merge(&mut call.extra, &piece.extra_json);
            }
        }
    }

    pub(crate) fn usage(&self) -> v1::TokenUsage {
        self.end.usage.unwrap_or_default()
    }

    pub(crate) fn canonical(&self) -> Canonical {
        let arguments = |call: &Call| serde_json::from_str(&call.arguments).unwrap_or(Value::Null);
        Canonical {
            text: self.text.clone(),
            reasoning: self.reasoning.clone(),
            calls: self.calls.values().map(|call| (call.name.clone(), arguments(call))).collect(),
            finish: self.end.finish_reason(),
            input: self.usage().input,
            output: self.usage().output,
        }
    }

    /// The answer as the next request says it, as a client does that sends back what it got.
    pub(crate) fn as_message(&self) -> v1::Message {
        let json = |extra: &Map<String, Value>| {
            if extra.is_empty() { String::new() } else { Value::Object(extra.clone()).to_string() }
        };
        let calls = self.calls.values().map(|call| v1::ToolCall {
            id: call.id.clone(),
            name: call.name.clone(),
            arguments_json: call.arguments.clone(),
            extra_json: json(&call.extra),
        });
        let content = (!self.text.is_empty()).then(|| crate::question::text(&self.text));
        v1::Message {
            role: v1::Role::Assistant.into(),
            content: content.into_iter().collect(),
            tool_calls: calls.collect(),
            extra_json: json(&self.extra),
            ..Default::default()
        }
    }
}
