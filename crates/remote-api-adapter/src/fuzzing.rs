//! What a provider sends, and what is sent to it, as fuzzers see it: bytes in, and a panic when something does not hold.
//!
//! A provider is one line in [`PROVIDERS`] and gets four targets: its whole answers, its streams, its refusals and its
//! encoder. Beside not panicking, each holds a property that matters: where a stream is cut changes nothing, a refusal does
//! not repeat the key, what is sent is JSON.

#![expect(clippy::expect_used, reason = "a panic is how a fuzz target says what it found")]

use std::collections::{HashMap, HashSet};

use domain::{
    fault::{Code, Fault},
    id::RequestId,
    inference::{
        Audio, Embed, Envelope, Generate, Message, Part, PartContent, Request, Role, Sampling, Speak,
        SpeechFormat, TaskProfile, Transcribe, TranscriptFormat,
    },
};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderValue, RETRY_AFTER},
};
use service_runtime::Clock;
use wire::v1;

use crate::provider::{
    Call, Completion, Dialect, Reader, Refused, Target as Model,
    anthropic::Anthropic,
    bedrock::Bedrock,
    gemini::Gemini,
    ollama::Ollama,
    openai::{Flavor, OpenAi},
    refusal::retry_after,
    sse::{Parser, TooLong},
};

type Make = fn() -> Box<dyn Dialect>;
type Run = Box<dyn Fn(&[u8]) + Send + Sync>;

/// The dialects: the name of the folder under `provider`, and how it is made.
const PROVIDERS: &[(&str, Make)] = &[
    ("openai", || Box::new(OpenAi::new(name(), Flavor::Compatible, &url()).expect("a base URL"))),
    ("anthropic", || Box::new(Anthropic::new(name(), &url()).expect("a base URL"))),
    ("gemini", || Box::new(Gemini::ai_studio(name(), url()))),
    ("bedrock", || {
        Box::new(Bedrock {
            name: name(),
            base_url: "https://provider.example".to_owned(),
            region: "eu-central-1".to_owned(),
            keys: None,
            translators: HashSet::new(),
            clock: Clock::system(),
        })
    }),
    ("ollama", || {
        let root = Url::parse("https://provider.example").expect("a URL");
        Box::new(Ollama::new(name(), &root, false).expect("a base URL"))
    }),
];

/// Statuses that providers refuse with.
const STATUSES: [u16; 10] = [302, 400, 401, 402, 404, 413, 422, 429, 500, 529];
/// A key that may not be repeated.
const KEY: &str = "canary-4711-key";
/// A time before the dates in `Retry-After` that one may expect.
const NOW_UNIX_MS: u64 = 1_400_000_000_000;

/// What a target is fed with at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeds {
    /// The files of a folder below `src/provider`.
    Folder(&'static str, &'static str),
    /// Encoded messages `llm.v1.ExecuteRequest`.
    Requests,
    /// These.
    Texts(&'static [&'static str]),
}

/// One decoder, or one encoder.
pub struct Target {
    /// Lower case, digits, `-`.
    pub name: String,
    /// Where it starts from.
    pub seeds: Seeds,
    run: Run,
}

impl Target {
    fn new(name: &str, seeds: Seeds, run: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Self { name: name.to_owned(), seeds, run: Box::new(run) }
    }

    /// Takes one input.
    ///
    /// # Panics
    /// Something that has to hold does not.
    pub fn run(&self, data: &[u8]) {
        (self.run)(data);
    }
}

/// All targets of this crate.
#[must_use]
pub fn targets() -> Vec<Target> {
    let dates = Seeds::Texts(&["120", "0.25", "Wed, 21 Oct 2015 07:28:00 GMT", "-1", "1e400"]);
    let mut targets = vec![
        Target::new("sse", Seeds::Folder("openai", "stream"), sse),
        Target::new("retry-after", dates, retry_after_header),
    ];
    for (kind, request) in [("transcript", transcribe()), ("speech", speak())] {
        let make: Make = || Box::new(OpenAi::new(name(), Flavor::Compatible, &url()).expect("a base URL"));
        let run = move |data: &[u8]| audio(make, &request, data);
        targets.push(Target::new(&format!("openai-{kind}"), Seeds::Folder("openai", kind), run));
    }
    for (folder, dialect) in PROVIDERS {
        let named = |kind: &str| format!("{folder}-{kind}");
        let target = |kind: &str, seeds, run: fn(&dyn Dialect, &[u8])| {
            let dialect = dialect();
            Target::new(&named(kind), seeds, move |data| run(&*dialect, data))
        };
        targets.push(target("whole", Seeds::Folder(folder, "decode"), whole));
        targets.push(target("stream", Seeds::Folder(folder, "stream"), stream));
        targets.push(target("refusal", Seeds::Folder(folder, "decode"), refusal));
        targets.push(target("encode", Seeds::Requests, encode));
    }
    targets
}

