//! Golden files: what requests become on the wire, and what recorded answers become here. Each provider's folder has its own
//! under `golden/`; what they share stands here, with the conversations that every provider is shown.
//!
//! `UPDATE_GOLDEN=1 cargo test -p remote-api-adapter golden` writes them anew; the difference is then for a person to read.

use std::path::{Path, PathBuf};

use domain::{
    fault::Fault,
    id::{ModelName, RequestId},
    inference::{
        Envelope, Generate, Message, Part, PartContent, ResponseFormat, Role, Sampling, TaskProfile, Tool,
        ToolCall, ToolChoice,
    },
};
use wire::v1;

use super::{Completion, Reader};

/// The golden files of one provider's folder.
#[derive(Clone, Copy)]
pub(crate) struct Golden(pub(crate) &'static str);

impl Golden {
    fn folder(self, name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/provider").join(self.0).join("golden").join(name)
    }

    /// Compares with `golden/<folder>/<name>.txt`.
    pub(crate) fn compare(self, folder: &str, name: &str, now: &str) {
        let path = self.folder(folder).join(format!("{name}.txt"));
        #[expect(
            clippy::disallowed_methods,
            reason = "asks whoever runs the tests, not the product's configuration"
        )]
        let update = std::env::var("UPDATE_GOLDEN").is_ok();
        if update {
            std::fs::create_dir_all(self.folder(folder)).unwrap();
            std::fs::write(&path, now).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(now, golden, "{} differs", path.display());
    }

    /// The inputs in `golden/<folder>`: name without ending, content.
    pub(crate) fn recorded(self, folder: &str, ending: &str) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(self.folder(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == ending))
            .map(|path| {
                (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
            })
            .collect();
        files.sort();
        assert!(!files.is_empty(), "no recordings in {folder}");
        files
    }
}

/// A stream that arrives in these pieces and then ends properly: its items, and what it came to.
pub(crate) fn read(
    reader: &mut dyn Reader,
    pieces: &[&[u8]],
) -> (Vec<v1::DeltaItem>, Result<Completion, Fault>) {
    let mut items = Vec::new();
    let fed = pieces.iter().try_for_each(|piece| reader.feed(piece, &mut items));
    let ended = fed.and_then(|()| reader.end(&mut items));
    (items, ended.map(|()| reader.completion(Vec::new())))
}

/// Holds a reader of streams to what all of them have to hold, on recorded streams: cut after any byte none is a whole answer,
/// unless `ends` finds the provider's own word for the end in what came, and split anywhere each says the same.
pub(crate) fn holds_streams<R: Reader>(
    recorded: &[(String, Vec<u8>)],
    make: impl Fn() -> R,
    ends: impl Fn(&[u8]) -> bool,
) {
    for (name, bytes) in recorded {
        let whole = read(&mut make(), &[bytes]);
        for k in 0..bytes.len() {
            let (mut reader, mut items) = (make(), Vec::new());
            let (came, _) = bytes.split_at(k);
            if reader.feed(came, &mut items).is_err() {
                continue;
            }
            // where the connection broke, only the provider's own word counts
            assert!(!reader.is_done() || ends(came), "{name} cut after {k} bytes");
            // where the transport says that the body ended there, nothing of the answer may be missing
            if reader.end(&mut items).is_ok() {
                assert_eq!(text_of(&items), text_of(&whole.0), "{name} cut after {k} bytes");
            }
        }
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(read(&mut make(), &[first, second]), whole, "{name} split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&mut make(), &single), whole, "{name} byte by byte");
    }
    let mut items = Vec::new();
    let line = vec![b'x'; 10 * 1024 * 1024];
    let fault = make().feed(&line, &mut items).unwrap_err();
    assert_eq!(fault.code, domain::fault::Code::Upstream, "a line without end");
}

/// All text of an answer.
pub(crate) fn text_of(items: &[v1::DeltaItem]) -> String {
    items.iter().map(|item| item.text.as_str()).collect()
}

/// Cuts a stream after `parts` of its length (each 0 to 1), in order.
pub(crate) fn split<'a>(bytes: &'a [u8], parts: &[f64]) -> Vec<&'a [u8]> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a short recording"
    )]
    let mut cuts: Vec<usize> = parts.iter().map(|part| (part * bytes.len() as f64) as usize).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

