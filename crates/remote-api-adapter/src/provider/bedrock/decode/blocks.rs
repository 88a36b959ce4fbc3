//! One content block of an answer, whole or as it grows.

use domain::fault::Fault;
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::v1;

use super::{Tally, parse, text};
use crate::provider::{
    bedrock::error::broken,
    json::{Fields, Object, Text},
};

/// Most bytes of reasoning that are kept to be sent back.
const THOUGHT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A block that has begun.
#[derive(Debug, Default)]
pub(in crate::provider::bedrock) struct Block {
    tool: Option<Tool>,
    /// Reasoning so far, kept only to be sent back.
    thought: String,
    signature: String,
    /// Reasoning that is not shown, each in base64.
    redacted: Vec<String>,
}

#[derive(Debug)]
struct Tool {
    index: u32,
    /// Whether any arguments came.
    argued: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse<'a> {
    #[serde(borrow, default)]
    tool_use_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    /// Of a tool that the provider runs itself.
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
}

impl Block {
    /// What a stream says at the beginning of a block.
    ///
    /// # Errors
    /// `Upstream`: it cannot be read.
    pub(crate) fn start(
        &mut self,
        provider: &str,
        kind: &str,
        value: &RawValue,
        tally: &mut Tally,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), Fault> {
        match kind {
            "toolUse" => {
                let begun: ToolUse<'_> = parse(provider, value)?;
                self.call(&begun, "", tally, items);
            }
            kind => items.push(other(kind, value)),
        }
        Ok(())
    }

    /// What a stream adds to it.
    ///
    /// # Errors
    /// `Upstream`: it cannot be read.
    pub(crate) fn delta(
        &mut self,
        provider: &str,
        kind: &str,
        value: &RawValue,
        tally: &mut Tally,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), Fault> {
        match kind {
            "text" => say(tally, items, text(provider, value)?),
            "toolUse" => {
                let more: ToolUse<'_> = parse(provider, value)?;
                let arguments = more.input.map(|input| text(provider, input)).transpose()?;
                if let Some(arguments) = arguments.filter(|arguments| !arguments.is_empty()) {
                    self.argue(arguments.into_string(), items);
                }
            }
            "reasoningContent" => self.reason(provider, parse(provider, value)?, tally, items)?,
            kind => items.push(other(kind, value)),
        }
        Ok(())
    }

