//! Templates in the ways that models' files write them.

use time::macros::datetime;

use super::*;
use crate::engine::dialogue::{Message, Tool, ToolCall};

fn with(template: &Template, messages: &[Message], tools: &[Tool]) -> Result<String, TemplateError> {
    let variables = serde_json::Map::from_iter([("enable_thinking".to_owned(), false.into())]);
    let now = datetime!(2026-03-05 14:07:09 UTC);
    let conversation = Conversation { messages, tools, variables: &variables, now };
    template.render(&conversation, &mut str::to_owned)
}

fn render(source: &str, messages: &[(&'static str, &str)]) -> Result<String, TemplateError> {
    let template = Template::new(source.to_owned(), "<s>".to_owned(), "</s>".to_owned())?;
    let messages: Vec<_> = messages.iter().map(|(role, content)| Message::text(role, *content)).collect();
    with(&template, &messages, &[])
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
    assert!(matches!(&error, TemplateError::Refused(text) if text == "roles must alternate"), "{error:?}");
}

#[test]
fn json_is_not_escaped_for_html() {
    let prompt = render("{{ messages[0] | tojson }}", &[("user", "<a> & 'b'")]).unwrap();
    assert_eq!(prompt, r#"{"role": "user", "content": "<a> & 'b'"}"#);
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

#[test]
fn tools_and_calls_stand_in_the_prompt_as_they_were_written() {
    let source = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% for m in messages %}{% if m.tool_calls is defined %}\
                  {% for c in m.tool_calls %}{{ c.function.name }} {{ c.id }} {{ c.function.arguments | tojson }}\
                  {% if c.function.arguments is mapping %}!{% endif %}{% endfor %}{% endif %}{% if m.role == 'tool' %}\
                  {{ m.tool_call_id }}={{ m.content }}{% endif %}{% endfor %}";
    let template = Template::new(source.to_owned(), String::new(), String::new()).unwrap();
    let tool = Tool {
        name: "weather".to_owned(),
        description: "Says \"so\"".to_owned(),
        parameters_json: r#"{"type":"object","properties":{"town":{"type":"string"},"day":{}}}"#.to_owned(),
    };
    let call = ToolCall {
        id: "abcdefgh1".to_owned(),
        name: "weather".to_owned(),
        arguments_json: r#"{"town":"Köln","day":1}"#.to_owned(),
    };
    let called = Message { calls: vec![call.clone()], ..Message::text("assistant", "") };
    let answered = Message { call_id: call.id, ..Message::text("tool", "rain") };
    let prompt = with(&template, &[called, answered], &[tool]).unwrap();
    let expected = concat!(
        r#"{"type": "function", "function": {"name": "weather", "description": "Says \"so\"", "parameters": "#,
        r#"{"type": "object", "properties": {"town": {"type": "string"}, "day": {}}}}}"#,
        r#"weather abcdefgh1 {"town": "Köln", "day": 1}!abcdefgh1=rain"#
    );
    assert_eq!(prompt, expected);
}

#[test]
fn without_tools_there_is_no_such_variable() {
    assert_eq!(render("{{ tools is defined }}", &[]).unwrap(), "False");
}

#[test]
fn further_variables_are_there_but_replace_nothing() {
    assert_eq!(render("{{ enable_thinking }}", &[]).unwrap(), "False");
    let template = Template::new("{{ messages | length }}".to_owned(), String::new(), String::new()).unwrap();
    let variables = serde_json::Map::from_iter([("messages".to_owned(), "forged".into())]);
    let now = OffsetDateTime::UNIX_EPOCH;
    let conversation = Conversation { messages: &[], tools: &[], variables: &variables, now };
    assert_eq!(template.render(&conversation, &mut str::to_owned).unwrap(), "0");
}

#[test]
fn marks_for_training_are_passed_over() {
    let source = "a{% generation %}b{% endgeneration %}{%- generation -%} c{%- endgeneration -%} d";
    assert_eq!(render(source, &[]).unwrap(), "abcd");
}
