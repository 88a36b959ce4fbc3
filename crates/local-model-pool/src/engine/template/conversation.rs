//! A conversation as chat templates expect it: the objects of transformers' `apply_chat_template`.

use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;
use time::OffsetDateTime;

use super::ordered::Ordered;
use crate::engine::dialogue::{Message, Tool, template_id};

/// What a prompt is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conversation<'a> {
    pub(crate) messages: &'a [Message],
    /// Tools that the model is told of.
    pub(crate) tools: &'a [Tool],
    /// Further variables, as `enable_thinking`; they do not replace what templates get anyway.
    pub(crate) variables: &'a serde_json::Map<String, serde_json::Value>,
    /// For templates that state the date.
    pub(crate) now: OffsetDateTime,
}

/// A message; what is missing is undefined in the template.
#[derive(Serialize)]
struct Said {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Called>,
    #[serde(skip_serializing_if = "String::is_empty")]
    tool_call_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
}

#[derive(Serialize)]
struct Called {
    id: String,
    r#type: &'static str,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    name: String,
    arguments: Ordered,
}

#[derive(Serialize)]
struct Offered {
    r#type: &'static str,
    function: Description,
}

#[derive(Serialize)]
struct Description {
    name: String,
    description: String,
    parameters: Ordered,
}

impl Conversation<'_> {
    /// The messages; every text of the caller's goes through `protect`.
    pub(super) fn messages(&self, protect: &mut dyn FnMut(&str) -> String) -> Value {
        let messages = self.messages.iter().map(|message| Said {
            role: message.role,
            content: protect(&message.content),
            reasoning_content: protect(&message.reasoning),
            tool_calls: message
                .calls
                .iter()
                .map(|call| Called {
                    id: template_id(&call.id),
                    r#type: "function",
                    function: Function {
                        name: protect(&call.name),
                        arguments: json(&call.arguments_json, protect),
                    },
                })
                .collect(),
            tool_call_id: if message.call_id.is_empty() {
                String::new()
            } else {
                template_id(&message.call_id)
            },
            name: protect(&message.name),
        });
        let messages: Vec<Said> = messages.collect();
        Value::from(Serde(messages))
    }

    /// The tools; undefined without any, as templates ask `tools is defined`.
    pub(super) fn tools(&self, protect: &mut dyn FnMut(&str) -> String) -> Value {
        if self.tools.is_empty() {
            return Value::UNDEFINED;
        }
        let tools = self.tools.iter().map(|tool| Offered {
            r#type: "function",
            function: Description {
                name: protect(&tool.name),
                description: protect(&tool.description),
                parameters: match tool.parameters_json.as_str() {
                    "" => json(r#"{"type":"object","properties":{}}"#, protect),
                    schema => json(schema, protect),
                },
            },
        });
        let tools: Vec<Offered> = tools.collect();
        Value::from(Serde(tools))
    }

    /// Bytes of everything that the caller gave.
    pub(crate) fn bytes(&self) -> usize {
        let messages = self.messages.iter().map(|message| {
            let calls =
                message.calls.iter().map(|call| call.name.len().saturating_add(call.arguments_json.len()));
            calls.fold(message.content.len(), usize::saturating_add)
        });
        let tools =
            self.tools.iter().map(|tool| tool.description.len().saturating_add(tool.parameters_json.len()));
        messages.chain(tools).fold(0, usize::saturating_add)
    }
}

/// JSON text as a value; what is no JSON (a model may have written it) stays text.
fn json(text: &str, protect: &mut dyn FnMut(&str) -> String) -> Ordered {
    let mut value = serde_json::from_str(text).unwrap_or_else(|_no_json| Ordered::Text(text.to_owned()));
    value.map_texts(protect);
    value
}
