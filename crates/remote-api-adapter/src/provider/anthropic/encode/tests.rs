use domain::{
    fault::Code,
    inference::{
        Embed, Generate, Message, Part, PartContent, Request, ResponseFormat, Role, Sampling, ToolCall,
        ToolChoice,
    },
};

use super::super::golden::{
    asking, call, encode_only, encoded, json, part, picture, schema, tools, with_extra,
};
use super::*;
use crate::provider::golden::{envelope, plain, says, text};

#[test]
fn a_bound_comes_from_the_caller_else_from_the_deployment_else_from_here() {
    let mut request = plain();
    let bound = |request: &Generate, own| {
        let target = Target {
            upstream_model: "claude-opus-5".to_owned(),
            max_output_tokens: own,
            ..Target::default()
        };
        let request = Request::Generate(request.clone());
        let body = encode(Call { target: &target, request: &request }).unwrap();
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()["max_tokens"].as_u64().unwrap()
    };
    assert_eq!((bound(&request, None), bound(&request, Some(500))), (32_000, 500));
    request.sampling.max_tokens = Some(7);
    assert_eq!(bound(&request, Some(500)), 7);
}

fn sampled(change: impl FnOnce(&mut Sampling)) -> Generate {
    let mut request = plain();
    change(&mut request.sampling);
    request
}

fn with_part(part: Part) -> Generate {
    Generate { messages: vec![says(Role::User, vec![part])], ..plain() }
}

fn with_message(message: Message) -> Generate {
    Generate { messages: vec![message, says(Role::User, vec![text("so?")])], ..plain() }
}

#[test]
fn an_hour_in_the_cache_is_asked_for_where_its_price_is_known() {
    let hour = r#"{"cache_control":{"type":"ephemeral","ttl":"1h"}}"#;
    let tool = Tool { extra_json: hour.to_owned(), ..tools().remove(0) };
    let request = Generate { tools: vec![tool], ..with_part(with_extra(text("a"), hour)) };
    let request = Request::Generate(request);
    let target = |prices_cache_hour| Target {
        upstream_model: "claude-haiku-4-5".to_owned(),
        prices_cache_hour,
        ..Target::default()
    };
    let body = encode(Call { target: &target(true), request: &request }).unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(sent["tools"][0]["cache_control"]["ttl"], "1h");
    assert_eq!(sent["messages"][0]["content"][0]["cache_control"]["ttl"], "1h");
    let fault = encode(Call { target: &target(false), request: &request }).unwrap_err();
    assert_eq!(
        (fault.code, fault.field.as_str()),
        (Code::Unsupported, "messages[0].content[0].cache_control.ttl")
    );
    let Request::Generate(alone) = request else { panic!("{request:?}") };
    let alone = Request::Generate(Generate { messages: plain().messages, ..alone });
    let fault = encode(Call { target: &target(false), request: &alone }).unwrap_err();
    assert_eq!(fault.field, "tools[0].cache_control.ttl");
}

