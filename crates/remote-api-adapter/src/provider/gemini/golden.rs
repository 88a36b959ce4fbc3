//! Golden files of Google's words, see `provider::golden`.

use domain::{
    fault::Fault,
    inference::{
        Embed, Generate, Message, Part, PartContent, Request, ResponseFormat, Role, Sampling, Tool, ToolCall,
        ToolChoice, Translate,
    },
};
use wire::v1;

use super::{
    decode,
    encode::{self, Service},
    stream::decoder,
};
use crate::provider::{
    Call, Completion, Reader as _, Target,
    golden::{self, Golden, envelope, everything, plain, says, text},
};

pub(super) const GOLDEN: Golden = Golden("gemini");
pub(super) const STUDIO: Service = Service::AiStudio;
pub(super) const VERTEX: Service = Service::Vertex;
pub(super) const NEW: &str = "gemini-3.5-flash";
pub(super) const OLD: &str = "gemini-2.5-flash";

pub(super) fn encoded(request: &Request, model: &str, service: Service) -> Result<String, Fault> {
    let target = Target { upstream_model: model.to_owned(), ..Target::default() };
    let encoded = encode::encode(Call { target: &target, request }, service)?;
    let body = String::from_utf8(encoded.body).unwrap();
    serde_json::from_str::<serde_json::Value>(&body).unwrap_or_else(|error| panic!("{error} in {body}"));
    Ok(format!("POST {model}:{}\n{body}\n", encoded.method.name()))
}

pub(super) fn part(content: PartContent) -> Part {
    Part { content, extra_json: String::new() }
}

pub(super) fn picture(url: &str, detail: &str) -> Part {
    part(PartContent::ImageUrl { url: url.to_owned(), detail: detail.to_owned() })
}

pub(super) fn call(id: &str, name: &str, arguments: &str, extra_json: &str) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments_json: arguments.to_owned(),
        extra_json: extra_json.to_owned(),
    }
}

pub(super) fn answered(id: &str, content: Vec<Part>) -> Message {
    Message { tool_call_id: id.to_owned(), ..says(Role::Tool, content) }
}

pub(super) fn with_extra(extra_json: &str) -> Generate {
    Generate { envelope: envelope(extra_json), ..plain() }
}

