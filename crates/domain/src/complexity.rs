//! How hard a request is, where the caller does not say (R12).
//!
//! S2 sorts work into simple (extraction, classification, short summaries), medium (routine code) and complex (several steps
//! of reasoning, design, an agent's loop). Each signal that is found adds or takes points; they stand in the explanation, so
//! that a person sees why. Only the beginning and the end of what the user said last are read: what is to be done stands
//! there, and what it is to be done with stands between.

use std::fmt;

use crate::{
    inference::{Generate, Request, ResponseFormat, Role},
    units::Tokens,
};

/// How hard a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Complexity {
    /// A label, a short answer.
    Simple,
    /// Routine work.
    Medium,
    /// Several steps of reasoning.
    Complex,
}

impl Complexity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Simple, Self::Medium, Self::Complex];

    /// The name in configuration and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Medium => "medium",
            Self::Complex => "complex",
        }
    }
}

/// What was seen of a request, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signals(u16);

/// A signal: its bit, its points, its words.
type Signal = (u16, i32, &'static str);

const SHORT: Signal = (1, -1, "short question");
const LABEL: Signal = (1 << 1, -2, "asks for a label or an extract");
const CODE: Signal = (1 << 2, 2, "code");
const REASONING: Signal = (1 << 3, 3, "asks for reasoning or design");
const MANY_STEPS: Signal = (1 << 4, 2, "several steps or demands");
const TOOLS: Signal = (1 << 5, 1, "tools");
const TOOL_TURNS: Signal = (1 << 6, 3, "in an agent's loop");
const SCHEMA: Signal = (1 << 7, 1, "a schema to keep to");
const LONG: Signal = (1 << 8, 1, "long input");
const TURNS: Signal = (1 << 9, 1, "long conversation");
const WRITING: Signal = (1 << 10, 1, "asks for a longer text");
const ALL: [Signal; 11] =
    [SHORT, LABEL, CODE, REASONING, MANY_STEPS, TOOLS, TOOL_TURNS, SCHEMA, LONG, TURNS, WRITING];

/// Points from which a request is medium.
const MEDIUM_FROM: i32 = 1;
/// Points from which it is complex.
const COMPLEX_FROM: i32 = 4;
/// Bytes read at each end of a text.
const READ_BYTES: usize = 2_048;
/// Fewer bytes than this are a short question.
const SHORT_BYTES: usize = 160;
/// More tokens than this are long (S2 calls a summary of up to 2,000 tokens short).
const LONG_TOKENS: Tokens = Tokens::new(2_000);
/// More messages than this are a long conversation.
const TURNS_MANY: usize = 8;
/// So many list items, numbered steps or questions are several.
const STEPS_MANY: u32 = 3;

impl Signals {
    fn add(&mut self, signal: Signal) {
        self.0 |= signal.0;
    }

    fn found(self) -> impl Iterator<Item = Signal> {
        ALL.into_iter().filter(move |signal| self.0 & signal.0 != 0)
    }

    /// What they come to.
    #[must_use]
    pub fn complexity(self) -> Complexity {
        match self.found().map(|(_, points, _)| points).sum::<i32>() {
            points if points >= COMPLEX_FROM => Complexity::Complex,
            points if points >= MEDIUM_FROM => Complexity::Medium,
            _ => Complexity::Simple,
        }
    }
}

impl fmt::Display for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (_, points, words) in self.found() {
            let comma = if first { "" } else { ", " };
            write!(f, "{comma}{words} {points:+}")?;
            first = false;
        }
        if first { f.write_str("nothing special") } else { Ok(()) }
    }
}

/// Looks for signals in a request of so many tokens.
#[must_use]
pub fn signals(request: &Request, input: Tokens) -> Signals {
    let mut signals = Signals::default();
    if input > LONG_TOKENS {
        signals.add(LONG);
    }
    let Request::Generate(request) = request else { return signals };
    if !request.tools.is_empty() {
        signals.add(TOOLS);
    }
    if tool_turns(request) > 0 {
        signals.add(TOOL_TURNS);
    }
    if matches!(request.response_format, Some(ResponseFormat::JsonSchema { .. })) {
        signals.add(SCHEMA);
    }
    if request.messages.len() > TURNS_MANY {
        signals.add(TURNS);
    }
    let asked = request.messages.iter().rev().find(|message| message.role == Role::User);
    let Some(asked) = asked else { return signals };
    let bytes: usize = asked.text_parts().map(str::len).sum();
    if bytes < SHORT_BYTES {
        signals.add(SHORT);
    }
    let mut steps = 0;
    for text in asked.text_parts() {
        let (head, tail) = ends(text);
        steps += look(head, &mut signals) + look(tail, &mut signals);
    }
    if steps >= STEPS_MANY {
        signals.add(MANY_STEPS);
    }
    signals
}

/// Calls of tools that the conversation holds.
#[must_use]
pub fn tool_turns(request: &Generate) -> u32 {
    let calls = request.messages.iter().filter(|message| !message.tool_calls.is_empty());
    u32::try_from(calls.count()).unwrap_or(u32::MAX)
}

/// The beginning and the end of a long text; all of a short one, and nothing.
fn ends(text: &str) -> (&str, &str) {
    if text.len() <= 2 * READ_BYTES {
        return (text, "");
    }
    let boundary = |at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (head, tail) = (boundary(READ_BYTES), boundary(text.len() - READ_BYTES));
    (text.get(..head).unwrap_or_default(), text.get(tail..).unwrap_or_default())
}

