//! Requests.

use std::{fmt::Display, time::Duration};

use domain::{
    fault::{Code, Fault, Origin},
    id::{AgentName, ModelName, RequestId, TaskName},
    inference::{
        Embed, Envelope, Generate, Level, Message, Part, PartContent, Privacy, Request, ResponseFormat, Role,
        Sampling, TaskProfile, Tool, ToolCall, ToolChoice, Translate,
    },
    units::Bytes,
};

use super::snapshot::optional;
use crate::v1;

/// What a request may hold at most. Sizes in bytes are bounded by the bus (8 MB a message).
pub struct Limits;

impl Limits {
    /// Messages of a conversation.
    pub const MESSAGES: usize = 10_000;
    /// Tools of a request.
    pub const TOOLS: usize = 512;
    /// Stop texts.
    pub const STOPS: usize = 16;
    /// Texts to embed.
    pub const EMBED_INPUTS: usize = 2_048;
    /// Tokens of an answer.
    pub const MAX_TOKENS: u32 = 1_000_000;
    /// Time allowed for one request.
    pub const DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);
}

pub(super) fn expect(field: impl Display, value: impl Display, expected: &str) -> Fault {
    let field = field.to_string();
    let message = format!("{field} is {value}, expected {expected}");
    Fault::invalid(field, message)
}

pub(super) fn in_range(field: &str, value: Option<f32>, low: f32, high: f32) -> Result<Option<f32>, Fault> {
    match value {
        Some(number) if !(low..=high).contains(&number) => {
            Err(expect(field, number, &format!("a number from {low} to {high}")))
        }
        other => Ok(other),
    }
}

/// An object's JSON text, or nothing. Only the outside is looked at: what is inside is the provider's business.
///
/// Paths are written only into faults: `format_args!` costs nothing where there is none.
pub(super) fn json_object(field: impl Display, text: String) -> Result<String, Fault> {
    let inside = text.trim();
    if inside.is_empty() || (inside.starts_with('{') && inside.ends_with('}')) {
        return Ok(text);
    }
    Err(expect(
        field,
        format!("{:?}", inside.chars().take(40).collect::<String>()),
        "a JSON object or nothing",
    ))
}

/// What every request says, checked; the messages have the fields in common, but no type.
macro_rules! envelope {
    ($wire:ident) => {{
        let deadline = Duration::from_millis($wire.deadline_ms);
        if deadline > Limits::DEADLINE {
            return Err(expect("deadline_ms", $wire.deadline_ms, "at most 86400000 (a day)"));
        }
        Envelope {
            id: RequestId::new($wire.request_id)?,
            model: optional($wire.model, ModelName::new)?,
            agent: optional($wire.agent, AgentName::new)?,
            profile: $wire.profile.map(profile).transpose()?.unwrap_or_default(),
            deadline: (!deadline.is_zero()).then_some(deadline),
            extra_json: json_object("extra_json", $wire.extra_json)?,
        }
    }};
}
pub(super) use envelope;

fn level(value: i32, field: &'static str) -> Result<Option<Level>, Fault> {
    match v1::Level::try_from(value) {
        Ok(v1::Level::Unspecified) => Ok(None),
        Ok(v1::Level::Low) => Ok(Some(Level::Low)),
        Ok(v1::Level::Medium) => Ok(Some(Level::Medium)),
        Ok(v1::Level::High) => Ok(Some(Level::High)),
        Err(_) => Err(expect(field, value, "low, medium or high")),
    }
}

/// Length of a mode's name, bytes.
const MODE_MAX: usize = 32;

fn mode(name: String) -> Result<Option<String>, Fault> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if plain && name.len() <= MODE_MAX {
        return Ok((!name.is_empty()).then_some(name));
    }
    let start: String = name.chars().take(40).collect();
    Err(expect("profile.mode", format!("{start:?}"), "up to 32 letters, digits or `-`"))
}

