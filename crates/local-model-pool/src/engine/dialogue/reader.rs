//! Takes an answer apart while it comes: reasoning, text, calls of tools.
//!
//! ```text
//!           <think>           </think>
//!  Start ───────────► Thinking ───────► Text ◄──────────┐
//!    │                                   │ opening       │ closing
//!    └──────────── anything else ───────►└──────► Call ──┘
//! ```
//!
//! What may be the start of a mark is held back until it is known, and so is white space that may stand before one. What
//! looked like a call and is none comes out as text: nothing is lost, however the answer is cut.

use super::syntax::PYTHON_TAG;
use super::{Syntax, ToolCall};

const THINK: &str = "<think>";
const THINK_END: &str = "</think>";

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// To be added to the answer.
    Text(String),
    /// To be added to the reasoning.
    Reasoning(String),
    /// A whole call.
    Call(ToolCall),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Thinking,
    Text,
    Call,
}

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct Reader {
    thinks: bool,
    /// The form of calls, where tools were offered.
    syntax: Option<Syntax>,
    /// The tools that were offered.
    names: Vec<String>,
    state: State,
    /// Not decided yet.
    held: String,
    /// White space is dropped until something else comes: after reasoning and calls, and before reasoning.
    skips_space: bool,
}

impl Reader {
    /// `thinks`: the model may reason in `<think>` tags; `thinking`: the prompt has opened them already.
    pub(crate) fn new(thinks: bool, thinking: bool, syntax: Option<Syntax>, names: Vec<String>) -> Self {
        let state = if thinking {
            State::Thinking
        } else if thinks || syntax == Some(Syntax::Llama) {
            State::Start
        } else {
            State::Text
        };
        Self { thinks, syntax, names, state, held: String::new(), skips_space: thinking }
    }

    /// Whether what came last was reasoning.
    pub(crate) fn is_thinking(&self) -> bool {
        self.state == State::Thinking
    }