/// Every field that the domain has, as far as Google has a place for it, and carried fields on every level.
fn all_that_is_offered() -> Generate {
    let thought = Message {
        tool_calls: vec![call(
            "call_1",
            "weather",
            r#"{"city": "Köln"}"#,
            r#"{"extra_content": {"google": {"thought_signature": "c2ln"}}}"#,
        )],
        extra_json: r#"{"reasoning_content":"because","refusal":null}"#.to_owned(),
        ..says(Role::Assistant, vec![text("")])
    };
    let native = r#"{"fileData":{"mimeType":"video/mp4","fileUri":"https://example.com/a.mp4"}}"#;
    Generate {
        envelope: envelope(
            r#"{"reasoning_effort":"high","logprobs":true,"top_logprobs":3,"n":1,"parallel_tool_calls":true,
            "service_tier":"default","store":false,"metadata":null,"stream_options":{"include_usage":false},
            "safetySettings":[{"category":"HARM_CATEGORY_HARASSMENT","threshold":"BLOCK_NONE"}],
            "generation_config":{"audio_timestamp":true,"candidateCount":1}}"#,
        ),
        messages: vec![
            says(Role::System, vec![text("be brief")]),
            says(Role::User, vec![text("a picture:"), picture("https://example.com/a.PNG?x=1", "low")]),
            says(
                Role::User,
                vec![
                    picture("data:image/webp;base64,AAECAw==", "low"),
                    Part {
                        extra_json: r#"{"videoMetadata": {"fps": 1}}"#.to_owned(),
                        ..part(PartContent::Json(native.to_owned()))
                    },
                ],
            ),
            says(Role::Developer, vec![text("in German")]),
            thought,
            answered("call_1", vec![text(r#" {"sky": "grey", "rain": 12345678901234567890} "#)]),
            says(Role::User, vec![text("and tomorrow?")]),
        ],
        sampling: Sampling { seed: Some(7), ..everything().sampling },
        ..everything()
    }
}

/// A conversation that another model began: parallel calls without signatures, answers in another order.
fn begun_elsewhere() -> Generate {
    let called = Message {
        tool_calls: vec![
            call("call_a", "weather", r#"{"city":"Bonn"}"#, ""),
            call("call_b", "now", "", r#"{"extra_content":null}"#),
        ],
        extra_json: r#"{"thinking_blocks":[{"type":"thinking","thinking":"two calls","signature":"other"}]}"#
            .to_owned(),
        ..says(Role::Assistant, vec![text("I look it up.")])
    };
    let answer = Message {
        extra_json: r#"{"extra_content":{"google":{"thought_signature":"ZW5k"}}}"#.to_owned(),
        ..says(Role::Assistant, vec![text("It rains."), text(" It is 8.")])
    };
    let silent = Message { content: Vec::new(), ..answer.clone() };
    Generate {
        messages: vec![
            says(Role::User, vec![text("weather and time?")]),
            called,
            answered("call_b", vec![text("8:00")]),
            answered("call_a", vec![text("rain"), text("12 °C")]),
            answer,
            says(Role::User, vec![text("thanks")]),
            says(Role::Assistant, vec![text("")]),
            says(Role::User, vec![text("bye")]),
            silent,
        ],
        ..plain()
    }
}

pub(super) fn embed(inputs: &[&str], dimensions: Option<u32>, extra_json: &str) -> Request {
    let inputs = inputs.iter().map(|&text| text.to_owned()).collect();
    Request::Embed(Embed { envelope: envelope(extra_json), inputs, dimensions })
}

#[test]
fn requests_become_googles_json() {
    let strict = Generate {
        tools: everything().tools,
        envelope: envelope(r#"{"reasoning_effort":"low"}"#),
        ..plain()
    };
    let json = |format| Generate { response_format: Some(format), ..plain() };
    let file =
        r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,JVBERg==","filename":"a.pdf"}}"#;
    let document = Generate {
        messages: vec![says(
            Role::User,
            vec![part(PartContent::Json(file.to_owned())), picture("gs://bucket/a.jpg", "")],
        )],
        ..plain()
    };
    let shown = Generate {
        messages: vec![
            Message { tool_calls: vec![call("c", "look", "{}", "")], ..says(Role::Assistant, Vec::new()) },
            answered("c", vec![text("seen"), picture("data:image/png;base64,AA==", "")]),
        ],
        ..plain()
    };
    let choice =
        |choice| Generate { tool_choice: Some(choice), tools: everything().tools[1..].to_vec(), ..plain() };
    let schema = ResponseFormat::JsonSchema {
        name: "answer".to_owned(),
        schema_json: r#" {"type":"object","properties":{"a":{"type":["string","null"]}}} "#.to_owned(),
        strict: Some(true),
    };
    let task = r#"{"taskType":"RETRIEVAL_DOCUMENT","title":"t"}"#;
    let translate = Request::Translate(Translate {
        envelope: envelope(r#"{"generationConfig":{"thinkingConfig":{"thinkingBudget":0}}}"#),
        text: "Guten Tag, \"Welt\"".to_owned(),
        source_language: Some("de".to_owned()),
        target_language: "pt-BR".to_owned(),
        stream: true,
    });
    let cases = [
        ("plain", Request::Generate(plain()), NEW, STUDIO),
        ("everything", Request::Generate(all_that_is_offered()), NEW, STUDIO),
        ("begun-elsewhere", Request::Generate(begun_elsewhere()), NEW, VERTEX),
        ("begun-elsewhere-2.5", Request::Generate(begun_elsewhere()), OLD, VERTEX),
        ("strict-tools-2.5", Request::Generate(strict), OLD, STUDIO),
        ("tools-auto", Request::Generate(choice(ToolChoice::Auto)), OLD, STUDIO),
        ("tools-none", Request::Generate(choice(ToolChoice::None)), OLD, STUDIO),
        ("tools-required", Request::Generate(choice(ToolChoice::Required)), OLD, STUDIO),
        ("json-object", Request::Generate(json(ResponseFormat::JsonObject)), OLD, STUDIO),
        ("json-schema", Request::Generate(json(schema)), OLD, STUDIO),
        ("no-thinking", Request::Generate(with_extra(r#"{"reasoning_effort":"none"}"#)), OLD, STUDIO),
        ("document-vertex", Request::Generate(document), NEW, VERTEX),
        ("picture-of-a-tool", Request::Generate(shown), NEW, STUDIO),
        ("embed-batch", embed(&["one", "zwölf"], Some(256), task), "gemini-embedding-001", STUDIO),
        ("embed-vertex", embed(&["one"], Some(256), task), "gemini-embedding-2", VERTEX),
        ("embed-predict", embed(&["one", "two"], None, task), "text-embedding-005", VERTEX),
        ("embed-cut", embed(&["one"], None, r#"{"auto_truncate":true}"#), "gemini-embedding-001", VERTEX),
        ("translate", translate, OLD, STUDIO),
    ];
    for (name, request, model, service) in cases {
        GOLDEN.compare("encode", name, &encoded(&request, model, service).unwrap());
    }
}

#[test]
fn whole_answers_become_pieces_and_an_end() {
    for (name, body) in GOLDEN.recorded("decode", "json") {
        let outcome = if name.starts_with("embeddings") {
            decode::embeddings("acme", &body, 2)
        } else {
            decoder("acme", "r1").whole(&body)
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

/// What a model said goes back as it came: the signatures and the ids of its calls.
#[test]
fn an_answer_can_be_sent_back() {
    let body =
        GOLDEN.recorded("decode", "json").into_iter().find(|(name, _)| name == "parallel-calls").unwrap().1;
    let completion = decoder("acme", "r1").whole(&body).unwrap();
    let calls = completion.items.iter().flat_map(|item| &item.tool_calls);
    let tool_calls =
        calls.map(|made| call(&made.id, &made.name, &made.arguments_json, &made.extra_json)).collect();
    let request = Generate {
        messages: vec![
            says(Role::User, vec![text("weather?")]),
            Message { tool_calls, ..says(Role::Assistant, Vec::new()) },
        ],
        tools: vec![Tool {
            name: "weather".to_owned(),
            description: String::new(),
            parameters_json: String::new(),
            strict: None,
            extra_json: String::new(),
        }],
        ..plain()
    };
    let body = encoded(&Request::Generate(request), NEW, STUDIO).unwrap();
    let sent: serde_json::Value = serde_json::from_str(body.split_once('\n').unwrap().1).unwrap();
    let parts = &sent["contents"][1]["parts"];
    assert_eq!(parts[0]["thoughtSignature"], "c2lnbmF0dXJlLTE=");
    assert_eq!(parts[0]["functionCall"]["id"], "fc-1");
    assert_eq!(parts[0]["functionCall"]["args"]["city"], "Köln");
    assert_eq!(parts[1]["thoughtSignature"], serde_json::Value::Null);
    assert_eq!(parts[1]["functionCall"]["name"], "now");
}

/// Reads a stream that arrives in these pieces and then ends properly.
pub(super) fn read(pieces: &[&[u8]]) -> (Vec<v1::DeltaItem>, Result<Completion, Fault>) {
    golden::read(&mut decoder("acme", "r1"), pieces)
}