fn name() -> String {
    "acme".to_owned()
}

fn url() -> Url {
    Url::parse("https://provider.example/v1").expect("a URL")
}

/// Cut anywhere, a stream has the same events, and no more bytes than came.
fn sse(data: &[u8]) {
    let read = |reads: &mut dyn Iterator<Item = &[u8]>| -> Result<Vec<Vec<u8>>, TooLong> {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        let mut event = |data: &[u8]| -> Result<(), TooLong> {
            events.push(data.to_vec());
            Ok(())
        };
        for bytes in reads {
            parser.feed(bytes, &mut event)?;
        }
        parser.finish(&mut event)?;
        Ok(events)
    };
    let events = read(&mut std::iter::once(data));
    assert_eq!(events, read(&mut data.chunks(1)), "cut after every byte");
    let bytes: usize = events.iter().flatten().map(Vec::len).sum();
    assert!(bytes <= data.len(), "{bytes} of {}", data.len());
}

fn retry_after_header(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    for name in [RETRY_AFTER.as_str(), "retry-after-ms"] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.clone());
        // any wait is one; what is obeyed is bounded where it is used
        let _ = retry_after(&headers, NOW_UNIX_MS);
    }
}

/// A whole answer is one or a fault, whatever was asked.
fn whole(dialect: &dyn Dialect, data: &[u8]) {
    for request in [generate(false), embed()] {
        if let Some(mut reader) = reader(dialect, &request) {
            match reader.whole(data) {
                Ok(completion) => check(&completion),
                Err(fault) => check_fault(&fault),
            }
        }
    }
}

/// Where a stream is cut changes nothing.
fn stream(dialect: &dyn Dialect, data: &[u8]) {
    let request = generate(true);
    let read = |mut reads: &mut dyn Iterator<Item = &[u8]>| {
        let mut reader = reader(dialect, &request).expect("every provider streams");
        let mut items = Vec::new();
        let fed = (&mut reads).try_for_each(|bytes| reader.feed(bytes, &mut items));
        let ended = fed.and_then(|()| reader.end(&mut items));
        (items, ended.map(|()| reader.completion(Vec::new())))
    };
    let (items, outcome) = read(&mut std::iter::once(data));
    match &outcome {
        Ok(completion) => check(completion),
        Err(fault) => check_fault(fault),
    }
    items.iter().for_each(check_item);
    let cut = read(&mut data.chunks(1));
    assert_eq!((items, outcome), cut, "cut after every byte");
}

/// Likewise of what is heard and spoken, whole and in pieces.
fn audio(make: Make, request: &Request, data: &[u8]) {
    let dialect = make();
    let target = Model { tells_speech_tokens: true, ..model() };
    let reader = || dialect.prepare(Call { target: &target, request }).expect("the dialect has audio").1;
    match reader().whole(data) {
        Ok(completion) => check(&completion),
        Err(fault) => check_fault(&fault),
    }
    let read = |mut reads: &mut dyn Iterator<Item = &[u8]>| {
        let (mut reader, mut items) = (reader(), Vec::new());
        let fed = (&mut reads).try_for_each(|bytes| reader.feed(bytes, &mut items));
        let ended = fed.and_then(|()| reader.end(&mut items));
        (items, ended.map(|()| reader.completion(Vec::new())))
    };
    let whole = read(&mut std::iter::once(data));
    whole.0.iter().for_each(check_item);
    match &whole.1 {
        Ok(completion) => check(completion),
        Err(fault) => check_fault(fault),
    }
    assert_eq!(whole, read(&mut data.chunks(1)), "cut after every byte");
}

