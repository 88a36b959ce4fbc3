//! The providers: how each is configured, and where it is unlike the others.

use e2e::upstream::Garbage;

use crate::{fixture::Place, outcome::Expected, question::Question};

/// One provider.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    /// Its own lines of the provider's table, address and key included.
    pub(crate) settings: fn(&Place) -> String,
    /// The provider's name of a model that generates.
    pub(crate) chat: &'static str,
    /// Of one that embeds; the one that generates, where there is none.
    pub(crate) embedding: &'static str,
    /// Of one that transcribes; the one that generates, where there is none.
    pub(crate) hearing: &'static str,
    /// Of one that speaks likewise.
    pub(crate) speaking: &'static str,
    /// Of one that only translates, where there is one.
    pub(crate) translation: Option<&'static str>,
    /// Further lines of the deployment that generates.
    pub(crate) deployment: &'static str,
    /// What does not simply pass.
    pub(crate) unlike: &'static [(Question, Expected)],
    /// Whether a rate limit's wait is told.
    pub(crate) tells_retry_after: bool,
    /// Whether its reasoning has to be sent back with a proof.
    pub(crate) signs: bool,
    /// Garbage that its format does not mind.
    pub(crate) reads: fn(Garbage) -> bool,
}

impl Row {
    pub(crate) fn expected(&self, question: Question) -> Expected {
        let unlike = self.unlike.iter().find(|(other, _)| *other == question);
        unlike.map_or(Expected::Pass, |(_, expected)| *expected)
    }
}

/// Server-sent events: correct but rare ones are read, and so is what a format has no word for.
fn sse_reads(garbage: Garbage) -> bool {
    !matches!(
        garbage,
        Garbage::BrokenJson | Garbage::Html | Garbage::ErrorWith200 | Garbage::LongLine | Garbage::NoDone
    )
}

/// The same, and the reason of the end is enough: several servers of this dialect never say `[DONE]`.
fn openai_reads(garbage: Garbage) -> bool {
    garbage == Garbage::NoDone || sse_reads(garbage)
}

fn frames_read(garbage: Garbage) -> bool {
    !matches!(garbage, Garbage::DamagedFrame | Garbage::HugeFrame) && sse_reads(garbage)
}

fn key_and_url(place: &Place, path: &str) -> String {
    format!("base_url = \"{}{path}\"\napi_key = {{ file = \"{}\" }}", place.url, place.key_file.display())
}

const OPENAI: Row = Row {
    name: "openai",
    kind: "openai",
    settings: |place| key_and_url(place, "/v1"),
    chat: "gpt-4o-mini",
    embedding: "text-embedding-3-small",
    hearing: "whisper-1",
    speaking: "tts-1",
    translation: None,
    deployment: "",
    unlike: &[],
    tells_retry_after: true,
    signs: false,
    reads: openai_reads,
};

const RESPONSES: Row = Row {
    name: "openai-responses",
    settings: |place| key_and_url(place, "/v1"),
    deployment: "api = \"responses\"",
    unlike: &[(Question::Generate, Expected::PassBut("stop")), (Question::Stream, Expected::PassBut("stop"))],
    signs: true,
    reads: sse_reads,
    ..OPENAI
};

const AZURE: Row = Row {
    name: "azure",
    kind: "azure",
    settings: |place| key_and_url(place, "/azure") + "\nazure = { api_version = \"2024-10-21\" }",
    ..OPENAI
};

const GROQ: Row = Row {
    name: "groq",
    kind: "groq",
    settings: |place| key_and_url(place, "/groq/openai/v1"),
    chat: "llama-3.3-70b-versatile",
    embedding: "llama-3.3-70b-versatile",
    hearing: "whisper-large-v3",
    speaking: "canopylabs/orpheus-v1-english",
    unlike: &[(Question::Embed, Expected::Refused("no embeddings"))],
    ..OPENAI
};