pub(super) fn profile(wire: v1::TaskProfile) -> Result<TaskProfile, Fault> {
    Ok(TaskProfile {
        task: optional(wire.task, TaskName::new)?,
        criticality: level(wire.criticality, "profile.criticality")?,
        latency_sensitivity: level(wire.latency_sensitivity, "profile.latency_sensitivity")?,
        // a privacy this version does not know is taken as the stricter one
        privacy: match v1::Privacy::try_from(wire.privacy) {
            Ok(v1::Privacy::Unspecified | v1::Privacy::Public) => Privacy::Public,
            Ok(v1::Privacy::LocalOnly) | Err(_) => Privacy::LocalOnly,
        },
        vram: Bytes::new(wire.vram_bytes),
        training: wire.training,
        complexity: super::complexity(wire.complexity),
        budget_sensitivity: level(wire.budget_sensitivity, "profile.budget_sensitivity")?,
        tool_use: wire.tool_use,
        mode: mode(wire.mode)?,
        dry_run: wire.dry_run,
    })
}

fn sampling(wire: v1::Sampling) -> Result<Sampling, Fault> {
    let max_tokens = match wire.max_tokens {
        Some(count) if count == 0 || count > Limits::MAX_TOKENS => {
            return Err(expect("max_tokens", count, "1 to 1000000"));
        }
        other => other,
    };
    let top_p = match wire.top_p {
        Some(share) if !(share > 0.0 && share <= 1.0) => {
            return Err(expect("top_p", share, "a number above 0 and up to 1"));
        }
        other => other,
    };
    if let Some(count) = wire.top_k.filter(|count| !(1..=1_000).contains(count)) {
        return Err(expect("top_k", count, "1 to 1000"));
    }
    if wire.stop.len() > Limits::STOPS {
        return Err(expect("stop", format!("{} texts", wire.stop.len()), "at most 16"));
    }
    if let Some(index) = wire.stop.iter().position(String::is_empty) {
        return Err(expect(format!("stop[{index}]"), "empty", "a text"));
    }
    Ok(Sampling {
        max_tokens,
        temperature: in_range("temperature", wire.temperature, 0.0, 2.0)?,
        top_p,
        top_k: wire.top_k,
        seed: wire.seed,
        frequency_penalty: in_range("frequency_penalty", wire.frequency_penalty, -2.0, 2.0)?,
        presence_penalty: in_range("presence_penalty", wire.presence_penalty, -2.0, 2.0)?,
        stop: wire.stop,
    })
}

fn part(wire: v1::ContentPart, field: &dyn Display) -> Result<Part, Fault> {
    let content = match wire.part {
        Some(v1::content_part::Part::Text(text)) => PartContent::Text(text),
        Some(v1::content_part::Part::ImageUrl(image)) => {
            if !(image.url.starts_with("https://")
                || image.url.starts_with("http://")
                || image.url.starts_with("data:"))
            {
                let start: String = image.url.chars().take(40).collect();
                return Err(expect(
                    format_args!("{field}.image_url.url"),
                    format!("{start:?}"),
                    "an http(s) or data URL",
                ));
            }
            PartContent::ImageUrl { url: image.url, detail: image.detail }
        }
        Some(v1::content_part::Part::Json(json)) => PartContent::Json(json_object(field, json)?),
        None => return Err(expect(field, "empty", "a text, an image or a JSON part")),
    };
    Ok(Part { content, extra_json: json_object(field, wire.extra_json)? })
}

fn message(wire: v1::Message, index: usize) -> Result<Message, Fault> {
    let field = format_args!("messages[{index}]");
    let role = match v1::Role::try_from(wire.role) {
        Ok(v1::Role::System) => Role::System,
        Ok(v1::Role::Developer) => Role::Developer,
        Ok(v1::Role::User) => Role::User,
        Ok(v1::Role::Assistant) => Role::Assistant,
        Ok(v1::Role::Tool) => Role::Tool,
        Ok(v1::Role::Unspecified) | Err(_) => {
            return Err(expect(
                format_args!("{field}.role"),
                wire.role,
                "system, developer, user, assistant or tool",
            ));
        }
    };
    if wire.content.is_empty() && wire.tool_calls.is_empty() {
        return Err(expect(format_args!("{field}.content"), "empty", "at least one part"));
    }
    if role == Role::Tool && wire.tool_call_id.is_empty() {
        return Err(expect(
            format_args!("{field}.tool_call_id"),
            "empty",
            "the id of the call this message answers",
        ));
    }
    let content: Result<Vec<_>, Fault> = wire
        .content
        .into_iter()
        .enumerate()
        .map(|(at, content)| part(content, &format_args!("{field}.content[{at}]")))
        .collect();
    let tool_calls: Result<Vec<_>, Fault> = wire
        .tool_calls
        .into_iter()
        .enumerate()
        .map(|(at, call)| {
            let extra_json = json_object(format_args!("{field}.tool_calls[{at}]"), call.extra_json)?;
            Ok(ToolCall { id: call.id, name: call.name, arguments_json: call.arguments_json, extra_json })
        })
        .collect();
    Ok(Message {
        role,
        content: content?,
        tool_calls: tool_calls?,
        tool_call_id: wire.tool_call_id,
        name: wire.name,
        extra_json: json_object(field, wire.extra_json)?,
    })
}

