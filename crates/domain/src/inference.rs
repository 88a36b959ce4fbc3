//! What callers ask for, checked.
//!
//! Text that only a provider understands (`extra_json`, tool arguments, schemas) stays text: it is carried, never dropped.

mod audio;
mod measure;

use std::time::Duration;

pub use audio::{AUDIO_BYTES_MAX, Audio, Speak, SpeechFormat, Transcribe, TranscriptFormat};

use crate::{
    complexity::Complexity,
    id::{AgentName, ModelName, RequestId, TaskName},
    units::Bytes,
};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// Instructions of the application, where the provider tells them apart.
    Developer,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// The answer of a tool.
    Tool,
}

/// One piece of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it holds.
    pub content: PartContent,
    /// Fields that are not modelled, as a JSON object; empty when none.
    pub extra_json: String,
}

/// What a piece of a message holds.
#[derive(Debug, Clone, PartialEq)]
pub enum PartContent {
    /// Plain text.
    Text(String),
    /// A picture by address: `https:` or `data:`.
    ImageUrl {
        /// The address.
        url: String,
        /// `auto`, `low`, `high` or empty.
        detail: String,
    },
    /// A part that is not modelled, as a JSON object.
    Json(String),
}

/// A call of a tool that the model made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The provider's id of the call.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON text, as the model wrote it.
    pub arguments_json: String,
    /// Fields that are not modelled, as a JSON object; empty when none.
    pub extra_json: String,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// Not empty, unless the assistant only called tools.
    pub content: Vec<Part>,
    /// Calls the assistant made.
    pub tool_calls: Vec<ToolCall>,
    /// The call this message answers; empty unless the role is [`Role::Tool`].
    pub tool_call_id: String,
    /// Name of the speaker; empty when none.
    pub name: String,
    /// Fields that are not modelled, as a JSON object; empty when none.
    pub extra_json: String,
}

/// Tokens that a chat template puts around a message, a tool or a whole conversation, at most.
const TOKENS_AROUND: usize = 64;
/// Tokens of a picture at most: gpt-4o-mini counts up to 36,839 for one in high detail.
const TOKENS_OF_PICTURE: usize = 40_000;

impl Message {
    /// The most tokens that it can have.
    fn tokens_max(&self) -> usize {
        let parts = self.content.iter().map(|part| match &part.content {
            PartContent::Text(text) | PartContent::Json(text) => text.len(),
            PartContent::ImageUrl { .. } => TOKENS_OF_PICTURE,
        });
        let calls =
            self.tool_calls.iter().map(|call| call.name.len() + call.arguments_json.len() + TOKENS_AROUND);
        let around = self.name.len() + self.extra_json.len() + TOKENS_AROUND;
        parts.chain(calls).fold(around, usize::saturating_add)
    }

    /// The text of all text parts, in order.
    pub fn text_parts(&self) -> impl Iterator<Item = &str> {
        self.content.iter().filter_map(|part| match &part.content {
            PartContent::Text(text) => Some(text.as_str()),
            PartContent::ImageUrl { .. } | PartContent::Json(_) => None,
        })
    }
}

/// A tool the model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// 1 to 64 letters, digits, `-`, `_`.
    pub name: String,
    /// For the model.
    pub description: String,
    /// JSON Schema of the arguments; empty when it has none.
    pub parameters_json: String,
    /// Whether the arguments must satisfy the schema exactly.
    pub strict: Option<bool>,
    /// Fields that are not modelled, as a JSON object; empty when none.
    pub extra_json: String,
}

/// Whether and which tool the model has to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// The shape of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseFormat {
    /// Free text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that satisfies a schema.
    JsonSchema {
        /// Name of the schema; empty when none.
        name: String,
        /// JSON Schema.
        schema_json: String,
        /// Whether it must be satisfied exactly.
        strict: Option<bool>,
    },
}

/// How the answer is drawn; everything absent means the model's own default. Ranges are those of `llm.v1.Sampling`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// Most tokens of the answer.
    pub max_tokens: Option<u32>,
    /// 0 to 2; 0 is greedy.
    pub temperature: Option<f32>,
    /// Above 0, up to 1.
    pub top_p: Option<f32>,
    /// 1 to 1,000.
    pub top_k: Option<u32>,
    /// Same seed, same draw, where the executor can.
    pub seed: Option<u64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// -2 to 2.
    pub presence_penalty: Option<f32>,
    /// Texts that end the answer; none empty, at most 16.
    pub stop: Vec<String>,
}

/// Three steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Least.
    Low,
    /// Between.
    Medium,
    /// Most.
    High,
}

/// Where the content may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Privacy {
    /// Any allowed tier.
    #[default]
    Public,
    /// Never off the owner's machines.
    LocalOnly,
}