/// No refusal repeats the key.
fn refusal(dialect: &dyn Dialect, data: &[u8]) {
    let headers = HeaderMap::new();
    for status in STATUSES {
        let fault =
            dialect.refusal("acme", Refused { status, headers: &headers, body: data }, Some(KEY)).fault;
        check_fault(&fault);
        for said in [&fault.message, &fault.field, &fault.provider_code] {
            assert!(!said.contains(KEY), "{status}: the key is repeated in {said:?}");
        }
    }
}

/// What passes the bus's checks is sent as JSON or refused by the name of a field.
fn encode(dialect: &dyn Dialect, data: &[u8]) {
    let Some(request) = request(data) else { return };
    match dialect.prepare(Call { target: &model(), request: &request }) {
        Ok((prepared, _)) => {
            let kind = prepared.content_type.to_str().expect("a plain content type");
            if let Some(boundary) = kind.strip_prefix("multipart/form-data; boundary=") {
                let end = format!("--{boundary}--\r\n");
                assert!(prepared.body.ends_with(end.as_bytes()), "the form has no end");
            } else {
                let body = serde_json::from_slice::<serde::de::IgnoredAny>(&prepared.body);
                assert!(body.is_ok(), "{body:?} in {}", String::from_utf8_lossy(&prepared.body));
            }
        }
        Err(fault) => {
            check_fault(&fault);
            assert!(!fault.field.is_empty(), "{fault} names no field");
        }
    }
}

/// The request in an encoded message, where it is one.
fn request(data: &[u8]) -> Option<Request> {
    let message = <v1::ExecuteRequest as prost::Message>::decode(data).ok()?;
    let request = Request::try_from(message.method?).ok()?;
    // what lies in a store is fetched before it is encoded
    let is_stored =
        matches!(&request, Request::Transcribe(asked) if !matches!(asked.audio, Audio::Content(_)));
    (!is_stored).then_some(request)
}

fn reader(dialect: &dyn Dialect, request: &Request) -> Option<Box<dyn Reader>> {
    dialect.prepare(Call { target: &model(), request }).ok().map(|(_, reader)| reader)
}

fn check(completion: &Completion) {
    completion.items.iter().for_each(check_item);
    check_json(&completion.extra_json);
}

fn check_item(item: &v1::DeltaItem) {
    check_json(&item.extra_json);
    item.tool_calls.iter().for_each(|call| check_json(&call.extra_json));
}

/// Carried fields are an object or nothing; numbers too large for a computer are still JSON.
fn check_json(text: &str) {
    let is_object = || serde_json::from_str::<HashMap<String, &serde_json::value::RawValue>>(text).is_ok();
    assert!(text.is_empty() || is_object(), "{text:?} is carried");
}

/// What a provider sends is never a fault of ours.
fn check_fault(fault: &Fault) {
    assert!(fault.code != Code::Internal, "{fault}");
}

fn model() -> Model {
    Model { upstream_model: "model-1".to_owned(), ..Model::default() }
}

fn envelope() -> Envelope {
    Envelope {
        id: RequestId::new("fuzz").expect("an id"),
        model: None,
        agent: None,
        profile: TaskProfile::default(),
        deadline: None,
        extra_json: String::new(),
    }
}

fn generate(stream: bool) -> Request {
    let said = Part { content: PartContent::Text("hello".to_owned()), extra_json: String::new() };
    let message = Message {
        role: Role::User,
        content: vec![said],
        tool_calls: Vec::new(),
        tool_call_id: String::new(),
        name: String::new(),
        extra_json: String::new(),
    };
    Request::Generate(Generate {
        envelope: envelope(),
        messages: vec![message],
        sampling: Sampling::default(),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        stream,
    })
}

fn transcribe() -> Request {
    Request::Transcribe(Transcribe {
        envelope: envelope(),
        audio: Audio::Content(vec![0; 64]),
        file_name: "a.wav".to_owned(),
        media_type: None,
        language: None,
        prompt: String::new(),
        format: TranscriptFormat::Diarized,
        temperature: None,
        segments: false,
        words: false,
        to_english: false,
        stream: true,
    })
}

fn speak() -> Request {
    Request::Speak(Speak {
        envelope: envelope(),
        input: "hello".to_owned(),
        voice: "alloy".to_owned(),
        format: SpeechFormat::Mp3,
        speed: None,
        instructions: String::new(),
    })
}

fn embed() -> Request {
    let inputs = vec!["one".to_owned(), "two".to_owned()];
    Request::Embed(Embed { envelope: envelope(), inputs, dimensions: None })
}
