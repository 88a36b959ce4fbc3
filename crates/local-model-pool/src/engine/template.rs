//! Chat templates: the Jinja program in a model's metadata that turns messages into its prompt.
//!
//! The program comes from a downloaded file, so its cost is bounded, and it runs without access to anything but the messages.
//! Functions and settings are those of the reference implementation, `apply_chat_template` of Hugging Face transformers:
//! <https://huggingface.co/docs/transformers/chat_templating>.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;
use time::OffsetDateTime;

/// Steps of the template engine that one prompt may cost. A message takes some hundred.
const FUEL: u64 = 50_000_000;
/// The only template in the environment.
const NAME: &str = "chat";

/// One message, as templates see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What was said.
    pub content: String,
}

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
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| TemplateError::Syntax(error.to_string()))?;
        Ok(Self { environment, bos, eos })
    }

    /// The prompt for these messages, up to where the assistant's answer starts.
    pub(crate) fn render(&self, messages: &[Message], now: OffsetDateTime) -> Result<String, TemplateError> {
        let template =
            self.environment.get_template(NAME).map_err(|error| TemplateError::Syntax(error.to_string()))?;
        let strftime_now = Value::from_function(move |format: String| strftime(&format, now));
        let rendered = template.render(context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            strftime_now,
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

/// `tojson` as transformers has it: unlike Jinja's own it does not escape for HTML, which models were not trained on.
fn to_json(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    // `ensure_ascii`, `separators` and `sort_keys` are accepted and ignored, as most templates pass the defaults.
    let failed = |error: serde_json::Error| {
        minijinja::Error::new(ErrorKind::BadSerialization, "not serialisable as JSON").with_source(error)
    };
    let Some(indent) = indent else { return serde_json::to_string(value).map_err(failed) };
    let indent = " ".repeat(indent.min(16));
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut text = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)).map_err(failed)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
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

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn render(source: &str, messages: &[(&'static str, &str)]) -> Result<String, TemplateError> {
        let template = Template::new(source.to_owned(), "<s>".to_owned(), "</s>".to_owned())?;
        let message =
            |(role, content): &(&'static str, &str)| Message { role, content: (*content).to_owned() };
        let messages: Vec<_> = messages.iter().map(message).collect();
        template.render(&messages, datetime!(2026-03-05 14:07:09 UTC))
    }

    #[test]
    fn chatml_is_rendered_as_models_were_trained_on_it() {
        let source = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + \
                      '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}\
                      {% endif %}";
        let prompt = render(source, &[("system", "Be brief."), ("user", "<b>Hi</b>")]).unwrap();
        let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<b>Hi</b><|im_end|>\n\
                        <|im_start|>assistant\n";
        assert_eq!(prompt, expected);
    }

    #[test]
    fn blocks_leave_no_white_space_behind() {
        let source = "{{ bos_token }}\n  {% for m in messages %}\n    {% if m.role == 'user' %}\n[INST] {{ m.content | trim }} \
                      [/INST]\n    {% elif loop.last %}\nlast{{ eos_token }}\n    {% endif %}\n  {% endfor %}\n";
        let prompt = render(source, &[("user", " a "), ("assistant", "b")]).unwrap();
        assert_eq!(prompt, "<s>\n[INST] a [/INST]\nlast</s>\n");
    }

    #[test]
    fn python_methods_slices_macros_and_loop_controls_work() {
        let source = "{%- macro show(m) %}({{ m['content'].strip().split(' ')[0] }}){% endmacro -%}\
                      {%- set ns = namespace(n=0) -%}\
                      {%- for m in messages[1:] -%}{%- if m.role.startswith('assis') %}{% continue %}{% endif -%}\
                      {%- set ns.n = ns.n + 1 -%}{{ show(m) }}{%- endfor -%}{{ ns.n }}";
        let messages = [("system", "x"), ("user", " one two"), ("assistant", "y"), ("user", "three")];
        assert_eq!(render(source, &messages).unwrap(), "(one)(three)2");
    }

    #[test]
    fn a_template_can_refuse_messages() {
        let source =
            "{% if messages[0].role != 'user' %}{{ raise_exception('roles must alternate') }}{% endif %}";
        let error = render(source, &[("system", "x")]).unwrap_err();
        assert!(
            matches!(&error, TemplateError::Refused(text) if text == "roles must alternate"),
            "{error:?}"
        );
    }

    #[test]
    fn json_is_not_escaped_for_html() {
        let prompt = render("{{ messages[0] | tojson }}", &[("user", "<a> & 'b'")]).unwrap();
        assert_eq!(prompt, r#"{"role":"user","content":"<a> & 'b'"}"#);
        let prompt = render("{{ messages[0].content | tojson(indent=4) }}", &[("user", "x")]).unwrap();
        assert_eq!(prompt, "\"x\"");
    }

    #[test]
    fn the_date_is_the_one_that_was_given() {
        assert_eq!(
            render("{{ strftime_now('%d %b %Y, %A %H:%M %q') }}", &[]).unwrap(),
            "05 Mar 2026, Thursday 14:07 %q"
        );
    }

    #[test]
    fn an_endless_template_is_stopped() {
        let source = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        assert!(matches!(render(source, &[]).unwrap_err(), TemplateError::Failed(_)));
    }

    #[test]
    fn a_broken_template_is_a_syntax_error() {
        assert!(matches!(render("{% for %}", &[]).unwrap_err(), TemplateError::Syntax(_)));
    }
}
