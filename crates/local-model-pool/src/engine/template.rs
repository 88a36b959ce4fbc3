//! Chat templates: the Jinja program in a model's metadata that turns messages into its prompt.
//!
//! The program comes from a downloaded file, so its cost is bounded, and it runs without access to anything but the messages.
//! Functions and settings are those of the reference implementation, `apply_chat_template` of Hugging Face transformers:
//! <https://huggingface.co/docs/transformers/chat_templating>.

mod conversation;
mod ordered;
#[cfg(test)]
mod tests;

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;
use time::OffsetDateTime;

pub(crate) use conversation::Conversation;

/// Steps of the template engine that one prompt may cost. A message takes some hundred.
const FUEL: u64 = 50_000_000;
/// The only template in the environment.
const NAME: &str = "chat";

/// Why a prompt could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template cannot be read as Jinja.
    #[error("the model's chat template is not usable: {0}")]
    Syntax(String),
    /// The template itself refuses these messages.
    #[error("the model's chat template refuses the messages: {0}")]
    Refused(String),
    /// The template failed on these messages.
    #[error("the model's chat template failed: {0}")]
    Failed(String),
}

/// A template that was read once.
#[derive(Debug)]
pub(crate) struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl Template {
    /// Reads the template; `bos` and `eos` are the texts of the tokens that begin and end a text.
    pub(crate) fn new(source: String, bos: String, eos: String) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| TemplateError::Syntax(error.to_string()))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        // transformers' own statement, which marks what is trained on and changes nothing else.
        let source = source.replace("{%- generation", "{%- if true").replace("{% generation", "{% if true");
        environment
            .add_template_owned(NAME, source.replace("endgeneration", "endif"))
            .map_err(|error| TemplateError::Syntax(error.to_string()))?;
        Ok(Self { environment, bos, eos })
    }

    /// The prompt for a conversation, up to where the assistant's answer starts. Every text of the caller's enters it as
    /// `protect` returns it.
    pub(crate) fn render(
        &self,
        conversation: &Conversation<'_>,
        protect: &mut dyn FnMut(&str) -> String,
    ) -> Result<String, TemplateError> {
        let template =
            self.environment.get_template(NAME).map_err(|error| TemplateError::Syntax(error.to_string()))?;
        let now = conversation.now;
        let strftime_now = Value::from_function(move |format: String| strftime(&format, now));
        let rendered = template.render(context! {
            messages => conversation.messages(protect),
            tools => conversation.tools(protect),
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            strftime_now,
            ..Value::from(Serde(conversation.variables))
        });
        rendered.map_err(|error| {
            let source = std::error::Error::source(&error);
            match source.and_then(|source| source.downcast_ref::<Refusal>()) {
                Some(Refusal(reason)) => TemplateError::Refused(reason.clone()),
                None => TemplateError::Failed(error.to_string()),
            }
        })
    }
}

/// What [`raise_exception`] raises, to tell it from failures of the template.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// `raise_exception(text)`: how templates refuse messages that the model was not trained on.
fn raise_exception(text: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refusal(text)))
}

/// `tojson` as transformers has it: Python's white space, and unlike Jinja's own it does not escape for HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    // `ensure_ascii`, `separators` and `sort_keys` are accepted and ignored, as most templates pass the defaults.
    let mut text = Vec::new();
    let written = match indent {
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Spaced)),
        Some(indent) => {
            let indent = " ".repeat(indent.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        }
    };
    written.map_err(|error| {
        minijinja::Error::new(ErrorKind::BadSerialization, "not serialisable as JSON").with_source(error)
    })?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// JSON on one line as Python's `json.dumps` writes it: a space after each comma and colon.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// The parts of `strftime` that templates use; others stay as they are.
fn strftime(format: &str, now: OffsetDateTime) -> String {
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let (month, weekday) = (now.month().to_string(), now.weekday().to_string());
        let short = |name: &str| name.chars().take(3).collect::<String>();
        match characters.next() {
            Some('Y') => text += &now.year().to_string(),
            Some('y') => text += &format!("{:02}", now.year().rem_euclid(100)),
            Some('m') => text += &format!("{:02}", u8::from(now.month())),
            Some('d') => text += &format!("{:02}", now.day()),
            Some('e') => text += &format!("{:2}", now.day()),
            Some('j') => text += &format!("{:03}", now.ordinal()),
            Some('H') => text += &format!("{:02}", now.hour()),
            Some('I') => text += &format!("{:02}", (now.hour() + 11) % 12 + 1),
            Some('p') => text += if now.hour() < 12 { "AM" } else { "PM" },
            Some('M') => text += &format!("{:02}", now.minute()),
            Some('S') => text += &format!("{:02}", now.second()),
            Some('B') => text += &month,
            Some('b') => text += &short(&month),
            Some('A') => text += &weekday,
            Some('a') => text += &short(&weekday),
            Some('%') => text.push('%'),
            Some(other) => text.extend(['%', other]),
            None => text.push('%'),
        }
    }
    text
}
