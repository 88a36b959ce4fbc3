//! How families of models write calls of tools.
//!
//! | family | form |
//! |---|---|
//! | [`Syntax::Hermes`] (Hermes, Qwen) | `<tool_call>\n{"name": …, "arguments": …}\n</tool_call>`, repeated |
//! | [`Syntax::Mistral`] | `[TOOL_CALLS][{"name": …, "arguments": …, "id": …}, …]` |
//! | [`Syntax::MistralNamed`] (from 2025 on) | `[TOOL_CALLS]name[ARGS]{…}`, repeated |
//! | [`Syntax::Llama`] (Llama 3) | `{"name": …, "parameters": …}` as the whole answer |
//!
//! Each is what the models' own chat templates write for a call in the history.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::ToolCall;

/// Length of the ids of calls: Mistral's templates refuse any other.
const ID_CHARACTERS: usize = 9;
/// Llama 3 may put this before a call.
pub(super) const PYTHON_TAG: &str = "<|python_tag|>";

/// A form of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// JSON in `<tool_call>` tags.
    Hermes,
    /// A JSON list after `[TOOL_CALLS]`.
    Mistral,
    /// Names and JSON arguments after `[TOOL_CALLS]`.
    MistralNamed,
    /// JSON without marks.
    Llama,
}

/// A call as most models write it.
#[derive(Deserialize)]
struct Written<'a> {
    name: String,
    #[serde(borrow, alias = "parameters")]
    arguments: Option<&'a RawValue>,
}