#[test]
fn what_anthropic_cannot_do_is_refused_by_name_and_may_go_elsewhere() {
    let old = "claude-haiku-4-5";
    let new = "claude-opus-5-5";
    let thinking = |request: Generate| Generate {
        envelope: envelope(r#"{"reasoning_effort":"low"}"#),
        tools: tools(),
        ..request
    };
    let forced = Generate { tools: tools(), tool_choice: Some(ToolChoice::Required), ..plain() };
    let begun = Generate {
        messages: vec![says(Role::User, vec![text("a")]), says(Role::Assistant, vec![text("b")])],
        ..plain()
    };
    let named = Message { name: "ann".to_owned(), ..says(Role::User, vec![text("a")]) };
    let low = PartContent::ImageUrl { url: "https://example.com/a.png".to_owned(), detail: "low".to_owned() };
    let assistant =
        |extra: &str| Message { extra_json: extra.to_owned(), ..says(Role::Assistant, vec![text("a")]) };
    let hour = r#"{"cache_control":{"type":"ephemeral","ttl":"1h"}}"#;
    let cases = [
        (old, sampled(|s| s.temperature = Some(1.5)), "temperature"),
        (new, sampled(|s| s.temperature = Some(0.5)), "temperature"),
        (old, thinking(sampled(|s| s.temperature = Some(0.5))), "temperature"),
        (new, sampled(|s| s.top_p = Some(0.9)), "top_p"),
        (old, thinking(sampled(|s| s.top_p = Some(0.9))), "top_p"),
        (old, sampled(|s| (s.temperature, s.top_p) = (Some(0.5), Some(0.9))), "top_p"),
        (new, sampled(|s| s.top_k = Some(4)), "top_k"),
        (old, thinking(sampled(|s| s.top_k = Some(4))), "top_k"),
        (old, sampled(|s| s.seed = Some(4)), "seed"),
        (old, sampled(|s| s.frequency_penalty = Some(0.1)), "frequency_penalty"),
        (old, sampled(|s| s.presence_penalty = Some(-0.1)), "presence_penalty"),
        (old, sampled(|s| s.stop = vec!["END".to_owned(), "\n\n".to_owned()]), "stop[1]"),
        (new, forced.clone(), "tool_choice"),
        (old, thinking(forced), "tool_choice"),
        (new, begun.clone(), "messages[1].role"),
        (old, thinking(begun), "messages[1].role"),
        (old, Generate { response_format: Some(ResponseFormat::JsonObject), ..plain() }, "response_format"),
        ("claude-sonnet-4", Generate { response_format: Some(schema()), ..plain() }, "response_format"),
        (old, asking(r#"{"reasoning_effort":"xhigh"}"#), "reasoning_effort"),
        ("claude-opus-4-6", asking(r#"{"reasoning_effort":"xhigh"}"#), "reasoning_effort"),
        (new, asking(r#"{"reasoning_effort":"none"}"#), "reasoning_effort"),
        (
            old,
            Generate {
                envelope: envelope(r#"{"reasoning_effort":"low"}"#),
                ..sampled(|s| s.max_tokens = Some(1_024))
            },
            "reasoning_effort",
        ),
        (old, asking(r#"{"n":2}"#), "n"),
        (old, asking(r#"{"logprobs":true}"#), "logprobs"),
        (old, asking(r#"{"top_logprobs":3}"#), "top_logprobs"),
        (old, asking(r#"{"logit_bias":{"1":2}}"#), "logit_bias"),
        (old, asking(r#"{"verbosity":"low"}"#), "verbosity"),
        (old, asking(r#"{"store":true}"#), "store"),
        (old, asking(r#"{"modalities":["text", "audio"]}"#), "modalities"),
        (
            old,
            asking(r#"{"stream_options":{"include_obfuscation":true}}"#),
            "stream_options.include_obfuscation",
        ),
        (old, asking(r#"{"metadata":{"order":"7"}}"#), "metadata.order"),
        (old, asking(r#"{"user":"a","safety_identifier":"b"}"#), "safety_identifier"),
        (old, asking(r#"{"service_tier":"flex"}"#), "service_tier"),
        (old, asking(r#"{"speed":"fast"}"#), "speed"),
        (old, asking(r#"{"inference_geo":"us"}"#), "inference_geo"),
        (old, asking(r#"{"fallbacks":[{"model":"claude-opus-5"}]}"#), "fallbacks"),
        (old, asking(hour), "cache_control.ttl"),
        (old, with_part(with_extra(text("a"), hour)), "messages[0].content[0].cache_control.ttl"),
        (
            old,
            with_part(json(&format!(
                r#"{{"type":"tool_result","content":[{{"type":"text","text":"a",{}]}}"#,
                &hour[1..]
            ))),
            "messages[0].content[0].content.cache_control.ttl",
        ),
        (old, with_message(assistant(hour)), "messages[0].cache_control.ttl"),
        (old, with_message(assistant(r#"{"audio":{"id":"a"}}"#)), "messages[0].audio"),
        (old, with_message(named), "messages[0].name"),
        (
            old,
            with_message(says(Role::System, vec![picture("https://example.com/a.png")])),
            "messages[0].content[0]",
        ),
        (old, with_part(part(low)), "messages[0].content[0].image_url.detail"),
        (old, with_part(picture("data:image/tiff;base64,AA==")), "messages[0].content[0].image_url.url"),
        (old, with_part(picture("data:image/png,AA")), "messages[0].content[0].image_url.url"),
        (old, with_part(picture("http://example.com/a.png")), "messages[0].content[0].image_url.url"),
        (old, with_part(json(r#"{"type":"input_audio","input_audio":{}}"#)), "messages[0].content[0]"),
        (old, with_part(json(r#"{"type":"file","file":{"file_id":"f"}}"#)), "messages[0].content[0].file"),
        (
            old,
            with_part(json(r#"{"type":"file","file":{"file_data":"data:text/csv;base64,AA=="}}"#)),
            "messages[0].content[0].file.file_data",
        ),
    ];
    for (model, request, field) in cases {
        let fault = encoded(&Request::Generate(request), model).expect_err(field);
        assert_eq!(
            (fault.field.as_str(), fault.code, fault.retryable),
            (field, Code::Unsupported, true),
            "{fault}"
        );
        assert!(fault.message.contains("expected"), "{fault}");
    }
    let embed = Embed { envelope: envelope(""), inputs: vec!["a".to_owned()], dimensions: None };
    let fault = encoded(&Request::Embed(embed), old).unwrap_err();
    assert_eq!((fault.field.as_str(), fault.code), ("model", Code::Unsupported));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let called = |extra: &str, arguments: &str| {
        let call = ToolCall { extra_json: extra.to_owned(), ..call("t", "weather", arguments) };
        with_message(Message { tool_calls: vec![call], ..says(Role::Assistant, Vec::new()) })
    };
    let assistant = |extra: &str| {
        with_message(Message { extra_json: extra.to_owned(), ..says(Role::Assistant, vec![text("a")]) })
    };
    let twice = Message {
        extra_json: r#"{"cache_control":{}}"#.to_owned(),
        ..says(Role::User, vec![with_extra(text("a"), r#"{"cache_control":{}}"#)])
    };
    let mut broken_tool = Generate { tools: tools(), ..plain() };
    broken_tool.tools[0].parameters_json = "{\"type\":}".to_owned();
    let cases = [
        (asking("{broken}"), "extra_json"),
        (asking(r#"{"model":"dearer"}"#), "extra_json.model"),
        (asking(r#"{"max_tokens":9}"#), "extra_json.max_tokens"),
        (asking(r#"{"max_completion_tokens":9}"#), "extra_json.max_completion_tokens"),
        (asking(r#"{"tools":[]}"#), "extra_json.tools"),
        (asking(r#"{"stream":true}"#), "extra_json.stream"),
        (asking(r#"{"future":1,"future":2}"#), "extra_json.future"),
        (asking(r#"{"reasoning_effort":"much"}"#), "reasoning_effort"),
        (asking(r#"{"reasoning_effort":3}"#), "reasoning_effort"),
        (asking(r#"{"reasoning_effort":"low","thinking":{"type":"adaptive"}}"#), "reasoning_effort"),
        (asking(r#"{"thinking":7}"#), "thinking"),
        (asking(r#"{"thinking":{"type":"enabled","budget_tokens":20000}}"#), "thinking.budget_tokens"),
        (asking(r#"{"thinking":{"type":"enabled","budget_tokens":100}}"#), "thinking.budget_tokens"),
        (asking(r#"{"parallel_tool_calls":"no"}"#), "parallel_tool_calls"),
        (asking(r#"{"output_config":[]}"#), "output_config"),
        (
            Generate { response_format: Some(schema()), ..asking(r#"{"output_config":{"format":{}}}"#) },
            "extra_json.output_config.format",
        ),
        (called("", "{\"city\":"), "messages[0].tool_calls[0].function.arguments"),
        (called("", "[1]"), "messages[0].tool_calls[0].function.arguments"),
        (called(r#"{"id":"other"}"#, ""), "messages[0].tool_calls[0].id"),
        (assistant(r#"{"thinking_blocks":{}}"#), "messages[0].thinking_blocks"),
        (assistant("{\"a\":}"), "messages[0]"),
        (with_message(twice), "messages[0].cache_control"),
        (with_part(with_extra(text("a"), r#"{"text":"b"}"#)), "messages[0].content[0].text"),
        (
            with_part(with_extra(json(r#"{"type":"document"}"#), r#"{"type":"x"}"#)),
            "messages[0].content[0].type",
        ),
        (with_part(json(r#"{"type":"file","file":7}"#)), "messages[0].content[0]"),
        (with_part(text("")), "messages"),
        (Generate { messages: vec![says(Role::System, vec![text("a")])], ..plain() }, "messages"),
        (broken_tool, "tools[0].parameters"),
    ];
    for (request, field) in cases {
        let fault = encoded(&Request::Generate(request), "claude-haiku-4-5").expect_err(field);
        assert_eq!((fault.field.as_str(), fault.code), (field, Code::InvalidArgument), "{fault}");
    }
}

#[test]
fn blocks_nested_without_end_do_no_harm() {
    let deep = format!("{}1{}", r#"{"type":"tool_result","content":"#.repeat(10_000), "}".repeat(10_000));
    let request = Request::Generate(with_part(json(&deep)));
    assert!(encode_only(&request, "claude-haiku-4-5").is_ok());
}
