//! The conversation as the API wants it: one system prompt, and turns of user and assistant in alternation.
//!
//! System and developer messages go to the system prompt in their order, wherever they stand. Messages of one speaker in a
//! row become one turn; the answers of tools are said by the user.

use domain::{
    fault::Fault,
    inference::{Message, Role, ToolCall},
};
use serde_json::value::RawValue;

use super::{
    super::unsupported,
    block::{Block, Content, Hour},
};
use crate::provider::json::{self, Fields, Object, Text};

/// What an earlier answer carried beside its words, of no meaning to the API: reasoning that Anthropic did not sign, the
/// signatures of others, references.
const BY_PRODUCTS: [&str; 6] =
    ["reasoning", "reasoning_content", "reasoning_details", "extra_content", "annotations", "citations"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    User,
    Assistant,
}

/// What one speaker says before the other does.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) speaker: Speaker,
    blocks: Vec<Block<'a>>,
    /// Position of its last message in the caller's request.
    pub(super) until: usize,
}

/// A conversation.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    system: Vec<Block<'a>>,
    pub(super) turns: Vec<Turn<'a>>,
}

/// The unmodelled fields of a message.
#[derive(Default)]
struct Extras<'a> {
    /// Blocks in the API's own form, which come before what is said.
    own: Vec<Block<'a>>,
    refusal: Option<Block<'a>>,
    is_error: Option<bool>,
    cache_control: Option<&'a RawValue>,
}

impl<'a> Conversation<'a> {
    /// # Errors
    /// `Unsupported`: something the API does not read; `InvalidArgument`: carried JSON that is none, or nobody says anything.
    pub(super) fn read(messages: &'a [Message], hour: Hour) -> Result<Self, Fault> {
        let mut conversation = Self::default();
        for (index, message) in messages.iter().enumerate() {
            let path = format!("messages[{index}]");
            let blocks = blocks(message, &path, hour)?;
            let speaker = match message.role {
                Role::System | Role::Developer => {
                    conversation.instruct(blocks)?;
                    continue;
                }
                Role::User | Role::Tool => Speaker::User,
                Role::Assistant => Speaker::Assistant,
            };
            if blocks.is_empty() {
                continue;
            }
            match conversation.turns.last_mut() {
                Some(turn) if turn.speaker == speaker => {
                    turn.blocks.extend(blocks);
                    turn.until = index;
                }
                _ => conversation.turns.push(Turn { speaker, blocks, until: index }),
            }
        }
        if conversation.turns.is_empty() {
            let message =
                "messages holds instructions or empty texts only, expected something said to the model";
            return Err(Fault::invalid("messages", message));
        }
        Ok(conversation)
    }

    fn instruct(&mut self, blocks: Vec<Block<'a>>) -> Result<(), Fault> {
        for block in blocks {
            if !matches!(block.content, Content::Text(_)) {
                let expected = "text: Anthropic's system prompt holds nothing else";
                return Err(unsupported(block.path, "something else in an instruction", expected));
            }
            self.system.push(block);
        }
        Ok(())
    }

    pub(super) fn write(&self, root: &mut Object<'_>) -> Result<(), Fault> {
        if !self.system.is_empty() {
            json::array(root.nested("system"), &self.system, |out, block| block.write(out))?;
        }
        json::array(root.nested("messages"), &self.turns, |out, turn| {
            let mut object = Object::begin(out);
            let role = match turn.speaker {
                Speaker::User => "user",
                Speaker::Assistant => "assistant",
            };
            object.text("role", role);
            json::array(object.nested("content"), &turn.blocks, |out, block| block.write(out))?;
            object.end();
            Ok(())
        })
    }
}

