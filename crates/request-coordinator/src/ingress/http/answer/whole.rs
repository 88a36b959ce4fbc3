//! A whole answer in one object, put together from its pieces.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use wire::v1::{DeltaItem, End};

use super::{
    Head, Hybrid, Usage,
    carried::{self, Carried, OF_ANSWER, OF_CALL, OF_MESSAGE, Together},
    finish_reason,
};

/// The whole answer.
#[derive(Debug, Serialize)]
pub(in super::super) struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: Usage,
    hybrid: Hybrid,
    #[serde(flatten)]
    carried: Carried<'a>,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    index: u32,
    message: Answered,
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    native_finish_reason: Option<&'a RawValue>,
    logprobs: Option<Together>,
}

#[derive(Debug, Serialize)]
struct Answered {
    role: &'static str,
    content: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CalledTool>,
    #[serde(flatten)]
    carried: carried::Gathered,
}

#[derive(Debug, Default, Serialize)]
struct CalledTool {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CalledFunction,
    #[serde(flatten)]
    carried: carried::Gathered,
}

#[derive(Debug, Default, Serialize)]
struct CalledFunction {
    name: String,
    arguments: String,
}

/// Pieces put together.
#[derive(Debug, Default)]
pub(in super::super) struct Gathered {
    text: String,
    reasoning: String,
    calls: BTreeMap<u32, CalledTool>,
    logprobs: Option<Together>,
    carried: carried::Gathered,
}

impl Gathered {
    pub(in super::super) fn add(&mut self, items: Vec<DeltaItem>) {
        for item in items {
            let mut carried = Carried::read(&item.extra_json, OF_MESSAGE);
            if let Some(logprobs) = carried.take("logprobs") {
                Together::add(&mut self.logprobs, "logprobs", logprobs);
            }
            self.carried.add(carried);
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
                whole.carried.add(Carried::read(&call.extra_json, OF_CALL));
            }
        }
    }

    pub(in super::super) fn completion<'a>(
        mut self,
        head: &'a Head,
        end: &'a End,
        hybrid: Hybrid,
    ) -> Completion<'a> {
        let tool_calls: Vec<_> = self.calls.into_values().collect();
        let says_something_else = !tool_calls.is_empty() || self.carried.has("refusal");
        let content = (!self.text.is_empty() || !says_something_else).then_some(self.text);
        self.carried.or_null("refusal");
        let message = Answered {
            role: "assistant",
            content,
            reasoning_content: self.reasoning,
            tool_calls,
            carried: self.carried,
        };
        let mut carried = Carried::read(&end.extra_json, OF_ANSWER);
        let choice = Choice {
            index: 0,
            message,
            finish_reason: finish_reason(end.finish_reason()),
            native_finish_reason: carried.take("finish_reason"),
            logprobs: self.logprobs,
        };
        Completion {
            id: &head.id,
            object: "chat.completion",
            created: head.created,
            model: &head.model,
            choices: [choice],
            usage: end.usage.unwrap_or_default().into(),
            hybrid,
            carried,
        }
    }
}