const ANTHROPIC: Row = Row {
    name: "anthropic",
    kind: "anthropic",
    settings: |place| key_and_url(place, "/anthropic/v1"),
    chat: "claude-sonnet-4-6",
    embedding: "claude-sonnet-4-6",
    hearing: "claude-sonnet-4-6",
    speaking: "claude-sonnet-4-6",
    unlike: &[
        (Question::Embed, Expected::Refused("offers none")),
        (Question::Transcribe, Expected::Refused("neither transcribes nor speaks")),
        (Question::Speak, Expected::Refused("neither transcribes nor speaks")),
    ],
    signs: true,
    reads: sse_reads,
    ..OPENAI
};

const GEMINI: Row = Row {
    name: "gemini",
    kind: "gemini",
    settings: |place| key_and_url(place, "/gemini/v1beta"),
    chat: "gemini-2.5-flash",
    embedding: "gemini-embedding-001",
    hearing: "gemini-2.5-flash",
    speaking: "gemini-2.5-flash",
    unlike: &[
        (Question::Transcribe, Expected::Refused("has no such endpoints")),
        (Question::Speak, Expected::Refused("has no such endpoints")),
    ],
    signs: true,
    reads: sse_reads,
    ..OPENAI
};

const VERTEX: Row = Row {
    name: "vertex",
    kind: "vertex",
    settings: |place| {
        format!(
            "base_url = \"{}/vertex/v1\"\napi_key = {{ file = \"{}\" }}\nvertex = {{ project = \"fake-project\", location = \"europe-west4\" }}",
            place.url,
            place.service_account_file.display(),
        )
    },
    embedding: "text-embedding-005",
    ..GEMINI
};

const BEDROCK: Row = Row {
    name: "bedrock",
    kind: "bedrock",
    settings: |place| {
        format!(
            "base_url = \"{}/bedrock\"\nbedrock = {{ region = \"eu-central-1\", access_key_id = {{ file = \"{}\" }}, secret_access_key = {{ file = \"{}\" }} }}",
            place.url,
            place.access_key_id_file.display(),
            place.key_file.display(),
        )
    },
    chat: "eu.anthropic.claude-sonnet-4-6",
    embedding: "amazon.titan-embed-text-v2:0",
    translation: Some("arn:aws:sagemaker:eu-central-1:123456789012:endpoint/nllb-200"),
    hearing: "eu.anthropic.claude-sonnet-4-6",
    speaking: "eu.anthropic.claude-sonnet-4-6",
    unlike: &[
        (Question::Vision, Expected::PassBut("address")),
        (Question::Transcribe, Expected::Refused("neither transcribes nor speaks")),
        (Question::Speak, Expected::Refused("neither transcribes nor speaks")),
        (Question::Reasoning, Expected::PassBut("not told apart")),
    ],
    signs: true,
    reads: frames_read,
    ..OPENAI
};

/// Embeds with Cohere's models, which have a format of their own there.
const BEDROCK_COHERE: Row =
    Row { name: "bedrock-cohere", embedding: "cohere.embed-v4:0", translation: None, ..BEDROCK };

const OLLAMA: Row = Row {
    name: "ollama",
    kind: "ollama",
    settings: |place| key_and_url(place, "/ollama"),
    chat: "llama3.2",
    embedding: "nomic-embed-text",
    hearing: "llama3.2",
    speaking: "llama3.2",
    unlike: &[
        (Question::Vision, Expected::PassBut("address")),
        (Question::Transcribe, Expected::Refused("neither transcribes nor speaks")),
        (Question::Speak, Expected::Refused("neither transcribes nor speaks")),
        (Question::CachedUsage, Expected::NotOffered("not told")),
        (Question::Reasoning, Expected::PassBut("not told apart")),
    ],
    reads: sse_reads,
    ..OPENAI
};

pub(crate) const ROWS: &[Row] =
    &[OPENAI, RESPONSES, AZURE, GROQ, OLLAMA, ANTHROPIC, GEMINI, VERTEX, BEDROCK, BEDROCK_COHERE];