fn blocks<'a>(message: &'a Message, path: &str, hour: Hour) -> Result<Vec<Block<'a>>, Fault> {
    let Extras { own, refusal, is_error, cache_control } = Extras::read(message, path, hour)?;
    // of a tool the id of the call says who speaks
    if !message.name.is_empty() && message.role != Role::Tool {
        let expected = "nothing: Anthropic does not tell speakers apart";
        return Err(unsupported(format!("{path}.name"), &format!("{:?}", message.name), expected));
    }
    let mut said = Vec::new();
    for (at, part) in message.content.iter().enumerate() {
        said.extend(Block::read(part, format!("{path}.content[{at}]"), hour)?);
    }
    let mut blocks = own;
    if message.role == Role::Tool {
        let content = Content::ToolResult { id: &message.tool_call_id, content: said, is_error };
        blocks.push(Block { path: path.to_owned(), content, extras: Fields::default() });
    } else {
        blocks.extend(said);
        blocks.extend(refusal);
    }
    for (at, call) in message.tool_calls.iter().enumerate() {
        tool_use(call, format!("{path}.tool_calls[{at}]"), &mut blocks, hour)?;
    }
    if let Some(value) = cache_control {
        let Some(last) = blocks.last_mut().filter(|last| !last.extras.contains("cache_control")) else {
            let field = format!("{path}.cache_control");
            let message = format!("{field} is given beside one of the last part, expected only one of them");
            return Err(Fault::invalid(field, message));
        };
        last.extras.keep(Text::from("cache_control"), value);
    }
    Ok(blocks)
}

/// A call, after the thinking that led to it.
fn tool_use<'a>(
    call: &'a ToolCall,
    path: String,
    blocks: &mut Vec<Block<'a>>,
    hour: Hour,
) -> Result<(), Fault> {
    let input = if call.arguments_json.trim().is_empty() {
        "{}"
    } else {
        json::object(&format!("{path}.function.arguments"), &call.arguments_json)?
    };
    let (_, extras) = Fields::parse(&path, &call.extra_json)?.split("extra_content");
    let (thinking, extras) = extras.split("thinking_blocks");
    for value in thinking {
        own_blocks(&format!("{path}.thinking_blocks"), value, blocks, hour)?;
    }
    if let Some((_, value)) = extras.iter().find(|(key, _)| *key == "cache_control") {
        hour.check(&format!("{path}.cache_control"), value)?;
    }
    blocks.push(Block { path, content: Content::ToolUse { id: &call.id, name: &call.name, input }, extras });
    Ok(())
}

/// A list of blocks in the API's own form.
fn own_blocks<'a>(
    field: &str,
    value: &'a RawValue,
    blocks: &mut Vec<Block<'a>>,
    hour: Hour,
) -> Result<(), Fault> {
    let own: Vec<Fields<'a>> = serde_json::from_str(value.get()).map_err(|_| {
        Fault::invalid(field, format!("{field} is something else, expected a list of blocks"))
    })?;
    for (at, block) in own.into_iter().enumerate() {
        blocks.push(Block::own(format!("{field}[{at}]"), block, hour)?);
    }
    Ok(())
}

impl<'a> Extras<'a> {
    fn read(message: &'a Message, path: &str, hour: Hour) -> Result<Self, Fault> {
        let mut extras = Self::default();
        for (key, value) in Fields::parse(path, &message.extra_json)?.into_entries() {
            let field = format!("{path}.{}", &*key);
            let wrong = |expected: &str| {
                Fault::invalid(field.as_str(), format!("{field} is something else, expected {expected}"))
            };
            match (message.role, &*key) {
                _ if value.get() == "null" => {}
                (Role::Assistant, "thinking_blocks" | "content_blocks") => {
                    own_blocks(&field, value, &mut extras.own, hour)?;
                }
                (Role::Assistant, "refusal") => {
                    let text = serde_json::from_str(value.get()).map_err(|_| wrong("a text"))?;
                    extras.refusal = Some(Block::text(field, text));
                }
                (Role::Assistant, key) if BY_PRODUCTS.contains(&key) => {}
                (Role::Tool, "is_error") => {
                    let flag = serde_json::from_str(value.get()).map_err(|_| wrong("true or false"))?;
                    extras.is_error = Some(flag);
                }
                (_, "cache_control") => {
                    hour.check(&field, value)?;
                    extras.cache_control = Some(value);
                }
                _ => {
                    return Err(unsupported(
                        field,
                        "given",
                        "nothing: Anthropic's messages have no such field",
                    ));
                }
            }
        }
        Ok(extras)
    }
}
