//! Golden files of the interface, see `provider::golden`.

use domain::{
    fault::{Code, Fault, Origin},
    inference::{Embed, Generate, PartContent, Request, ResponseFormat, ToolChoice, Translate},
};
use reqwest::{Url, header::HeaderMap};

use super::{client::Ollama, decode, encode, stream::Decoder};
use crate::provider::{
    Call, Dialect, Reader, Refused, Target,
    golden::{Golden, envelope, everything, plain, read},
};

pub(super) const GOLDEN: Golden = Golden("ollama");

fn target() -> Target {
    Target { upstream_model: "qwen3:8b".to_owned(), context_length: 8_192, ..Target::default() }
}

fn encoded(request: &Request, target: &Target) -> Result<String, Fault> {
    let body = String::from_utf8(encode::encode(Call { target, request })?).unwrap();
    serde_json::from_str::<serde_json::Value>(&body).unwrap_or_else(|error| panic!("{error} in {body}"));
    Ok(body + "\n")
}

/// What the server takes of everything.
fn much() -> Generate {
    let mut request = everything();
    request.sampling.seed = Some(7);
    request.messages[2].name.clear();
    request.messages[2].content[1].content =
        PartContent::ImageUrl { url: "data:image/png;base64,AAEC".to_owned(), detail: "auto".to_owned() };
    request.messages[2].content.pop();
    request.messages[3].extra_json =
        r#"{"reasoning_content":"because","thinking_blocks":[],"refusal":null}"#.to_owned();
    request.tools[0].strict = None;
    request.tool_choice = Some(ToolChoice::Auto);
    request.envelope = envelope(
        r#"{"reasoning_effort":"low","logprobs":true,"top_logprobs":2,"n":1,"parallel_tool_calls":true,"store":false,
            "keep_alive":"10m","options":{"mirostat":2,"num_ctx":4096},"shift":true}"#,
    );
    request
}

