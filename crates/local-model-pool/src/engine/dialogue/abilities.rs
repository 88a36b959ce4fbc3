//! What a chat template can do, found by rendering probes: a template is a program, so reading its text tells little.

use time::OffsetDateTime;

use super::{Message, Syntax, Tool, ToolCall};
use crate::engine::template::{Conversation, Template};

/// Names that no template contains.
const OFFERED: &str = "probe-offered";
const CALLED: &str = "probe-called";
/// How far from a call's name its marks may stand, in bytes.
const NEAR: usize = 64;

/// What a model can do by its template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// It is told of tools, and calls them in this form; `None` = it cannot call any, or in a form that is not known here.
    pub calls: Option<Syntax>,
    /// It may reason in `<think>` tags before it answers.
    pub thinks: bool,
}

impl Abilities {
    /// Of a template in a model's metadata; none without one, or where it cannot be read.
    #[must_use]
    pub fn of(source: Option<&str>) -> Self {
        let Some(source) = source else { return Self::default() };
        match Template::new(source.to_owned(), String::new(), String::new()) {
            Ok(template) => Self { calls: calls(&template), thinks: source.contains("</think>") },
            Err(_unreadable) => Self::default(),
        }
    }
}

fn calls(template: &Template) -> Option<Syntax> {
    let offered = Tool {
        name: OFFERED.to_owned(),
        description: "A probe.".to_owned(),
        parameters_json: r#"{"type":"object","properties":{"probe":{"type":"string"}}}"#.to_owned(),
    };
    let question = Message::text("user", "Hi");
    let call = ToolCall {
        id: "probe0000".to_owned(),
        name: CALLED.to_owned(),
        arguments_json: r#"{"probe":"x"}"#.to_owned(),
    };
    let called = Message { calls: vec![call.clone()], ..Message::text("assistant", "") };
    let answer = Message { call_id: call.id, name: call.name, ..Message::text("tool", "42") };
    let render = |messages: &[Message], tools: &[Tool]| {
        let now = OffsetDateTime::UNIX_EPOCH;
        let conversation = Conversation { messages, tools, variables: &serde_json::Map::new(), now };
        template.render(&conversation, &mut str::to_owned).ok()
    };
    render(std::slice::from_ref(&question), std::slice::from_ref(&offered))
        .filter(|prompt| prompt.contains(OFFERED))?;
    form(&render(&[question, called, answer], &[offered])?)
}

/// The form of the call in a prompt.
fn form(prompt: &str) -> Option<Syntax> {
    let (before, after) = prompt.split_once(CALLED)?;
    let near = |text: &str, from: usize| {
        let at = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text.get(at..).unwrap_or_default().to_owned()
    };
    let before = near(before, before.len().saturating_sub(NEAR));
    let after: String = after.chars().take(NEAR).collect();
    if before.ends_with("[TOOL_CALLS]") {
        return Some(Syntax::MistralNamed);
    }
    let spaceless: String = before.split_whitespace().collect();
    if !spaceless.ends_with(r#"{"name":""#) {
        return None;
    }
    if spaceless.ends_with(r#"[TOOL_CALLS][{"name":""#) {
        Some(Syntax::Mistral)
    } else if spaceless.ends_with(r#"<tool_call>{"name":""#) && after.contains(r#""arguments""#) {
        Some(Syntax::Hermes)
    } else {
        after.contains(r#""parameters""#).then_some(Syntax::Llama)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ways in which templates write a call; `#` stands for the loop over calls.
    const FORMS: [(&str, Option<Syntax>); 6] = [
        (
            "<tool_call>\n{\"name\": \"{{ f.name }}\", \"arguments\": {{ f.arguments | tojson }}}\n</tool_call>",
            Some(Syntax::Hermes),
        ),
        ("[TOOL_CALLS][{{ f | tojson }}]", Some(Syntax::Mistral)),
        ("[TOOL_CALLS]{{ f.name }}[ARGS]{{ f.arguments | tojson }}", Some(Syntax::MistralNamed)),
        ("{\"name\": \"{{ f.name }}\", \"parameters\": {{ f.arguments | tojson }}}", Some(Syntax::Llama)),
        ("<tool_call>\n<function={{ f.name }}>\n</function>\n</tool_call>", None),
        ("calls {{ f.name }}", None),
    ];

    fn template(tools: &str, call: &str) -> String {
        format!(
            "{tools}{{% for m in messages %}}{{% if m.tool_calls %}}{{% for c in m.tool_calls %}}{{% set f = c.function %}}{call}\
             {{% endfor %}}{{% else %}}{{{{ m.content }}}}{{% endif %}}{{% endfor %}}"
        )
    }

    #[test]
    fn a_template_shows_the_form_of_its_calls() {
        for (call, expected) in FORMS {
            let source = template("{{ tools | tojson if tools else '' }}", call);
            assert_eq!(Abilities::of(Some(&source)).calls, expected, "{call}");
        }
    }

    #[test]
    fn a_template_that_leaves_tools_out_cannot_call_any() {
        let source = template("", FORMS[0].0);
        assert_eq!(Abilities::of(Some(&source)), Abilities::default());
    }

    #[test]
    fn reasoning_is_told_by_its_closing_tag() {
        let source = "{{ messages[0].content.split('</think>')[-1] }}";
        assert_eq!(Abilities::of(Some(source)), Abilities { calls: None, thinks: true });
    }

    #[test]
    fn no_template_or_a_broken_one_can_do_nothing() {
        assert_eq!(Abilities::of(None), Abilities::default());
        assert_eq!(Abilities::of(Some("{% for %} </think>")), Abilities::default());
    }
}
