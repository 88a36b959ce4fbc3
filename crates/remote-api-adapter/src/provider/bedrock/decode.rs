//! Converse's answers as pieces.
//!
//! A whole answer and the events of a stream say the same in other shapes; both end in one [`Tally`]. What this version does
//! not model is kept as it stands: blocks in their piece's `extra_json`, fields of the answer (`trace`, `performanceConfig`,
//! `additionalModelResponseFields` …) in the end's. Dropped on purpose: roles, and `p`, which is padding.
//!
//! Reasoning is shown as text, and what has to be sent back of it (signed or redacted blocks) goes out under `thinking_blocks`
//! in Anthropic's words: in one piece before the first of what is said or called, and, of reasoning in between, with the call
//! that it led to, so that it can be put back in its place.

use domain::{fault::Fault, pricing::TokenUsage, units::Tokens};
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::v1;

use super::error::{broken, shown};
use crate::provider::{
    Completion,
    exchange::malformed,
    json::{Fields, Object, Text},
};

mod blocks;
pub(super) use blocks::Block;

/// Tokens as Bedrock counts them: input without what the cache was read or written for.
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html>
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Usage {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
    /// Of what was written, how much is kept for how long.
    cache_details: Vec<CacheDetail>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CacheDetail {
    ttl: String,
    input_tokens: u64,
}

impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        let read = usage.cache_read_input_tokens.unwrap_or(0);
        let written = usage.cache_write_input_tokens.unwrap_or(0);
        let kept = usage.cache_details.iter().filter(|detail| detail.ttl == "1h");
        let hour = kept.map(|detail| detail.input_tokens).fold(0, u64::saturating_add);
        Self {
            input: Tokens::new(usage.input_tokens.saturating_add(read).saturating_add(written)),
            output: Tokens::new(usage.output_tokens),
            cached_input: Tokens::new(read),
            cache_write: Tokens::new(written),
            cache_write_hour: Tokens::new(hour.min(written)),
            // not told apart from the rest of the output
            reasoning: Tokens::ZERO,
            ..TokenUsage::default()
        }
    }
}

/// What an answer has come to so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) finish_reason: Option<v1::FinishReason>,
    pub(super) usage: Option<TokenUsage>,
    /// Tool calls so far; the next one's index.
    tool_calls: u32,
    /// JSON of blocks that have to be sent back and have not gone out, separated by commas.
    thinking: String,
    /// Whether anything was said or called.
    said: bool,
    /// Key and JSON value.
    extra: Vec<(String, String)>,
}

impl Tally {
    /// Counts a tool call: its index, and the reasoning that belongs to it as a JSON list, if there is some.
    pub(super) fn tool_call(&mut self, items: &mut Vec<v1::DeltaItem>) -> (u32, Option<String>) {
        self.says(items);
        let index = self.tool_calls;
        self.tool_calls = index.saturating_add(1);
        (index, self.take_thinking())
    }

    /// Something is said: reasoning that came before it goes first.
    pub(super) fn says(&mut self, items: &mut Vec<v1::DeltaItem>) {
        if !self.said {
            self.said = true;
            self.close(items);
        }
    }

    fn take_thinking(&mut self) -> Option<String> {
        (!self.thinking.is_empty()).then(|| format!("[{}]", std::mem::take(&mut self.thinking)))
    }

    /// Keeps a block of reasoning that has to be sent back.
    pub(super) fn think(&mut self, write: impl FnOnce(&mut Object<'_>)) {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        write(&mut object);
        object.end();
        if !self.thinking.is_empty() {
            self.thinking.push(',');
        }
        self.thinking.push_str(&String::from_utf8_lossy(&out));
    }

    pub(super) fn keep(&mut self, key: &str, value: &str) {
        match self.extra.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.extra.push((key.to_owned(), value.to_owned())),
        }
    }

