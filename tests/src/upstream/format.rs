//! The wire formats, each in a folder or file of its own, and how an address leads to one.
//!
//! The first segment of the path names the provider (`/anthropic/v1/messages`); what has no such name is OpenAI's
//! (`/v1/chat/completions`).

mod anthropic;
mod bedrock;
mod google;
mod ollama;
mod openai;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::Script;
use super::answer::Answer;
use super::asked::{Asked, Chat};
use super::problem::Problem;
use super::stream::Streamed;
use super::world::World;

/// A call as it arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) method: &'a Method,
    /// Without the provider's name and the query.
    pub(super) path: &'a str,
    /// Empty when none.
    pub(super) query: &'a str,
    /// As it was sent, for signatures.
    pub(super) whole_path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

impl<'a> Call<'a> {
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn bearer(&self) -> Option<&'a str> {
        self.headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
    }

    /// A parameter of the query, not decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    pub(super) fn unknown(&self) -> Problem {
        Problem::unknown_address(self.method.as_str(), self.path)
    }
}

/// What is sent back.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// One JSON body.
    Whole(Value),
    /// One body of plain text.
    Text(String),
    /// Pieces.
    Stream(Streamed),
}

/// An error in a format's words.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    /// A header that names the error.
    pub(super) header: Option<(&'static str, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(problem: &Problem, status: u16, body: Value) -> Self {
        let usual = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status: problem.status.unwrap_or(usual), body, header: None }
    }
}

/// One provider's wire format.
pub(super) trait Format: Sync {
    /// Whether the caller may ask.
    fn admits(&self, call: &Call<'_>, world: &World) -> bool;

    /// What the call asks for; `None` where it asks no model.
    ///
    /// # Errors
    /// The provider would refuse it.
    fn asked(&self, call: &Call<'_>) -> Result<Option<Asked>, Problem>;

    /// The answer of a healthy provider.
    ///
    /// # Errors
    /// The provider would refuse the call.
    fn answer(&self, call: &Call<'_>, world: &World, script: &Script) -> Result<Content, Problem>;

    /// An error. `retry_after_s` is what the script wants, for formats that tell it in the body.
    fn refusal(&self, problem: &Problem, retry_after_s: Option<u64>) -> Refusal;

    /// Whether the wait after an error is told in a header.
    fn tells_retry_after_in_header(&self) -> bool {
        true
    }

    /// Whether a call is none to a model, so that no script applies to it.
    fn is_aside(&self, _call: &Call<'_>) -> bool {
        false
    }
}

pub(super) use bedrock::ACCESS_KEY_ID;
pub(super) use google::ServiceAccount;

/// The format that an address belongs to, its name, and the rest of the path.
pub(super) fn resolve(path: &str) -> (&'static dyn Format, &'static str, &str) {
    let (first, rest) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    let rest = path.get(path.len() - rest.len() - 1..).unwrap_or(path);
    match first {
        "azure" => (&openai::AZURE, "azure", rest),
        "groq" => (&openai::GROQ, "groq", rest),
        "anthropic" => (&anthropic::Anthropic, "anthropic", rest),
        "gemini" => (&google::GEMINI, "gemini", rest),
        "vertex" => (&google::VERTEX, "vertex", rest),
        "bedrock" => (&bedrock::Bedrock, "bedrock", rest),
        "ollama" => (&ollama::Ollama, "ollama", rest),
        _ => (&openai::OPENAI, "openai", path),
    }
}

/// Answers a conversation, whole or in pieces.
fn converse(
    chat: &Chat,
    world: &World,
    script: &Script,
    whole: impl FnOnce(&Answer) -> Value,
    stream: impl FnOnce(&Answer) -> Streamed,
) -> Result<Content, Problem> {
    world.check_model(&chat.model)?;
    let answer = Answer::new(chat, script);
    Ok(if chat.stream { Content::Stream(stream(&answer)) } else { Content::Whole(whole(&answer)) })
}