/// Adds what one text shows; returns its list items and questions.
fn look(text: &str, signals: &mut Signals) -> u32 {
    if text.contains("```") || text.contains("fn ") || text.contains("def ") || text.contains("();") {
        signals.add(CODE);
    }
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '-') {
        if let Some(signal) = of_word(word) {
            signals.add(signal);
        }
    }
    let items = text.lines().filter(|line| {
        let line = line.trim_start();
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        let numbered = digits > 0 && line.get(digits..).is_some_and(|rest| rest.starts_with(['.', ')']));
        line.starts_with("- ") || line.starts_with("* ") || numbered
    });
    let questions = text.bytes().filter(|byte| *byte == b'?').count();
    u32::try_from(items.count() + questions).unwrap_or(u32::MAX)
}

/// Longest word that says something.
const WORD_BYTES_MAX: usize = 14;

/// What a word of the question says, in English or German, whatever its case.
fn of_word(word: &str) -> Option<Signal> {
    let bytes = word.as_bytes();
    let mut lower = [0_u8; WORD_BYTES_MAX];
    if bytes.len() < 3 || bytes.len() > WORD_BYTES_MAX {
        return None;
    }
    for (to, from) in lower.iter_mut().zip(bytes) {
        *to = from.to_ascii_lowercase();
    }
    match lower.get(..bytes.len())? {
        b"classify" | b"classification" | b"extract" | b"label" | b"categorize" | b"categorise"
        | b"sentiment" | b"tag" | b"topic" | b"translate" | b"triage" | b"klassifiziere" | b"extrahiere" => {
            Some(LABEL)
        }
        b"code" | b"function" | b"implement" | b"refactor" | b"debug" | b"bug" | b"compile" | b"unittest"
        | b"regex" | b"sql" | b"python" | b"rust" | b"javascript" | b"typescript" | b"funktion" => Some(CODE),
        b"prove" | b"proof" | b"architecture" | b"design" | b"trade-offs" | b"tradeoffs" | b"trade-off"
        | b"strategy" | b"orchestrate" | b"plan" | b"derive" | b"reason" | b"reasoning" | b"step-by-step"
        | b"analyze" | b"analyse" | b"evaluate" | b"novel" | b"hypothesis" | b"optimize" | b"optimise"
        | b"beweise" | b"entwirf" | b"architektur" => Some(REASONING),
        b"essay" | b"story" | b"poem" | b"article" | b"report" | b"aufsatz" | b"geschichte" => Some(WRITING),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::RequestId,
        inference::{Envelope, Message, Part, PartContent, Sampling, TaskProfile, ToolCall},
    };

    fn ask(text: &str) -> Generate {
        Generate {
            envelope: Envelope {
                id: RequestId::new("r").unwrap(),
                model: None,
                agent: None,
                profile: TaskProfile::default(),
                deadline: None,
                extra_json: String::new(),
            },
            messages: vec![said(Role::User, text)],
            sampling: Sampling::default(),
            tools: Vec::new(),
            tool_choice: None,
            response_format: None,
            stream: false,
        }
    }

    fn said(role: Role, text: &str) -> Message {
        Message {
            role,
            content: vec![Part { content: PartContent::Text(text.to_owned()), extra_json: String::new() }],
            tool_calls: Vec::new(),
            tool_call_id: String::new(),
            name: String::new(),
            extra_json: String::new(),
        }
    }

    fn complexity(request: Generate) -> (Complexity, String) {
        let request = Request::Generate(request);
        let found = signals(&request, request.input_tokens());
        (found.complexity(), found.to_string())
    }

    #[test]
    fn labels_are_simple_routine_code_is_medium_and_design_is_complex() {
        for (text, expected) in [
            ("Extract topic from: Fixed auth bug", Complexity::Simple),
            ("What is 2+2?", Complexity::Simple),
            ("Write a function to validate email addresses", Complexity::Medium),
            (
                "Design the architecture of a payment system that survives a partition, and analyse the trade-offs:\n\
                 1. what is stored where\n2. who decides\n3. what happens when the link is cut",
                Complexity::Complex,
            ),
        ] {
            let (found, why) = complexity(ask(text));
            assert_eq!(found, expected, "{text}: {why}");
        }
    }

    #[test]
    fn an_agents_loop_is_complex_and_says_so() {
        let mut request = ask("go on");
        let call = ToolCall {
            id: "1".to_owned(),
            name: "read".to_owned(),
            arguments_json: "{}".to_owned(),
            extra_json: String::new(),
        };
        request.messages.insert(0, Message { tool_calls: vec![call], ..said(Role::Assistant, "") });
        request
            .messages
            .push(said(Role::User, &"Look at the results and write down what is missing. ".repeat(4)));
        request.tools.push(crate::inference::Tool {
            name: "read".to_owned(),
            description: String::new(),
            parameters_json: String::new(),
            strict: None,
            extra_json: String::new(),
        });
        let (found, why) = complexity(request);
        assert_eq!(found, Complexity::Complex, "{why}");
        assert!(why.contains("in an agent's loop +3"), "{why}");
    }

    #[test]
    fn only_both_ends_of_a_long_text_are_read() {
        let filler = "the boats went out. ".repeat(1_000);
        let (found, why) = complexity(ask(&format!("{filler} prove this by design {filler}")));
        assert_eq!((found, why.as_str()), (Complexity::Medium, "long input +1"));
    }

    #[test]
    fn characters_outside_ascii_are_not_cut_through() {
        let text = "日本語の文章".repeat(2_000);
        assert_eq!(complexity(ask(&text)).0, Complexity::Medium);
    }
}
