//! Golden files of the dialect, see `provider::golden`.

use domain::{
    fault::Fault,
    inference::{Embed, Generate, Request, ResponseFormat, ToolChoice, Translate},
};
use wire::v1;

use super::{decode, encode, stream::Decoder};
use crate::provider::{
    Call, Completion, MaxTokensField, Target,
    golden::{self, Golden, envelope, everything, plain},
};

pub(super) const GOLDEN: Golden = Golden("openai");

fn target(max_tokens_field: MaxTokensField) -> Target {
    Target { upstream_model: "gpt-4o-mini-2024-07-18".to_owned(), max_tokens_field, max_output_tokens: None }
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
        GOLDEN.compare("encode", name, &encoded(&request, field).unwrap());
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
    for (name, body) in GOLDEN.recorded("decode", "json") {
        let outcome = if name.starts_with("embeddings") {
            decode::embeddings("acme", &body, 2)
        } else {
            decode::chat("acme", &body)
        };
        GOLDEN.compare("decode", &name, &format!("{outcome:#?}\n"));
    }
}

#[test]
fn streams_become_pieces_and_an_end() {
    for (name, bytes) in GOLDEN.recorded("stream", "sse") {
        let (items, outcome) = read(&[&bytes]);
        GOLDEN.compare("stream", &name, &format!("{items:#?}\n{outcome:#?}\n"));
    }
}

/// Reads a stream that arrives in these pieces and then ends properly.
pub(super) fn read(pieces: &[&[u8]]) -> (Vec<v1::DeltaItem>, Result<Completion, Fault>) {
    golden::read(&mut Decoder::new("acme"), pieces)
}
