//! Golden files of the API, see `provider::golden`.

use domain::{
    fault::Fault,
    inference::{
        Generate, Message, Part, PartContent, Request, ResponseFormat, Role, Sampling, Tool, ToolCall,
        ToolChoice, Translate,
    },
};
use wire::v1;

use super::{encode, stream::Decoder};
use crate::provider::{
    Call, Completion, Reader, Target,
    golden::{self, Golden, envelope, everything, plain, says, text},
};

pub(super) const GOLDEN: Golden = Golden("anthropic");

pub(super) fn encode_only(request: &Request, model: &str) -> Result<Vec<u8>, Fault> {
    let target =
        Target { upstream_model: model.to_owned(), max_output_tokens: Some(20_000), ..Target::default() };
    encode::encode(Call { target: &target, request })
}

pub(super) fn encoded(request: &Request, model: &str) -> Result<String, Fault> {
    let body = String::from_utf8(encode_only(request, model)?).unwrap();
    serde_json::from_str::<serde_json::Value>(&body).unwrap_or_else(|error| panic!("{error} in {body}"));
    // one block, turn or field a line is easier to read
    Ok(body.replace("},{", "},\n{").replace("],\"", "],\n\"") + "\n")
}

pub(super) fn with_extra(part: Part, extra_json: &str) -> Part {
    Part { extra_json: extra_json.to_owned(), ..part }
}

pub(super) fn part(content: PartContent) -> Part {
    Part { content, extra_json: String::new() }
}

pub(super) fn picture(url: &str) -> Part {
    part(PartContent::ImageUrl { url: url.to_owned(), detail: "auto".to_owned() })
}

pub(super) fn json(json: &str) -> Part {
    part(PartContent::Json(json.to_owned()))
}

pub(super) fn call(id: &str, name: &str, arguments_json: &str) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments_json: arguments_json.to_owned(),
        extra_json: String::new(),
    }
}

fn answered(id: &str, content: Vec<Part>, extra_json: &str) -> Message {
    Message {
        tool_call_id: id.to_owned(),
        name: "weather".to_owned(),
        extra_json: extra_json.to_owned(),
        ..says(Role::Tool, content)
    }
}

/// All that the API has a place for.
fn conversation() -> Vec<Message> {
    let cached = r#"{"cache_control":{"type":"ephemeral"}}"#;
    let signed = ToolCall {
        extra_json: r#"{"extra_content":{"google":{"thought_signature":"c2ln"}},"caller":{"type":"direct"}}"#
            .to_owned(),
        ..call("toolu_1", "weather", r#" {"city": "Köln"} "#)
    };
    vec![
        says(Role::System, vec![with_extra(text("be brief"), cached)]),
        says(
            Role::User,
            vec![
                text("what is\n\"this\"?"),
                picture("https://example.com/a.png"),
                with_extra(picture("data:image/png;base64,iVBORw0KGgo="), cached),
                json(
                    r#"{"type":"file","file":{"file_data":"data:application\/pdf;base64,JVBERi0=","filename":"a.pdf"}}"#,
                ),
                with_extra(
                    json(
                        r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"x"}}"#,
                    ),
                    r#"{"citations":{"enabled":true}}"#,
                ),
            ],
        ),
        Message {
            extra_json: cached.to_owned(),
            ..says(Role::User, vec![text("and the weather?"), text("")])
        },
        says(Role::Developer, vec![text("in German")]),
        Message {
            tool_calls: vec![signed, call("toolu_2", "now", "")],
            extra_json: r#"{"reasoning_content":"because","refusal":null,"thinking_blocks":[
                {"type":"thinking","thinking":"be\u0063ause","signature":"c2lnbmVk"},
                {"type":"redacted_thinking","data":"ZGF0YQ=="}]}"#
                .to_owned(),
            ..says(Role::Assistant, vec![text("I'll look.")])
        },
        answered("toolu_1", vec![text("rain")], ""),
        answered("toolu_2", vec![text("no"), picture("data:image/gif;base64,R0lG")], r#"{"is_error":true}"#),
        says(Role::User, vec![text("so?")]),
    ]
}

pub(super) fn tools() -> Vec<Tool> {
    everything().tools
}

pub(super) fn schema() -> ResponseFormat {
    ResponseFormat::JsonSchema {
        name: "answer".to_owned(),
        schema_json: r#"{"type":"object","properties":{},"additionalProperties":false}"#.to_owned(),
        strict: Some(true),
    }
}

pub(super) fn asking(extra_json: &str) -> Generate {
    Generate { envelope: envelope(extra_json), ..plain() }
}

