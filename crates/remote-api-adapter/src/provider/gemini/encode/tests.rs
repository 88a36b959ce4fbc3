//! What is refused, and by which name.

use domain::inference::{Message, Part, PartContent, Role, Sampling};

use super::{
    super::golden::{NEW, OLD, STUDIO, VERTEX, answered, call, embed, encoded, part, picture, with_extra},
    *,
};
use crate::provider::golden::{everything, plain, says, text};

/// A request with one message that another one could carry.
fn said(role: Role, content: Vec<Part>, extra_json: &str) -> Generate {
    let asked = says(Role::User, vec![text("hello")]);
    let message = Message { extra_json: extra_json.to_owned(), ..says(role, content) };
    Generate { messages: vec![asked, message], ..plain() }
}

#[test]
fn what_google_cannot_do_is_refused_by_name() {
    let json = |json: &str| said(Role::User, vec![part(PartContent::Json(json.to_owned()))], "");
    let url = |url: &str| said(Role::User, vec![picture(url, "")], "");
    let cached = Part { extra_json: r#"{"cache_control":{"type":"ephemeral"}}"#.to_owned(), ..text("x") };
    let sampled = |sampling| Generate { sampling, ..plain() };
    let two = vec![picture("https://a.example/a.png", "low"), picture("https://a.example/b.png", "")];
    let named = Message { name: "ann".to_owned(), ..says(Role::User, vec![text("hi")]) };
    let both =
        Generate { tools: everything().tools, response_format: Some(ResponseFormat::JsonObject), ..plain() };
    let seen = Generate {
        messages: vec![
            Message { tool_calls: vec![call("c", "look", "{}", "")], ..says(Role::Assistant, Vec::new()) },
            answered("c", vec![picture("data:image/png;base64,AA==", "")]),
        ],
        ..plain()
    };
    let cases = [
        (with_extra(r#"{"logit_bias":{"1":1}}"#), "logit_bias"),
        (with_extra(r#"{"user":"u-1"}"#), "user"),
        (with_extra(r#"{"metadata":{"a":"b"}}"#), "metadata"),
        (with_extra(r#"{"n":2}"#), "n"),
        (with_extra(r#"{"parallel_tool_calls":false}"#), "parallel_tool_calls"),
        (with_extra(r#"{"service_tier":"flex"}"#), "service_tier"),
        (with_extra(r#"{"serviceTier":"priority"}"#), "serviceTier"),
        (with_extra(r#"{"store":true}"#), "store"),
        (with_extra(r#"{"verbosity":"low"}"#), "verbosity"),
        (with_extra(r#"{"modalities":["text","audio"]}"#), "modalities"),
        (with_extra(r#"{"logprobs":true,"top_logprobs":21}"#), "top_logprobs"),
        (
            with_extra(r#"{"stream_options":{"include_obfuscation":true}}"#),
            "stream_options.include_obfuscation",
        ),
        (with_extra(r#"{"reasoning_effort":"xhigh"}"#), "reasoning_effort"),
        (
            with_extra(r#"{"generationConfig":{"candidateCount":2}}"#),
            "extra_json.generationConfig.candidateCount",
        ),
        (
            with_extra(r#"{"generation_config":{"response_modalities":["IMAGE"]}}"#),
            "extra_json.generationConfig.response_modalities",
        ),
        (
            with_extra(r#"{"generationConfig":{"speechConfig":{}}}"#),
            "extra_json.generationConfig.speechConfig",
        ),
        (sampled(Sampling { seed: Some(1 << 31), ..Sampling::default() }), "seed"),
        (sampled(Sampling { stop: vec!["x".to_owned(); 6], ..Sampling::default() }), "stop"),
        (both, "response_format"),
        (seen, "messages[1].content[0]"),
        (
            json(r#"{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}"#),
            "messages[1].content[0].type",
        ),
        (json(r#"{"type":"file","file":{"file_id":"f"}}"#), "messages[1].content[0].file.file_id"),
        (
            json(r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,AA==","filename":"a"}}"#),
            "messages[1].content[0].file.filename",
        ),
        (
            json(r#"{"inline_data":{"mime_type":"audio/wav","data":"AA=="}}"#),
            "messages[1].content[0].inline_data.mime_type",
        ),
        (url("data:audio/wav;base64,AA=="), "messages[1].content[0].image_url.url"),
        (url("https://a.example/picture"), "messages[1].content[0].image_url.url"),
        (url("gs://bucket/a.png"), "messages[1].content[0].image_url.url"),
        (said(Role::User, two, ""), "messages[1].content[1].image_url.detail"),
        (said(Role::User, vec![cached], ""), "messages[1].content[0].cache_control"),
        (said(Role::User, vec![text("x")], r#"{"audio":{"id":"a"}}"#), "messages[1].audio"),
        (
            said(
                Role::Assistant,
                vec![text("x")],
                r#"{"thinking_blocks":[{"type":"redacted_thinking","data":"x"}]}"#,
            ),
            "messages[1].thinking_blocks",
        ),
        (
            said(Role::Assistant, vec![text("x")], r#"{"extra_content":{"other":{}}}"#),
            "messages[1].extra_content.other",
        ),
        (said(Role::System, vec![picture("data:image/png;base64,AA==", "")], ""), "messages[1].content[0]"),
        (Generate { messages: vec![named], ..plain() }, "messages[0].name"),
        (Generate { messages: vec![says(Role::System, vec![text("x")])], ..plain() }, "messages"),
    ];
    for (request, field) in cases {
        let fault = encoded(&Request::Generate(request), OLD, STUDIO).unwrap_err();
        assert_eq!(
            (fault.code, fault.field.as_str(), fault.retryable),
            (Code::Unsupported, field, true),
            "{fault}"
        );
    }
    let none = Request::Generate(with_extra(r#"{"reasoning_effort":"none"}"#));
    for model in [NEW, "gemini-2.5-pro", "gemini-2.0-flash"] {
        assert_eq!(encoded(&none, model, STUDIO).unwrap_err().field, "reasoning_effort", "{model}");
    }
    let many = vec!["x"; 101];
    let of_embed = [
        (embed(&many, None, ""), "gemini-embedding-001", STUDIO, "input"),
        (embed(&["a", "b"], None, ""), "gemini-embedding-001", VERTEX, "input"),
        (embed(&["a", "b"], None, ""), "gemini-embedding-2", VERTEX, "input"),
        (embed(&["a"], None, r#"{"user":"u"}"#), "gemini-embedding-2", STUDIO, "user"),
    ];
    for (request, model, service, field) in of_embed {
        let fault = encoded(&request, model, service).unwrap_err();
        assert_eq!((fault.code, fault.field.as_str()), (Code::Unsupported, field), "{fault}");
    }
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    let tool = |extra: &str, arguments: &str| {
        let called = Message {
            tool_calls: vec![call("c", "look", arguments, extra)],
            ..says(Role::Assistant, Vec::new())
        };
        Generate { messages: vec![called], ..plain() }
    };
    let stray = Generate { messages: vec![answered("c", vec![text("x")])], ..plain() };
    let limited = |extra: &str| Generate {
        sampling: Sampling { max_tokens: Some(9), ..Sampling::default() },
        ..with_extra(extra)
    };
    let mut schema = plain();
    schema.tools = everything().tools;
    schema.tools[0].parameters_json = "{\"type\":}".to_owned();
    let part_with = |extra: &str| {
        let part = Part { extra_json: extra.to_owned(), ..text("x") };
        said(Role::User, vec![part], "")
    };
    let cases = [
        (with_extra("{broken}"), "extra_json"),
        (with_extra(r#"{"model":"dearer"}"#), "extra_json.model"),
        (with_extra(r#"{"max_tokens":9}"#), "extra_json.max_tokens"),
        (with_extra(r#"{"contents":[]}"#), "extra_json.contents"),
        (with_extra(r#"{"system_instruction":{}}"#), "extra_json.system_instruction"),
        (with_extra(r#"{"tools":[{"googleSearch":{}}]}"#), "extra_json.tools"),
        (with_extra(r#"{"tool_config":{}}"#), "extra_json.tool_config"),
        (with_extra(r#"{"top_logprobs":2}"#), "top_logprobs"),
        (with_extra(r#"{"reasoning_effort":3}"#), "reasoning_effort"),
        (with_extra(r#"{"generationConfig":7}"#), "extra_json.generationConfig"),
        (
            limited(r#"{"generationConfig":{"maxOutputTokens":8}}"#),
            "extra_json.generationConfig.maxOutputTokens",
        ),
        (
            limited(r#"{"generation_config":{"max_output_tokens":8}}"#),
            "extra_json.generationConfig.max_output_tokens",
        ),
        (tool("", "[1]"), "messages[0].tool_calls[0].function.arguments"),
        (tool("[]", "{}"), "messages[0].tool_calls[0]"),
        (stray, "messages[0].tool_call_id"),
        (schema, "tools[0].parameters"),
        (part_with(r#"{"text":"other"}"#), "messages[1].content[0].text"),
        (
            said(Role::User, vec![picture("data:image/png,AA", "")], ""),
            "messages[1].content[0].image_url.url",
        ),
        (said(Role::User, vec![picture("data:;base64,AA", "")], ""), "messages[1].content[0].image_url.url"),
    ];
    for (request, field) in cases {
        let fault = encoded(&Request::Generate(request), OLD, STUDIO).unwrap_err();
        assert_eq!((fault.code, fault.field.as_str()), (Code::InvalidArgument, field), "{fault}");
    }
}
