//! Messages as `systemInstruction` and `contents`.
//!
//! Google knows two speakers, `user` and `model`. Instructions are taken out of the conversation, messages of one speaker that
//! follow each other become one content, and the answers of tools are contents of their own, since Google counts them against
//! the calls before.

use std::collections::HashMap;

use domain::{
    fault::Fault,
    inference::{Message, PartContent, Role, ToolCall},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Service, part, shown, unsupported};
use crate::provider::{
    gemini::model::Generation,
    json::{self, Fields, Object, Text},
};

/// Stands in for the signature of a call that another model made, or whose client lost it; without one, Gemini 3 refuses the
/// whole conversation. <https://ai.google.dev/gemini-api/docs/thought-signatures#faqs>
const FOREIGN_SIGNATURE: &str = "skip_thought_signature_validator";

/// What the writing of messages depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) generation: Generation,
    pub(super) service: Service,
}

/// Who speaks in a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    User,
    Model,
    Tools,
}

/// A message and its place in the request.
type Placed<'a> = (usize, &'a Message);

/// Writes both sections.
///
/// # Errors
/// `InvalidArgument` and `Unsupported`, naming the field.
pub(super) fn write(root: &mut Object<'_>, messages: &[Message], rules: Rules) -> Result<(), Fault> {
    let (mut instructions, mut turns): (Vec<Placed<'_>>, Vec<(Turn, Vec<Placed<'_>>)>) = Default::default();
    for placed in messages.iter().enumerate() {
        let turn = match placed.1.role {
            Role::System | Role::Developer => {
                instructions.push(placed);
                continue;
            }
            Role::User => Turn::User,
            Role::Assistant => Turn::Model,
            Role::Tool => Turn::Tools,
        };
        match turns.last_mut() {
            Some((last, run)) if *last == turn => run.push(placed),
            _ => turns.push((turn, vec![placed])),
        }
    }
    if !instructions.is_empty() {
        let mut section = Object::begin(root.nested("systemInstruction"));
        let mut parts = Parts::begin(section.nested("parts"));
        for (index, message) in instructions {
            refuse_extras(message, index)?;
            for (at, said) in message.content.iter().enumerate() {
                let path = format!("messages[{index}].content[{at}]");
                if !matches!(said.content, PartContent::Text(_)) {
                    return Err(unsupported(path, "no text", "a text: instructions are texts"));
                }
                part::write(parts.next(), said, &path, rules)?;
            }
        }
        parts.end();
        section.end();
    }
    if turns.is_empty() {
        return Err(unsupported("messages", "instructions only", "a message of the user"));
    }
    let mut calls = Calls::new();
    let mut contents = Parts::begin(root.nested("contents"));
    for (turn, mut run) in turns {
        if turn == Turn::Tools {
            let place = |id: &str| calls.get(id).map_or(usize::MAX, |(place, _)| *place);
            run.sort_by_key(|(_, message)| place(&message.tool_call_id));
        }
        let mut written = Vec::new();
        let mut parts = Parts::begin(&mut written);
        for (index, message) in run {
            match turn {
                Turn::User => user(&mut parts, message, index, rules)?,
                Turn::Model => {
                    for call in &message.tool_calls {
                        calls.insert(&call.id, (calls.len(), &call.name));
                    }
                    model(&mut parts, message, index, rules)?;
                }
                Turn::Tools => tool(&mut parts, message, index, rules, &calls)?,
            }
        }
        parts.end();
        // an assistant that said nothing
        if written == b"[]" {
            continue;
        }
        let mut content = Object::begin(contents.next());
        content.text("role", if turn == Turn::Model { "model" } else { "user" });
        content.nested("parts").extend_from_slice(&written);
        content.end();
    }
    contents.end();
    Ok(())
}

/// An array that is written piece by piece.
struct Parts<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Parts<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'[');
        Self { out, empty: true }
    }

    fn next(&mut self) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out
    }

    fn end(self) {
        self.out.push(b']');
    }
}