#[test]
fn requests_become_messages() {
    let sampling = Sampling {
        max_tokens: Some(64),
        temperature: Some(0.7),
        top_p: Some(1.0),
        top_k: Some(40),
        frequency_penalty: Some(0.0),
        stop: vec!["END".to_owned()],
        ..Sampling::default()
    };
    let many = Generate {
        envelope: envelope(
            r#"{"user":"u-1","metadata":{"user_id":"u-1"},"parallel_tool_calls":false,"n":1,"logprobs":false,
                "stream_options":{"include_usage":true},"service_tier":"default","seed":null,
                "cache_control":{"type":"ephemeral","ttl":"5m"},"context_management":{"edits":[]},"container":"c_1"}"#,
        ),
        messages: conversation(),
        sampling,
        tools: tools(),
        tool_choice: Some(ToolChoice::Named("weather".to_owned())),
        response_format: Some(schema()),
        stream: true,
    };
    let thinking = Generate {
        response_format: Some(schema()),
        tools: tools(),
        sampling: Sampling { temperature: Some(1.0), top_p: Some(1.0), ..Sampling::default() },
        ..asking(r#"{"reasoning_effort":"high","output_config":{"task_budget":{"type":"tokens","total":9}}}"#)
    };
    let native = asking(r#"{"thinking":{"type":"enabled","budget_tokens":2048},"betas":null}"#);
    let choices = Generate {
        tools: tools(),
        tool_choice: Some(ToolChoice::Required),
        ..asking(r#"{"reasoning_effort":"none"}"#)
    };
    let one_tool = Generate { tools: tools(), ..asking(r#"{"parallel_tool_calls":false}"#) };
    let translate = Translate {
        envelope: envelope(""),
        text: "Guten Tag, \"Welt\"".to_owned(),
        source_language: Some("de".to_owned()),
        target_language: "pt-BR".to_owned(),
        stream: true,
    };
    let cases = [
        ("plain", Request::Generate(plain()), "claude-sonnet-5-5"),
        ("everything", Request::Generate(many), "claude-sonnet-4-5"),
        ("effort", Request::Generate(thinking.clone()), "claude-opus-5-5"),
        (
            "effort-budget",
            Request::Generate(Generate { response_format: None, ..thinking }),
            "claude-haiku-4-5",
        ),
        ("own-thinking", Request::Generate(native), "claude-haiku-4-5"),
        ("no-thinking", Request::Generate(choices), "claude-haiku-5-5"),
        ("one-tool", Request::Generate(one_tool), "claude-opus-5-5"),
        ("translate", Request::Translate(translate), "claude-haiku-4-5"),
    ];
    for (name, request, model) in cases {
        GOLDEN.compare("encode", name, &encoded(&request, model).unwrap());
    }
}

#[test]
fn whole_answers_become_pieces_and_an_end() {
    for (name, body) in GOLDEN.recorded("decode", "json") {
        GOLDEN.compare("decode", &name, &format!("{:#?}\n", Decoder::new("acme").whole(&body)));
    }
}

#[test]
fn streams_become_pieces_and_an_end() {
    for (name, bytes) in GOLDEN.recorded("stream", "sse") {
        let (items, outcome) = read(&[&bytes]);
        GOLDEN.compare("stream", &name, &format!("{items:#?}\n{outcome:#?}\n"));
    }
}

/// The message that a client makes of the pieces of an answer, for the next turn.
fn said_again(items: &[v1::DeltaItem]) -> Message {
    let mut message = says(Role::Assistant, Vec::new());
    let mut thinking = Vec::new();
    for item in items {
        if !item.extra_json.is_empty() {
            let extra: serde_json::Value = serde_json::from_str(&item.extra_json).unwrap();
            thinking.extend(extra["thinking_blocks"].as_array().unwrap().clone());
        }
        for piece in &item.tool_calls {
            let index = piece.index as usize;
            if index == message.tool_calls.len() {
                message.tool_calls.push(ToolCall {
                    extra_json: piece.extra_json.clone(),
                    ..call(&piece.id, &piece.name, "")
                });
            }
            message.tool_calls[index].arguments_json += &piece.arguments_json;
        }
    }
    let said = golden::text_of(items);
    message.content.extend((!said.is_empty()).then(|| text(&said)));
    message.extra_json = format!(r#"{{"thinking_blocks":{}}}"#, serde_json::Value::Array(thinking));
    message
}

#[test]
fn an_answer_goes_back_as_it_came() {
    let expected = [
        ("thinking", vec!["thinking", "redacted_thinking", "thinking", "text"]),
        (
            "thinking-between",
            // what came after the last call has no call to lead to
            vec!["thinking", "thinking", "tool_use", "thinking", "redacted_thinking", "tool_use"],
        ),
    ];
    for (name, kinds) in expected {
        let streams = GOLDEN.recorded("stream", "sse");
        let (_, bytes) = streams.iter().find(|(recorded, _)| recorded == name).unwrap();
        let messages =
            vec![plain().messages.remove(0), said_again(&read(&[bytes]).0), plain().messages.remove(0)];
        let request = Request::Generate(Generate { messages, ..plain() });
        let body = encode_only(&request, "claude-opus-5-5").unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let blocks = body["messages"][1]["content"].as_array().unwrap();
        let sent: Vec<&str> = blocks.iter().map(|block| block["type"].as_str().unwrap()).collect();
        assert_eq!(sent, kinds, "{name}");
        GOLDEN.compare("encode", &format!("again-{name}"), &format!("{:#}\n", body["messages"][1]));
    }
}

/// Reads a stream that arrives in these pieces and then ends properly.
pub(super) fn read(pieces: &[&[u8]]) -> (Vec<v1::DeltaItem>, Result<Completion, Fault>) {
    golden::read(&mut Decoder::new("acme"), pieces)
}
