//! The seam between this service and the providers it calls.
//!
//! A provider is one folder: `encode` (domain request to the provider's JSON) and `decode`/`stream` (its answer to pieces)
//! are pure; `client` is its [`Dialect`]: addresses, headers, how a key is shown. What happens around it is the same for all
//! and stands in [`exchange`] (key, call, refusal, deadlines), on top of [`http`] (connections, the address guard); [`sse`],
//! [`json`] and [`refusal`] are shared too. The rest of the service sees only [`Provider`] and [`Answer`]:
//!
//! ```text
//! open ──► Answer ── next ─► Step::Pieces ─► … ─► Step::Done
//!   └ Failed                   └ Failed: may be tried again as long as the caller has nothing
//! ```

pub(crate) mod anthropic;
pub(crate) mod azure;
pub(crate) mod bedrock;
pub(crate) mod exchange;
pub(crate) mod form;
pub(crate) mod gemini;
#[cfg(test)]
pub(crate) mod golden;
pub(crate) mod http;
pub(crate) mod jobs;
pub(crate) mod json;
pub(crate) mod limits;
pub(crate) mod lines;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod refusal;
pub(crate) mod sse;
pub(crate) mod translation;

use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use domain::{
    fault::{Code, Fault, Origin},
    inference::Request,
    pricing::TokenUsage,
    resilience::retry::Cause,
    routing::Capabilities,
};
use futures::future::{BoxFuture, FutureExt};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderValue},
};
use wire::v1;

use crate::credential::Key;

/// Why a provider without any runs no jobs.
const NO_JOBS: &str = "it has no batches and no fine-tuning";

/// Which field of the OpenAI dialect bounds the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum MaxTokensField {
    /// `max_tokens`: most compatible servers.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`: OpenAI itself, whose reasoning models refuse the older name.
    MaxCompletionTokens,
}

/// Which of OpenAI's two interfaces generates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Api {
    /// `chat/completions`, which every server of the dialect has.
    #[default]
    Chat,
    /// `responses`: the only one of some of OpenAI's models.
    Responses,
}

/// The model to call, in the provider's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The provider's name of the model.
    pub(crate) upstream_model: String,
    /// How the provider wants the bound on the answer.
    pub(crate) max_tokens_field: MaxTokensField,
    /// Bound on the answer where the provider demands one and the caller gives none, tokens.
    pub(crate) max_output_tokens: Option<u32>,
    /// Which interface to use, where the provider has several.
    pub(crate) api: Api,
    /// Fields to send where the request does not say otherwise, as a JSON object; empty when none.
    pub(crate) defaults: String,
    /// Tokens, prompt and answer together; 0 = not known.
    pub(crate) context_length: u32,
    /// Time is charged: a transcript has to come with its duration.
    pub(crate) tells_duration: bool,
    /// Tokens of speech are charged: it has to come with their number.
    pub(crate) tells_speech_tokens: bool,
    /// Whether it is known what it costs to keep a part of a prompt in the cache for an hour.
    pub(crate) prices_cache_hour: bool,
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) target: &'a Target,
    pub(crate) request: &'a Request,
}

/// A call that failed before any of its answer was used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// Whether the same call may succeed here in a moment (429, 5xx, no connection).
    pub(crate) transient: bool,
}

impl Failure {
    pub(crate) const fn permanent(fault: Fault) -> Self {
        Self { fault, transient: false }
    }
}

/// A call that failed, as whoever might repeat it sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failed {
    pub(crate) fault: Fault,
    /// Why the same call may succeed here in a moment; absent: it will not.
    pub(crate) cause: Option<Cause>,
    /// Nothing was sent: it says nothing about the provider.
    pub(crate) unsent: bool,
    /// What the provider says it has used all the same.
    pub(crate) used: Option<Box<TokenUsage>>,
}

impl Failed {
    /// Sent in vain.
    pub(crate) const fn for_good(fault: Fault) -> Self {
        Self { fault, cause: None, unsent: false, used: None }
    }

    /// Refused on this side.
    pub(crate) const fn unsent(fault: Fault) -> Self {
        Self { fault, cause: None, unsent: true, used: None }
    }