#[test]
fn requests_become_ollamas_json() {
    let defaults = r#"{"keep_alive":-1,"think":false,"options":{"num_ctx":32768,"temperature":0.2,"num_gpu":1},"model":"x"}"#;
    let kept = Target { defaults: defaults.to_owned(), ..target() };
    let embed = |extra: &str| {
        let inputs = vec!["one".to_owned(), "zwölf".to_owned()];
        Request::Embed(Embed { envelope: envelope(extra), inputs, dimensions: Some(256) })
    };
    let translate = Translate {
        envelope: envelope(""),
        text: "Guten Tag, \"Welt\"".to_owned(),
        source_language: Some("de".to_owned()),
        target_language: "pt-BR".to_owned(),
        stream: true,
    };
    let json = Generate {
        response_format: Some(ResponseFormat::JsonObject),
        tool_choice: Some(ToolChoice::None),
        tools: everything().tools,
        envelope: envelope(r#"{"reasoning_effort":"none"}"#),
        ..plain()
    };
    for (name, request, target) in [
        ("plain", Request::Generate(plain()), &target()),
        ("much", Request::Generate(much()), &target()),
        ("json", Request::Generate(json), &target()),
        ("defaults", Request::Generate(plain()), &kept),
        ("embed", embed(""), &target()),
        ("embed-defaults", embed(r#"{"keep_alive":"1m"}"#), &kept),
        ("translate", Request::Translate(translate), &target()),
    ] {
        GOLDEN.compare("encode", name, &encoded(&request, target).unwrap());
    }
}

#[test]
fn what_the_server_lacks_is_refused_by_name_and_left_to_others() {
    let changed = |change: fn(&mut Generate)| {
        let mut request = much();
        change(&mut request);
        request
    };
    let with = |extra: &str| Generate { envelope: envelope(extra), ..plain() };
    let cases = [
        (with(r#"{"n":2}"#), "n"),
        (with(r#"{"logit_bias":{"1":2}}"#), "logit_bias"),
        (with(r#"{"parallel_tool_calls":false}"#), "parallel_tool_calls"),
        (with(r#"{"service_tier":"priority"}"#), "service_tier"),
        (with(r#"{"reasoning_effort":"minimal"}"#), "reasoning_effort"),
        (with(r#"{"user":"u-1"}"#), "user"),
        (changed(|request| request.tool_choice = Some(ToolChoice::Required)), "tool_choice"),
        (changed(|request| request.tools[0].strict = Some(true)), "tools[0].strict"),
        (changed(|request| request.sampling.seed = Some(u64::MAX)), "seed"),
        (changed(|request| request.messages[2].name = "ann".to_owned()), "messages[2].name"),
        (changed(|request| request.messages = everything().messages), "messages[2].content[1].image_url"),
        (
            changed(|request| {
                let url = "data:image/png;base64,AA".to_owned();
                request.messages[2].content[1].content =
                    PartContent::ImageUrl { url, detail: "high".to_owned() };
            }),
            "messages[2].content[1].image_url.detail",
        ),
        (
            changed(|request| request.messages[2].content[1].content = PartContent::Json("{}".to_owned())),
            "messages[2].content[1]",
        ),
        (
            changed(|request| request.messages[2].content[0].extra_json = r#"{"x":1}"#.to_owned()),
            "messages[2].content[0].x",
        ),
    ];
    for (request, field) in cases {
        let fault = encoded(&Request::Generate(request), &target()).expect_err(field);
        assert_eq!(
            (fault.code, fault.field.as_str(), fault.retryable),
            (Code::Unsupported, field, true),
            "{fault}"
        );
    }
    for (request, field) in [
        (with(r#"{"model":"dearer"}"#), "extra_json.model"),
        (with(r#"{"options":{"num_predict":1}}"#), ""),
        (with(r#"{"options":7}"#), "extra_json.options"),
        (
            changed(|request| request.envelope = envelope(r#"{"options":{"temperature":1}}"#)),
            "extra_json.options.temperature",
        ),
        (with(r#"{"reasoning_effort":"low","think":true}"#), "extra_json.think"),
        (
            changed(|request| request.messages[3].tool_calls[0].arguments_json = "[1]".to_owned()),
            "messages[3].tool_calls[0].arguments",
        ),
    ] {
        match encoded(&Request::Generate(request), &target()) {
            Ok(_) => assert!(field.is_empty(), "{field} was accepted"),
            Err(fault) => {
                assert_eq!((fault.code, fault.field.as_str()), (Code::InvalidArgument, field), "{fault}")
            }
        }
    }
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
    for (name, bytes) in GOLDEN.recorded("stream", "ndjson") {
        let (items, outcome) = read(&mut Decoder::new("acme"), &[&bytes]);
        GOLDEN.compare("stream", &name, &format!("{items:#?}\n{outcome:#?}\n"));
    }
}

#[test]
fn the_address_is_the_servers_root() {
    let new = |base: &str| Ollama::new("lab".to_owned(), &Url::parse(base).unwrap(), false);
    for base in ["http://127.0.0.1:11434", "http://127.0.0.1:11434/", "http://127.0.0.1:11434/api"] {
        assert_eq!(new(base).unwrap().address("chat").as_str(), "http://127.0.0.1:11434/api/chat");
    }
    assert_eq!(new("https://gate.example/lab").unwrap().address("embed").path(), "/lab/api/embed");
    assert_eq!(new("http://127.0.0.1:11434/v1").unwrap_err().field, "base_url");
}

#[test]
fn the_servers_sentences_have_a_meaning() {
    let cases: [(u16, &str, Code, Origin, bool); 8] = [
        (404, "model \"x\" not found, try pulling it first", Code::NotFound, Origin::Provider, true),
        (
            400,
            "the input length exceeds the context length",
            Code::ContextLengthExceeded,
            Origin::Caller,
            false,
        ),
        (400, "\"m\" does not support tools", Code::Unsupported, Origin::Caller, true),
        (400, "\"m\" does not support thinking", Code::Unsupported, Origin::Caller, true),
        (400, "invalid options: x", Code::InvalidArgument, Origin::Caller, false),
        (401, "unauthorized", Code::UpstreamAuth, Origin::Provider, true),
        (429, "too many requests", Code::RateLimited, Origin::Provider, true),
        (503, "server busy, please try again", Code::Upstream, Origin::Provider, true),
    ];
    for (status, sentence, code, origin, retryable) in cases {
        let body = serde_json::json!({ "error": sentence }).to_string();
        let refused = Refused { status, headers: &HeaderMap::new(), body: body.as_bytes() };
        let base = Url::parse("http://127.0.0.1:11434").unwrap();
        let fault = Ollama::new("lab".to_owned(), &base, false).unwrap().refusal("lab", refused, None).fault;
        assert_eq!((fault.code, fault.origin, fault.retryable), (code, origin, retryable), "{sentence}");
        assert_eq!(fault.message.contains("ollama pull"), code == Code::NotFound, "{fault}");
    }
}
