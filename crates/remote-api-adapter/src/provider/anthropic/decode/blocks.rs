//! The content blocks of an answer, from their beginning to their end.
//!
//! | block | becomes |
//! | --- | --- |
//! | `text` | text; its citations go to `extra_json` under `citations` |
//! | `tool_use` | a tool call, numbered among the calls |
//! | `thinking`, `redacted_thinking` | reasoning as it comes; at its end the whole signed block under `thinking_blocks`, to be sent back with the next turn. Thinking between what is said and a tool call goes with that call's `extra_json`, so that it can be put back in its place |
//! | any other | at its end the whole block under `content_blocks`; pieces that this version cannot put together, one by one, under `content_block_deltas` |

use domain::fault::{Code, Fault, Origin};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use wire::v1;

use crate::provider::{
    exchange::malformed,
    json::{Fields, Object, Text, string},
};

/// Under this name thinking goes out and comes back.
const THINKING: &str = "thinking_blocks";
/// Most blocks that are open at once; the API opens one after the other.
const OPEN_MAX: usize = 64;
/// Most bytes of blocks that are held until their end.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A piece of a block.
#[derive(Debug, Deserialize)]
pub(in super::super) struct Delta<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    partial_json: Option<Text<'a>>,
    #[serde(borrow, default)]
    thinking: Option<Text<'a>>,
    #[serde(borrow, default)]
    signature: Option<Text<'a>>,
    #[serde(borrow, default)]
    citation: Option<&'a RawValue>,
}

/// The blocks that have begun and not ended.
#[derive(Debug, Default)]
pub(in super::super) struct Blocks {
    open: Vec<(u32, Open)>,
    /// Tool calls so far.
    calls: u32,
    /// Whether a text or a call has begun.
    said: bool,
    /// Thinking that ended after that, as JSON: it belongs to the next call, should there be one.
    between: Vec<String>,
    /// Bytes of the blocks that are held.
    held: usize,
}

