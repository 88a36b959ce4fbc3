//! Messages as Converse's turns.
//!
//! Converse wants `user` and `assistant` in turn: messages of one side that follow each other become one turn, and tools'
//! results are the user's. Instructions stand outside, before the conversation, wherever in it they were given.

use domain::{
    fault::Fault,
    inference::{Message, Role, ToolCall},
};
use serde::Deserialize;

use super::{
    super::family::Family,
    blocks::{self, Blocks, Place, cache_point},
    unsupported,
};
use crate::provider::json::{self, Fields, Object, Text};

/// Who a turn belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    User,
    Assistant,
}

/// Writes `messages` and, where there are instructions, `system`.
pub(super) fn write(root: &mut Object<'_>, messages: &[Message], family: Family) -> Result<(), Fault> {
    let said = |message: &Message| match message.role {
        Role::System | Role::Developer => None,
        Role::User | Role::Tool => Some(Side::User),
        Role::Assistant => Some(Side::Assistant),
    };
    if messages.iter().any(|message| said(message).is_none()) {
        let mut system = Blocks::begin(root.nested("system"));
        let instructions = messages.iter().enumerate().filter(|(_, message)| said(message).is_none());
        for (index, message) in instructions {
            instruction(&mut system, message, &format!("messages[{index}]"))?;
        }
        system.end();
    } else {
        root.reserve("system");
    }
    let conversation: Vec<(usize, Side, &Message)> = messages
        .iter()
        .enumerate()
        .filter_map(|(index, message)| Some((index, said(message)?, message)))
        .collect();
    let turns = conversation.chunk_by(|(_, a, _), (_, b, _)| a == b);
    json::array(root.nested("messages"), turns, |out, turn| {
        let mut object = Object::begin(out);
        let is_user = matches!(turn, [(_, Side::User, _), ..]);
        object.text("role", if is_user { "user" } else { "assistant" });
        let mut content = Blocks::begin(object.nested("content"));
        for (index, _, said) in turn {
            message(&mut content, messages, said, &format!("messages[{index}]"), family)?;
        }
        content.end();
        object.end();
        Ok(())
    })
}

/// Writes one instruction and one user's text.
pub(super) fn plain(root: &mut Object<'_>, instruction: &str, text: &str) {
    let mut system = Blocks::begin(root.nested("system"));
    system.text(instruction);
    system.end();
    let mut turns = Blocks::begin(root.nested("messages"));
    let mut object = Object::begin(turns.next());
    object.text("role", "user");
    let mut content = Blocks::begin(object.nested("content"));
    content.text(text);
    content.end();
    object.end();
    turns.end();
}

fn instruction(system: &mut Blocks<'_>, message: &Message, path: &str) -> Result<(), Fault> {
    no_name(message, path)?;
    let extras = MessageExtras::read(message, path)?;
    extras.refuse_others(path)?;
    blocks::parts(system, &message.content, path, Place::System)?;
    extras.close(system, path)
}

fn message(
    content: &mut Blocks<'_>,
    all: &[Message],
    message: &Message,
    path: &str,
    family: Family,
) -> Result<(), Fault> {
    let extras = MessageExtras::read(message, path)?;
    let before = content.count();
    match message.role {
        Role::Tool => tool_result(content, all, message, &extras, path)?,
        Role::Assistant => {
            no_name(message, path)?;
            extras.refuse_others(path)?;
            reasoning(content, &extras, path, family)?;
            blocks::parts(content, &message.content, path, Place::Assistant)?;
            if let Some(text) = extras.refusal {
                content.text(&said(text, &format!("{path}.refusal"))?);
            }
            for (at, call) in message.tool_calls.iter().enumerate() {
                tool_use(content, call, &format!("{path}.tool_calls[{at}]"))?;
            }
        }
        Role::System | Role::Developer | Role::User => {
            no_name(message, path)?;
            extras.refuse_others(path)?;
            blocks::parts(content, &message.content, path, Place::User)?;
        }
    }
    if content.count() == before {
        let field = format!("{path}.content");
        let message = format!("{field} is empty, expected text");
        return Err(Fault::invalid(field, message));
    }
    extras.close(content, path)
}

fn no_name(message: &Message, path: &str) -> Result<(), Fault> {
    if message.name.is_empty() {
        return Ok(());
    }
    Err(unsupported(
        &format!("{path}.name"),
        "is given, but Converse has no names of speakers; expected none",
    ))
}

/// The answer of a tool. Its name is in the call that it answers.
fn tool_result(
    content: &mut Blocks<'_>,
    all: &[Message],
    message: &Message,
    extras: &MessageExtras<'_>,
    path: &str,
) -> Result<(), Fault> {
    let answered = all.iter().flat_map(|message| &message.tool_calls);
    let mut named = answered.filter(|call| call.id == message.tool_call_id && call.name == message.name);
    if !message.name.is_empty() && named.next().is_none() {
        no_name(message, path)?;
    }
    let mut block = Object::begin(content.next());
    let mut result = Object::begin(block.nested("toolResult"));
    result.text("toolUseId", &message.tool_call_id);
    let mut parts = Blocks::begin(result.nested("content"));
    let cached = blocks::parts(&mut parts, &message.content, path, Place::ToolResult)?;
    parts.end();
    if extras.is_error {
        result.text("status", "error");
    }
    // its own: `status`
    result.carry(path, &extras.others)?;
    result.end();
    block.end();
    if let Some(point) = cached {
        point.write(content);
    }
    Ok(())
}

