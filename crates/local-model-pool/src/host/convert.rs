//! From what callers ask for to what the engine is asked, and back. What this engine cannot do is refused by name rather
//! than left out.

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use domain::fault::{Code, Fault, Origin};
use domain::inference::{Generate, Message, PartContent, ResponseFormat, Role, ToolChoice, Translate};

use super::extras::Extras;
use super::language;
use crate::engine::{self, Format, Sampling, Tools};
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
    let extras = Extras::read(&request.envelope.extra_json)?;
    let messages: Result<Vec<_>, Fault> = request.messages.iter().enumerate().map(message).collect();
    let default = Sampling::default();
    let asked = &request.sampling;
    let sampling = Sampling {
        temperature: asked.temperature.unwrap_or(model.temperature),
        top_p: asked.top_p.unwrap_or(default.top_p),
        top_k: asked.top_k.unwrap_or(default.top_k),
        frequency_penalty: asked.frequency_penalty.unwrap_or(0.0),
        presence_penalty: asked.presence_penalty.unwrap_or(0.0),
        min_p: extras.min_p.unwrap_or(default.min_p),
        repeat_penalty: extras.repeat_penalty.unwrap_or(default.repeat_penalty),
        logit_bias: extras.logit_bias,
        seed: asked.seed,
    };
    let format = match &request.response_format {
        None | Some(ResponseFormat::Text) => Format::Text,
        Some(ResponseFormat::JsonObject) => Format::JsonObject,
        Some(ResponseFormat::JsonSchema { schema_json, .. }) => Format::JsonSchema(schema_json.clone()),
    };
    Ok(engine::Generate {
        messages: messages?,
        tools: tools(request, extras.parallel_tool_calls.unwrap_or(true))?,
        variables: extras.variables,
        sampling,
        format,
        stop: asked.stop.clone(),
        max_tokens: asked.max_tokens,
        logprobs: extras.logprobs,
        now,
        cancel,
    })
}

/// The tools of a request; none where the model may not call any.
fn tools(request: &Generate, parallel: bool) -> Result<Tools, Fault> {
    let choice = match &request.tool_choice {
        None | Some(ToolChoice::Auto) => engine::ToolChoice::Auto,
        Some(ToolChoice::None) => return Ok(Tools::default()),
        Some(ToolChoice::Required) => engine::ToolChoice::Required,
        Some(ToolChoice::Named(name)) if request.tools.iter().any(|tool| tool.name == *name) => {
            engine::ToolChoice::Named(name.clone())
        }
        Some(ToolChoice::Named(name)) => {
            let text = format!("tool_choice names {name:?}, which is not among the tools");
            return Err(Fault::invalid("tool_choice", text));
        }
    };
    let offered = request.tools.iter().map(|tool| engine::Tool {
        name: tool.name.clone(),
        description: tool.description.clone(),
        parameters_json: tool.parameters_json.clone(),
    });
    Ok(Tools { offered: offered.collect(), choice, parallel })
}

/// A request for a translation, as a question to a model that knows languages.
pub(super) fn translate(
    request: &Translate,
    now: OffsetDateTime,
    cancel: CancellationToken,
) -> engine::Generate {
    let content = format!("Translate to {}: {}", language::name(&request.target_language), request.text);
    engine::Generate {
        messages: vec![engine::Message::text("user", content)],
        tools: Tools::default(),
        variables: serde_json::Map::new(),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        format: Format::Text,
        stop: vec![],
        max_tokens: None,
        logprobs: None,
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
        Role::Tool => "tool",
    };
    for (part, content) in message.content.iter().enumerate() {
        let what = match content.content {
            PartContent::Text(_) => continue,
            PartContent::ImageUrl { .. } => "images",
            PartContent::Json(_) => "parts other than text",
        };
        return Err(unsupported(field(&format!("content[{part}]")), what));
    }
    let calls = message.tool_calls.iter().map(|call| engine::ToolCall {
        id: call.id.clone(),
        name: call.name.clone(),
        arguments_json: call.arguments_json.clone(),
    });
    Ok(engine::Message {
        role,
        content: message.text_parts().collect(),
        reasoning: reasoning(&message.extra_json),
        calls: calls.collect(),
        call_id: message.tool_call_id.clone(),
        name: message.name.clone(),
    })
}

/// What the assistant thought, where the client sends it back.
fn reasoning(extra_json: &str) -> String {
    #[derive(Default, serde::Deserialize)]
    struct Thought {
        reasoning_content: Option<String>,
    }
    serde_json::from_str::<Thought>(extra_json).unwrap_or_default().reasoning_content.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use domain::inference::Request;
    use time::macros::datetime;
    use wire::v1;

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
    fn tools_their_calls_and_their_answers_reach_the_engine() {
        let tool = v1::Tool { name: "f".to_owned(), parameters_json: "{}".to_owned(), ..v1::Tool::default() };
        let call = v1::ToolCall {
            id: "c".to_owned(),
            name: "f".to_owned(),
            arguments_json: "{}".to_owned(),
            ..v1::ToolCall::default()
        };
        let called = v1::Message {
            role: v1::Role::Assistant.into(),
            tool_calls: vec![call],
            extra_json: r#"{"reasoning_content":"hm"}"#.to_owned(),
            ..v1::Message::default()
        };
        let answer = v1::Message { tool_call_id: "c".to_owned(), ..text(v1::Role::Tool, "42") };
        let request = v1::GenerateRequest {
            messages: vec![text(v1::Role::User, "Hi"), called, answer],
            tools: vec![tool],
            tool_choice: Some(v1::ToolChoice {
                mode: v1::tool_choice::Mode::Named.into(),
                name: "f".to_owned(),
            }),
            extra_json: r#"{"parallel_tool_calls":false}"#.to_owned(),
            ..v1::GenerateRequest::default()
        };
        let none = v1::ToolChoice { mode: v1::tool_choice::Mode::None.into(), ..v1::ToolChoice::default() };
        let silent = v1::GenerateRequest { tool_choice: Some(none), ..request.clone() };
        let converted_request = converted(request).unwrap();
        assert_eq!(converted_request.tools.choice, engine::ToolChoice::Named("f".to_owned()));
        assert!(!converted_request.tools.parallel && converted_request.tools.offered.len() == 1);
        let [_, called, answer] = &converted_request.messages[..] else {
            panic!("{:?}", converted_request.messages)
        };
        assert_eq!((called.reasoning.as_str(), called.calls[0].name.as_str()), ("hm", "f"));
        assert_eq!((answer.role, answer.call_id.as_str(), answer.content.as_str()), ("tool", "c", "42"));
        assert_eq!(converted(silent).unwrap().tools, Tools::default());
    }

    #[test]
    fn images_are_refused_by_name() {
        let url = "data:image/png;base64,AAAA".to_owned();
        let image = v1::content_part::Part::ImageUrl(v1::ImageUrl { url, detail: String::new() });
        let mut message = text(v1::Role::User, "What is this?");
        message.content.push(v1::ContentPart { part: Some(image), extra_json: String::new() });
        let request = v1::GenerateRequest { messages: vec![message], ..v1::GenerateRequest::default() };
        let fault = converted(request).unwrap_err();
        assert_eq!((fault.code, fault.field.as_str()), (Code::Unsupported, "messages[0].content[1]"));
    }
}