    /// Adds text; the parts that are certain now.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = vec![];
        while self.step(&mut parts) {}
        parts
    }

    /// What was held back, now that nothing follows.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let mut parts = vec![];
        let rest = std::mem::take(&mut self.held);
        match self.state {
            State::Thinking => add(&mut parts, rest, Part::Reasoning),
            State::Call => self.finish_call(&rest, &mut parts),
            State::Start | State::Text => add(&mut parts, rest, Part::Text),
        }
        parts
    }

    /// Decides what can be decided; whether to look again.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        if self.skips_space {
            let kept = self.held.trim_start();
            self.held = kept.to_owned();
            if self.held.is_empty() {
                return false;
            }
        }
        match self.state {
            State::Start => self.begin(),
            State::Thinking => self.think(parts),
            State::Text => self.text(parts),
            State::Call => self.call(parts),
        }
    }

    fn begin(&mut self) -> bool {
        let text = self.held.trim_start();
        if self.thinks && text.starts_with(THINK) {
            self.held = text.strip_prefix(THINK).unwrap_or_default().to_owned();
            (self.state, self.skips_space) = (State::Thinking, true);
            return true;
        }
        let is_llama = self.syntax == Some(Syntax::Llama);
        if is_llama && (text.starts_with('{') || text.starts_with(PYTHON_TAG)) {
            self.state = State::Call;
            return true;
        }
        if text.is_empty()
            || (self.thinks && THINK.starts_with(text))
            || (is_llama && PYTHON_TAG.starts_with(text))
        {
            return false;
        }
        self.state = State::Text;
        true
    }

    fn think(&mut self, parts: &mut Vec<Part>) -> bool {
        self.skips_space = false;
        if let Some((thought, after)) = self.held.split_once(THINK_END) {
            let (thought, after) = (thought.trim_end().to_owned(), after.to_owned());
            add(parts, thought, Part::Reasoning);
            self.held = after;
            self.skips_space = true;
            // Llama's form has no mark: only the start of the text tells it.
            self.state = if self.syntax == Some(Syntax::Llama) { State::Start } else { State::Text };
            self.thinks = false;
            return true;
        }
        let thought = self.give(&[THINK_END]);
        add(parts, thought, Part::Reasoning);
        false
    }

    fn text(&mut self, parts: &mut Vec<Part>) -> bool {
        self.skips_space = false;
        let Some(opening) = self.syntax.and_then(Syntax::opening) else {
            add(parts, std::mem::take(&mut self.held), Part::Text);
            return false;
        };
        if let Some((text, after)) = self.held.split_once(opening) {
            let (text, after) = (text.trim_end().to_owned(), after.to_owned());
            add(parts, text, Part::Text);
            (self.held, self.state) = (after, State::Call);
            return true;
        }
        let text = self.give(&[opening]);
        add(parts, text, Part::Text);
        false
    }

    fn call(&mut self, parts: &mut Vec<Part>) -> bool {
        let Some((syntax, closing)) = self.syntax.and_then(|syntax| Some((syntax, syntax.closing()?))) else {
            return false;
        };
        // The closing mark may also stand inside of an argument: then what is before it is no JSON yet.
        let ends = self.held.match_indices(closing);
        let read = ends.filter_map(|(end, _)| Some((end, syntax.read(self.held.get(..end)?)?))).next();
        let Some((end, calls)) = read else { return false };
        parts.extend(calls.into_iter().map(Part::Call));
        self.held = self.held.get(end.saturating_add(closing.len())..).unwrap_or_default().to_owned();
        (self.state, self.skips_space) = (State::Text, true);
        true
    }

    fn finish_call(&self, rest: &str, parts: &mut Vec<Part>) {
        let Some(syntax) = self.syntax else { return };
        let calls = syntax.read(rest).unwrap_or_default();
        // Without a mark, an answer in JSON is a call only if it names a tool.
        let known = |call: &ToolCall| syntax.opening().is_some() || self.names.contains(&call.name);
        if !calls.is_empty() && calls.iter().all(known) {
            parts.extend(calls.into_iter().map(Part::Call));
        } else {
            add(parts, format!("{}{rest}", syntax.opening().unwrap_or_default()), Part::Text);
        }
    }

    /// Takes what cannot belong to any of these marks, nor to white space before one.
    fn give(&mut self, marks: &[&str]) -> String {
        let begun = |mark: &&str| {
            let longest = mark.len().saturating_sub(1).min(self.held.len());
            let begins = |length: &usize| mark.get(..*length).is_some_and(|start| self.held.ends_with(start));
            (1..=longest).rev().find(begins).unwrap_or(0)
        };
        let mark = marks.iter().map(begun).max().unwrap_or(0);
        let certain = self.held.len().saturating_sub(mark);
        let certain = self.held.get(..certain).map_or(0, |text| text.trim_end().len());
        let rest = self.held.split_off(certain);
        std::mem::replace(&mut self.held, rest)
    }
}

