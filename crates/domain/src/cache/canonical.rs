//! A request as bytes, the same for the same request.
//!
//! Each field is written with its name and length, so that no two requests run together into one. JSON is made canonical by the
//! caller, who has a parser: two schemas that differ in white space or in the order of keys are one.

use crate::inference::{
    Embed, Generate, Message, PartContent, Privacy, Request, ResponseFormat, Role, ToolChoice, Translate,
};

/// The bytes, for a digest. `json` makes JSON text canonical.
#[must_use]
pub fn canonical(request: &Request, tenant: &str, json: &dyn Fn(&str) -> String) -> Vec<u8> {
    Writer::begin(request, tenant, json).finish(request, None)
}

/// As [`canonical`], without the last text of the user: what has to be the same for two questions to be compared at all. `None`
/// where the request has none.
#[must_use]
pub fn setting(request: &Request, tenant: &str, json: &dyn Fn(&str) -> String) -> Option<Vec<u8>> {
    let Request::Generate(asked) = request else { return None };
    let last = asked.messages.iter().rposition(|message| message.role == Role::User)?;
    Some(Writer::begin(request, tenant, json).finish(request, Some(last)))
}

struct Writer<'a> {
    bytes: Vec<u8>,
    json: &'a dyn Fn(&str) -> String,
}

impl<'a> Writer<'a> {
    fn begin(request: &Request, tenant: &str, json: &'a dyn Fn(&str) -> String) -> Self {
        let envelope = request.envelope();
        let mut writer = Self { bytes: Vec::with_capacity(1_024), json };
        writer.text("tenant", tenant);
        writer.text("model", envelope.model.as_ref().map_or("", AsRef::as_ref));
        writer.text("agent", envelope.agent.as_ref().map_or("", AsRef::as_ref));
        writer.text("task", envelope.profile.task.as_ref().map_or("", AsRef::as_ref));
        writer.text(
            "privacy",
            if envelope.profile.privacy == Privacy::LocalOnly { "local-only" } else { "public" },
        );
        writer.json("extra", &envelope.extra_json);
        writer
    }

    fn finish(mut self, request: &Request, without: Option<usize>) -> Vec<u8> {
        match request {
            Request::Generate(asked) => self.generate(asked, without),
            Request::Embed(asked) => self.embed(asked),
            Request::Translate(asked) => self.translate(asked),
            // nothing of audio is kept: no two requests are the same
            Request::Transcribe(_) | Request::Speak(_) => self.text("id", request.envelope().id.as_str()),
        }
        self.bytes
    }

    fn text(&mut self, name: &str, value: &str) {
        for part in [name, value] {
            self.bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.bytes.extend_from_slice(part.as_bytes());
        }
    }

    fn json(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            let canonical = (self.json)(value);
            self.text(name, &canonical);
        }
    }

    fn optional(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.text(name, &value.to_string());
        }
    }

    fn generate(&mut self, asked: &Generate, without: Option<usize>) {
        self.text("method", "generate");
        for (index, message) in asked.messages.iter().enumerate() {
            self.message(message, Some(index) == without);
        }
        let sampling = &asked.sampling;
        self.optional("max_tokens", sampling.max_tokens);
        self.optional("temperature", sampling.temperature);
        self.optional("top_p", sampling.top_p);
        self.optional("top_k", sampling.top_k);
        self.optional("seed", sampling.seed);
        self.optional("frequency_penalty", sampling.frequency_penalty);
        self.optional("presence_penalty", sampling.presence_penalty);
        for stop in &sampling.stop {
            self.text("stop", stop);
        }
        for tool in &asked.tools {
            self.text("tool", &tool.name);
            self.text("description", &tool.description);
            self.json("parameters", &tool.parameters_json);
            self.optional("strict", tool.strict);
            self.json("of tool", &tool.extra_json);
        }
        match &asked.tool_choice {
            None => {}
            Some(ToolChoice::Auto) => self.text("tool_choice", "auto"),
            Some(ToolChoice::None) => self.text("tool_choice", "none"),
            Some(ToolChoice::Required) => self.text("tool_choice", "required"),
            Some(ToolChoice::Named(name)) => self.text("tool_choice named", name),
        }
        match &asked.response_format {
            None | Some(ResponseFormat::Text) => {}
            Some(ResponseFormat::JsonObject) => self.text("format", "json"),
            Some(ResponseFormat::JsonSchema { name, schema_json, strict }) => {
                self.text("format", name);
                self.json("schema", schema_json);
                self.optional("strict", *strict);
            }
        }
    }

    fn message(&mut self, message: &Message, without_text: bool) {
        let role = match message.role {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        self.text("role", role);
        self.text("name", &message.name);
        self.text("answers", &message.tool_call_id);
        self.json("message", &message.extra_json);
        for part in &message.content {
            match &part.content {
                PartContent::Text(_) if without_text => {}
                PartContent::Text(text) => self.text("text", text),
                PartContent::ImageUrl { url, detail } => {
                    self.text("image", url);
                    self.text("detail", detail);
                }
                PartContent::Json(json) => self.json("part", json),
            }
            self.json("of part", &part.extra_json);
        }
        for call in &message.tool_calls {
            self.text("call", &call.id);
            self.text("tool", &call.name);
            self.json("arguments", &call.arguments_json);
            self.json("of call", &call.extra_json);
        }
    }

    fn embed(&mut self, asked: &Embed) {
        self.text("method", "embed");
        self.optional("dimensions", asked.dimensions);
        for input in &asked.inputs {
            self.text("input", input);
        }
    }

    fn translate(&mut self, asked: &Translate) {
        self.text("method", "translate");
        self.text("text", &asked.text);
        self.text("source", asked.source_language.as_deref().unwrap_or_default());
        self.text("target", &asked.target_language);
    }
}