/// What the caller knows about the task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskProfile {
    /// Kind of task.
    pub task: Option<TaskName>,
    /// How much depends on the answer.
    pub criticality: Option<Level>,
    /// High: wants an answer within a second.
    pub latency_sensitivity: Option<Level>,
    /// Where the content may go.
    pub privacy: Privacy,
    /// GPU memory the task needs; zero when none or unknown.
    pub vram: Bytes,
    /// A training loop rather than inference.
    pub training: bool,
    /// How hard it is; estimated when absent.
    pub complexity: Option<Complexity>,
    /// How much money matters.
    pub budget_sensitivity: Option<Level>,
    /// Tools will be called, also where this request offers none.
    pub tool_use: bool,
    /// The mode to place it by, in place of the owner's; see [`crate::routing::Policy::mode_for`].
    pub mode: Option<String>,
    /// Decide, and call nobody.
    pub dry_run: bool,
}

/// What every request says beside its content.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The request.
    pub id: RequestId,
    /// Alias, model or deployment; placement decides when absent.
    pub model: Option<ModelName>,
    /// The agent of the owner's matrix.
    pub agent: Option<AgentName>,
    /// What the caller knows about the task.
    pub profile: TaskProfile,
    /// Time allowed in all; the coordinator's default when absent.
    pub deadline: Option<Duration>,
    /// Fields that are not modelled, as a JSON object; empty when none.
    pub extra_json: String,
}

/// Text from messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Generate {
    /// What every request says.
    pub envelope: Envelope,
    /// At least one.
    pub messages: Vec<Message>,
    /// How the answer is drawn.
    pub sampling: Sampling,
    /// Tools the model may call.
    pub tools: Vec<Tool>,
    /// Whether and which it has to call.
    pub tool_choice: Option<ToolChoice>,
    /// Shape of the answer.
    pub response_format: Option<ResponseFormat>,
    /// Whether the answer comes in pieces.
    pub stream: bool,
}

/// Vectors from texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embed {
    /// What every request says.
    pub envelope: Envelope,
    /// 1 to 2,048 texts, none empty.
    pub inputs: Vec<String>,
    /// Length of the vectors wanted; the model's own when absent.
    pub dimensions: Option<u32>,
}

/// Text in another language.
#[derive(Debug, Clone, PartialEq)]
pub struct Translate {
    /// What every request says.
    pub envelope: Envelope,
    /// Not empty.
    pub text: String,
    /// BCP 47 tag; detected when absent.
    pub source_language: Option<String>,
    /// BCP 47 tag.
    pub target_language: String,
    /// Whether the answer comes in pieces.
    pub stream: bool,
}

/// One request of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Text from messages.
    Generate(Generate),
    /// Vectors from texts.
    Embed(Embed),
    /// Text in another language.
    Translate(Translate),
    /// Text from speech.
    Transcribe(Transcribe),
    /// Speech from text.
    Speak(Speak),
}

impl Request {
    /// What every request says.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        match self {
            Self::Generate(request) => &request.envelope,
            Self::Embed(request) => &request.envelope,
            Self::Translate(request) => &request.envelope,
            Self::Transcribe(request) => &request.envelope,
            Self::Speak(request) => &request.envelope,
        }
    }

    /// Whether the answer comes in pieces; speech always does.
    #[must_use]
    pub const fn streams(&self) -> bool {
        match self {
            Self::Generate(request) => request.stream,
            Self::Translate(request) => request.stream,
            Self::Transcribe(request) => request.stream,
            Self::Speak(_) => true,
            Self::Embed(_) => false,
        }
    }

    /// What a deployment has to offer for it.
    #[must_use]
    pub fn needs(&self) -> Needs {
        match self {
            Self::Generate(request) => Needs {
                method: MethodNeed::Generate,
                tools: !request.tools.is_empty(),
                vision: request
                    .messages
                    .iter()
                    .flat_map(|message| &message.content)
                    .any(|part| matches!(part.content, PartContent::ImageUrl { .. })),
                json_schema: matches!(request.response_format, Some(ResponseFormat::JsonSchema { .. })),
            },
            Self::Embed(_) => Needs { method: MethodNeed::Embed, ..Needs::GENERATE },
            Self::Translate(_) => Needs { method: MethodNeed::Translate, ..Needs::GENERATE },
            Self::Transcribe(_) => Needs { method: MethodNeed::Transcribe, ..Needs::GENERATE },
            Self::Speak(_) => Needs { method: MethodNeed::Speak, ..Needs::GENERATE },
        }
    }
}

/// The kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MethodNeed {
    /// Text.
    Generate,
    /// Vectors.
    Embed,
    /// Another language.
    Translate,
    /// Text from speech.
    Transcribe,
    /// Speech from text.
    Speak,
}

/// What a deployment has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The kind of work.
    pub method: MethodNeed,
    /// Calls tools.
    pub tools: bool,
    /// Reads pictures.
    pub vision: bool,
    /// Keeps to a JSON schema.
    pub json_schema: bool,
}

impl Needs {
    /// Plain text.
    pub const GENERATE: Self =
        Self { method: MethodNeed::Generate, tools: false, vision: false, json_schema: false };
}
