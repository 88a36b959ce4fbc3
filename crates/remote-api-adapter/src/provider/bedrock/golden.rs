//! Golden files of the dialect, see `provider::golden`.
//!
//! Streams are kept as lines of `<message type> <event type> <payload>` and framed by AWS's own crate.

use std::collections::HashSet;

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message as Frame};
use domain::{
    fault::{Code, Fault},
    inference::{
        Embed, Generate, Message, Part, PartContent, Request, ResponseFormat, Role, Sampling, ToolCall,
        ToolChoice, Translate,
    },
};
use service_runtime::Clock;
use wire::v1;

use super::{Bedrock, decode, invoke, stream::Decoder};
use crate::provider::{
    Call, Completion, Dialect as _, Target,
    golden::{self, Golden, envelope, says, text},
};

pub(crate) const GOLDEN: Golden = Golden("bedrock");

const CLAUDE: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
const NLLB: &str = "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/nllb-200";

fn dialect() -> Bedrock {
    Bedrock {
        name: "acme".to_owned(),
        base_url: "https://bedrock-runtime.eu-central-1.amazonaws.com".to_owned(),
        region: "eu-central-1".to_owned(),
        keys: None,
        translators: HashSet::from([NLLB.to_owned()]),
        clock: Clock::system(),
    }
}

fn encoded(request: &Request, model: &str) -> Result<String, Fault> {
    let target = Target { upstream_model: model.to_owned(), ..Target::default() };
    let (prepared, _) = dialect().prepare(Call { target: &target, request })?;
    let body = std::str::from_utf8(&prepared.body).unwrap();
    serde_json::from_str::<serde_json::Value>(body).unwrap_or_else(|error| panic!("{error} in {body}"));
    Ok(format!("POST {}\naccept: {}\n{body}\n", prepared.url.path(), prepared.accept.to_str().unwrap()))
}

fn json(json: &str) -> Part {
    Part { content: PartContent::Json(json.to_owned()), extra_json: String::new() }
}

fn called(id: &str, name: &str, arguments: &str, extra: &str) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments_json: arguments.to_owned(),
        extra_json: extra.to_owned(),
    }
}

