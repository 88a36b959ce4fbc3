//! The seam for jobs that a provider runs for hours: batches and fine-tuning.
//!
//! A provider that offers them has a [`JobDialect`] beside its [`Dialect`](super::Dialect): which calls they take and what the
//! answers mean. Keys, deadlines, refusals and the way to the disk are the same for all and stand behind [`Side`]. When to
//! call, what to remember and what it costs is the business of [`crate::jobs`].

use std::{borrow::Cow, path::Path};

use domain::fault::{Code, Fault, Origin};
use futures::future::BoxFuture;
use reqwest::{Method, Url};
use serde::Deserialize;

use super::{Dialect, Failure, Prepared};

/// What is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Batch,
    FineTune,
}

/// A job, as a provider is asked for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    /// Ours, never used twice: by it a job is found again whose creation was not heard of.
    pub(crate) uid: &'a str,
    /// The provider's name of the model.
    pub(crate) model: &'a str,
    /// It was not created before this.
    pub(crate) since_unix_ms: u64,
    pub(crate) work: Work<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Work<'a> {
    Batch {
        /// The path that all requests go to, as [`JobDialect::batch_line`] named it.
        endpoint: &'a str,
        /// What [`JobDialect::batch_line`] wrote, a line for each request.
        requests: &'a Path,
        count: u64,
    },
    FineTune {
        options: &'a Options,
        training: &'a Path,
        validation: Option<&'a Path>,
    },
}

impl Work<'_> {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Batch { .. } => Kind::Batch,
            Self::FineTune { .. } => Kind::FineTune,
        }
    }
}

/// How a model is trained; absent is the provider's choice.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Options {
    pub(crate) suffix: String,
    pub(crate) epochs: Option<u32>,
    pub(crate) batch_size: Option<u32>,
    pub(crate) learning_rate_multiplier: Option<f64>,
    pub(crate) seed: Option<u32>,
}

/// How a job stands with its provider.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Look {
    /// The provider's own word.
    pub(crate) word: String,
    pub(crate) ended: Option<Ended>,
    /// Requests of a batch that were answered.
    pub(crate) succeeded: u64,
    /// Requests of a batch that failed.
    pub(crate) failed: u64,
    /// What [`JobDialect::fetch`] can get, once it has ended.
    pub(crate) outputs: Vec<String>,
    /// 0 = not said.
    pub(crate) expires_unix_ms: u64,
    /// Empty until there is one.
    pub(crate) fine_tuned_model: String,
    /// Absent where the provider does not say.
    pub(crate) trained_tokens: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    Completed,
    Failed(Fault),
    Cancelled,
    Expired,
}

/// Something a provider said about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at_unix_ms: u64,
    pub(crate) level: String,
    pub(crate) message: String,
}