fn add(parts: &mut Vec<Part>, text: String, part: fn(String) -> Part) {
    if !text.is_empty() {
        parts.push(part(text));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reasoning, text and calls of an answer that comes in these pieces.
    fn run(mut reader: Reader, pieces: &[&str]) -> (String, String, Vec<(String, String)>) {
        let mut parts = vec![];
        for piece in pieces {
            parts.extend(reader.push(piece));
        }
        parts.extend(reader.finish());
        let (mut reasoning, mut text, mut calls) = (String::new(), String::new(), vec![]);
        for part in parts {
            match part {
                Part::Text(more) => text += &more,
                Part::Reasoning(more) => reasoning += &more,
                Part::Call(call) => calls.push((call.name, call.arguments_json)),
            }
        }
        (reasoning, text, calls)
    }

    fn reader(thinks: bool, syntax: Option<Syntax>) -> Reader {
        Reader::new(thinks, false, syntax, vec!["f".to_owned()])
    }

    fn call(name: &str, arguments: &str) -> (String, String) {
        (name.to_owned(), arguments.to_owned())
    }

    #[test]
    fn reasoning_is_kept_apart() {
        let whole = "<think>\nTwo and two.\n</think>\n\nFour.";
        let expected = ("Two and two.".to_owned(), "Four.".to_owned(), vec![]);
        assert_eq!(run(reader(true, None), &[whole]), expected);
        let opened = Reader::new(true, true, None, vec![]);
        assert_eq!(run(opened, &["\nTwo and two.\n</think>\n\nFour."]), expected);
    }

    #[test]
    fn an_answer_that_ends_while_thinking_is_all_reasoning() {
        let (reasoning, text, _) = run(reader(true, None), &["<think>Two a"]);
        assert_eq!((reasoning.as_str(), text.as_str()), ("Two a", ""));
    }

    #[test]
    fn a_model_that_does_not_think_may_write_about_it() {
        let (_, text, _) = run(reader(false, None), &["<think> is a tag </think>"]);
        assert_eq!(text, "<think> is a tag </think>");
    }

    #[test]
    fn text_and_several_calls_are_told_apart() {
        let whole = "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n\
                     <tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";
        let calls = vec![call("f", "{\"a\": 1}"), call("g", "{}")];
        assert_eq!(
            run(reader(false, Some(Syntax::Hermes)), &[whole]),
            (String::new(), "Let me see.".to_owned(), calls)
        );
    }

    #[test]
    fn a_closing_mark_inside_of_an_argument_does_not_end_the_call() {
        let whole = r#"<tool_call>{"name":"f","arguments":{"a":"</tool_call>"}}</tool_call>"#;
        let (_, _, calls) = run(reader(false, Some(Syntax::Hermes)), &[whole]);
        assert_eq!(calls, [call("f", r#"{"a":"</tool_call>"}"#)]);
    }

    #[test]
    fn a_broken_call_is_text() {
        for (syntax, whole) in [
            (Syntax::Hermes, "a <tool_call>{\"name\": \"f\""),
            (Syntax::Mistral, "[TOOL_CALLS][{\"name\": \"f\""),
            (Syntax::Llama, "{\"name\": \"f\", \"par"),
            (Syntax::Llama, "{\"name\": \"unknown\", \"parameters\": {}}"),
        ] {
            let (_, text, calls) = run(reader(false, Some(syntax)), &[whole]);
            let spaceless = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!((spaceless(&text), calls), (spaceless(whole), vec![]));
        }
    }

    #[test]
    fn a_call_after_reasoning_is_found_in_every_form() {
        for (syntax, body) in [
            (Syntax::Hermes, "<tool_call>{\"name\":\"f\"}</tool_call>"),
            (Syntax::Mistral, "[TOOL_CALLS][{\"name\":\"f\"}]"),
            (Syntax::MistralNamed, "[TOOL_CALLS]f[ARGS]{}"),
            (Syntax::Llama, "{\"name\":\"f\",\"parameters\":{}}"),
        ] {
            let whole = format!("<think>hm</think>\n{body}");
            let (reasoning, text, calls) = run(reader(true, Some(syntax)), &[&whole]);
            assert_eq!(
                (reasoning.as_str(), text.as_str(), calls),
                ("hm", "", vec![call("f", "{}")]),
                "{body}"
            );
        }
    }

    #[test]
    fn text_is_given_out_as_it_comes() {
        let mut reader = reader(true, Some(Syntax::Hermes));
        assert_eq!(reader.push("Hel"), [Part::Text("Hel".to_owned())]);
        assert_eq!(reader.push("lo <"), [Part::Text("lo".to_owned())]);
        assert_eq!(reader.push("b>"), [Part::Text(" <b>".to_owned())]);
    }

    proptest! {
        #[test]
        fn however_the_answer_is_cut_the_same_is_read(
            whole in "(<think>|</think>|<tool_call>|</tool_call>|\\{\"name\":\"f\"\\}|[a<{ é\n]){0,12}",
            cuts in prop::collection::vec(0usize..9, 0..40),
            thinks: bool,
            form in 0usize..4,
        ) {
            let syntax = [None, Some(Syntax::Hermes), Some(Syntax::Mistral), Some(Syntax::Llama)][form];
            let (mut pieces, mut rest) = (vec![], whole.as_str());
            for cut in cuts {
                let at = (0..=cut.min(rest.len())).rev().find(|at| rest.is_char_boundary(*at)).unwrap();
                let (piece, after) = rest.split_at(at);
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(run(reader(thinks, syntax), &pieces), run(reader(thinks, syntax), &[&whole]));
        }
    }
}