pub(crate) fn envelope(extra_json: &str) -> Envelope {
    Envelope {
        id: RequestId::new("r1").unwrap(),
        model: Some(ModelName::new("alias").unwrap()),
        agent: None,
        profile: TaskProfile::default(),
        deadline: None,
        extra_json: extra_json.to_owned(),
    }
}

pub(crate) fn text(text: &str) -> Part {
    Part { content: PartContent::Text(text.to_owned()), extra_json: String::new() }
}

pub(crate) fn says(role: Role, content: Vec<Part>) -> Message {
    Message {
        role,
        content,
        tool_calls: Vec::new(),
        tool_call_id: String::new(),
        name: String::new(),
        extra_json: String::new(),
    }
}

pub(crate) fn plain() -> Generate {
    Generate {
        envelope: envelope(""),
        messages: vec![says(Role::User, vec![text("What is \"2+2\"?\n— ü")])],
        sampling: Sampling::default(),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        stream: false,
    }
}

/// Every field that the domain has, and carried fields on every level.
pub(crate) fn everything() -> Generate {
    let picture =
        PartContent::ImageUrl { url: "https://example.com/a.png".to_owned(), detail: "low".to_owned() };
    let cached =
        Part { extra_json: r#"{"cache_control":{"type":"ephemeral"}}"#.to_owned(), ..text("a picture:") };
    let audio = PartContent::Json(
        r#"{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}"#.to_owned(),
    );
    let called = Message {
        tool_calls: vec![ToolCall {
            id: "call_1".to_owned(),
            name: "weather".to_owned(),
            arguments_json: r#"{"city": "Köln"}"#.to_owned(),
            extra_json: r#"{"extra_content": {"google": {"thought_signature": "c2ln"}}}"#.to_owned(),
        }],
        extra_json: r#"{"reasoning_content": "because"}"#.to_owned(),
        ..says(Role::Assistant, Vec::new())
    };
    let answered = Message { tool_call_id: "call_1".to_owned(), ..says(Role::Tool, vec![text("rain")]) };
    Generate {
        envelope: envelope(
            r#"{"user":"u-1","logit_bias":{"50256":-100},"stream_options":{"include_usage":false,"include_obfuscation":false},"n":1,"service_tier":"flex","big":12345678901234567890123}"#,
        ),
        messages: vec![
            says(Role::System, vec![text("be brief")]),
            says(Role::Developer, vec![text("in German")]),
            Message {
                name: "ann".to_owned(),
                ..says(
                    Role::User,
                    vec![
                        cached,
                        Part { content: picture, extra_json: String::new() },
                        Part { content: audio, extra_json: r#"{"id": 7}"#.to_owned() },
                    ],
                )
            },
            called,
            answered,
        ],
        sampling: Sampling {
            max_tokens: Some(64),
            temperature: Some(0.7),
            top_p: Some(0.95),
            top_k: Some(40),
            seed: Some(u64::MAX),
            frequency_penalty: Some(-0.5),
            presence_penalty: Some(0.1),
            stop: vec!["\n\n".to_owned(), "END".to_owned()],
        },
        tools: vec![
            Tool {
                name: "weather".to_owned(),
                description: "Says the weather".to_owned(),
                parameters_json: r#" {"type":"object", "properties":{"city":{"type":"string"}}} "#.to_owned(),
                strict: Some(true),
                extra_json: String::new(),
            },
            Tool {
                name: "now".to_owned(),
                description: String::new(),
                parameters_json: String::new(),
                strict: None,
                extra_json: String::new(),
            },
        ],
        tool_choice: Some(ToolChoice::Named("weather".to_owned())),
        response_format: Some(ResponseFormat::JsonSchema {
            name: String::new(),
            schema_json: r#"{"type":"object"}"#.to_owned(),
            strict: Some(false),
        }),
        stream: true,
    }
}