impl Syntax {
    /// The text that begins calls; `None` = they have no mark.
    #[must_use]
    pub const fn opening(self) -> Option<&'static str> {
        match self {
            Self::Hermes => Some("<tool_call>"),
            Self::Mistral | Self::MistralNamed => Some("[TOOL_CALLS]"),
            Self::Llama => None,
        }
    }

    /// The text that ends one call; `None` = calls go on to the end of the answer.
    #[must_use]
    pub const fn closing(self) -> Option<&'static str> {
        match self {
            Self::Hermes => Some("</tool_call>"),
            Self::Mistral | Self::MistralNamed | Self::Llama => None,
        }
    }

    /// Reads the text between opening and closing. `None` = it is no call.
    pub(super) fn read(self, text: &str) -> Option<Vec<ToolCall>> {
        let text = text.trim();
        match self {
            Self::Hermes | Self::Llama => {
                let text = text.strip_prefix(PYTHON_TAG).unwrap_or(text);
                let calls: Option<Vec<_>> = json_values(text)?.into_iter().map(call).collect();
                calls.filter(|calls| !calls.is_empty())
            }
            Self::Mistral | Self::MistralNamed => {
                if text.starts_with('[') {
                    let list: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                    return list.into_iter().map(|item| call(item.get())).collect();
                }
                text.split("[TOOL_CALLS]").map(named_call).collect()
            }
        }
    }

    /// The rule of one call in GBNF, `arguments` being the rule of its arguments.
    pub(crate) fn call_rule(self, name: &str, arguments: &str) -> String {
        // Names are letters, digits, `-` and `_`: nothing to escape.
        match self {
            Self::Hermes => format!(
                r#""<tool_call>\n{{\"name\": \"{name}\", \"arguments\": " {arguments} "}}\n</tool_call>""#
            ),
            Self::Mistral => format!(
                r#""{{\"name\": \"{name}\", \"arguments\": " {arguments} (", \"id\": \"" [a-zA-Z0-9]{{9}} "\"")? "}}""#
            ),
            Self::MistralNamed => format!(r#""[TOOL_CALLS]{name}[ARGS]" {arguments}"#),
            Self::Llama => format!(r#""{{\"name\": \"{name}\", \"parameters\": " {arguments} "}}""#),
        }
    }

    /// The rule of an answer that consists of calls, `call` being the rule of one of them.
    pub(crate) fn answer_rule(self, call: &str, parallel: bool) -> String {
        match self {
            Self::Hermes if parallel => format!(r#"{call} ("\n" {call})*"#),
            Self::Mistral if parallel => format!(r#""[TOOL_CALLS][" {call} (", " {call})* "]""#),
            Self::Mistral => format!(r#""[TOOL_CALLS][" {call} "]""#),
            Self::MistralNamed if parallel => format!("{call} {call}*"),
            // Llama's templates refuse a history with several calls at once.
            Self::Hermes | Self::MistralNamed | Self::Llama => call.to_owned(),
        }
    }
}

/// JSON values one after the other, with nothing but white space and semicolons between them.
fn json_values(text: &str) -> Option<Vec<&str>> {
    let (mut values, mut rest) = (vec![], text);
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        if rest.is_empty() {
            return Some(values);
        }
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let value = stream.next()?.ok()?;
        let read = stream.byte_offset();
        values.push(value.get());
        rest = rest.get(read..)?;
    }
}

fn call(json: &str) -> Option<ToolCall> {
    let written: Written<'_> = serde_json::from_str(json).ok()?;
    (!written.name.is_empty()).then(|| ToolCall {
        id: new_id(),
        name: written.name,
        arguments_json: arguments(written.arguments.map_or("{}", RawValue::get)),
    })
}

fn named_call(text: &str) -> Option<ToolCall> {
    let start = text.find('{')?;
    let (name, json) = text.split_at_checked(start)?;
    let name = name.split('[').next().unwrap_or_default().trim();
    let json: &RawValue = serde_json::from_str(json).ok()?;
    (!name.is_empty()).then(|| ToolCall {
        id: new_id(),
        name: name.to_owned(),
        arguments_json: json.get().to_owned(),
    })
}

/// Some models write the arguments as a text that holds JSON.
fn arguments(json: &str) -> String {
    match serde_json::from_str::<String>(json) {
        Ok(inner) if serde_json::from_str::<&RawValue>(&inner).is_ok() => inner,
        _ => json.to_owned(),
    }
}

fn new_id() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(ID_CHARACTERS).collect()
}

/// The id as every template takes it: nine letters and digits, equal for equal ids.
pub(in crate::engine) fn template_id(id: &str) -> String {
    if id.len() == ID_CHARACTERS && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    // FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/: ids of one conversation only have to differ.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    format!("{:09x}", hash & 0xf_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_and_arguments(syntax: Syntax, text: &str) -> Option<Vec<(String, String)>> {
        let calls = syntax.read(text)?;
        Some(calls.into_iter().map(|call| (call.name, call.arguments_json)).collect())
    }

    fn pairs(expected: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(expected.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect())
    }

    /// A form, an answer in it, and the calls that it holds.
    type Case = (Syntax, &'static str, &'static [(&'static str, &'static str)]);

    #[test]
    fn every_form_is_read() {
        let cases: [Case; 9] = [
            (
                Syntax::Hermes,
                "\n{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": 2}}\n",
                &[("f", "{\"b\": 1, \"a\": 2}")],
            ),
            (Syntax::Hermes, r#"{"name":"f"}"#, &[("f", "{}")]),
            (Syntax::Hermes, r#"{"name":"f","arguments":"{\"a\":1}"}"#, &[("f", r#"{"a":1}"#)]),
            (Syntax::Llama, r#"{"name": "f", "parameters": {"a": "x"}}"#, &[("f", r#"{"a": "x"}"#)]),
            (
                Syntax::Llama,
                r#"<|python_tag|>{"type":"function","name":"f","parameters":{}}; {"name":"g","parameters":{}}"#,
                &[("f", "{}"), ("g", "{}")],
            ),
            (
                Syntax::Mistral,
                r#"[{"name": "f", "arguments": {"a": 1}, "id": "abcdefghi"}, {"name": "g", "arguments": {}}]"#,
                &[("f", r#"{"a": 1}"#), ("g", "{}")],
            ),
            (Syntax::MistralNamed, r#"f[ARGS]{"a": [1]}"#, &[("f", r#"{"a": [1]}"#)]),
            (
                Syntax::MistralNamed,
                r#"f[CALL_ID]abcdefghi[ARGS]{}[TOOL_CALLS]g{"b":2}"#,
                &[("f", "{}"), ("g", r#"{"b":2}"#)],
            ),
            (Syntax::Mistral, r#"f[ARGS]{}"#, &[("f", "{}")]),
        ];
        for (syntax, text, expected) in cases {
            assert_eq!(names_and_arguments(syntax, text), pairs(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_call_is_not_taken_for_one() {
        for (syntax, text) in [
            (Syntax::Hermes, "{\"name\": \"f\""),
            (Syntax::Hermes, "no JSON"),
            (Syntax::Hermes, r#"{"arguments": {}}"#),
            (Syntax::Hermes, ""),
            (Syntax::Llama, r#"{"name": ""}"#),
            (Syntax::Llama, r#"{"answer": 4}"#),
            (Syntax::Mistral, "[{]"),
            (Syntax::MistralNamed, "f[ARGS]"),
            (Syntax::MistralNamed, "{}"),
        ] {
            assert_eq!(names_and_arguments(syntax, text), None, "{text}");
        }
    }

    #[test]
    fn ids_are_what_the_strictest_template_takes() {
        assert_eq!(template_id("abcDEF123"), "abcDEF123");
        let (one, other) = (template_id("call_1"), template_id("call_2"));
        assert_ne!(one, other);
        assert_eq!((one.len(), template_id("call_1")), (9, one));
        assert!(new_id().len() == 9 && new_id() != new_id());
    }
}