/// Reasoning of an earlier turn. Claude reads its own signed blocks only; the makers of others take their text back.
fn reasoning(
    content: &mut Blocks<'_>,
    extras: &MessageExtras<'_>,
    path: &str,
    family: Family,
) -> Result<(), Fault> {
    if let Some(blocks) = extras.thinking_blocks {
        return thinking(content, blocks, &format!("{path}.thinking_blocks"));
    }
    if let Some(text) = extras.reasoning_content.filter(|_| !matches!(family, Family::Claude(..))) {
        let text = said(text, &format!("{path}.reasoning_content"))?;
        if !text.is_empty() {
            Thinking::Thinking { thinking: text, signature: None }.write(content);
        }
    }
    Ok(())
}

fn said<'a>(json: &'a str, field: &str) -> Result<Text<'a>, Fault> {
    serde_json::from_str(json).map_err(|_| Fault::invalid(field, format!("{field} is no text, expected one")))
}

/// Blocks of reasoning as they were answered.
fn thinking(content: &mut Blocks<'_>, blocks: &str, field: &str) -> Result<(), Fault> {
    let blocks: Vec<Thinking<'_>> = serde_json::from_str(blocks).map_err(|error| {
        let message = format!(
            "{field} cannot be read ({:?} error in column {}), expected a list of thinking and redacted_thinking blocks",
            error.classify(),
            error.column()
        );
        Fault::invalid(field, message)
    })?;
    blocks.iter().for_each(|block| block.write(content));
    Ok(())
}

/// A call that the model made, after the reasoning that led to it.
fn tool_use(content: &mut Blocks<'_>, call: &ToolCall, path: &str) -> Result<(), Fault> {
    let (signed, extras) = Fields::parse(path, &call.extra_json)?.split("thinking_blocks");
    // another provider's signature of the call means nothing here
    let (_, extras) = extras.split("extra_content");
    // of a tool that the provider ran itself
    let (kinds, extras) = extras.split("toolUseType");
    if let Some((key, _)) = extras.iter().find(|(_, value)| value.get() != "null") {
        let problem = "is given, but Converse has no such field of a call; expected none";
        return Err(unsupported(&format!("{path}.{key}"), problem));
    }
    for blocks in signed {
        thinking(content, blocks.get(), &format!("{path}.thinking_blocks"))?;
    }
    let mut block = Object::begin(content.next());
    let mut used = Object::begin(block.nested("toolUse"));
    used.text("toolUseId", &call.id);
    used.text("name", &call.name);
    let arguments = call.arguments_json.trim();
    let input =
        if arguments.is_empty() { "{}" } else { json::object(&format!("{path}.arguments"), arguments)? };
    used.raw("input", input);
    for kind in kinds.iter().take(1) {
        used.raw("type", kind.get());
    }
    used.end();
    block.end();
    Ok(())
}

/// A block of reasoning in Anthropic's words.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Thinking<'a> {
    Thinking {
        #[serde(borrow)]
        thinking: Text<'a>,
        #[serde(borrow, default)]
        signature: Option<Text<'a>>,
    },
    RedactedThinking {
        #[serde(borrow)]
        data: Text<'a>,
    },
}

impl Thinking<'_> {
    fn write(&self, content: &mut Blocks<'_>) {
        let mut block = Object::begin(content.next());
        let mut reasoning = Object::begin(block.nested("reasoningContent"));
        match self {
            Self::Thinking { thinking, signature } => {
                let mut text = Object::begin(reasoning.nested("reasoningText"));
                text.text("text", thinking);
                if let Some(signature) = signature {
                    text.text("signature", signature);
                }
                text.end();
            }
            Self::RedactedThinking { data } => reasoning.text("redactedContent", data),
        }
        reasoning.end();
        block.end();
    }
}

/// By-products of an answer that no provider reads when it is sent back.
const BY_PRODUCTS: [&str; 4] = ["reasoning_details", "extra_content", "annotations", "citations"];

/// Fields of a message that the domain does not model.
#[derive(Default)]
struct MessageExtras<'a> {
    /// JSON of a list.
    thinking_blocks: Option<&'a str>,
    /// JSON of a text.
    reasoning_content: Option<&'a str>,
    /// JSON of a text.
    refusal: Option<&'a str>,
    cache_control: Option<&'a str>,
    /// Of a tool's answer.
    is_error: bool,
    others: Fields<'a>,
}

impl<'a> MessageExtras<'a> {
    fn read(message: &'a Message, path: &str) -> Result<Self, Fault> {
        let mut extras = Self::default();
        for (key, value) in Fields::parse(path, &message.extra_json)?.into_entries() {
            // clients send answers back as they came: what says nothing is no field
            if matches!(value.get(), "null" | "[]" | "{}") {
                continue;
            }
            match (message.role, &*key) {
                (Role::Assistant, "thinking_blocks") => extras.thinking_blocks = Some(value.get()),
                (Role::Assistant, "reasoning_content" | "reasoning") => {
                    extras.reasoning_content = Some(value.get());
                }
                (Role::Assistant, "refusal") => extras.refusal = Some(value.get()),
                (Role::Assistant, key) if BY_PRODUCTS.contains(&key) => {}
                (Role::Tool, "is_error") if matches!(value.get(), "true" | "false") => {
                    extras.is_error = value.get() == "true";
                }
                (_, "cache_control") => extras.cache_control = Some(value.get()),
                _ => extras.others.keep(key, value),
            }
        }
        Ok(extras)
    }

    fn refuse_others(&self, path: &str) -> Result<(), Fault> {
        let Some((key, _)) = self.others.iter().next() else { return Ok(()) };
        Err(unsupported(
            &format!("{path}.{key}"),
            "is given, but Converse has no such field of a message; expected none",
        ))
    }

    /// Marks the end of what may be cached.
    fn close(&self, blocks: &mut Blocks<'_>, path: &str) -> Result<(), Fault> {
        if let Some(control) = self.cache_control {
            cache_point(control, path)?.write(blocks);
        }
        Ok(())
    }
}
