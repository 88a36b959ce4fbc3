//! Requests as they come over the bus: protobuf, and its conversion into what the domain knows.

use domain::fault::Code;
use domain::inference::Request;
use prost::Message as _;
use wire::v1::{self, content_part, execute_request, plan_request, response_format, tool_choice};

/// A message is a request, or a fault that names a field; both ways of asking agree on which.
pub fn read(data: &[u8]) {
    let Ok(message) = v1::ExecuteRequest::decode(data) else { return };
    let again = v1::ExecuteRequest::decode(message.encode_to_vec().as_slice());
    // NaN is not equal to itself, its encoding is
    assert_eq!(again.map(|again| again.encode_to_vec()), Ok(message.encode_to_vec()));
    let Some(method) = message.method else { return };
    let planned = match method.clone() {
        execute_request::Method::Generate(request) => plan_request::Method::Generate(request),
        execute_request::Method::Embed(request) => plan_request::Method::Embed(request),
        execute_request::Method::Translate(request) => plan_request::Method::Translate(request),
        execute_request::Method::Transcribe(request) => plan_request::Method::Transcribe(request),
        execute_request::Method::Speak(request) => plan_request::Method::Speak(request),
    };
    let outcome = Request::try_from(method);
    assert_eq!(outcome, Request::try_from(planned));
    match outcome {
        Ok(request) => {
            // what passes can be asked about
            let _ = (request.streams(), request.needs(), request.input_tokens());
        }
        Err(fault) => {
            assert_eq!(fault.code, Code::InvalidArgument, "{fault}");
            assert!(!fault.field.is_empty(), "{fault} names no field");
        }
    }
}

/// Encoded messages `llm.v1.ExecuteRequest`, one of each method and one with every field.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let methods = [
        execute_request::Method::Generate(plain()),
        execute_request::Method::Generate(everything()),
        execute_request::Method::Embed(v1::EmbedRequest {
            request_id: "r1".to_owned(),
            inputs: vec!["one".to_owned(), "zwölf".to_owned()],
            dimensions: 256,
            extra_json: r#"{"user":"u-1"}"#.to_owned(),
            ..Default::default()
        }),
        execute_request::Method::Translate(v1::TranslateRequest {
            request_id: "r1".to_owned(),
            text: "Guten Tag".to_owned(),
            source_language: "de".to_owned(),
            target_language: "pt-BR".to_owned(),
            ..Default::default()
        }),
        execute_request::Method::Transcribe(v1::TranscribeRequest {
            request_id: "r1".to_owned(),
            audio: Some(v1::transcribe_request::Audio::Content(b"RIFF----WAVE".to_vec())),
            file_name: "a.wav".to_owned(),
            media_type: "audio/wav".to_owned(),
            language: "de".to_owned(),
            prompt: "Hybrid LLM".to_owned(),
            format: v1::TranscriptFormat::Verbose.into(),
            temperature: Some(0.5),
            timestamps: vec![v1::TimestampGranularity::Word.into()],
            extra_json: r#"{"include":["logprobs"],"chunking_strategy":"auto"}"#.to_owned(),
            ..Default::default()
        }),
        execute_request::Method::Speak(v1::SpeakRequest {
            request_id: "r1".to_owned(),
            input: "hello".to_owned(),
            voice: "alloy".to_owned(),
            format: v1::SpeechFormat::Wav.into(),
            speed: Some(1.5),
            instructions: "whisper".to_owned(),
            extra_json: r#"{"language":"en"}"#.to_owned(),
            ..Default::default()
        }),
    ];
    let encode = |method| {
        let request = v1::ExecuteRequest {
            request_id: "r1".to_owned(),
            deployment: "bench/upstream/model-1".to_owned(),
            attempt: 1,
            method: Some(method),
            ..Default::default()
        };
        request.encode_to_vec()
    };
    methods.into_iter().map(encode).collect()
}

fn part(part: content_part::Part, extra_json: &str) -> v1::ContentPart {
    v1::ContentPart { part: Some(part), extra_json: extra_json.to_owned() }
}

fn says(role: v1::Role, content: Vec<v1::ContentPart>) -> v1::Message {
    v1::Message { role: role.into(), content, ..Default::default() }
}

fn text(text: &str) -> v1::ContentPart {
    part(content_part::Part::Text(text.to_owned()), "")
}

fn plain() -> v1::GenerateRequest {
    v1::GenerateRequest {
        request_id: "r1".to_owned(),
        model: "model-1".to_owned(),
        messages: vec![says(v1::Role::User, vec![text("What is \"2+2\"?\n— ü")])],
        ..Default::default()
    }
}

/// Every field, and carried fields on every level.
fn everything() -> v1::GenerateRequest {
    let picture = v1::ImageUrl { url: "https://example.com/a.png".to_owned(), detail: "low".to_owned() };
    let audio = r#"{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}"#;
    let called = v1::Message {
        tool_calls: vec![v1::ToolCall {
            id: "call_1".to_owned(),
            name: "weather".to_owned(),
            arguments_json: r#"{"city":"Köln"}"#.to_owned(),
            extra_json: r#"{"extra_content":{"google":{"thought_signature":"c2ln"}}}"#.to_owned(),
        }],
        extra_json: r#"{"thinking_blocks":[{"type":"thinking","thinking":"so","signature":"c2ln"}]}"#
            .to_owned(),
        ..says(v1::Role::Assistant, Vec::new())
    };
    let answered =
        v1::Message { tool_call_id: "call_1".to_owned(), ..says(v1::Role::Tool, vec![text("rain")]) };
    let asked = vec![
        part(content_part::Part::Text("a picture:".to_owned()), r#"{"cache_control":{"type":"ephemeral"}}"#),
        part(content_part::Part::ImageUrl(picture), ""),
        part(content_part::Part::Json(audio.to_owned()), r#"{"id":7}"#),
    ];
    v1::GenerateRequest {
        messages: vec![
            says(v1::Role::System, vec![text("be brief")]),
            says(v1::Role::Developer, vec![text("in German")]),
            v1::Message { name: "ann".to_owned(), ..says(v1::Role::User, asked) },
            called,
            answered,
        ],
        sampling: Some(v1::Sampling {
            max_tokens: Some(64),
            temperature: Some(0.7),
            top_p: Some(0.95),
            top_k: Some(40),
            seed: Some(u64::MAX),
            frequency_penalty: Some(-0.5),
            presence_penalty: Some(0.1),
            stop: vec!["\n\n".to_owned(), "END".to_owned()],
        }),
        tools: vec![v1::Tool {
            name: "weather".to_owned(),
            description: "Says the weather".to_owned(),
            parameters_json: r#"{"type":"object","properties":{"city":{"type":"string"}}}"#.to_owned(),
            strict: Some(true),
            extra_json: r#"{"cache_control":{"type":"ephemeral"}}"#.to_owned(),
        }],
        tool_choice: Some(v1::ToolChoice {
            mode: tool_choice::Mode::Named.into(),
            name: "weather".to_owned(),
        }),
        response_format: Some(v1::ResponseFormat {
            kind: response_format::Kind::JsonSchema.into(),
            schema_json: r#"{"type":"object"}"#.to_owned(),
            ..Default::default()
        }),
        stream: true,
        extra_json: r#"{"user":"u-1","stream_options":{"include_usage":false},"n":1,"service_tier":"flex"}"#
            .to_owned(),
        ..plain()
    }
}