/// A conversation with all that Converse has: instructions, pictures, documents, reasoning, parallel calls and their results.
fn conversation() -> Vec<Message> {
    let cached = r#"{"cache_control":{"type":"ephemeral","ttl":"1h"}}"#;
    let picture = PartContent::ImageUrl {
        url: "data:image/png;base64,iVBORw0KGgo=".to_owned(),
        detail: "auto".to_owned(),
    };
    vec![
        says(Role::System, vec![Part { extra_json: cached.to_owned(), ..text("be brief") }]),
        says(Role::Developer, vec![text("in German")]),
        says(
            Role::User,
            vec![
                text("what is this?"),
                Part { content: picture, extra_json: String::new() },
                json(r#"{"document":{"format":"pdf","name":"a","source":{"s3Location":{"uri":"s3://bucket/a.pdf"}}}}"#),
                json(r#"{"type":"file","file":{"filename":"b.pdf","file_data":"data:application/pdf;base64,JVBERi0="}}"#),
                json(r#"{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}"#),
                json(r#"{"type":"guardContent","guardContent":{"text":{"text":"check me"}}}"#),
            ],
        ),
        // another provider said this, and its signature of the call means nothing here
        Message {
            tool_calls: vec![
                called("call_1", "weather", r#"{"city": "Köln"}"#, r#"{"extra_content":{"google":{}},"toolUseType":"server_tool_use"}"#),
                called(
                    "call_2",
                    "now",
                    "",
                    r#"{"thinking_blocks":[{"type":"thinking","thinking":"and","signature":"YW5k"}]}"#,
                ),
            ],
            extra_json: concat!(
                r#"{"thinking_blocks":[{"type":"thinking","thinking":"hm \"so\"","signature":"c2ln"},"#,
                r#"{"type":"redacted_thinking","data":"cmVk"}],"reasoning_content":"hm \"so\"","refusal":null,"annotations":[]}"#
            )
            .to_owned(),
            ..says(Role::Assistant, vec![text("")])
        },
        Message {
            tool_call_id: "call_1".to_owned(),
            name: "weather".to_owned(),
            extra_json: r#"{"status":"success"}"#.to_owned(),
            ..says(Role::Tool, vec![Part { extra_json: r#"{"cache_control":{"type":"ephemeral"}}"#.to_owned(), ..text("rain") }])
        },
        Message {
            tool_call_id: "call_2".to_owned(),
            extra_json: r#"{"is_error":true}"#.to_owned(),
            ..says(Role::Tool, vec![json(r#"{"json":{"time":"12:00"}}"#)])
        },
        says(Role::System, vec![text("be quick")]),
        Message {
            extra_json: r#"{"refusal":"I will not.","reasoning_content":"unsigned","annotations":[{}]}"#.to_owned(),
            ..says(Role::Assistant, Vec::new())
        },
        says(Role::User, vec![text("and now?")]),
    ]
}

fn everything() -> Generate {
    Generate {
        envelope: envelope(concat!(
            r#"{"user":"u-1","metadata":{"team":"search"},"reasoning_effort":"medium","parallel_tool_calls":false,"#,
            r#""service_tier":"flex","n":1,"logprobs":false,"stream_options":{"include_usage":false},"store":null,"#,
            r#""guardrailConfig":{"guardrailIdentifier":"g","guardrailVersion":"1"},"performanceConfig":{"latency":"standard"},"#,
            r#""additionalModelResponseFieldPaths":["/stop_sequence"],"additionalModelRequestFields":{"anthropic_beta":["x"]},"#,
            r#""big":12345678901234567890123}"#
        )),
        messages: conversation(),
        sampling: Sampling {
            max_tokens: Some(8_192),
            temperature: Some(0.7),
            top_p: Some(0.95),
            top_k: Some(40),
            stop: vec!["\n\n".to_owned(), "END".to_owned()],
            frequency_penalty: Some(0.0),
            ..Sampling::default()
        },
        tools: golden::everything().tools,
        tool_choice: Some(ToolChoice::Auto),
        response_format: Some(ResponseFormat::JsonSchema {
            name: "weather".to_owned(),
            schema_json: r#"{"type":"object", "properties":{"a \"b\"":{"type":"string"}}}"#.to_owned(),
            strict: Some(true),
        }),
        stream: true,
    }
}

fn plain() -> Generate {
    golden::plain()
}

fn embed(inputs: &[&str], dimensions: Option<u32>, extra: &str) -> Request {
    Request::Embed(Embed {
        envelope: envelope(extra),
        inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
        dimensions,
    })
}

fn translate(from: Option<&str>, to: &str, extra: &str) -> Request {
    Request::Translate(Translate {
        envelope: envelope(extra),
        text: "Guten Tag, \"Welt\"".to_owned(),
        source_language: from.map(str::to_owned),
        target_language: to.to_owned(),
        stream: true,
    })
}

#[test]
fn requests_become_converse_and_invoke_bodies() {
    let tools = golden::everything().tools;
    let required = Generate {
        tool_choice: Some(ToolChoice::Required),
        tools: tools.clone(),
        sampling: Sampling { top_k: Some(5), ..Sampling::default() },
        ..plain()
    };
    let named =
        Generate { tool_choice: Some(ToolChoice::Named("now".to_owned())), tools: tools.clone(), ..plain() };
    let none = Generate { tool_choice: Some(ToolChoice::None), tools, ..plain() };
    let profile =
        "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/global.anthropic.claude-opus-4-6-v1";
    let thought = Message {
        extra_json: r#"{"reasoning_content":"it is 4"}"#.to_owned(),
        ..says(Role::Assistant, vec![text("4")])
    };
    let thought =
        Generate { messages: [plain().messages, vec![thought], plain().messages].concat(), ..plain() };
    let effort = Generate { envelope: envelope(r#"{"reasoning_effort":"high"}"#), ..plain() };
    let cases = [
        ("plain", Request::Generate(plain()), "meta.llama3-3-70b-instruct-v1:0"),
        ("everything", Request::Generate(everything()), CLAUDE),
        ("required-nova", Request::Generate(required), "us.amazon.nova-pro-v1:0"),
        ("named", Request::Generate(named), CLAUDE),
        ("no-tool", Request::Generate(none), CLAUDE),
        ("thought-open-weights", Request::Generate(thought), "openai.gpt-oss-120b-1:0"),
        ("effort-profile", Request::Generate(effort), profile),
        ("translate", translate(Some("de"), "pt-BR", ""), CLAUDE),
        ("translate-nllb", translate(Some("de-AT"), "zh-TW", r#"{"num_beams":4}"#), NLLB),
        ("translate-nllb-bound", translate(Some("de"), "fr", r#"{"max_length":1000}"#), NLLB),
        (
            "embed-titan",
            embed(&["zwölf"], Some(256), r#"{"normalize":false}"#),
            "amazon.titan-embed-text-v2:0",
        ),
        ("embed-cohere-3", embed(&["one", "two"], None, ""), "cohere.embed-multilingual-v3"),
        (
            "embed-cohere-4",
            embed(&["one", "two"], Some(512), r#"{"input_type":"search_query","truncate":"LEFT"}"#),
            "eu.cohere.embed-v4:0",
        ),
    ];
    for (name, request, model) in cases {
        GOLDEN.compare("encode", name, &encoded(&request, model).unwrap());
    }
}

/// What one change to a request, made for `model`, is refused for.
fn refused(model: &str, request: &Request) -> (Code, String, bool) {
    let fault = encoded(request, model).unwrap_err();
    (fault.code, fault.field, fault.retryable)
}

#[test]
fn what_bedrock_cannot_do_is_refused_by_name_and_may_go_elsewhere() {
    let with = |extra: &str| Generate { envelope: envelope(extra), ..plain() };
    let sampled = |sampling: Sampling| Generate { sampling, ..plain() };
    let said = |part: Part| Generate { messages: vec![says(Role::User, vec![part])], ..plain() };
    let image = |url: &str, detail: &str| {
        let content = PartContent::ImageUrl { url: url.to_owned(), detail: detail.to_owned() };
        said(Part { content, extra_json: String::new() })
    };
    let message = |role: Role, extra: &str| {
        let message = Message { extra_json: extra.to_owned(), ..says(role, vec![text("a")]) };
        Generate { messages: vec![message], ..plain() }
    };
    let tools = golden::everything().tools;
    let history =
        || Message { tool_calls: vec![called("c", "now", "{}", "")], ..says(Role::Assistant, Vec::new()) };
    let cases = [
        (with(r#"{"n":2}"#), "n"),
        (with(r#"{"logprobs":true}"#), "logprobs"),
        (with(r#"{"logit_bias":{"1":2}}"#), "logit_bias"),
        (with(r#"{"verbosity":"low"}"#), "verbosity"),
        (with(r#"{"prompt_cache_key":"k"}"#), "prompt_cache_key"),
        (with(r#"{"service_tier":"priority"}"#), "service_tier"),
        (with(r#"{"serviceTier":{"type":"priority"}}"#), "serviceTier"),
        (with(r#"{"stream_options":{"include_obfuscation":true}}"#), "stream_options.include_obfuscation"),
        (with(r#"{"reasoning_effort":"lots"}"#), "reasoning_effort"),
        (sampled(Sampling { seed: Some(1), ..Sampling::default() }), "seed"),
        (sampled(Sampling { presence_penalty: Some(0.1), ..Sampling::default() }), "presence_penalty"),
        (image("https://example.com/a.png", ""), "messages[0].content[0].image_url.url"),
        (image("data:image/png;base64,AA==", "low"), "messages[0].content[0].image_url.detail"),
        (image("data:image/tiff;base64,AA==", ""), "messages[0].content[0].image_url.url"),
        (said(json(r#"{"type":"refusal","refusal":"no"}"#)), "messages[0].content[0].type"),
        (said(json(r#"{"type":"file","file":{"file_id":"f"}}"#)), "messages[0].content[0].file"),
        (said(Part { extra_json: r#"{"x":1}"#.to_owned(), ..text("a") }), "messages[0].content[0].x"),
        (
            said(Part { extra_json: r#"{"cache_control":{"type":"eternal"}}"#.to_owned(), ..text("a") }),
            "messages[0].content[0].cache_control",
        ),
        (message(Role::User, r#"{"weight":1}"#), "messages[0].weight"),
        (message(Role::Assistant, r#"{"audio":{"id":"a"}}"#), "messages[0].audio"),
        (
            Generate {
                messages: vec![Message { name: "ann".to_owned(), ..says(Role::User, vec![text("a")]) }],
                ..plain()
            },
            "messages[0].name",
        ),
        (Generate { response_format: Some(ResponseFormat::JsonObject), ..plain() }, "response_format"),
        (Generate { messages: vec![history()], ..plain() }, "tools"),
        (
            Generate {
                messages: vec![history()],
                tools: tools.clone(),
                tool_choice: Some(ToolChoice::None),
                ..plain()
            },
            "tool_choice",
        ),
        (
            Generate {
                tools: tools.clone(),
                tool_choice: Some(ToolChoice::Required),
                ..with(r#"{"parallel_tool_calls":false}"#)
            },
            "parallel_tool_calls",
        ),
    ];
    for (request, field) in cases {
        let expected = (Code::Unsupported, field.to_owned(), true);
        assert_eq!(refused(CLAUDE, &Request::Generate(request)), expected);
    }
    let top_k = sampled(Sampling { top_k: Some(1), ..Sampling::default() });
    let sequential = Generate { tools, ..with(r#"{"parallel_tool_calls":false}"#) };
    let others = [
        ("meta.llama3-3-70b-instruct-v1:0", Request::Generate(top_k), "top_k"),
        ("us.amazon.nova-pro-v1:0", Request::Generate(sequential), "parallel_tool_calls"),
        (NLLB, translate(None, "fr", ""), "source_language"),
        (NLLB, translate(Some("de"), "tlh", ""), "target_language"),
        ("amazon.titan-embed-text-v2:0", embed(&["a", "b"], None, ""), "inputs"),
        ("amazon.titan-embed-text-v1", embed(&["a"], Some(256), ""), "dimensions"),
        ("cohere.embed-english-v3", embed(&["a"], Some(256), ""), "dimensions"),
        ("cohere.embed-english-v3", embed(&["a"], None, r#"{"user":"u"}"#), "user"),
        ("amazon.nova-2-multimodal-embeddings-v1:0", embed(&["a"], None, ""), "model"),
    ];
    for (model, request, field) in others {
        assert_eq!(refused(model, &request), (Code::Unsupported, field.to_owned(), true));
    }
}

#[test]
fn what_nobody_could_read_is_the_callers_mistake() {
    let with = |extra: &str| Request::Generate(Generate { envelope: envelope(extra), ..everything() });
    let arguments = |arguments: &str| {
        let message = Message {
            tool_calls: vec![called("c", "now", arguments, "")],
            ..says(Role::Assistant, Vec::new())
        };
        Request::Generate(Generate { messages: vec![message], tools: golden::everything().tools, ..plain() })
    };
    let thinking = Message {
        extra_json: r#"{"thinking_blocks":[{"type":"thinking","signature":"s"}]}"#.to_owned(),
        ..says(Role::Assistant, vec![text("a")])
    };
    let cases = [
        (with(r#"{"model":"dearer"}"#), "extra_json.model"),
        (with(r#"{"max_tokens":9}"#), "extra_json.max_tokens"),
        (with(r#"{"inferenceConfig":{"maxTokens":9}}"#), "extra_json.inferenceConfig"),
        (with(r#"{"toolConfig":{}}"#), "extra_json.toolConfig"),
        (with(r#"{"outputConfig":{}}"#), "extra_json.outputConfig"),
        (with(r#"{"user":"u","requestMetadata":{"a":"b"}}"#), "extra_json.requestMetadata"),
        (with(r#"{"reasoning_effort":"low","thinking":{"type":"disabled"}}"#), "extra_json.thinking"),
        (with(r#"{"a":1,"additionalModelRequestFields":{"a":2}}"#), "additionalModelRequestFields.a"),
        (with(r#"{"metadata":{"a":1}}"#), "metadata.a"),
        (with(r#"{"parallel_tool_calls":"no"}"#), "extra_json.parallel_tool_calls"),
        (with("{broken}"), "extra_json"),
        (arguments("[1]"), "messages[0].tool_calls[0].arguments"),
        (arguments("{\"a\":"), "messages[0].tool_calls[0].arguments"),
        (Request::Generate(Generate { messages: vec![thinking], ..plain() }), "messages[0].thinking_blocks"),
        (
            Request::Generate(Generate { messages: vec![says(Role::User, vec![text("")])], ..plain() }),
            "messages[0].content",
        ),
        (Request::Generate(Generate { tool_choice: Some(ToolChoice::Required), ..plain() }), "tool_choice"),
    ];
    for (request, field) in cases {
        assert_eq!(refused(CLAUDE, &request), (Code::InvalidArgument, field.to_owned(), false));
    }
    let repeated = [
        ("amazon.titan-embed-text-v2:0", embed(&["a"], None, r#"{"inputText":"b"}"#), "extra_json.inputText"),
        ("cohere.embed-v4:0", embed(&["a"], None, r#"{"texts":["b"]}"#), "extra_json.texts"),
        (NLLB, translate(Some("de"), "fr", r#"{"tgt_lang":"eng_Latn"}"#), "extra_json.tgt_lang"),
    ];
    for (model, request, field) in repeated {
        assert_eq!(refused(model, &request), (Code::InvalidArgument, field.to_owned(), false));
    }
}

#[test]
fn whole_answers_become_pieces_and_an_end() {
    for (name, body) in GOLDEN.recorded("decode", "json") {
        let outcome = match name.split('-').next() {
            Some("embeddings") => invoke::embed::decode("acme", &body, 2),
            Some("titan") => invoke::embed::decode("acme", &body, 1),
            Some("translation") => invoke::translate::decode("acme", &body),
            _ => decode::converse("acme", &mut decode::Tally::default(), &body),
        };
        assert_eq!(outcome.is_err(), name.contains("broken"), "{name}");
        GOLDEN.compare("decode", &name, &format!("{outcome:#?}\n"));
    }
}

#[test]
fn streams_become_pieces_and_an_end() {
    for (name, bytes) in streams() {
        let (items, outcome) = read(&[&bytes]);
        assert_eq!(outcome.is_err(), name.contains("broken"), "{name}");
        GOLDEN.compare("stream", &name, &format!("{items:#?}\n{outcome:#?}\n"));
    }
}

/// The recorded streams, framed.
pub(super) fn streams() -> Vec<(String, Vec<u8>)> {
    let lines = GOLDEN.recorded("stream", "events").into_iter();
    lines.map(|(name, lines)| (name, framed(std::str::from_utf8(&lines).unwrap()))).collect()
}

/// Frames of lines `<message type> <event type> <payload>`.
pub(crate) fn framed(lines: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let (message_type, kind) = (words.next().unwrap(), words.next().unwrap());
        let payload = words.next().unwrap_or_default();
        let header = |name: &str, value: &str| {
            Header::new(name.to_owned(), HeaderValue::String(value.to_owned().into()))
        };
        let kind_header = match message_type {
            "error" => ":error-code".to_owned(),
            other => format!(":{other}-type"),
        };
        let mut frame = Frame::new(payload.to_owned()).add_header(header(":message-type", message_type));
        frame = frame.add_header(header(&kind_header, kind));
        frame = if message_type == "error" {
            frame.add_header(header(":error-message", payload))
        } else {
            frame.add_header(header(":content-type", "application/json"))
        };
        write_message_to(&frame, &mut out).unwrap();
    }
    out
}

/// Reads a stream that arrives in these pieces and then ends properly.
pub(super) fn read(pieces: &[&[u8]]) -> (Vec<v1::DeltaItem>, Result<Completion, Fault>) {
    golden::read(&mut Decoder::new("acme"), pieces)
}
