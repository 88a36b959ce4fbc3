//! Messages as the items of a conversation.

use domain::{
    fault::Fault,
    inference::{Message, Part, PartContent, Role, ToolCall},
};
use serde_json::value::RawValue;

use super::encode::unsupported;
use crate::provider::json::{Fields, Object, Text};

/// Fields of a message that other providers left on it: of no use here.
const OTHERS: [&str; 7] = [
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "thinking_blocks",
    "annotations",
    "audio",
    "extra_content",
];

/// Elements of one array that come from several places.
struct Items<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl Items<'_> {
    fn next(&mut self) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out
    }
}

/// Writes all messages.
///
/// # Errors
/// `Unsupported` or `InvalidArgument`, naming the field of the message.
pub(super) fn items(out: &mut Vec<u8>, messages: &[Message]) -> Result<(), Fault> {
    out.push(b'[');
    let mut items = Items { out, empty: true };
    for (index, said) in messages.iter().enumerate() {
        message(&mut items, said, &format!("messages[{index}]"))?;
    }
    items.out.push(b']');
    Ok(())
}

fn message(items: &mut Items<'_>, message: &Message, path: &str) -> Result<(), Fault> {
    let role = match message.role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => return tool_answer(items, message, path),
    };
    if !message.name.is_empty() {
        return Err(unsupported(format!("{path}.name"), "has no names of speakers"));
    }
    let mut carried = Fields::parse(path, &message.extra_json)?;
    carried.retain(|name| !OTHERS.contains(&name));
    let carried = before(items, carried, path)?;
    let (refusals, carried) = carried.split("refusal");
    let refusal = refusals.into_iter().find(|refusal| refusal.get() != "null");
    if !message.content.is_empty() || refusal.is_some() {
        let mut object = Object::begin(items.next());
        object.text("type", "message");
        object.text("role", role);
        match (message.content.as_slice(), refusal) {
            ([Part { content: PartContent::Text(text), extra_json }], None) if extra_json.is_empty() => {
                object.text("content", text);
            }
            (parts, refusal) => {
                let out = object.nested("content");
                out.push(b'[');
                let mut list = Items { out, empty: true };
                contents(&mut list, parts, message.role, path)?;
                if let Some(refusal) = refusal {
                    let mut object = Object::begin(list.next());
                    object.text("type", "refusal");
                    object.raw("refusal", refusal.get());
                    object.end();
                }
                list.out.push(b']');
            }
        }
        object.carry(path, &carried)?;
        object.end();
    }
    for (at, call) in message.tool_calls.iter().enumerate() {
        tool_call(items, call, &format!("{path}.tool_calls[{at}]"))?;
    }
    Ok(())
}

fn tool_answer(items: &mut Items<'_>, message: &Message, path: &str) -> Result<(), Fault> {
    let mut object = Object::begin(items.next());
    object.text("type", "function_call_output");
    object.text("call_id", &message.tool_call_id);
    if message.content.iter().all(|part| matches!(part.content, PartContent::Text(_))) {
        object.text("output", &message.text_parts().collect::<Vec<_>>().join("\n"));
    } else {
        let out = object.nested("output");
        out.push(b'[');
        let mut list = Items { out, empty: true };
        contents(&mut list, &message.content, message.role, path)?;
        list.out.push(b']');
    }
    object.carry_text(path, &message.extra_json)?;
    object.end();
    Ok(())
}

fn contents(list: &mut Items<'_>, parts: &[Part], role: Role, path: &str) -> Result<(), Fault> {
    parts
        .iter()
        .enumerate()
        .try_for_each(|(at, content)| part(list.next(), content, role, &format!("{path}.content[{at}]")))
}

fn part(out: &mut Vec<u8>, part: &Part, role: Role, path: &str) -> Result<(), Fault> {
    let mut object = Object::begin(out);
    match &part.content {
        PartContent::Text(text) => {
            object.text("type", if role == Role::Assistant { "output_text" } else { "input_text" });
            object.text("text", text);
        }
        PartContent::ImageUrl { url, detail } => {
            object.text("type", "input_image");
            object.text("image_url", url);
            if !detail.is_empty() {
                object.text("detail", detail);
            }
        }
        PartContent::Json(json) => {
            let fields = Fields::parse(path, json)?;
            let kind = fields.get("type").map(|kind| serde_json::from_str::<Text<'_>>(kind.get()));
            match kind.and_then(Result::ok).as_deref() {
                // chat's file, one level deeper there
                Some("file") => {
                    object.text("type", "input_file");
                    let (file, others) = fields.split("file");
                    for file in file {
                        object.carry(
                            &format!("{path}.file"),
                            &Fields::parse(&format!("{path}.file"), file.get())?,
                        )?;
                    }
                    let (_, others) = others.split("type");
                    object.carry(path, &others)?;
                }
                Some("input_text" | "input_image" | "input_file" | "output_text" | "refusal") => {
                    object.carry(path, &fields)?;
                }
                _ => {
                    let why = "takes texts, pictures and files only";
                    return Err(unsupported(format!("{path}.type"), why));
                }
            }
        }
    }
    let mut carried = Fields::parse(path, &part.extra_json)?;
    // prompts are cached without being asked to
    carried.retain(|name| name != "cache_control");
    object.carry(path, &carried)?;
    object.end();
    Ok(())
}

/// Writes the items that stood before this message or call when it was made, and gives back the other fields.
fn before<'a>(items: &mut Items<'_>, carried: Fields<'a>, path: &str) -> Result<Fields<'a>, Fault> {
    let (lists, carried) = carried.split("output_items");
    for list in lists {
        let list: Vec<&RawValue> = serde_json::from_str(list.get()).map_err(|_| {
            let field = format!("{path}.output_items");
            Fault::invalid(field.clone(), format!("{field} is of another type, expected a list"))
        })?;
        for item in list {
            items.next().extend_from_slice(item.get().as_bytes());
        }
    }
    Ok(carried)
}

fn tool_call(items: &mut Items<'_>, call: &ToolCall, path: &str) -> Result<(), Fault> {
    let mut carried = Fields::parse(path, &call.extra_json)?;
    // signatures of another provider's
    carried.retain(|name| name != "extra_content");
    let carried = before(items, carried, path)?;
    let mut object = Object::begin(items.next());
    object.text("type", "function_call");
    object.text("call_id", &call.id);
    object.text("name", &call.name);
    object.text("arguments", &call.arguments_json);
    object.carry(path, &carried)?;
    object.end();
    Ok(())
}