fn tool(wire: v1::Tool, index: usize) -> Result<Tool, Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if wire.name.is_empty() || wire.name.len() > 64 || !wire.name.chars().all(plain) {
        let start: String = wire.name.chars().take(80).collect();
        return Err(expect(
            format_args!("tools[{index}].name"),
            format!("{start:?}"),
            "1 to 64 letters, digits, `-` or `_`",
        ));
    }
    Ok(Tool {
        parameters_json: json_object(format_args!("tools[{index}].parameters"), wire.parameters_json)?,
        name: wire.name,
        description: wire.description,
        strict: wire.strict,
        extra_json: json_object(format_args!("tools[{index}]"), wire.extra_json)?,
    })
}

fn tool_choice(wire: v1::ToolChoice, tools: &[Tool]) -> Result<Option<ToolChoice>, Fault> {
    use v1::tool_choice::Mode;
    let choice = match Mode::try_from(wire.mode) {
        Ok(Mode::Unspecified) => return Ok(None),
        Ok(Mode::Auto) => ToolChoice::Auto,
        Ok(Mode::None) => ToolChoice::None,
        Ok(Mode::Required) => ToolChoice::Required,
        Ok(Mode::Named) => ToolChoice::Named(wire.name),
        Err(_) => return Err(expect("tool_choice", wire.mode, "auto, none, required or a tool's name")),
    };
    match &choice {
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            Err(expect("tool_choice", format!("{name:?}"), "the name of one of the tools"))
        }
        ToolChoice::Required if tools.is_empty() => {
            Err(expect("tool_choice", "required", "tools to choose from"))
        }
        _ => Ok(Some(choice)),
    }
}

fn response_format(wire: v1::ResponseFormat) -> Result<Option<ResponseFormat>, Fault> {
    use v1::response_format::Kind;
    match Kind::try_from(wire.kind) {
        Ok(Kind::Unspecified) => Ok(None),
        Ok(Kind::Text) => Ok(Some(ResponseFormat::Text)),
        Ok(Kind::JsonObject) => Ok(Some(ResponseFormat::JsonObject)),
        Ok(Kind::JsonSchema) if wire.schema_json.trim().is_empty() => {
            Err(expect("response_format.json_schema.schema", "empty", "a JSON Schema"))
        }
        Ok(Kind::JsonSchema) => Ok(Some(ResponseFormat::JsonSchema {
            name: wire.name,
            schema_json: json_object("response_format.json_schema.schema", wire.schema_json)?,
            strict: wire.strict,
        })),
        Err(_) => Err(expect("response_format", wire.kind, "text, json_object or json_schema")),
    }
}

impl TryFrom<v1::GenerateRequest> for Generate {
    type Error = Fault;

    /// The request id must have been assigned.
    fn try_from(wire: v1::GenerateRequest) -> Result<Self, Fault> {
        let envelope = envelope!(wire);
        if wire.messages.is_empty() {
            return Err(expect("messages", "empty", "at least one message"));
        }
        if wire.messages.len() > Limits::MESSAGES {
            return Err(expect(
                "messages",
                format!("{} long", wire.messages.len()),
                "at most 10000 messages",
            ));
        }
        if wire.tools.len() > Limits::TOOLS {
            return Err(expect("tools", format!("{} long", wire.tools.len()), "at most 512 tools"));
        }
        let sampling = sampling(wire.sampling.unwrap_or_default())?;
        let messages: Result<Vec<_>, Fault> =
            wire.messages.into_iter().enumerate().map(|(index, wire)| message(wire, index)).collect();
        let tools: Result<Vec<_>, Fault> =
            wire.tools.into_iter().enumerate().map(|(index, wire)| tool(wire, index)).collect();
        let tools = tools?;
        Ok(Self {
            envelope,
            messages: messages?,
            sampling,
            tool_choice: wire.tool_choice.map(|choice| tool_choice(choice, &tools)).transpose()?.flatten(),
            tools,
            response_format: wire.response_format.map(response_format).transpose()?.flatten(),
            stream: wire.stream,
        })
    }
}