/// The calls made so far: place and tool, by the call's id. Google wants the tool repeated in the answer, and models without
/// ids match answers to calls by their order.
type Calls<'a> = HashMap<&'a str, (usize, &'a str)>;

fn refuse_extras(message: &Message, index: usize) -> Result<(), Fault> {
    let path = format!("messages[{index}]");
    if !message.name.is_empty() {
        let expected = "none: Google knows no names of speakers";
        return Err(unsupported(format!("{path}.name"), &shown(&message.name), expected));
    }
    for (key, value) in Fields::parse(&path, &message.extra_json)?.iter() {
        if value.get() != "null" {
            return Err(unknown(&path, key, value));
        }
    }
    Ok(())
}

fn unknown(path: &str, key: &str, value: &RawValue) -> Fault {
    unsupported(format!("{path}.{key}"), &shown(value.get()), "none: Google's messages have no such field")
}

fn user(parts: &mut Parts<'_>, message: &Message, index: usize, rules: Rules) -> Result<(), Fault> {
    refuse_extras(message, index)?;
    for (at, said) in message.content.iter().enumerate() {
        part::write(parts.next(), said, &format!("messages[{index}].content[{at}]"), rules)?;
    }
    Ok(())
}

/// What a message of the assistant carries beside its content.
#[derive(Debug, Default)]
struct Beside<'a> {
    /// Thoughts that were shown.
    thoughts: Vec<Text<'a>>,
    /// Of the text.
    signature: Option<Text<'a>>,
}

impl<'a> Beside<'a> {
    fn read(message: &'a Message, path: &str) -> Result<Self, Fault> {
        let mut beside = Self::default();
        for (key, value) in Fields::parse(path, &message.extra_json)?.into_entries() {
            match (&*key, value.get()) {
                (_, "null") | ("annotations", "[]") => {}
                ("extra_content", _) => beside.signature = signature(path, value)?,
                ("reasoning_content" | "reasoning", json) => match serde_json::from_str(json) {
                    // two names for one thing
                    Ok(thought) if beside.thoughts.is_empty() => beside.thoughts.push(thought),
                    Ok(_) => {}
                    Err(_) => return Err(unknown(path, &key, value)),
                },
                ("thinking_blocks", json) => beside.thoughts = foreign_thoughts(path, json)?,
                (key, _) => return Err(unknown(path, key, value)),
            }
        }
        Ok(beside)
    }
}

/// Thoughts of an Anthropic model, whose signatures say nothing to Google.
fn foreign_thoughts<'a>(path: &str, json: &'a str) -> Result<Vec<Text<'a>>, Fault> {
    #[derive(Deserialize)]
    struct Block<'a> {
        #[serde(borrow, default)]
        thinking: Option<Text<'a>>,
    }
    let field = format!("{path}.thinking_blocks");
    let Ok(blocks) = serde_json::from_str::<Vec<Block<'a>>>(json) else {
        let message = format!("{field} is {}, expected a list of blocks", shown(json));
        return Err(Fault::invalid(field, message));
    };
    let texts: Option<Vec<_>> = blocks.into_iter().map(|block| block.thinking).collect();
    texts.ok_or_else(|| {
        unsupported(field, "a redacted block", "blocks that can be read: only the provider that wrote it can")
    })
}

/// The signature in `extra_content.google.thought_signature`, as in Google's OpenAI-compatible API.
pub(super) fn signature<'a>(path: &str, value: &'a RawValue) -> Result<Option<Text<'a>>, Fault> {
    let path = format!("{path}.extra_content");
    let mut found = None;
    for (key, value) in Fields::parse(&path, value.get())?.iter() {
        if key != "google" {
            return Err(unknown(&path, key, value));
        }
        let path = format!("{path}.google");
        for (key, value) in Fields::parse(&path, value.get())?.iter() {
            match (key, serde_json::from_str(value.get())) {
                ("thought_signature", Ok(text)) => found = Some(text),
                _ => return Err(unknown(&path, key, value)),
            }
        }
    }
    Ok(found)
}