    /// Why the model ended.
    ///
    /// # Errors
    /// `Upstream`: it lost the thread.
    pub(super) fn stop(&mut self, provider: &str, reason: &str) -> Result<(), Fault> {
        let (known, reason_said) = match reason {
            "end_turn" | "stop_sequence" => (v1::FinishReason::Stop, false),
            "tool_use" => (v1::FinishReason::ToolCalls, false),
            "max_tokens" => (v1::FinishReason::Length, false),
            "content_filtered" => (v1::FinishReason::ContentFilter, false),
            "model_context_window_exceeded" => (v1::FinishReason::Length, true),
            "guardrail_intervened" => (v1::FinishReason::ContentFilter, true),
            "malformed_model_output" | "malformed_tool_use" => {
                return Err(broken(format!("{provider} broke the answer off: {reason}")));
            }
            _ => (v1::FinishReason::Stop, true),
        };
        // the word says more than the reason that it becomes
        if reason_said {
            let mut value = Vec::new();
            crate::provider::json::string(&mut value, reason);
            self.keep("stopReason", &String::from_utf8_lossy(&value));
        }
        self.finish_reason = Some(known);
        Ok(())
    }

    /// Fields of the answer as a whole; those that are not known are kept.
    pub(super) fn fields(&mut self, provider: &str, fields: Fields<'_>) -> Result<(), Fault> {
        for (key, value) in fields.into_entries().filter(|(_, value)| value.get() != "null") {
            match &*key {
                "stopReason" => self.stop(provider, &text(provider, value)?)?,
                "usage" => self.usage = Some(parse::<Usage>(provider, value)?.into()),
                "p" | "role" => {}
                key => self.keep(key, value.get()),
            }
        }
        Ok(())
    }

    /// The piece with what has to be sent back and has not gone out.
    pub(super) fn close(&mut self, items: &mut Vec<v1::DeltaItem>) {
        if let Some(blocks) = self.take_thinking() {
            let extra_json = format!("{{\"thinking_blocks\":{blocks}}}");
            items.push(v1::DeltaItem { extra_json, ..v1::DeltaItem::default() });
        }
    }

    /// The end of the answer.
    pub(super) fn into_completion(self, items: Vec<v1::DeltaItem>) -> Completion {
        let mut extra_json = Vec::new();
        if !self.extra.is_empty() {
            let mut object = Object::begin(&mut extra_json);
            for (key, value) in &self.extra {
                object.raw_dynamic(key, value);
            }
            object.end();
        }
        Completion {
            items,
            finish_reason: self.finish_reason.unwrap_or(v1::FinishReason::Stop),
            usage: self.usage,
            extra_json: String::from_utf8(extra_json).unwrap_or_default(),
            ..Completion::default()
        }
    }
}

/// # Errors
/// `Upstream`: the value is of another kind.
pub(super) fn parse<'a, T: Deserialize<'a>>(provider: &str, value: &'a RawValue) -> Result<T, Fault> {
    serde_json::from_str(value.get()).map_err(|error| malformed(provider, "a field", &error))
}

pub(super) fn text<'a>(provider: &str, value: &'a RawValue) -> Result<Text<'a>, Fault> {
    parse(provider, value)
}

/// A whole answer.
///
/// # Errors
/// `Upstream` for what is none.
pub(super) fn converse(provider: &str, tally: &mut Tally, body: &[u8]) -> Result<Completion, Fault> {
    #[derive(Deserialize)]
    struct Output<'a> {
        #[serde(borrow)]
        message: Message<'a>,
    }
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        content: Vec<Fields<'a>>,
    }
    let fields: Fields<'_> =
        serde_json::from_slice(body).map_err(|error| malformed(provider, "an answer", &error))?;
    let (outputs, fields) = fields.split("output");
    let [output] = outputs.as_slice() else {
        return Err(broken(format!("{provider} sent an answer without output, expected one")));
    };
    // counted also where the rest is no answer
    let (counts, fields) = fields.split("usage");
    for usage in counts.into_iter().filter(|usage| usage.get() != "null") {
        tally.usage = Some(parse::<Usage>(provider, usage)?.into());
    }
    let output: Output<'_> = parse(provider, output)?;
    let mut items = Vec::new();
    for content in output.message.content {
        for (kind, value) in content.into_entries() {
            let mut block = Block::default();
            block.whole(provider, &kind, value, tally, &mut items)?;
            block.stop(tally, &mut items);
        }
    }
    tally.fields(provider, fields)?;
    if tally.finish_reason.is_none() {
        return Err(broken(format!("{provider} sent an answer without stopReason, expected one")));
    }
    tally.close(&mut items);
    Ok(std::mem::take(tally).into_completion(items))
}

/// An event of a kind that there is none of.
pub(super) fn unknown(provider: &str, what: &str, name: &str) -> Fault {
    broken(format!("{provider} sent {what} {:?}, expected one that Converse has", shown(name)))
}