#[derive(Debug)]
enum Open {
    Text,
    Call {
        call: u32,
        /// Whether any of its arguments were given.
        has_arguments: bool,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    /// Kept as it is, to be handed out under this name.
    Other {
        name: &'static str,
        /// The block as it began, without its input.
        fields: String,
        input: String,
    },
}

fn item() -> v1::DeltaItem {
    v1::DeltaItem::default()
}

/// `{"<key>":[<element>]}`
fn listed(key: &'static str, element: &str) -> v1::DeltaItem {
    v1::DeltaItem { extra_json: format!(r#"{{"{key}":[{element}]}}"#), ..item() }
}

fn wrong(provider: &str, what: &str) -> Fault {
    Fault::new(Code::Upstream, Origin::Provider, true, format!("{provider} sent {what}"))
}

/// The text of the field `name`; empty when it has none.
///
/// # Errors
/// `Upstream`: it holds something else.
fn text_of(provider: &str, fields: &Fields<'_>, name: &str) -> Result<String, Fault> {
    let Some((_, value)) = fields.iter().find(|(key, _)| *key == name) else { return Ok(String::new()) };
    let text: Option<Text<'_>> = serde_json::from_str(value.get())
        .map_err(|error| malformed(provider, &format!("a block's {name}"), &error))?;
    Ok(text.map(Text::into_string).unwrap_or_default())
}

impl Blocks {
    /// A block begins, in a whole answer with all that it holds.
    ///
    /// # Errors
    /// `Upstream`: more blocks at once, or larger ones, than are held.
    pub(in super::super) fn begin(
        &mut self,
        provider: &str,
        index: u32,
        fields: Fields<'_>,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), Fault> {
        if self.open.len() >= OPEN_MAX {
            return Err(wrong(provider, "too many blocks at once"));
        }
        let open = match text_of(provider, &fields, "type")?.as_str() {
            "text" => {
                self.said = true;
                let text = text_of(provider, &fields, "text")?;
                if !text.is_empty() {
                    items.push(v1::DeltaItem { text, ..item() });
                }
                let citations = fields.iter().find(|(key, _)| *key == "citations");
                if let Some((_, list)) = citations.filter(|(_, list)| !matches!(list.get(), "null" | "[]")) {
                    let extra_json = format!(r#"{{"citations":{}}}"#, list.get());
                    items.push(v1::DeltaItem { extra_json, ..item() });
                }
                Open::Text
            }
            "tool_use" => self.call(provider, fields, items)?,
            "thinking" => {
                let thinking = text_of(provider, &fields, "thinking")?;
                let signature = text_of(provider, &fields, "signature")?;
                if !thinking.is_empty() {
                    items.push(v1::DeltaItem { reasoning: thinking.clone(), ..item() });
                }
                self.hold(provider, thinking.len() + signature.len())?;
                Open::Thinking { thinking, signature }
            }
            kind => {
                let name = if kind == "redacted_thinking" { THINKING } else { "content_blocks" };
                let (input, fields) = fields.split("input");
                let input = input.first().map(|input| input.get()).filter(|input| *input != "{}");
                let (fields, input) = (fields.into_json(), input.unwrap_or_default().to_owned());
                self.hold(provider, fields.len() + input.len())?;
                Open::Other { name, fields, input }
            }
        };
        self.open.push((index, open));
        Ok(())
    }

    fn call(
        &mut self,
        provider: &str,
        fields: Fields<'_>,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<Open, Fault> {
        let call = self.calls;
        self.calls = self.calls.saturating_add(1);
        let (id, name) = (text_of(provider, &fields, "id")?, text_of(provider, &fields, "name")?);
        let mut extras = Fields::default();
        let mut arguments_json = String::new();
        for (key, value) in fields.into_entries() {
            match &*key {
                "type" | "id" | "name" => {}
                // of a stream it is always empty, and grows
                "input" if value.get() == "{}" => {}
                "input" => value.get().clone_into(&mut arguments_json),
                _ => extras.keep(key, value),
            }
        }
        let has_arguments = !arguments_json.is_empty();
        let extra_json = call_extras(&extras, &std::mem::take(&mut self.between));
        self.said = true;
        let piece = v1::ToolCallDelta { index: call, id, name, arguments_json, extra_json };
        items.push(v1::DeltaItem { tool_calls: vec![piece], ..item() });
        Ok(Open::Call { call, has_arguments })
    }

    /// A block grows. `Ok(false)`: by something that this version does not know.
    ///
    /// # Errors
    /// `Upstream`: the block has not begun, or is larger than is held.
    pub(in super::super) fn grow(
        &mut self,
        provider: &str,
        index: u32,
        delta: Delta<'_>,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<bool, Fault> {
        let added = delta.thinking.as_deref().map_or(0, str::len)
            + delta.signature.as_deref().map_or(0, str::len)
            + delta.partial_json.as_deref().map_or(0, str::len);
        let Some((_, open)) = self.open.iter_mut().rfind(|(known, _)| *known == index) else {
            return Err(wrong(provider, "a piece of a block that has not begun"));
        };
        match (open, delta.kind.as_deref().unwrap_or_default()) {
            (Open::Text, "text_delta") => {
                let text = delta.text.map(Text::into_string).unwrap_or_default();
                if !text.is_empty() {
                    items.push(v1::DeltaItem { text, ..item() });
                }
            }
            (Open::Text, "citations_delta") => {
                items.extend(delta.citation.map(|citation| listed("citations", citation.get())));
            }
            (Open::Call { call, has_arguments }, "input_json_delta") => {
                let arguments_json = delta.partial_json.map(Text::into_string).unwrap_or_default();
                if !arguments_json.is_empty() {
                    *has_arguments = true;
                    let piece =
                        v1::ToolCallDelta { index: *call, arguments_json, ..v1::ToolCallDelta::default() };
                    items.push(v1::DeltaItem { tool_calls: vec![piece], ..item() });
                }
            }
            (Open::Thinking { thinking, .. }, "thinking_delta") => {
                let reasoning = delta.thinking.map(Text::into_string).unwrap_or_default();
                if !reasoning.is_empty() {
                    thinking.push_str(&reasoning);
                    items.push(v1::DeltaItem { reasoning, ..item() });
                    self.hold(provider, added)?;
                }
            }
            (Open::Thinking { signature, .. }, "signature_delta") => {
                signature.push_str(delta.signature.as_deref().unwrap_or_default());
                self.hold(provider, added)?;
            }
            (Open::Other { input, .. }, "input_json_delta") => {
                input.push_str(delta.partial_json.as_deref().unwrap_or_default());
                self.hold(provider, added)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A block ends; one that never began has nothing to end.
    pub(in super::super) fn end(&mut self, index: u32, items: &mut Vec<v1::DeltaItem>) {
        if let Some(at) = self.open.iter().rposition(|(known, _)| *known == index) {
            let (_, open) = self.open.remove(at);
            self.close(open, items);
        }
    }

    /// The message has ended, and with it all blocks.
    pub(in super::super) fn end_all(&mut self, items: &mut Vec<v1::DeltaItem>) {
        for (_, open) in std::mem::take(&mut self.open) {
            self.close(open, items);
        }
        let between = std::mem::take(&mut self.between);
        items.extend(between.iter().map(|block| listed(THINKING, block)));
    }

    fn hold(&mut self, provider: &str, bytes: usize) -> Result<(), Fault> {
        self.held = self.held.saturating_add(bytes);
        if self.held > HELD_BYTES_MAX {
            return Err(wrong(provider, &format!("blocks of more than {HELD_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    fn close(&mut self, open: Open, items: &mut Vec<v1::DeltaItem>) {
        match open {
            Open::Text | Open::Call { has_arguments: true, .. } => {}
            // an empty text would be no JSON
            Open::Call { call, has_arguments: false } => {
                let arguments_json = "{}".to_owned();
                let piece = v1::ToolCallDelta { index: call, arguments_json, ..v1::ToolCallDelta::default() };
                items.push(v1::DeltaItem { tool_calls: vec![piece], ..item() });
            }
            Open::Thinking { thinking, signature } => {
                let mut block = Vec::with_capacity(thinking.len() + signature.len() + 64);
                let mut object = Object::begin(&mut block);
                object.text("type", "thinking");
                object.text("thinking", &thinking);
                object.text("signature", &signature);
                object.end();
                self.give(THINKING, String::from_utf8_lossy(&block).into_owned(), items);
            }
            Open::Other { name, fields, input } => {
                let block = match fields.strip_suffix('}') {
                    Some(start) if !input.is_empty() => format!(r#"{start},"input":{}}}"#, as_json(&input)),
                    _ => fields,
                };
                self.give(name, block, items);
            }
        }
    }

    /// Hands out a block under `name`, or keeps it for the call that it leads to.
    fn give(&mut self, name: &'static str, block: String, items: &mut Vec<v1::DeltaItem>) {
        if name == THINKING && self.said {
            self.between.push(block);
        } else {
            items.push(listed(name, &block));
        }
    }
}

/// What the model wrote as JSON, or, where it was broken off in the middle, as a text.
fn as_json(written: &str) -> String {
    if serde_json::from_str::<IgnoredAny>(written).is_ok() {
        return written.to_owned();
    }
    let mut text = Vec::new();
    string(&mut text, written);
    String::from_utf8_lossy(&text).into_owned()
}

/// The fields of a call that are not modelled, and the thinking that led to it.
fn call_extras(extras: &Fields<'_>, thinking: &[String]) -> String {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    for (key, value) in extras.iter() {
        object.raw_dynamic(key, value.get());
    }
    if !thinking.is_empty() {
        object.raw(THINKING, &format!("[{}]", thinking.join(",")));
    }
    object.end();
    // made of strings only
    String::from_utf8(out).ok().filter(|json| json != "{}").unwrap_or_default()
}

/// A piece that this version does not know, as it stands.
pub(in super::super) fn unknown_piece(delta: &RawValue) -> v1::DeltaItem {
    listed("content_block_deltas", delta.get())
}