    /// Whether it failed as in an outage of the provider, rather than by the caller's, the key's or the owner's doing.
    pub(crate) fn is_outage(&self) -> bool {
        let outage = matches!(self.fault.code, Code::Upstream | Code::Timeout | Code::Unavailable);
        outage && self.fault.origin == Origin::Provider && !self.unsent
    }
}

impl From<Failure> for Failed {
    fn from(Failure { fault, transient }: Failure) -> Self {
        let cause = transient.then_some(match fault.code {
            Code::RateLimited => Cause::RateLimit,
            Code::Timeout => Cause::Timeout,
            Code::Unavailable => Cause::Connect,
            _ => Cause::Server,
        });
        Self { fault, cause, unsent: false, used: None }
    }
}

/// Audio is asked of a dialect that has no endpoint for it. `why` goes on from "the provider".
pub(crate) fn no_audio(provider: &str, target: &Target, why: &str) -> Fault {
    let message = format!("model is {:?}, and {provider} {why}", target.upstream_model);
    Fault::new(Code::Unsupported, Origin::Caller, true, message).in_field("model")
}

/// What an answer came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Completion {
    /// Pieces that no [`Step::Pieces`] carried.
    pub(crate) items: Vec<v1::DeltaItem>,
    pub(crate) finish_reason: v1::FinishReason,
    /// Absent when the provider did not say.
    pub(crate) usage: Option<TokenUsage>,
    /// The model as the provider names it; empty when it does not.
    pub(crate) model: String,
    /// The provider's id for the call; empty when none.
    pub(crate) provider_request_id: String,
    pub(crate) embeddings: Option<v1::Embeddings>,
    /// Of a transcription that asked for more than text.
    pub(crate) transcript: Option<v1::Transcript>,
    /// Fields of the answer that are not modelled, as a JSON object; empty when none.
    pub(crate) extra_json: String,
}

/// What an answer says next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Pieces that came together; not empty.
    Pieces(Vec<v1::DeltaItem>),
    /// What goes on before the first piece, for heartbeats, and how far it is, percent.
    Phase(&'static str, u32),
    /// The end of a whole answer.
    Done(Box<Completion>),
}

/// An answer that has begun. Dropping it closes the connection, which is how providers learn of a cancel.
pub(crate) trait Answer: Send {
    /// The next pieces or the end; not called again after the end or a failure.
    fn next(&mut self) -> BoxFuture<'_, Result<Step, Failed>>;
}

/// One configured provider.
pub(crate) trait Provider: Send + Sync {
    /// Sends a call and waits for the head of the answer. `free` is set as soon as it is known that the call costs nothing.
    fn open<'a>(
        &'a self,
        call: Call<'a>,
        free: &'a AtomicBool,
    ) -> BoxFuture<'a, Result<Box<dyn Answer>, Failed>>;

    /// Whether the model of that name (the provider's) can be called now; otherwise why not, for people, in words that stay
    /// the same while the reason does.
    fn available(&self, upstream_model: &str) -> Result<(), String>;

    /// Asks for something that costs nothing, where that is configured.
    fn probe(&self) -> BoxFuture<'_, Result<(), String>>;

    /// The models that the server itself says it has; `None` where it is not asked.
    fn discover(&self) -> Option<BoxFuture<'_, Result<Vec<Found>, Fault>>> {
        None
    }

    /// The way to its jobs.
    ///
    /// # Errors
    /// It has none: why, for people.
    fn jobs(&self) -> Result<jobs::Desk<'_>, &'static str> {
        Err(NO_JOBS)
    }
}

/// A model that a server has without being configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The name callers use.
    pub(crate) model: String,
    /// The server's name of it.
    pub(crate) upstream_model: String,
    /// Tokens, prompt and answer together.
    pub(crate) context_length: u32,
    pub(crate) capabilities: Capabilities,
    /// Length of its vectors; 0 = unknown, or it does not embed.
    pub(crate) embedding_dimensions: u32,
}

/// A call in the provider's words.
pub(crate) struct Prepared {
    pub(crate) url: Url,
    /// Beside `content-type`, `accept`, the configured ones and the key's.
    pub(crate) headers: HeaderMap,
    pub(crate) content_type: HeaderValue,
    pub(crate) accept: HeaderValue,
    pub(crate) body: Bytes,
}

/// A response that is no success.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    /// At most the first 64 KiB.
    pub(crate) body: &'a [u8],
}