fn model(parts: &mut Parts<'_>, message: &Message, index: usize, rules: Rules) -> Result<(), Fault> {
    let path = format!("messages[{index}]");
    if !message.name.is_empty() {
        let expected = "none: Google knows no names of speakers";
        return Err(unsupported(format!("{path}.name"), &shown(&message.name), expected));
    }
    let beside = Beside::read(message, &path)?;
    for thought in &beside.thoughts {
        let mut part = Object::begin(parts.next());
        part.text("text", thought);
        part.value("thought", &true);
        part.end();
    }
    let says_nothing = |content: &PartContent| matches!(content, PartContent::Text(text) if text.is_empty());
    let spoken: Vec<_> =
        message.content.iter().enumerate().filter(|(_, said)| !says_nothing(&said.content)).collect();
    for (count, (at, said)) in spoken.iter().enumerate() {
        let signed = beside.signature.as_deref().filter(|_| count + 1 == spoken.len());
        part::write_signed(parts.next(), said, &format!("{path}.content[{at}]"), rules, signed)?;
    }
    if let Some(signature) = beside.signature.as_deref().filter(|_| spoken.is_empty()) {
        // as Google itself sends a signature that came after the last text
        let mut part = Object::begin(parts.next());
        part.text("text", "");
        part.text("thoughtSignature", signature);
        part.end();
    }
    for (at, call) in message.tool_calls.iter().enumerate() {
        // of parallel calls only the first is signed
        tool_call(parts.next(), call, &format!("{path}.tool_calls[{at}]"), at == 0, rules)?;
    }
    Ok(())
}

fn tool_call(out: &mut Vec<u8>, call: &ToolCall, path: &str, first: bool, rules: Rules) -> Result<(), Fault> {
    let mut signed = None;
    for (key, value) in Fields::parse(path, &call.extra_json)?.into_entries() {
        match (&*key, value.get()) {
            (_, "null") => {}
            ("extra_content", _) => signed = signature(path, value)?,
            (key, _) => return Err(unknown(path, key, value)),
        }
    }
    let mut part = Object::begin(out);
    let mut function = Object::begin(part.nested("functionCall"));
    if rules.generation.has_call_ids() && !call.id.is_empty() {
        function.text("id", &call.id);
    }
    function.text("name", &call.name);
    let arguments = if call.arguments_json.trim().is_empty() { "{}" } else { &call.arguments_json };
    function.raw("args", json::object(&format!("{path}.function.arguments"), arguments)?);
    function.end();
    match signed {
        Some(signature) => part.text("thoughtSignature", &signature),
        None if first && rules.generation.demands_signatures() => {
            part.text("thoughtSignature", FOREIGN_SIGNATURE);
        }
        None => {}
    }
    part.end();
    Ok(())
}

fn tool(
    parts: &mut Parts<'_>,
    message: &Message,
    index: usize,
    rules: Rules,
    calls: &Calls<'_>,
) -> Result<(), Fault> {
    let path = format!("messages[{index}]");
    for (key, value) in Fields::parse(&path, &message.extra_json)?.iter() {
        if value.get() != "null" {
            return Err(unknown(&path, key, value));
        }
    }
    let named = (!message.name.is_empty()).then_some(message.name.as_str());
    let Some(name) = calls.get(message.tool_call_id.as_str()).map(|(_, name)| *name).or(named) else {
        let field = format!("{path}.tool_call_id");
        let message =
            format!("{field} is {}, expected the id of a call made before", shown(&message.tool_call_id));
        return Err(Fault::invalid(field, message));
    };
    let mut part = Object::begin(parts.next());
    let mut answer = Object::begin(part.nested("functionResponse"));
    if rules.generation.has_call_ids() && !message.tool_call_id.is_empty() {
        answer.text("id", &message.tool_call_id);
    }
    answer.text("name", name);
    let mut texts = Vec::new();
    let mut pictures = Vec::new();
    for (at, said) in message.content.iter().enumerate() {
        let path = format!("{path}.content[{at}]");
        match &said.content {
            PartContent::Text(text) if said.extra_json.is_empty() => texts.push(text.as_str()),
            PartContent::ImageUrl { .. } if rules.generation.has_pictures_of_tools() => {
                pictures.push((path, said));
            }
            _ => return Err(unsupported(path, "no plain text", "a text in the answer of a tool")),
        }
    }
    response(answer.nested("response"), &texts);
    if !pictures.is_empty() {
        json::array(answer.nested("parts"), pictures, |out, (path, said)| {
            part::write(out, said, &path, rules)
        })?;
    }
    answer.end();
    part.end();
    Ok(())
}

/// Google wants an object: a text that is one goes as it stands, any other under `output`.
fn response(out: &mut Vec<u8>, texts: &[&str]) {
    match texts {
        [text] if json::object("response", text).is_ok() => out.extend_from_slice(text.trim().as_bytes()),
        texts => {
            let mut object = Object::begin(out);
            match texts {
                [text] => object.text("output", text),
                [] => object.text("output", ""),
                several => object.value("output", several),
            }
            object.end();
        }
    }
}
