//! The grammar of an answer: a JSON Schema, calls of tools, or a choice between them, after the reasoning where there is any.
//!
//! Grammars are text in llama.cpp's form of BNF:
//! <https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>. Schemas are turned into it by llama.cpp's own
//! converter, each on its own (so that `#/…` references stay right), and joined by giving their rules prefixes.

use std::fmt::Write as _;

use llama_cpp_2::json_schema_to_grammar;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;

use domain::fault::{Code, Fault, Origin};

use super::Format;
use crate::engine::dialogue::{Syntax, Tools};

/// Longest schema that is turned into a grammar, in bytes.
const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of a schema. llama.cpp's converter is recursive.
const SCHEMA_DEPTH_MAX: usize = 32;
/// Longest grammar that is accepted from the converter, in bytes.
const GRAMMAR_BYTES_MAX: usize = 1 << 20;
/// The rule that a joined grammar begins with.
const START: &str = "start";
/// The rest of the reasoning, to the end of its closing tag.
const THOUGHT: &str = r#"thought ::= [^<]* ("<" [^/] [^<]*)* "</think>" [ \n]{0,4}"#;

/// Whether the answer begins with reasoning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Thought {
    /// No.
    #[default]
    None,
    /// If the model likes.
    Possible,
    /// The prompt ends inside of it.
    Begun,
}

/// What form an answer must have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form<'a> {
    pub(crate) format: &'a Format,
    pub(crate) tools: &'a Tools,
    /// How the model writes calls; needed where there are tools.
    pub(crate) syntax: Option<Syntax>,
    pub(crate) thought: Thought,
}

/// The sampler that enforces a form; `None` = any text will do.
pub(super) fn sampler(model: &LlamaModel, form: &Form<'_>) -> Result<Option<LlamaSampler>, Fault> {
    let syntax = form.syntax.filter(|_| !form.tools.offered.is_empty());
    let free = *form.format == Format::Text;
    if let (Some(syntax), true, false) = (syntax, free, form.tools.required()) {
        return Ok(calls_once_begun(model, form.tools, syntax));
    }
    let mut text = String::new();
    let mut answers = vec![];
    if !free && !form.tools.required() {
        text += &format(form.format)?;
        answers.push("answer-root".to_owned());
    }
    if let Some(syntax) = syntax {
        text += &calls(form.tools, syntax)?;
        answers.push("calls".to_owned());
    }
    if answers.is_empty() {
        return Ok(None);
    }
    let answers = answers.join(" | ");
    let start = match form.thought {
        Thought::None => format!("{START} ::= {answers}\n"),
        Thought::Possible => format!("{THOUGHT}\n{START} ::= (\"<think>\" thought)? ({answers})\n"),
        Thought::Begun => format!("{THOUGHT}\n{START} ::= thought ({answers})\n"),
    };
    text += &start;
    let field = if form.tools.required() { "tools" } else { "response_format" };
    let sampler = LlamaSampler::grammar(model, &text, START);
    sampler.map(Some).map_err(|error| unsupported(field, &error.to_string()))
}

/// Free text, but what follows the mark of a call must be a call. Where the mark is not one token, or a schema cannot be
/// enforced, the model is left free: it was not promised that calls follow their schema.
fn calls_once_begun(model: &LlamaModel, tools: &Tools, syntax: Syntax) -> Option<LlamaSampler> {
    let mark = model.vocab().tokenize(syntax.opening()?.as_bytes(), false, true);
    let [mark] = mark.as_slice() else { return None };
    let calls =
        calls(tools, syntax).inspect_err(|fault| tracing::debug!(%fault, "calls are not enforced")).ok()?;
    let text = format!("{calls}{START} ::= calls\n");
    // By the token and not by the text: llama.cpp would match a pattern on the whole answer after each token.
    LlamaSampler::grammar_lazy(model, &text, START, [""; 0], &[*mark]).ok()
}

/// Rules for an answer that consists of calls; the first is `calls`.
fn calls(tools: &Tools, syntax: Syntax) -> Result<String, Fault> {
    let mut text = String::new();
    let mut names = vec![];
    for (index, tool) in tools.callable().enumerate() {
        let field = format!("tools[{}].parameters_json", tool.name);
        let arguments = match tool.parameters_json.as_str() {
            "" => format!("tool{index}-root ::= \"{{}}\"\n"),
            schema => prefixed(&of_schema(schema, &field)?, &format!("tool{index}-")),
        };
        let rule = syntax.call_rule(&tool.name, &format!("tool{index}-root"));
        let _infallible = writeln!(text, "{arguments}call{index} ::= {rule}");
        names.push(format!("call{index}"));
    }
    let answer = syntax.answer_rule("call", tools.parallel);
    let _infallible = writeln!(text, "call ::= {}\ncalls ::= {answer}", names.join(" | "));
    if text.len() > GRAMMAR_BYTES_MAX {
        return Err(unsupported("tools", &format!("their grammar takes {} bytes", text.len())));
    }
    Ok(text)
}