/// What a provider's folder says of its wire format; the rest of a call is the same for all, see [`exchange`].
pub(crate) trait Dialect: Send + Sync + 'static {
    /// Writes a call, and says who reads its answer.
    ///
    /// # Errors
    /// What the provider cannot do, by the name of the field.
    fn prepare(&self, call: Call<'_>) -> Result<(Prepared, Box<dyn Reader>), Fault>;

    /// Shows the key, where one is configured. Called for each try, last: the request is otherwise complete.
    fn authorize<'a>(
        &'a self,
        request: &'a mut reqwest::Request,
        key: Option<&'a Key>,
    ) -> BoxFuture<'a, Result<(), Failure>>;

    /// Whether the dialect itself has what it needs for a call, beside the key; otherwise why not, for people.
    ///
    /// # Errors
    /// Why it cannot be called.
    fn available(&self) -> Result<(), String> {
        Ok(())
    }

    /// What a response without success means. `provider` is the configured name, `key` what must not be repeated.
    fn refusal(&self, provider: &str, refused: Refused<'_>, key: Option<&str>) -> Failure;

    /// Whether a refusal with this status is about the key, rather than about what the dialect made of it or showed in its
    /// place. No status: it could not be shown.
    fn blames_key(&self, _status: Option<u16>, _key: Option<&str>) -> bool {
        true
    }

    /// How its jobs are spoken.
    ///
    /// # Errors
    /// It has none: why, for people.
    fn jobs(&self) -> Result<&dyn jobs::JobDialect, &'static str> {
        Err(NO_JOBS)
    }
}

/// Reads one answer: bytes in, pieces out. Pure.
pub(crate) trait Reader: Send {
    /// The headers of the answer, before its body. Most dialects say nothing of weight there.
    fn head(&mut self, _headers: &HeaderMap) {}

    /// An answer in one body; also of a server that answers whole although it was asked to stream.
    ///
    /// # Errors
    /// It is none, or an error that the provider sent in its place.
    fn whole(&mut self, body: &[u8]) -> Result<Completion, Fault>;

    /// Takes the next bytes of a stream, cut anywhere; the pieces they complete go to `items`.
    ///
    /// # Errors
    /// An error the provider sent as an event, or an event that does not parse or is too long. The reader is of no use
    /// afterwards.
    fn feed(&mut self, bytes: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault>;

    /// Whether the provider has said that the streamed answer is whole.
    fn is_done(&self) -> bool;

    /// The stream has ended properly, by the rules of its transport.
    ///
    /// # Errors
    /// `Upstream`: it ended before the answer did.
    fn end(&mut self, items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault>;

    /// What the provider has counted of an answer that failed; `None` where it has said nothing.
    fn used(&self) -> Option<TokenUsage> {
        None
    }

    /// The streamed answer, once it is whole; `items` are its last pieces. Called once.
    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion;
}

/// Reads answers that come in one body only.
pub(crate) struct Once<F>(pub(crate) F);

impl<F> Reader for Once<F>
where
    F: FnMut(&[u8]) -> Result<Completion, Fault> + Send,
{
    fn whole(&mut self, body: &[u8]) -> Result<Completion, Fault> {
        self.0(body)
    }

    fn feed(&mut self, _bytes: &[u8], _items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        Err(Fault::internal("an answer without a stream was streamed"))
    }

    fn is_done(&self) -> bool {
        false
    }

    fn end(&mut self, _items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        Err(Fault::internal("an answer without a stream was streamed"))
    }

    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion {
        Completion { items, ..Completion::default() }
    }
}

/// A provider that cannot be called on this machine as it is; the others go on.
#[derive(Debug)]
pub(crate) struct Disabled {
    pub(crate) reason: String,
}

impl Provider for Disabled {
    fn open<'a>(
        &'a self,
        _call: Call<'a>,
        _free: &'a AtomicBool,
    ) -> BoxFuture<'a, Result<Box<dyn Answer>, Failed>> {
        let fault = Fault::new(Code::Unavailable, Origin::Internal, true, self.reason.as_str());
        futures::future::ready(Err(Failed::unsent(fault))).boxed()
    }

    fn available(&self, _upstream_model: &str) -> Result<(), String> {
        Err(self.reason.clone())
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), String>> {
        futures::future::ready(Err(self.reason.clone())).boxed()
    }
}