    /// All of it at once.
    ///
    /// # Errors
    /// `Upstream`: it cannot be read.
    pub(crate) fn whole(
        &mut self,
        provider: &str,
        kind: &str,
        value: &RawValue,
        tally: &mut Tally,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), Fault> {
        match kind {
            "text" => say(tally, items, text(provider, value)?),
            "toolUse" => {
                let used: ToolUse<'_> = parse(provider, value)?;
                self.call(&used, used.input.map_or("{}", RawValue::get), tally, items);
            }
            "reasoningContent" => {
                for (key, value) in parse::<Fields<'_>>(provider, value)?.into_entries() {
                    match &*key {
                        "reasoningText" => self.reason(provider, parse(provider, value)?, tally, items)?,
                        "redactedContent" => self.redacted.push(text(provider, value)?.into_string()),
                        key => items.push(other(key, value)),
                    }
                }
            }
            "citationsContent" => {
                // its text is part of the answer; where it comes from goes along
                #[derive(Deserialize)]
                struct Cited<'a> {
                    #[serde(borrow, default)]
                    content: Vec<Said<'a>>,
                }
                #[derive(Deserialize)]
                struct Said<'a> {
                    #[serde(borrow, default)]
                    text: Option<Text<'a>>,
                }
                let cited: Cited<'_> = parse(provider, value)?;
                for text in cited.content.into_iter().filter_map(|said| said.text) {
                    say(tally, items, text);
                }
                items.push(other(kind, value));
            }
            kind => items.push(other(kind, value)),
        }
        Ok(())
    }

    /// The end of the block.
    pub(crate) fn stop(self, tally: &mut Tally, items: &mut Vec<v1::DeltaItem>) {
        if let Some(tool) = self.tool.filter(|tool| !tool.argued) {
            let call = v1::ToolCallDelta {
                index: tool.index,
                arguments_json: "{}".to_owned(),
                ..v1::ToolCallDelta::default()
            };
            items.push(v1::DeltaItem { tool_calls: vec![call], ..v1::DeltaItem::default() });
        }
        // reasoning that is not signed need not come back
        if !self.signature.is_empty() {
            tally.think(|block| {
                block.text("type", "thinking");
                block.text("thinking", &self.thought);
                block.text("signature", &self.signature);
            });
        }
        for data in self.redacted {
            tally.think(|block| {
                block.text("type", "redacted_thinking");
                block.text("data", &data);
            });
        }
    }

    fn call(
        &mut self,
        used: &ToolUse<'_>,
        arguments: &str,
        tally: &mut Tally,
        items: &mut Vec<v1::DeltaItem>,
    ) {
        let (index, thinking) = tally.tool_call(items);
        self.tool = Some(Tool { index, argued: !arguments.is_empty() });
        let owned = |text: &Option<Text<'_>>| text.as_deref().unwrap_or_default().to_owned();
        let mut extra = Vec::new();
        if used.kind.is_some() || thinking.is_some() {
            let mut object = Object::begin(&mut extra);
            if let Some(kind) = used.kind {
                object.raw("toolUseType", kind.get());
            }
            if let Some(blocks) = &thinking {
                object.raw("thinking_blocks", blocks);
            }
            object.end();
        }
        let call = v1::ToolCallDelta {
            index,
            id: owned(&used.tool_use_id),
            name: owned(&used.name),
            arguments_json: arguments.to_owned(),
            extra_json: String::from_utf8(extra).unwrap_or_default(),
        };
        items.push(v1::DeltaItem { tool_calls: vec![call], ..v1::DeltaItem::default() });
    }

    fn argue(&mut self, arguments_json: String, items: &mut Vec<v1::DeltaItem>) {
        let Some(tool) = &mut self.tool else { return };
        tool.argued = true;
        let call = v1::ToolCallDelta { index: tool.index, arguments_json, ..v1::ToolCallDelta::default() };
        items.push(v1::DeltaItem { tool_calls: vec![call], ..v1::DeltaItem::default() });
    }

    fn reason(
        &mut self,
        provider: &str,
        fields: Fields<'_>,
        tally: &Tally,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), Fault> {
        let held =
            tally.thinking.len() + self.thought.len() + self.redacted.iter().map(String::len).sum::<usize>();
        if held > THOUGHT_BYTES_MAX {
            return Err(broken(format!("{provider} sent more than {THOUGHT_BYTES_MAX} bytes of reasoning")));
        }
        for (key, value) in fields.into_entries() {
            match &*key {
                "text" => {
                    let text = text(provider, value)?;
                    if !text.is_empty() {
                        self.thought.push_str(&text);
                        let reasoning = text.into_string();
                        items.push(v1::DeltaItem { reasoning, ..v1::DeltaItem::default() });
                    }
                }
                "signature" => self.signature.push_str(&text(provider, value)?),
                "redactedContent" => self.redacted.push(text(provider, value)?.into_string()),
                key => items.push(other(key, value)),
            }
        }
        Ok(())
    }
}

fn say(tally: &mut Tally, items: &mut Vec<v1::DeltaItem>, text: Text<'_>) {
    if !text.is_empty() {
        tally.says(items);
        items.push(v1::DeltaItem { text: text.into_string(), ..v1::DeltaItem::default() });
    }
}

/// What is not modelled, as it stands.
fn other(kind: &str, value: &RawValue) -> v1::DeltaItem {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.raw_dynamic(kind, value.get());
    object.end();
    v1::DeltaItem { extra_json: String::from_utf8(out).unwrap_or_default(), ..v1::DeltaItem::default() }
}
