//! Golden files: what requests become on the wire, and what recorded answers become here.
//!
//! `UPDATE_GOLDEN=1 cargo test -p remote-api-adapter golden` writes them anew; the difference is then for a person to read.

use std::path::{Path, PathBuf};

use domain::{
    fault::Fault,
    id::{ModelName, RequestId},
    inference::{
        Embed, Envelope, Generate, Message, Part, PartContent, Request, ResponseFormat, Role, Sampling,
        TaskProfile, Tool, ToolCall, ToolChoice, Translate,
    },
};
use wire::v1;

use super::{decode, encode, stream::Decoder};
use crate::provider::{Call, Completion, MaxTokensField, Target};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/provider/openai/golden").join(name)
}

fn compare(path: &Path, now: &str) {
    #[expect(
        clippy::disallowed_methods,
        reason = "asks whoever runs the tests, not the product's configuration"
    )]
    let update = std::env::var("UPDATE_GOLDEN").is_ok();
    if update {
        std::fs::write(path, now).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(now, golden, "{} differs", path.display());
}

/// The inputs in a folder: name without ending, content.
pub(super) fn recorded(name: &str, ending: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == ending))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no recordings in {name}");
    files
}

fn envelope(extra_json: &str) -> Envelope {
    Envelope {
        id: RequestId::new("r1").unwrap(),
        model: Some(ModelName::new("alias").unwrap()),
        agent: None,
        profile: TaskProfile::default(),
        deadline: None,
        extra_json: extra_json.to_owned(),
    }
}

fn text(text: &str) -> Part {
    Part { content: PartContent::Text(text.to_owned()), extra_json: String::new() }
}

fn says(role: Role, content: Vec<Part>) -> Message {
    Message {
        role,
        content,
        tool_calls: Vec::new(),
        tool_call_id: String::new(),
        name: String::new(),
        extra_json: String::new(),
    }
}

fn plain() -> Generate {
    Generate {
        envelope: envelope(""),
        messages: vec![says(Role::User, vec![text("What is \"2+2\"?\n— ü")])],
        sampling: Sampling::default(),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        stream: false,
    }
}

