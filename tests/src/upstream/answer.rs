//! What the model says, in no provider's words.
//!
//! Unless the script says something else, that is `echo: ` and the first 40 characters of what the user said last (and
//! what pictures came with it), then ` word1`, ` word2`, … for as many pieces as the script says. A piece counts as one
//! token; the prompt counts a token for each four bytes of text, rounded up.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Script;
use super::asked::Chat;
use super::script::Say;
use super::vector::fnv1a;

const ECHO_CHARS: usize = 40;
const ARGUMENT_PIECE_CHARS: usize = 12;

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model is done.
    Stop,
    /// The bound was reached.
    Length,
    /// The model waits for its tools.
    ToolCalls,
    /// The provider took offence.
    ContentFilter,
}

/// Tokens. `input` includes `cached` and `cache_write`; `output` includes `reasoning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) input: u64,
    pub(super) cached: u64,
    pub(super) cache_write: u64,
    pub(super) output: u64,
    pub(super) reasoning: u64,
}

/// A call that the model makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Called {
    /// 16 digits; formats put their own prefix before it.
    pub(super) id: String,
    pub(super) name: String,
    /// JSON text, in pieces.
    pub(super) arguments: Vec<String>,
}

impl Called {
    pub(super) fn arguments_json(&self) -> String {
        self.arguments.concat()
    }

    pub(super) fn arguments(&self) -> Value {
        serde_json::from_str(&self.arguments_json()).unwrap_or_else(|_| json!({}))
    }
}

/// What the model says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) model: String,
    pub(super) reasoning: Vec<String>,
    pub(super) text: Vec<String>,
    pub(super) calls: Vec<Called>,
    pub(super) finish: Finish,
    pub(super) usage: Usage,
    /// Whether a stream says what was used.
    pub(super) include_usage: bool,
}

impl Answer {
    pub(super) fn new(chat: &Chat, script: &Script) -> Self {
        let say = script.say.clone().unwrap_or_default();
        let reasoning = words(&say.reasoning);
        let text = match &say.text {
            Some(text) => words(text),
            None if say.calls.is_empty() => echo(chat, script.chunks),
            None => Vec::new(),
        };
        let calls: Vec<Called> = say.calls.iter().enumerate().map(called).collect();
        let cap =
            chat.sampling.max_tokens.map_or(usize::MAX, |cap| usize::try_from(cap).unwrap_or(usize::MAX));
        let wanted = reasoning.len() + text.len();
        let reasoning: Vec<String> = reasoning.into_iter().take(cap).collect();
        let text: Vec<String> = text.into_iter().take(cap - reasoning.len()).collect();
        let is_cut = reasoning.len() + text.len() < wanted.max(1);
        let input = chat.text_bytes().div_ceil(4) as u64;
        let cached = script.cached_tokens.min(input);
        let called: usize = calls.iter().map(|call| 1 + call.arguments.len()).sum();
        Self {
            model: chat.model.clone(),
            finish: finish(&say, is_cut),
            usage: Usage {
                input,
                cached,
                cache_write: script.cache_write_tokens.min(input - cached),
                output: (reasoning.len() + text.len() + called) as u64,
                reasoning: reasoning.len() as u64,
            },
            reasoning,
            text,
            calls,
            include_usage: chat.include_usage,
        }
    }
}

fn finish(say: &Say, is_cut: bool) -> Finish {
    match say.finish {
        Some(finish) => finish,
        None if !say.calls.is_empty() => Finish::ToolCalls,
        None if is_cut => Finish::Length,
        None => Finish::Stop,
    }
}

/// What was asked, and words after it.
fn echo(chat: &Chat, chunks: usize) -> Vec<String> {
    let said = chat.last_said();
    let mut first: String =
        said.map(|turn| turn.text.as_str()).unwrap_or_default().chars().take(ECHO_CHARS).collect();
    for image in said.iter().flat_map(|turn| &turn.images) {
        first.push_str(&format!(" [{image}]"));
    }
    let words = (1..chunks).map(|number| format!(" word{number}"));
    std::iter::once(format!("echo: {first}")).chain(words).collect()
}

/// A text as pieces, each with the space after it.
fn words(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

fn called((index, call): (usize, &super::script::Call)) -> Called {
    let arguments = call.arguments.to_string();
    let characters: Vec<char> = arguments.chars().collect();
    Called {
        id: format!("{:016x}", fnv1a(call.name.bytes().chain(index.to_le_bytes()))),
        name: call.name.clone(),
        arguments: characters.chunks(ARGUMENT_PIECE_CHARS).map(|piece| piece.iter().collect()).collect(),
    }
}
