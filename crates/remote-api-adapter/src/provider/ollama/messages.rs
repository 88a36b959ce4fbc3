//! The messages of a conversation as Ollama's JSON: one text and a list of pictures each.

use std::collections::HashMap;

use domain::{
    fault::Fault,
    inference::{Message, Part, PartContent, Role, ToolCall},
};

use super::encode::unsupported;
use crate::provider::json::{self, Fields, Object};

/// Fields of a message or a call that only their own provider understands: they are of no use here.
const OTHERS: [&str; 7] = [
    "refusal",
    "annotations",
    "reasoning_details",
    "thinking_blocks",
    "output_items",
    "phase",
    "extra_content",
];

/// Writes all messages.
///
/// # Errors
/// `Unsupported` or `InvalidArgument`, naming the field of the message.
pub(super) fn messages(out: &mut Vec<u8>, messages: &[Message]) -> Result<(), Fault> {
    // an answer of a tool names its call; the server wants the tool's name
    let calls = messages.iter().flat_map(|message| &message.tool_calls);
    let tools: HashMap<&str, &str> = calls.map(|call| (call.id.as_str(), call.name.as_str())).collect();
    json::array(out, messages.iter().enumerate(), |out, (index, said)| {
        message(out, said, &tools, &format!("messages[{index}]"))
    })
}

/// A message with nothing but text.
pub(super) fn message_of_text(out: &mut Vec<u8>, role: &'static str, text: &str) {
    let mut object = Object::begin(out);
    object.text("role", role);
    object.text("content", text);
    object.end();
}

fn message(
    out: &mut Vec<u8>,
    message: &Message,
    tools: &HashMap<&str, &str>,
    path: &str,
) -> Result<(), Fault> {
    let mut object = Object::begin(out);
    object.text(
        "role",
        match message.role {
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        },
    );
    object.text("content", &message.text_parts().collect::<Vec<_>>().join("\n"));
    let pictures = pictures(&message.content, path)?;
    if !pictures.is_empty() {
        object.value("images", &pictures);
    }
    if !message.tool_calls.is_empty() {
        json::array(
            object.nested("tool_calls"),
            message.tool_calls.iter().enumerate(),
            |out, (at, call)| tool_call(out, call, &format!("{path}.tool_calls[{at}]")),
        )?;
    }
    if message.role == Role::Tool {
        let known = tools.get(message.tool_call_id.as_str()).copied();
        object.text("tool_name", known.unwrap_or(&message.name));
        object.text("tool_call_id", &message.tool_call_id);
    } else if !message.name.is_empty() {
        return Err(unsupported(format!("{path}.name"), "has no names of speakers"));
    }
    let mut carried = Fields::parse(path, &message.extra_json)?;
    carried.retain(|name| !OTHERS.contains(&name));
    carried.rename("reasoning_content", "thinking");
    object.carry(path, &carried)?;
    object.end();
    Ok(())
}

/// The pictures of a message, base64.
fn pictures<'a>(parts: &'a [Part], path: &str) -> Result<Vec<&'a str>, Fault> {
    let mut pictures = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let path = format!("{path}.content[{at}]");
        match &part.content {
            PartContent::Text(_) => {}
            PartContent::ImageUrl { url, detail } => {
                let field = format!("{path}.image_url");
                let Some((_, data)) = url.strip_prefix("data:").and_then(|data| data.split_once(";base64,"))
                else {
                    return Err(unsupported(
                        field,
                        "takes pictures as base64 data: URLs only, and fetches none",
                    ));
                };
                if matches!(detail.as_str(), "low" | "high") {
                    return Err(unsupported(format!("{field}.detail"), "has one resolution only"));
                }
                pictures.push(data);
            }
            PartContent::Json(_) => {
                return Err(unsupported(path, "takes text and pictures only"));
            }
        }
        // prompts are cached without being asked to
        let mut extra = Fields::parse(&path, &part.extra_json)?;
        extra.retain(|name| name != "cache_control");
        if let Some((name, _)) = extra.iter().next() {
            return Err(unsupported(format!("{path}.{name}"), "has no place for it"));
        }
    }
    Ok(pictures)
}

fn tool_call(out: &mut Vec<u8>, call: &ToolCall, path: &str) -> Result<(), Fault> {
    let mut object = Object::begin(out);
    object.text("id", &call.id);
    let mut function = Object::begin(object.nested("function"));
    function.text("name", &call.name);
    let arguments = if call.arguments_json.trim().is_empty() { "{}" } else { &call.arguments_json };
    function.raw("arguments", json::object(&format!("{path}.arguments"), arguments)?);
    function.end();
    let mut carried = Fields::parse(path, &call.extra_json)?;
    carried.retain(|name| !OTHERS.contains(&name));
    object.carry(path, &carried)?;
    object.end();
    Ok(())
}
