//! Golden files of the dialect, see `provider::golden`.

use domain::{
    fault::{Code, Fault},
    inference::{Embed, Generate, Request, ResponseFormat, ToolChoice, Translate},
};
use wire::v1;

use super::{decode, encode, flavor::Flavor, stream::Decoder};
use crate::provider::{
    Api, Call, Completion, MaxTokensField, Reader, Target,
    golden::{self, Golden, envelope, everything, plain},
};

pub(super) const GOLDEN: Golden = Golden("openai");

fn target(max_tokens_field: MaxTokensField) -> Target {
    Target { upstream_model: "gpt-4o-mini-2024-07-18".to_owned(), max_tokens_field, ..Target::default() }
}

fn encoded(request: &Request, field: MaxTokensField) -> Result<String, Fault> {
    written(request, &target(field), Flavor::Compatible)
}

pub(super) fn written(request: &Request, target: &Target, flavor: Flavor) -> Result<String, Fault> {
    let encoded = encode::encode(Call { target, request }, flavor)?;
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

/// A conversation that every flavor takes, with what another provider left on its messages.
fn continued() -> Generate {
    let mut request = everything();
    request.sampling.top_k = None;
    request.sampling.frequency_penalty = None;
    request.sampling.presence_penalty = Some(0.0);
    request.messages[2].name.clear();
    request.messages[3].extra_json =
        r#"{"reasoning_content":"because","thinking_blocks":[{"type":"thinking"}],"phase":"final_answer"}"#
            .to_owned();
    request.envelope = envelope(r#"{"user":"u-1","logprobs":false,"store":false,"reasoning_effort":"low"}"#);
    request
}

#[test]
fn each_server_gets_what_it_takes() {
    for (name, flavor) in [
        ("continued-openai", Flavor::OpenAi),
        ("continued-azure", Flavor::Azure),
        ("continued-groq", Flavor::Groq),
    ] {
        let target = target(MaxTokensField::MaxCompletionTokens);
        let written = written(&Request::Generate(continued()), &target, flavor).unwrap();
        GOLDEN.compare("encode", name, &written);
    }
}

#[test]
fn a_deployments_defaults_complete_a_request_and_replace_nothing() {
    let defaults = r#"{"reasoning_format":"parsed","temperature":0.1,"model":"dearer","stream_options":{"a":1},"user":"d"}"#;
    let target = Target { defaults: defaults.to_owned(), ..target(MaxTokensField::MaxTokens) };
    let asked = Generate { envelope: envelope(r#"{"user":"u-1"}"#), stream: true, ..plain() };
    let embed = Embed { envelope: envelope(""), inputs: vec!["one".to_owned()], dimensions: None };
    GOLDEN.compare("encode", "defaults", &written(&Request::Generate(asked), &target, Flavor::Groq).unwrap());
    GOLDEN.compare(
        "encode",
        "defaults-embed",
        &written(&Request::Embed(embed), &target, Flavor::Compatible).unwrap(),
    );
}

#[test]
fn what_a_server_lacks_is_refused_by_name_and_left_to_others() {
    let with = |extra: &str| Generate { envelope: envelope(extra), ..plain() };
    let drawn = |change: fn(&mut Generate)| {
        let mut request = plain();
        change(&mut request);
        request
    };
    let cases = [
        (Flavor::Groq, with(r#"{"logprobs":true}"#), "logprobs"),
        (Flavor::Groq, with(r#"{"top_logprobs":2}"#), "top_logprobs"),
        (Flavor::Groq, with(r#"{"logit_bias":{"1":2}}"#), "logit_bias"),
        (Flavor::Groq, with(r#"{"store":true}"#), "store"),
        (Flavor::Groq, with(r#"{"service_tier":"performance"}"#), "service_tier"),
        (Flavor::Groq, drawn(|request| request.sampling.frequency_penalty = Some(0.5)), "frequency_penalty"),
        (Flavor::Groq, drawn(|request| request.sampling.presence_penalty = Some(0.5)), "presence_penalty"),
        (Flavor::Groq, drawn(|request| request.messages[0].name = "ann".to_owned()), "messages[0].name"),
        (Flavor::Groq, drawn(|request| request.sampling.top_k = Some(4)), "top_k"),
        (Flavor::OpenAi, drawn(|request| request.sampling.top_k = Some(4)), "top_k"),
        (Flavor::Azure, drawn(|request| request.sampling.top_k = Some(4)), "top_k"),
    ];
    for (flavor, request, field) in cases {
        let request = Request::Generate(request);
        let fault = written(&request, &target(MaxTokensField::MaxTokens), flavor).unwrap_err();
        assert_eq!(
            (fault.code, fault.field.as_str(), fault.retryable),
            (Code::Unsupported, field, true),
            "{fault}"
        );
        assert!(
            encoded(&request, MaxTokensField::MaxTokens).is_ok(),
            "{field} is passed on to other servers"
        );
    }
    let embed = Embed { envelope: envelope(""), inputs: vec!["one".to_owned()], dimensions: None };
    let fault = written(&Request::Embed(embed), &Target::default(), Flavor::Groq).unwrap_err();
    assert_eq!(fault.code, Code::Unsupported);
}

/// The interface for models that have no other.
pub(super) fn responses() -> Target {
    Target { upstream_model: "gpt-5-pro".to_owned(), api: Api::Responses, ..Target::default() }
}

#[test]
fn whole_answers_become_pieces_and_an_end() {
    for (name, body) in GOLDEN.recorded("decode", "json") {
        let outcome = if name.starts_with("embeddings") {
            decode::embeddings("acme", &body, 2)
        } else {
            Decoder::new("acme").whole(&body)
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
