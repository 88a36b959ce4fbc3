//! What every provider is asked.

use e2e::upstream;
use serde_json::{Value, json};
use wire::v1::{self, content_part::Part, execute_request::Method};

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Generate,
    Stream,
    Tools,
    ParallelTools,
    JsonSchema,
    Vision,
    Embed,
    Translate,
    Transcribe,
    Speak,
    CachedUsage,
    Reasoning,
    Errors,
    Cancel,
}

impl Question {
    pub(crate) const ALL: [Self; 14] = [
        Self::Generate,
        Self::Stream,
        Self::Tools,
        Self::ParallelTools,
        Self::JsonSchema,
        Self::Vision,
        Self::Embed,
        Self::Translate,
        Self::Transcribe,
        Self::Speak,
        Self::CachedUsage,
        Self::Reasoning,
        Self::Errors,
        Self::Cancel,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Stream => "stream",
            Self::Tools => "tools",
            Self::ParallelTools => "parallel tools",
            Self::JsonSchema => "JSON schema",
            Self::Vision => "vision",
            Self::Embed => "embed",
            Self::Translate => "translate",
            Self::Transcribe => "transcribe",
            Self::Speak => "speak",
            Self::CachedUsage => "cached usage",
            Self::Reasoning => "reasoning",
            Self::Errors => "error mapping",
            Self::Cancel => "cancel",
        }
    }
}

/// A transparent picture of one pixel, PNG.
pub(crate) const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
/// What the far side says to [`hello`].
pub(crate) const ECHO: &str = "echo: hello there word1 word2 word3 word4 word5 word6 word7";
pub(crate) const BOUND: u32 = 100;

pub(crate) fn text(text: &str) -> v1::ContentPart {
    v1::ContentPart { part: Some(Part::Text(text.to_owned())), ..Default::default() }
}

pub(crate) fn message(role: v1::Role, words: &str) -> v1::Message {
    v1::Message { role: role.into(), content: vec![text(words)], ..Default::default() }
}

/// The conversation that everybody is asked to go on with.
pub(crate) fn hello() -> v1::GenerateRequest {
    v1::GenerateRequest {
        messages: vec![message(v1::Role::System, "be brief"), message(v1::Role::User, "hello there")],
        sampling: Some(v1::Sampling {
            max_tokens: Some(BOUND),
            temperature: Some(0.5),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A text that ends an answer.
pub(crate) const STOP: &str = "END";

/// The request with [`STOP`], which not every interface has a field for.
pub(crate) fn with_stop(mut request: v1::GenerateRequest) -> v1::GenerateRequest {
    request.sampling.get_or_insert_default().stop = vec![STOP.to_owned()];
    request
}

/// [`hello`] as it has to arrive, in no provider's words.
pub(crate) fn hello_as_asked() -> upstream::Chat {
    upstream::Chat {
        system: vec!["be brief".to_owned()],
        turns: vec![upstream::Turn { text: "hello there".to_owned(), ..Default::default() }],
        sampling: upstream::AskedSampling {
            max_tokens: Some(u64::from(BOUND)),
            temperature: Some(0.5),
            ..Default::default()
        },
        ..Default::default()
    }
}

pub(crate) fn parameters() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
}

pub(crate) fn with_tools(mut request: v1::GenerateRequest) -> v1::GenerateRequest {
    request.tools = vec![v1::Tool {
        name: "weather".to_owned(),
        description: "Tells the weather.".to_owned(),
        parameters_json: parameters().to_string(),
        ..v1::Tool::default()
    }];
    request
}

pub(crate) fn tools_as_asked() -> Vec<upstream::AskedTool> {
    vec![upstream::AskedTool {
        name: "weather".to_owned(),
        description: "Tells the weather.".to_owned(),
        parameters: parameters(),
    }]
}

pub(crate) fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"answer": {"type": "integer"}},
        "required": ["answer"],
        "additionalProperties": false,
    })
}

pub(crate) fn with_schema(mut request: v1::GenerateRequest) -> v1::GenerateRequest {
    request.response_format = Some(v1::ResponseFormat {
        kind: v1::response_format::Kind::JsonSchema.into(),
        name: "answer".to_owned(),
        schema_json: schema().to_string(),
        strict: Some(true),
    });
    request
}

/// A question about a picture.
pub(crate) fn look(url: &str) -> v1::GenerateRequest {
    let image = v1::ImageUrl { url: url.to_owned(), detail: String::new() };
    let image = v1::ContentPart { part: Some(Part::ImageUrl(image)), ..Default::default() };
    let content = vec![text("What is this?"), image];
    let message = v1::Message { role: v1::Role::User.into(), content, ..Default::default() };
    v1::GenerateRequest { messages: vec![message], ..hello() }
}

pub(crate) fn embed() -> Method {
    let inputs = ["one", "twenty"].map(str::to_owned).to_vec();
    Method::Embed(v1::EmbedRequest { inputs, ..Default::default() })
}

pub(crate) fn translate() -> Method {
    Method::Translate(v1::TranslateRequest {
        text: "Guten Tag".to_owned(),
        source_language: "de".to_owned(),
        target_language: "en".to_owned(),
        ..Default::default()
    })
}

/// A second of silence: WAV, one channel, 16 bits, 8,000 a second.
pub(crate) fn recording() -> Vec<u8> {
    let mut wav = b"RIFF\xa4\x3e\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    wav.extend(8_000_u32.to_le_bytes());
    wav.extend(16_000_u32.to_le_bytes());
    wav.extend(b"\x02\0\x10\0data\x80\x3e\0\0");
    wav.resize(44 + 16_000, 0);
    wav
}

pub(crate) fn transcribe() -> Method {
    Method::Transcribe(v1::TranscribeRequest {
        audio: Some(v1::transcribe_request::Audio::Content(recording())),
        file_name: "a.wav".to_owned(),
        media_type: "audio/wav".to_owned(),
        language: "de".to_owned(),
        prompt: "Hybrid LLM".to_owned(),
        format: v1::TranscriptFormat::Verbose.into(),
        temperature: Some(0.5),
        timestamps: vec![v1::TimestampGranularity::Word.into()],
        ..Default::default()
    })
}

pub(crate) fn speak() -> Method {
    Method::Speak(v1::SpeakRequest {
        input: "hello".to_owned(),
        voice: "alloy".to_owned(),
        format: v1::SpeechFormat::Wav.into(),
        ..Default::default()
    })
}

/// The request, streamed or not, under an id.
pub(crate) fn generate(request: &v1::GenerateRequest, stream: bool) -> Method {
    Method::Generate(v1::GenerateRequest { stream, ..request.clone() })
}