impl TryFrom<v1::EmbedRequest> for Embed {
    type Error = Fault;

    fn try_from(wire: v1::EmbedRequest) -> Result<Self, Fault> {
        let envelope = envelope!(wire);
        if wire.inputs.is_empty() || wire.inputs.len() > Limits::EMBED_INPUTS {
            return Err(expect("input", format!("{} texts", wire.inputs.len()), "1 to 2048"));
        }
        if let Some(index) = wire.inputs.iter().position(String::is_empty) {
            return Err(expect(format!("input[{index}]"), "empty", "a text"));
        }
        Ok(Self {
            envelope,
            inputs: wire.inputs,
            dimensions: (wire.dimensions > 0).then_some(wire.dimensions),
        })
    }
}

/// Whether a text can be a BCP 47 tag.
pub(super) fn tag(text: &str) -> bool {
    (2..=35).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

impl TryFrom<v1::TranslateRequest> for Translate {
    type Error = Fault;

    fn try_from(wire: v1::TranslateRequest) -> Result<Self, Fault> {
        let envelope = envelope!(wire);
        if wire.text.is_empty() {
            return Err(expect("text", "empty", "a text to translate"));
        }
        if !tag(&wire.target_language) {
            let value = format!("{:?}", wire.target_language.chars().take(40).collect::<String>());
            return Err(expect("target_language", value, "a BCP 47 tag such as `de` or `pt-BR`"));
        }
        let source_language = match wire.source_language {
            text if text.is_empty() => None,
            text if tag(&text) => Some(text),
            text => {
                let value = format!("{:?}", text.chars().take(40).collect::<String>());
                return Err(expect(
                    "source_language",
                    value,
                    "a BCP 47 tag such as `de` or `pt-BR`, or nothing",
                ));
            }
        };
        Ok(Self {
            envelope,
            text: wire.text,
            source_language,
            target_language: wire.target_language,
            stream: wire.stream,
        })
    }
}

impl TryFrom<v1::plan_request::Method> for Request {
    type Error = Fault;

    fn try_from(method: v1::plan_request::Method) -> Result<Self, Fault> {
        match method {
            v1::plan_request::Method::Generate(wire) => wire.try_into().map(Self::Generate),
            v1::plan_request::Method::Embed(wire) => wire.try_into().map(Self::Embed),
            v1::plan_request::Method::Translate(wire) => wire.try_into().map(Self::Translate),
            v1::plan_request::Method::Transcribe(wire) => wire.try_into().map(Self::Transcribe),
            v1::plan_request::Method::Speak(wire) => wire.try_into().map(Self::Speak),
        }
    }
}

impl TryFrom<v1::execute_request::Method> for Request {
    type Error = Fault;

    fn try_from(method: v1::execute_request::Method) -> Result<Self, Fault> {
        match method {
            v1::execute_request::Method::Generate(wire) => wire.try_into().map(Self::Generate),
            v1::execute_request::Method::Embed(wire) => wire.try_into().map(Self::Embed),
            v1::execute_request::Method::Translate(wire) => wire.try_into().map(Self::Translate),
            v1::execute_request::Method::Transcribe(wire) => wire.try_into().map(Self::Transcribe),
            v1::execute_request::Method::Speak(wire) => wire.try_into().map(Self::Speak),
        }
    }
}

/// Refuses what is larger than the bus takes, with its own error.
///
/// # Errors
/// `PayloadTooLarge` with both numbers.
pub fn check_size(bytes: usize, max: usize) -> Result<(), Fault> {
    if bytes <= max {
        return Ok(());
    }
    let message = format!("the request has {bytes} bytes, expected at most {max}");
    Err(Fault::new(Code::PayloadTooLarge, Origin::Caller, false, message))
}

#[cfg(test)]
mod tests;
