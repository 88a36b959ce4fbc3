//! The types of an answer, read without copying text.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::provider::json::{Fields, Text, fields_kept as object};

/// An answer or one chunk of it.
#[derive(Debug, Default)]
pub(in super::super) struct Reply<'a> {
    pub(super) candidates: Vec<Candidate<'a>>,
    pub(super) prompt_feedback: Option<&'a RawValue>,
    pub(super) usage: Option<Usage>,
    pub(super) model_version: Option<Text<'a>>,
    pub(super) response_id: Option<Text<'a>>,
    pub(super) error: Option<&'a RawValue>,
    pub(super) extra: Fields<'a>,
}

#[derive(Debug, Default)]
pub(super) struct Candidate<'a> {
    pub(super) index: u32,
    pub(super) content: Content<'a>,
    pub(super) finish_reason: Option<Text<'a>>,
    pub(super) logprobs: Option<&'a RawValue>,
    pub(super) extra: Fields<'a>,
}

/// Without parts where nothing was said.
#[derive(Debug, Default)]
pub(super) struct Content<'a> {
    pub(super) parts: Vec<Part<'a>>,
    pub(super) extra: Fields<'a>,
}

#[derive(Debug, Default)]
pub(super) struct Part<'a> {
    pub(super) text: Option<Text<'a>>,
    pub(super) thought: bool,
    pub(super) signature: Option<Text<'a>>,
    pub(super) function_call: Option<FunctionCall<'a>>,
    /// A part of another kind, or what stands beside one of these.
    pub(super) extra: Fields<'a>,
}

#[derive(Debug, Default)]
pub(super) struct FunctionCall<'a> {
    pub(super) id: Option<Text<'a>>,
    pub(super) name: Option<Text<'a>>,
    pub(super) args: Option<&'a RawValue>,
    /// Vertex can stream the arguments of a call; this is never asked for.
    pub(super) is_piece: bool,
}

/// Tokens; absent where Google did not count.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Usage {
    #[serde(rename = "promptTokenCount")]
    pub(super) prompt: Option<u64>,
    #[serde(rename = "cachedContentTokenCount")]
    pub(super) cached: Option<u64>,
    #[serde(rename = "candidatesTokenCount")]
    pub(super) candidates: Option<u64>,
    #[serde(rename = "thoughtsTokenCount")]
    pub(super) thoughts: Option<u64>,
    #[serde(rename = "toolUsePromptTokenCount")]
    pub(super) tool_use_prompt: Option<u64>,
    #[serde(rename = "totalTokenCount")]
    pub(super) total: Option<u64>,
}

impl Usage {
    /// This count, and the earlier one for what it leaves out: each chunk counts all that came before it.
    pub(super) fn or(self, earlier: Option<Self>) -> Self {
        let earlier = earlier.unwrap_or_default();
        Self {
            prompt: self.prompt.or(earlier.prompt),
            cached: self.cached.or(earlier.cached),
            candidates: self.candidates.or(earlier.candidates),
            thoughts: self.thoughts.or(earlier.thoughts),
            tool_use_prompt: self.tool_use_prompt.or(earlier.tool_use_prompt),
            total: self.total.or(earlier.total),
        }
    }
}

/// Whether `promptFeedback` says that the prompt was refused.
pub(super) fn is_blocked(feedback: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Feedback<'a> {
        #[serde(borrow, default, rename = "blockReason")]
        block_reason: Option<Text<'a>>,
    }
    serde_json::from_str::<Feedback<'_>>(feedback.get()).is_ok_and(|feedback| {
        feedback.block_reason.is_some_and(|reason| &*reason != "BLOCK_REASON_UNSPECIFIED")
    })
}

object!(Reply, "an answer", |reply, key, map| {
    "candidates" => reply.candidates = map.next_value::<Option<Vec<_>>>()?.unwrap_or_default(),
    "promptFeedback" => reply.prompt_feedback = map.next_value::<Option<&RawValue>>()?,
    "usageMetadata" => reply.usage = map.next_value()?,
    "modelVersion" => reply.model_version = map.next_value()?,
    "responseId" => reply.response_id = map.next_value()?,
    "error" => reply.error = map.next_value::<Option<&RawValue>>()?,
    "createTime" => drop(map.next_value::<IgnoredAny>()?),
});

object!(Candidate, "a candidate", |candidate, key, map| {
    "index" => candidate.index = map.next_value::<Option<u32>>()?.unwrap_or(0),
    "content" => candidate.content = map.next_value::<Option<_>>()?.unwrap_or_default(),
    "finishReason" => candidate.finish_reason = map.next_value()?,
    "logprobsResult" => candidate.logprobs = map.next_value::<Option<&RawValue>>()?,
});

object!(Content, "a content", |content, key, map| {
    "parts" => content.parts = map.next_value::<Option<Vec<_>>>()?.unwrap_or_default(),
    "role" => drop(map.next_value::<IgnoredAny>()?),
});

object!(Part, "a part", |part, key, map| {
    "text" => part.text = map.next_value()?,
    "thought" => part.thought = map.next_value::<Option<bool>>()?.unwrap_or(false),
    "thoughtSignature" => part.signature = map.next_value()?,
    "functionCall" => part.function_call = map.next_value()?,
});

impl<'de> Deserialize<'de> for FunctionCall<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Written<'a> {
            #[serde(borrow, default)]
            id: Option<Text<'a>>,
            #[serde(borrow, default)]
            name: Option<Text<'a>>,
            #[serde(borrow, default)]
            args: Option<&'a RawValue>,
            #[serde(default)]
            partial_args: Option<IgnoredAny>,
            #[serde(default)]
            will_continue: bool,
        }
        let Written { id, name, args, partial_args, will_continue } = Written::deserialize(deserializer)?;
        Ok(Self { id, name, args, is_piece: partial_args.is_some() || will_continue })
    }
}
