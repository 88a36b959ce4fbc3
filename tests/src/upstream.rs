//! A provider to test against: a server that speaks OpenAI's HTTP wire format.
//!
//! It answers `POST /v1/chat/completions` (with and without `stream`), `POST /v1/embeddings` and `GET /v1/models`; the
//! answer follows from the request alone, so that a test can say what it must be. What it does wrong is told to it over
//! `PUT /control` as a [`Script`]; what it saw is read at `GET /control/requests` and `GET /control/stats`.
//!
//! Every piece of a stream is flushed on its own, as a provider does with every token. Answers are rendered once for each
//! different request body and kept, so that the benchmark measures what it means to and not this.

mod body;
mod chat;
mod embeddings;
mod error;
mod garbage;
mod record;
mod script;
mod server;

pub use garbage::Garbage;
pub use record::{Recorded, Stats};
pub use script::{Hang, RetryAfter, Script};
pub use server::serve;

/// What the server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The key callers must show as `Authorization: Bearer <key>`; `None` accepts everybody.
    pub key: Option<String>,
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
            models: vec!["gpt-4o-mini".to_owned(), "text-embedding-3-small".to_owned()],
            record_max: 1_000,
            script: Script::default(),
        }
    }
}
