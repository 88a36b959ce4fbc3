//! From what callers ask for to what the engine is asked, and back. What this engine cannot do is refused by name rather
//! than left out.

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use domain::fault::{Code, Fault, Origin};
use domain::inference::{Generate, Message, PartContent, ResponseFormat, Role, Translate};
use wire::v1;

use super::language;
use crate::engine::{self, Finish, Format, Sampling};
use crate::settings::ModelConfig;

fn unsupported(field: impl Into<String>, what: &str) -> Fault {
    let text = format!("local models do not take {what} in this version");
    Fault::new(Code::Unsupported, Origin::Caller, false, text).in_field(field)
}

/// A request for text.
pub(super) fn generate(
    request: &Generate,
    model: &ModelConfig,
    now: OffsetDateTime,
    cancel: CancellationToken,
) -> Result<engine::Generate, Fault> {
    if !request.tools.is_empty() {
        return Err(unsupported("tools", "tools"));
    }
    let messages: Result<Vec<_>, Fault> = request.messages.iter().enumerate().map(message).collect();
    let default = Sampling::default();
    let asked = &request.sampling;
    let sampling = Sampling {
        temperature: asked.temperature.unwrap_or(model.temperature),
        top_p: asked.top_p.unwrap_or(default.top_p),
        top_k: asked.top_k.unwrap_or(default.top_k),
        frequency_penalty: asked.frequency_penalty.unwrap_or(0.0),
        presence_penalty: asked.presence_penalty.unwrap_or(0.0),
        seed: asked.seed,
    };
    let format = match &request.response_format {
        None | Some(ResponseFormat::Text) => Format::Text,
        Some(ResponseFormat::JsonObject) => Format::JsonObject,
        Some(ResponseFormat::JsonSchema { schema_json, .. }) => Format::JsonSchema(schema_json.clone()),
    };
    let (stop, max_tokens) = (asked.stop.clone(), asked.max_tokens);
    Ok(engine::Generate { messages: messages?, sampling, format, stop, max_tokens, now, cancel })
}

/// A request for a translation, as a question to a model that knows languages.
pub(super) fn translate(
    request: &Translate,
    now: OffsetDateTime,
    cancel: CancellationToken,
) -> engine::Generate {
    let content = format!("Translate to {}: {}", language::name(&request.target_language), request.text);
    engine::Generate {
        messages: vec![engine::Message { role: "user", content }],
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        format: Format::Text,
        stop: vec![],
        max_tokens: None,
        now,
        cancel,
    }
}

fn message((index, message): (usize, &Message)) -> Result<engine::Message, Fault> {
    let field = |rest: &str| format!("messages[{index}].{rest}");
    let role = match message.role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => return Err(unsupported(field("role"), "answers of tools")),
    };
    if !message.tool_calls.is_empty() {
        return Err(unsupported(field("tool_calls"), "calls of tools"));
    }
    for (part, content) in message.content.iter().enumerate() {
        let what = match content.content {
            PartContent::Text(_) => continue,
            PartContent::ImageUrl { .. } => "images",
            PartContent::Json(_) => "parts other than text",
        };
        return Err(unsupported(field(&format!("content[{part}]")), what));
    }
    Ok(engine::Message { role, content: message.text_parts().collect() })
}

/// The finish reason of a message.
pub(super) const fn finish_reason(finish: Finish) -> v1::FinishReason {
    match finish {
        Finish::Stop => v1::FinishReason::Stop,
        Finish::Length => v1::FinishReason::Length,
        Finish::Cancelled => v1::FinishReason::Cancelled,
    }
}

/// Tokens of a message.
pub(super) fn usage(usage: engine::Usage) -> v1::TokenUsage {
    v1::TokenUsage {
        input: usage.input.get(),
        output: usage.output.get(),
        cached_input: usage.cached.get(),
        ..v1::TokenUsage::default()
    }
}

#[cfg(test)]
mod tests {
    use domain::inference::Request;
    use time::macros::datetime;

    use super::*;
    use crate::settings::{Config, Raw, RawModel};

    fn model() -> ModelConfig {
        let model = RawModel { name: "demo".to_owned(), file: "demo.gguf".to_owned(), ..RawModel::default() };
        let model = RawModel { temperature: 0.25, ..model };
        Config::try_from(Raw { models: vec![model], ..Raw::default() }).unwrap().models.remove(0)
    }

    fn text(role: v1::Role, text: &str) -> v1::Message {
        let part = v1::content_part::Part::Text(text.to_owned());
        let content = vec![v1::ContentPart { part: Some(part), extra_json: String::new() }];
        v1::Message { role: role.into(), content, ..v1::Message::default() }
    }

    fn converted(request: v1::GenerateRequest) -> Result<engine::Generate, Fault> {
        let request = v1::GenerateRequest { request_id: "r".to_owned(), ..request };
        let checked = Request::try_from(v1::execute_request::Method::Generate(request)).unwrap();
        let Request::Generate(request) = checked else { panic!("another method") };
        generate(&request, &model(), datetime!(2026-03-05 14:07:09 UTC), CancellationToken::new())
    }

    #[test]
    fn what_a_caller_leaves_open_is_the_models_own() {
        let messages = vec![text(v1::Role::Developer, "Be brief."), text(v1::Role::User, "Hi")];
        let request = converted(v1::GenerateRequest { messages, ..v1::GenerateRequest::default() }).unwrap();
        assert_eq!(request.sampling, Sampling { temperature: 0.25, ..Sampling::default() });
        assert_eq!(request.messages[0].role, "system");
        assert_eq!((request.max_tokens, request.format), (None, Format::Text));
    }

    #[test]
    fn tools_and_images_are_refused_by_name() {
        let tool = v1::Tool { name: "f".to_owned(), ..v1::Tool::default() };
        let messages = vec![text(v1::Role::User, "Hi")];
        let request = v1::GenerateRequest { messages, tools: vec![tool], ..v1::GenerateRequest::default() };
        let fault = converted(request).unwrap_err();
        assert_eq!((fault.code, fault.field.as_str()), (Code::Unsupported, "tools"));

        let url = "data:image/png;base64,AAAA".to_owned();
        let image = v1::content_part::Part::ImageUrl(v1::ImageUrl { url, detail: String::new() });
        let mut message = text(v1::Role::User, "What is this?");
        message.content.push(v1::ContentPart { part: Some(image), extra_json: String::new() });
        let request = v1::GenerateRequest { messages: vec![message], ..v1::GenerateRequest::default() };
        let fault = converted(request).unwrap_err();
        assert_eq!((fault.code, fault.field.as_str()), (Code::Unsupported, "messages[0].content[1]"));
    }
}