/// One line of a batch's results.
#[derive(Debug, PartialEq)]
pub(crate) struct Line<'l> {
    pub(crate) custom_id: String,
    /// The provider's id of the call; empty when none.
    pub(crate) request_id: String,
    pub(crate) outcome: Outcome<'l>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Outcome<'l> {
    /// What the same request would have been answered with status 200.
    Answer(&'l [u8]),
    /// What it would have been answered with another status.
    Refused { status: u16, body: &'l [u8] },
    /// The provider never ran it.
    Cancelled,
    /// The provider had no time for it.
    Expired,
    /// The provider failed to run it.
    Failed { code: String, message: String },
}

/// A request of a batch, as it stands among the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// As [`JobDialect::line_id`] made it.
    pub(crate) id: &'a str,
    /// 0 for the batch's first.
    pub(crate) position: u64,
}

/// A provider's wire format for jobs.
pub(crate) trait JobDialect: Send + Sync {
    /// Whether it does this kind of work; otherwise the reason, for people.
    fn offers(&self, kind: Kind) -> Result<(), &'static str>;

    /// What the provider knows a request of the batch `uid` by; `position` is its place in the batch.
    fn line_id<'a>(&self, _uid: &str, _position: u64, custom_id: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(custom_id)
    }

    /// Writes one request of a batch as a line, with its end, and says which endpoint it is for.
    ///
    /// # Errors
    /// The provider does not take such requests in batches.
    fn batch_line(&self, line: Place<'_>, prepared: &Prepared, out: &mut Vec<u8>) -> Result<String, Fault>;

    /// Brings the files to the provider, where it wants them first; gives back their ids.
    fn upload<'a>(
        &'a self,
        side: &'a dyn Side,
        order: Order<'a>,
    ) -> BoxFuture<'a, Result<Vec<String>, Failure>>;

    /// Creates the job; gives back the provider's id of it.
    fn create<'a>(
        &'a self,
        side: &'a dyn Side,
        order: Order<'a>,
        files: &'a [String],
    ) -> BoxFuture<'a, Result<String, Failure>>;

    /// The job that an earlier [`JobDialect::create`] made without our hearing of it. `others` are the provider's ids of jobs
    /// that are known to be others. Fails in passing while it cannot be told.
    fn find<'a>(
        &'a self,
        side: &'a dyn Side,
        order: Order<'a>,
        others: &'a [String],
    ) -> BoxFuture<'a, Result<Option<String>, Failure>>;

    /// How a job stands.
    fn look<'a>(
        &'a self,
        side: &'a dyn Side,
        kind: Kind,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Look, Failure>>;

    /// What the provider said about it last, oldest first.
    fn events<'a>(
        &'a self,
        side: &'a dyn Side,
        kind: Kind,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Event>, Failure>>;

    /// Asks for its end; [`JobDialect::look`] tells when it has come.
    fn cancel<'a>(
        &'a self,
        side: &'a dyn Side,
        kind: Kind,
        id: &'a str,
    ) -> BoxFuture<'a, Result<(), Failure>>;

    /// Writes one of [`Look::outputs`] to a file.
    fn fetch<'a>(
        &'a self,
        side: &'a dyn Side,
        output: &'a str,
        to: &'a Path,
    ) -> BoxFuture<'a, Result<(), Failure>>;

    /// Reads a line of an output.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    fn read<'l>(&self, line: &'l [u8]) -> Result<Line<'l>, String>;
}

/// A provider that runs jobs.
#[derive(Clone, Copy)]
pub(crate) struct Desk<'a> {
    /// Writes the requests of a batch and reads their answers.
    pub(crate) dialect: &'a dyn Dialect,
    pub(crate) jobs: &'a dyn JobDialect,
    pub(crate) side: &'a dyn Side,
}

/// A call beside the requests: files, jobs.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) payload: Payload<'a>,
}

#[derive(Debug)]
pub(crate) enum Payload<'a> {
    Nothing,
    Json(Vec<u8>),
    /// A form with text fields and then a file.
    Form {
        fields: &'a [(&'static str, &'a str)],
        file: &'a Path,
        name: String,
    },
    /// JSON of which a file is the middle.
    Around {
        before: &'static str,
        file: &'a Path,
        after: &'static str,
    },
}

impl Ask<'_> {
    pub(crate) const fn get(url: Url) -> Self {
        Self { method: Method::GET, url, payload: Payload::Nothing }
    }

    pub(crate) const fn post(url: Url, body: Vec<u8>) -> Self {
        Self { method: Method::POST, url, payload: Payload::Json(body) }
    }
}

/// Calls to a provider with its key, within deadlines and bounds.
pub(crate) trait Side: Send + Sync {
    /// The provider's configured name.
    fn provider(&self) -> &str;

    /// Sends a call and reads the whole answer.
    fn call<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<u8>, Failure>>;

    /// Writes the answer of a GET to a file, and syncs it.
    fn download<'a>(&'a self, url: Url, to: &'a Path) -> BoxFuture<'a, Result<(), Failure>>;
}

/// Reads an answer of a [`Side`].
///
/// # Errors
/// `Upstream`, by the place only: it may quote what was asked.
pub(crate) fn parse<'a, T: Deserialize<'a>>(
    side: &dyn Side,
    what: &str,
    body: &'a [u8],
) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let provider = side.provider();
        let (kind, column) = (error.classify(), error.column());
        let message =
            format!("{provider} sent {what} that does not parse ({kind:?} error in column {column})");
        // another answer may be sound: a gateway between us may have spoken
        Failure { fault: Fault::new(Code::Upstream, Origin::Provider, true, message), transient: true }
    })
}