/// Rules for an answer in a format; the first is `answer-root`.
fn format(format: &Format) -> Result<String, Fault> {
    const FIELD: &str = "response_format.schema_json";
    let grammar = match format {
        Format::Text => return Ok(String::new()),
        Format::JsonObject => of_schema(r#"{"type":"object"}"#, FIELD)?,
        Format::JsonSchema(schema) => of_schema(schema, FIELD)?,
    };
    Ok(prefixed(&grammar, "answer-"))
}

fn unsupported(field: &str, reason: &str) -> Fault {
    let text = format!("{field} cannot be enforced by llama.cpp: {reason}");
    Fault::new(Code::Unsupported, Origin::Caller, false, text).in_field(field)
}

/// The grammar of a schema; its first rule is `root`.
fn of_schema(schema: &str, field: &str) -> Result<String, Fault> {
    if schema.len() > SCHEMA_BYTES_MAX {
        let text = format!("{field} has {} bytes, expected at most {SCHEMA_BYTES_MAX}", schema.len());
        return Err(Fault::invalid(field, text));
    }
    let value: serde_json::Value = serde_json::from_str(schema)
        .map_err(|error| Fault::invalid(field, format!("{field} is not JSON: {error}")))?;
    if depth(&value, 0) > SCHEMA_DEPTH_MAX {
        let text = format!("{field} is nested deeper than {SCHEMA_DEPTH_MAX} levels");
        return Err(Fault::invalid(field, text));
    }
    let text = json_schema_to_grammar(schema).map_err(|error| unsupported(field, &error.to_string()))?;
    if text.len() > GRAMMAR_BYTES_MAX {
        return Err(unsupported(field, &format!("its grammar takes {} bytes", text.len())));
    }
    Ok(text)
}

/// Levels of nesting, counted no further than needed to refuse.
fn depth(value: &serde_json::Value, above: usize) -> usize {
    if above > SCHEMA_DEPTH_MAX {
        return above;
    }
    let below = above.saturating_add(1);
    match value {
        serde_json::Value::Array(items) => items.iter().map(|item| depth(item, below)).max().unwrap_or(below),
        serde_json::Value::Object(fields) => {
            fields.values().map(|field| depth(field, below)).max().unwrap_or(below)
        }
        _ => above,
    }
}

/// The grammar with every rule renamed, so that two of them can stand in one.
fn prefixed(grammar: &str, prefix: &str) -> String {
    let mut text = String::with_capacity(grammar.len().saturating_mul(2));
    // Inside of what, and whether the last character takes the meaning from this one.
    let (mut until, mut escaped, mut in_name) = (None, false, false);
    for character in grammar.chars() {
        if let Some(end) = until {
            until = (escaped || character != end).then_some(end);
            escaped = !escaped && character == '\\';
        } else {
            let of_name = character.is_ascii_alphanumeric() || character == '-';
            if of_name && !in_name {
                text.push_str(prefix);
            }
            in_name = of_name;
            until = match character {
                '"' => Some('"'),
                '[' => Some(']'),
                '{' => Some('}'),
                _ => None,
            };
        }
        text.push(character);
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_rules_get_the_prefix() {
        let grammar = "root ::= \"a \\\"b\" sub-rule{1,16} [a-z\\]\"] | (x)*\nsub-rule ::= [0-9]";
        let expected = "p-root ::= \"a \\\"b\" p-sub-rule{1,16} [a-z\\]\"] | (p-x)*\np-sub-rule ::= [0-9]\n";
        assert_eq!(prefixed(grammar, "p-"), expected);
    }

    #[test]
    fn integers_with_and_without_bounds_stay_bounded() {
        // A small model that may write digits for ever does.
        for schema in [
            r#"{"type":"integer"}"#,
            r#"{"type":"integer","minimum":-5,"maximum":1000}"#,
            r#"{"type":"number"}"#,
        ] {
            let grammar = of_schema(schema, "schema").unwrap();
            assert!(!grammar.contains("[0-9]*") && !grammar.contains("[0-9]+"), "{schema}: {grammar}");
        }
    }
}
