//! A provider to test against: a server that speaks the HTTP wire format of each provider that is called.
//!
//! It answers OpenAI's format at `/v1/…`; each other provider has a folder of addresses:
//!
//! | provider | base URL | what is played |
//! |---|---|---|
//! | `openai` | `/v1` | chat completions, responses, embeddings, audio, models |
//! | `azure` | `/azure` | the same by deployment and `api-version`, and at `/azure/openai/v1` |
//! | `groq` | `/groq/openai/v1` | chat completions, audio, models |
//! | `anthropic` | `/anthropic/v1` | messages, models |
//! | `gemini` | `/gemini/v1beta` | generate, stream, embeddings, models |
//! | `vertex` | `/vertex/v1` | the same by project and location, `predict`; `/vertex/token` |
//! | `bedrock` | `/bedrock` | Converse, ConverseStream, InvokeModel, with signatures checked |
//! | `ollama` | `/ollama` | chat, embed, tags, show, pull |
//!
//! The answer follows from the request and the script alone, so that a test can say what it must be; it is made once, as an
//! `Answer`, and written in the format of the call. What the server does wrong is told to it over `PUT /control` as a
//! [`Script`]; what it saw is read at `GET /control/requests`, with what each request asks for in no provider's words
//! ([`Asked`]), and `GET /control/stats`. Requests are read as strictly as the providers read them. That all this is as the
//! providers do it is judged by their own SDKs (`tests/tests/judges.rs`).
//!
//! Every piece of a stream is flushed on its own, as a provider does with every token. Answers are rendered once for each
//! different request body and kept, so that the benchmark measures what it means to and not this.

mod answer;
mod asked;
mod body;
mod director;
mod event_stream;
mod format;
mod garbage;
mod problem;
mod read;
mod record;
mod script;
mod server;
mod stream;
mod vector;
mod world;

use std::path::PathBuf;

pub use answer::Finish;
pub use asked::{
    Asked, AskedCall, AskedResult, AskedSampling, AskedTool, Chat, Embed, Speak, Speaker, Transcribe,
    Translate, Turn,
};
pub use garbage::Garbage;
pub use problem::Trouble;
pub use record::{Recorded, Stats};
pub use script::{Call, Hang, RetryAfter, Say, Script};
pub use server::serve;

/// The access key id that goes with [`Options::key`] as its secret, for AWS's signatures.
pub const ACCESS_KEY_ID: &str = format::ACCESS_KEY_ID;

/// What the server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The key callers must show, each in its provider's way; `None` accepts everybody.
    pub key: Option<String>,
    /// The key file of the service account that gets tokens at `/vertex/token`.
    pub service_account: Option<PathBuf>,
    /// Models it offers; others answer 404.
    pub models: Vec<String>,
    /// How many requests it remembers for `GET /control/requests`; older ones go first.
    pub record_max: usize,
    /// What it does unless `PUT /control` says otherwise.
    pub script: Script,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            key: None,
            service_account: None,
            models: vec!["gpt-4o-mini".to_owned(), "text-embedding-3-small".to_owned()],
            record_max: 1_000,
            script: Script::default(),
        }
    }
}
