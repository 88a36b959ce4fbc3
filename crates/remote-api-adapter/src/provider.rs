//! The seam between this service and the providers it calls.
//!
//! A provider is one folder: `encode` (domain request to the provider's JSON) and `decode`/`stream` (its answer to pieces)
//! are pure; `client` knows addresses, headers and credentials. What they share is [`http`] (connections, deadlines, the
//! address guard), [`sse`], [`json`] and [`refusal`]. The rest of the service sees only [`Provider`] and [`Answer`]:
//!
//! ```text
//! open ──► Answer ── next ─► Step::Pieces ─► … ─► Step::Done
//!   └ Failure: nothing reached the caller, may be tried again   └ Fault: too late for that
//! ```

pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod openai;
pub(crate) mod refusal;
pub(crate) mod sse;

use domain::{
    fault::{Code, Fault, Origin},
    inference::Request,
    pricing::TokenUsage,
};
use futures::future::{BoxFuture, FutureExt};
use wire::v1;

/// Which field of the OpenAI dialect bounds the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaxTokensField {
    /// `max_tokens`: most compatible servers.
    MaxTokens,
    /// `max_completion_tokens`: OpenAI itself, whose reasoning models refuse the older name.
    MaxCompletionTokens,
}

/// The model to call, in the provider's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The provider's name of the model.
    pub(crate) upstream_model: String,
    /// How the provider wants the bound on the answer.
    pub(crate) max_tokens_field: MaxTokensField,
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
    /// Fields of the answer that are not modelled, as a JSON object; empty when none.
    pub(crate) extra_json: String,
}

/// What an answer says next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Pieces that came together; not empty.
    Pieces(Vec<v1::DeltaItem>),
    /// The end of a whole answer.
    Done(Box<Completion>),
}

/// An answer that has begun. Dropping it closes the connection, which is how providers learn of a cancel.
pub(crate) trait Answer: Send {
    /// The next pieces or the end; not called again after the end or a fault.
    fn next(&mut self) -> BoxFuture<'_, Result<Step, Fault>>;
}

/// One configured provider.
pub(crate) trait Provider: Send + Sync {
    /// Sends a call and waits for the head of the answer.
    fn open<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Box<dyn Answer>, Failure>>;

    /// Whether it can be called now; otherwise why not, for people.
    fn available(&self) -> Result<(), String>;
}

/// A provider that cannot be called on this machine as it is; the others go on.
#[derive(Debug)]
pub(crate) struct Disabled {
    pub(crate) reason: String,
}

impl Provider for Disabled {
    fn open<'a>(&'a self, _call: Call<'a>) -> BoxFuture<'a, Result<Box<dyn Answer>, Failure>> {
        let fault = Fault::new(Code::Unavailable, Origin::Internal, true, self.reason.as_str());
        futures::future::ready(Err(Failure::permanent(fault))).boxed()
    }

    fn available(&self) -> Result<(), String> {
        Err(self.reason.clone())
    }
}
