//! The types of an answer, read without copying text.
//!
//! The visitors are written out because serde's `flatten` would copy every field into a tree to find the unknown ones.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use wire::v1;

use crate::provider::json::{Fields, Text, fields_kept as object};

/// A chat completion or one chunk of it.
#[derive(Debug, Default)]
pub(in super::super) struct Reply<'a> {
    pub(in super::super) id: Option<Text<'a>>,
    pub(in super::super) model: Option<Text<'a>>,
    pub(in super::super) choices: Vec<Choice<'a>>,
    pub(in super::super) usage: Option<Usage>,
    pub(in super::super) error: Option<&'a RawValue>,
    pub(in super::super) extra: Fields<'a>,
    object_is_error: bool,
}

impl Reply<'_> {
    /// Whether it is an error that stands in the place of an answer (vLLM).
    pub(in super::super) fn is_error(&self) -> bool {
        self.object_is_error && self.choices.is_empty()
    }
}

#[derive(Debug, Default)]
pub(in super::super) struct Choice<'a> {
    pub(in super::super) index: u32,
    pub(in super::super) finish_reason: Option<Text<'a>>,
    said: Said<'a>,
    extra: Fields<'a>,
}

/// A message or a delta.
#[derive(Debug, Default)]
pub(in super::super) struct Said<'a> {
    content: Content<'a>,
    reasoning: Option<Text<'a>>,
    tool_calls: Vec<CallPiece<'a>>,
    extra: Fields<'a>,
}

#[derive(Debug, Default)]
enum Content<'a> {
    #[default]
    Nothing,
    Text(Text<'a>),
    /// Some servers send a list of parts; its texts, joined.
    Joined(String),
}

#[derive(Debug, Default)]
struct CallPiece<'a> {
    index: Option<u32>,
    id: Option<Text<'a>>,
    function: Option<FunctionPiece<'a>>,
    extra: Fields<'a>,
}

#[derive(Debug, Deserialize)]
struct FunctionPiece<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    /// A string, with some servers the object itself.
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(in super::super) struct Usage {
    pub(super) prompt_tokens: Option<u64>,
    pub(super) completion_tokens: Option<u64>,
    pub(super) total_tokens: Option<u64>,
    pub(super) prompt_tokens_details: Option<PromptDetails>,
    pub(super) completion_tokens_details: Option<CompletionDetails>,
    /// `DeepSeek`'s name for cached tokens.
    pub(super) prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct PromptDetails {
    pub(super) cached_tokens: Option<u64>,
    pub(super) cache_write_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct CompletionDetails {
    pub(super) reasoning_tokens: Option<u64>,
}

impl Choice<'_> {
    /// What the choice adds to the answer; `None` when nothing (the first chunk often only names the role).
    pub(in super::super) fn into_item(self) -> Option<v1::DeltaItem> {
        let Said { content, reasoning, tool_calls, extra: mut fields } = self.said;
        for (key, value) in self.extra.into_entries() {
            fields.keep(key, value);
        }
        let item = v1::DeltaItem {
            text: match content {
                Content::Nothing => String::new(),
                Content::Text(text) => text.into_string(),
                Content::Joined(text) => text,
            },
            reasoning: reasoning.map(Text::into_string).unwrap_or_default(),
            tool_calls: tool_calls.into_iter().zip(0..).map(|(call, at)| call.into_delta(at)).collect(),
            audio: Vec::new(),
            extra_json: fields.into_json(),
        };
        let says_something = !item.text.is_empty()
            || !item.reasoning.is_empty()
            || !item.tool_calls.is_empty()
            || !item.extra_json.is_empty();
        says_something.then_some(item)
    }
}

impl CallPiece<'_> {
    /// `position` stands in for an index that is missing (whole answers have none).
    fn into_delta(self, position: u32) -> v1::ToolCallDelta {
        let (name, arguments) =
            self.function.map_or((None, None), |function| (function.name, function.arguments));
        let arguments_json = match arguments.map(RawValue::get) {
            None | Some("null") => String::new(),
            Some(json) => match serde_json::from_str::<Text<'_>>(json) {
                Ok(text) => text.into_string(),
                Err(_) => json.to_owned(),
            },
        };
        v1::ToolCallDelta {
            index: self.index.unwrap_or(position),
            id: self.id.map(Text::into_string).unwrap_or_default(),
            name: name.map(Text::into_string).unwrap_or_default(),
            arguments_json,
            extra_json: self.extra.into_json(),
        }
    }
}

object!(Reply, "a chat completion", |reply, key, map| {
    "id" => reply.id = map.next_value()?,
    "model" => reply.model = map.next_value()?,
    "choices" => reply.choices = map.next_value::<Option<Vec<_>>>()?.unwrap_or_default(),
    "usage" => reply.usage = map.next_value()?,
    "error" => reply.error = map.next_value::<Option<&RawValue>>()?,
    "object" => reply.object_is_error = map.next_value::<Option<Text<'de>>>()?.is_some_and(|name| &*name == "error"),
    "created" | "obfuscation" => drop(map.next_value::<IgnoredAny>()?),
});

object!(Choice, "a choice", |choice, key, map| {
    "index" => choice.index = map.next_value::<Option<u32>>()?.unwrap_or(0),
    "delta" | "message" => choice.said = map.next_value::<Option<_>>()?.unwrap_or_default(),
    "finish_reason" => choice.finish_reason = map.next_value()?,
});

object!(Said, "a message", |said, key, map| {
    "content" => said.content = map.next_value()?,
    // two names for one thing; servers that send both repeat the text
    "reasoning_content" | "reasoning" => {
        let text: Option<Text<'de>> = map.next_value()?;
        if said.reasoning.is_none() {
            said.reasoning = text;
        }
    }
    "tool_calls" => said.tool_calls = map.next_value::<Option<_>>()?.unwrap_or_default(),
    "role" => drop(map.next_value::<IgnoredAny>()?),
});

object!(CallPiece, "a tool call", |call, key, map| {
    "index" => call.index = map.next_value()?,
    "id" => call.id = map.next_value()?,
    "function" => call.function = map.next_value()?,
    "type" => drop(map.next_value::<IgnoredAny>()?),
});

impl<'de> Deserialize<'de> for Content<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Part<'a> {
            #[serde(borrow, default)]
            text: Option<Text<'a>>,
        }
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Content<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list of parts or null")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Content<'de>, E> {
                Ok(Content::Nothing)
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Text::from(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content<'de>, E> {
                Ok(Content::Joined(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content<'de>, A::Error> {
                let mut joined = String::new();
                while let Some(part) = parts.next_element::<Part<'de>>()? {
                    joined.push_str(part.text.as_deref().unwrap_or_default());
                }
                Ok(Content::Joined(joined))
            }
        }
        deserializer.deserialize_any(Seen)
    }
}
