//! Messages as Converse's turns.
//!
//! Converse wants `user` and `assistant` in turn: messages of one side that follow each other become one turn, and tools'
//! results are the user's. Instructions stand outside, before the conversation, wherever in it they were given.

use domain::{
    fault::Fault,
    inference::{Message, Role},
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
            for (at, call) in message.tool_calls.iter().enumerate() {
                blocks::tool_use(content, call, &format!("{path}.tool_calls[{at}]"))?;
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
    // its own: `status`
    result.carry(path, &extras.others)?;
    result.end();
    block.end();
    if let Some(point) = cached {
        point.write(content);
    }
    Ok(())
}

/// Reasoning of an earlier turn, which Claude wants back as it was signed.
fn reasoning(
    content: &mut Blocks<'_>,
    extras: &MessageExtras<'_>,
    path: &str,
    family: Family,
) -> Result<(), Fault> {
    if let Some(blocks) = extras.thinking_blocks {
        let field = format!("{path}.thinking_blocks");
        let blocks: Vec<Thinking<'_>> = serde_json::from_str(blocks).map_err(|error| {
            let message = format!(
                "{field} cannot be read ({:?} error in column {}), expected a list of thinking and redacted_thinking blocks",
                error.classify(),
                error.column()
            );
            Fault::invalid(field.as_str(), message)
        })?;
        for block in blocks {
            block.write(content);
        }
        return Ok(());
    }
    let Some(text) = extras.reasoning_content else { return Ok(()) };
    let field = format!("{path}.reasoning_content");
    if matches!(family, Family::Claude(..)) {
        let problem =
            "is given without its signature; expected thinking_blocks as they were answered, or none";
        return Err(unsupported(&field, problem));
    }
    let text: Text<'_> = serde_json::from_str(text)
        .map_err(|_| Fault::invalid(field.as_str(), format!("{field} is no text, expected one")))?;
    if !text.is_empty() {
        Thinking::Thinking { thinking: text, signature: None }.write(content);
    }
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

/// Fields of a message that the domain does not model.
struct MessageExtras<'a> {
    /// JSON of a list.
    thinking_blocks: Option<&'a str>,
    /// JSON of a text.
    reasoning_content: Option<&'a str>,
    cache_control: Option<&'a str>,
    others: Fields<'a>,
}

impl<'a> MessageExtras<'a> {
    fn read(message: &'a Message, path: &str) -> Result<Self, Fault> {
        let mut extras = Self {
            thinking_blocks: None,
            reasoning_content: None,
            cache_control: None,
            others: Fields::default(),
        };
        for (key, value) in Fields::parse(path, &message.extra_json)?.into_entries() {
            // clients send answers back as they came: what says nothing is no field
            if matches!(value.get(), "null" | "[]" | "{}") {
                continue;
            }
            match &*key {
                "thinking_blocks" if message.role == Role::Assistant => {
                    extras.thinking_blocks = Some(value.get())
                }
                "reasoning_content" | "reasoning" if message.role == Role::Assistant => {
                    extras.reasoning_content = Some(value.get());
                }
                "cache_control" => extras.cache_control = Some(value.get()),
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