/// Every field that the domain has, and carried fields on every level.
fn everything() -> Generate {
    let picture =
        PartContent::ImageUrl { url: "https://example.com/a.png".to_owned(), detail: "low".to_owned() };
    let cached =
        Part { extra_json: r#"{"cache_control":{"type":"ephemeral"}}"#.to_owned(), ..text("a picture:") };
    let audio = PartContent::Json(
        r#"{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}"#.to_owned(),
    );
    let called = Message {
        tool_calls: vec![ToolCall {
            id: "call_1".to_owned(),
            name: "weather".to_owned(),
            arguments_json: r#"{"city": "Köln"}"#.to_owned(),
        }],
        extra_json: r#"{"reasoning_content": "because"}"#.to_owned(),
        ..says(Role::Assistant, Vec::new())
    };
    let answered = Message { tool_call_id: "call_1".to_owned(), ..says(Role::Tool, vec![text("rain")]) };
    Generate {
        envelope: envelope(
            r#"{"user":"u-1","logit_bias":{"50256":-100},"stream_options":{"include_usage":false,"include_obfuscation":false},"n":1,"service_tier":"flex","big":12345678901234567890123}"#,
        ),
        messages: vec![
            says(Role::System, vec![text("be brief")]),
            says(Role::Developer, vec![text("in German")]),
            Message {
                name: "ann".to_owned(),
                ..says(
                    Role::User,
                    vec![
                        cached,
                        Part { content: picture, extra_json: String::new() },
                        Part { content: audio, extra_json: r#"{"id": 7}"#.to_owned() },
                    ],
                )
            },
            called,
            answered,
        ],
        sampling: Sampling {
            max_tokens: Some(64),
            temperature: Some(0.7),
            top_p: Some(0.95),
            top_k: Some(40),
            seed: Some(u64::MAX),
            frequency_penalty: Some(-0.5),
            presence_penalty: Some(0.1),
            stop: vec!["\n\n".to_owned(), "END".to_owned()],
        },
        tools: vec![
            Tool {
                name: "weather".to_owned(),
                description: "Says the weather".to_owned(),
                parameters_json: r#" {"type":"object", "properties":{"city":{"type":"string"}}} "#.to_owned(),
                strict: Some(true),
            },
            Tool {
                name: "now".to_owned(),
                description: String::new(),
                parameters_json: String::new(),
                strict: None,
            },
        ],
        tool_choice: Some(ToolChoice::Named("weather".to_owned())),
        response_format: Some(ResponseFormat::JsonSchema {
            name: String::new(),
            schema_json: r#"{"type":"object"}"#.to_owned(),
            strict: Some(false),
        }),
        stream: true,
    }
}

fn target(max_tokens_field: MaxTokensField) -> Target {
    Target { upstream_model: "gpt-4o-mini-2024-07-18".to_owned(), max_tokens_field }
}

fn encoded(request: &Request, field: MaxTokensField) -> Result<String, Fault> {
    let target = target(field);
    let encoded = encode::encode(Call { target: &target, request })?;
    let body = String::from_utf8(encoded.body).unwrap();
    serde_json::from_str::<serde_json::Value>(&body).unwrap_or_else(|error| panic!("{error} in {body}"));
    Ok(format!("POST {}\n{body}\n", encoded.endpoint.path()))
}

#[test]
fn requests_become_openai_json() {
    let cases = [
        ("plain", Request::Generate(plain()), MaxTokensField::MaxTokens),
        ("everything", Request::Generate(everything()), MaxTokensField::MaxCompletionTokens),
        ("everything-older-name", Request::Generate(everything()), MaxTokensField::MaxTokens),
        (
            "choices",
            Request::Generate(Generate {
                tool_choice: Some(ToolChoice::Required),
                response_format: Some(ResponseFormat::JsonObject),
                tools: everything().tools,
                ..plain()
            }),
            MaxTokensField::MaxTokens,
        ),
        (
            "embed",
            Request::Embed(Embed {
                envelope: envelope(r#"{"user":"u-1"}"#),
                inputs: vec!["one".to_owned(), "zwölf".to_owned()],
                dimensions: Some(256),
            }),
            MaxTokensField::MaxTokens,
        ),
        (
            "translate",
            Request::Translate(Translate {
                envelope: envelope(""),
                text: "Guten Tag, \"Welt\"".to_owned(),
                source_language: Some("de".to_owned()),
                target_language: "pt-BR".to_owned(),
                stream: true,
            }),
            MaxTokensField::MaxTokens,
        ),
    ];
    for (name, request, field) in cases {
        compare(&folder("encode").join(format!("{name}.txt")), &encoded(&request, field).unwrap());
    }
}

#[test]
fn what_cannot_be_carried_is_refused_by_name() {
    let with = |extra: &str| Request::Generate(Generate { envelope: envelope(extra), ..everything() });
    let message = |extra: &str| {
        let mut request = plain();
        request.messages[0].extra_json = extra.to_owned();
        Request::Generate(request)
    };
    let cases = [
        (with(r#"{"model":"dearer"}"#), "extra_json.model"),
        (with(r#"{"stream":false}"#), "extra_json.stream"),
        (with(r#"{"temperature":2}"#), "extra_json.temperature"),
        (with(r#"{"max_tokens":9}"#), "extra_json.max_tokens"),
        (with(r#"{"max_completion_tokens":9}"#), "extra_json.max_completion_tokens"),
        (with(r#"{"n":2}"#), "n"),
        (with(r#"{"service_tier":"priority"}"#), "service_tier"),
        (with("{broken}"), "extra_json"),
        (with(r#"{"stream_options":7}"#), "extra_json.stream_options"),
        (message(r#"{"role":"system"}"#), "messages[0].role"),
        (message("{\"a\":}"), "messages[0]"),
    ];
    for (request, field) in cases {
        let fault = encoded(&request, MaxTokensField::MaxTokens).unwrap_err();
        assert_eq!(fault.field, field, "{fault}");
    }
    let mut request = plain();
    request.tools = everything().tools;
    request.tools[0].parameters_json = "{\"type\":}".to_owned();
    let fault = encoded(&Request::Generate(request), MaxTokensField::MaxTokens).unwrap_err();
    assert_eq!(fault.field, "tools[0].parameters");
}

#[test]
fn whole_answers_become_pieces_and_an_end() {
    for (name, body) in recorded("decode", "json") {
        let outcome = if name.starts_with("embeddings") {
            decode::embeddings("acme", &body, 2)
        } else {
            decode::chat("acme", &body)
        };
        compare(&folder("decode").join(format!("{name}.txt")), &format!("{outcome:#?}\n"));
    }
}

#[test]
fn streams_become_pieces_and_an_end() {
    for (name, bytes) in recorded("stream", "sse") {
        let (items, outcome) = read(&[&bytes]);
        compare(&folder("stream").join(format!("{name}.txt")), &format!("{items:#?}\n{outcome:#?}\n"));
    }
}

/// Reads a stream that arrives in these pieces and then ends properly.
pub(super) fn read(pieces: &[&[u8]]) -> (Vec<v1::DeltaItem>, Result<Completion, Fault>) {
    let (mut decoder, mut items) = (Decoder::new("acme"), Vec::new());
    let fed = pieces.iter().try_for_each(|piece| decoder.feed(piece, &mut items));
    let ended = fed.and_then(|()| decoder.end(&mut items));
    (items, ended.map(|()| decoder.into_completion(Vec::new())))
}
