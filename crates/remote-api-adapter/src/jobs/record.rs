//! What is remembered of a job, as it stands in its file and as callers see it.

use domain::{fault::Fault, pricing::TokenUsage, units::Tokens};
use serde::{Deserialize, Serialize};
use wire::v1;

use crate::provider::jobs::{self, Look, Options};

/// Things a provider said that are kept.
const EVENTS_MAX: usize = 20;

/// A job. Written whole with every step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The caller's name of it.
    pub(crate) id: String,
    /// Never used twice, also when an id is: names the job at the provider, and the origin of its usage events.
    pub(crate) uid: String,
    pub(crate) kind: Kind,
    pub(crate) deployment: String,
    pub(crate) provider: String,
    /// The provider's name of the model.
    pub(crate) model: String,
    /// As the caller wrote it.
    pub(crate) requested_model: String,
    pub(crate) parts: Vec<Part>,
    pub(crate) stage: Stage,
    pub(crate) submitted_unix_ms: u64,
    /// When the provider was done; 0 until then.
    pub(crate) done_unix_ms: u64,
    /// When everything was; 0 until then.
    pub(crate) finished_unix_ms: u64,
    pub(crate) provider_job_id: String,
    pub(crate) provider_state: String,
    pub(crate) expires_unix_ms: u64,
    pub(crate) cancel_sent: bool,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// Items in the ledger.
    pub(crate) accounted: u64,
    pub(crate) usage: Option<Usage>,
    /// Absent = not known.
    pub(crate) cost_picodollars: Option<i64>,
    pub(crate) fine_tuned_model: String,
    pub(crate) trained_tokens: Option<u64>,
    pub(crate) events: Vec<Event>,
    pub(crate) problem: Option<Problem>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Batch {
        /// Where all requests go; empty until the first was written.
        endpoint: String,
        items: u64,
    },
    FineTune {
        options: Options,
        accept_unknown_cost: bool,
    },
}

impl Kind {
    pub(crate) const fn seam(&self) -> jobs::Kind {
        match self {
            Self::Batch { .. } => jobs::Kind::Batch,
            Self::FineTune { .. } => jobs::Kind::FineTune,
        }
    }
}

/// A part that was received: what it was, and how long the files are with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Part {
    /// CRC-32 of the message.
    pub(crate) crc: u32,
    pub(crate) items_bytes: u64,
    pub(crate) requests_bytes: u64,
    pub(crate) training_bytes: u64,
    pub(crate) validation_bytes: u64,
}

/// How far it is. Only forward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    Receiving,
    /// To be brought to the provider.
    Uploading,
    Creating {
        files: Vec<String>,
        /// A creation was begun: whether it came through has to be asked before another.
        tried: bool,
    },
    Running,
    /// The provider is done: `outputs` are to be fetched and made into results.
    Collecting {
        ending: Ending,
        outputs: Vec<String>,
    },
    /// The results are there; the ledger is to have them.
    Accounting {
        ending: Ending,
    },
    Ended {
        ending: Ending,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    Succeeded,
    Failed,
    Cancelled,
    Expired,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cached_input: u64,
    pub(crate) cache_write: u64,
    pub(crate) reasoning: u64,
    pub(crate) estimated: bool,
    #[serde(default)]
    pub(crate) cache_write_hour: u64,
}

impl From<TokenUsage> for Usage {
    fn from(usage: TokenUsage) -> Self {
        Self {
            input: usage.input.get(),
            output: usage.output.get(),
            cached_input: usage.cached_input.get(),
            cache_write: usage.cache_write.get(),
            reasoning: usage.reasoning.get(),
            estimated: usage.estimated,
            cache_write_hour: usage.cache_write_hour.get(),
        }
    }
}

impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input: Tokens::new(usage.input),
            output: Tokens::new(usage.output),
            cached_input: Tokens::new(usage.cached_input),
            cache_write: Tokens::new(usage.cache_write),
            cache_write_hour: Tokens::new(usage.cache_write_hour),
            reasoning: Tokens::new(usage.reasoning),
            estimated: usage.estimated,
            // there are no batches of audio
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    at_unix_ms: u64,
    level: String,
    message: String,
}

/// A fault, kept; codes are the numbers of the contract, which never change their meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    code: i32,
    origin: i32,
    retryable: bool,
    message: String,
    field: String,
    retry_after_ms: u64,
    provider_code: String,
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        // what a job costs stands beside it
        let v1::Error { code, origin, retryable, message, field, retry_after_ms, provider_code, .. } =
            fault.into();
        Self { code, origin, retryable, message, field, retry_after_ms, provider_code }
    }
}

impl From<Problem> for v1::Error {
    fn from(problem: Problem) -> Self {
        let Problem { code, origin, retryable, message, field, retry_after_ms, provider_code } = problem;
        let error = Self::default();
        Self { code, origin, retryable, message, field, retry_after_ms, provider_code, ..error }
    }
}

impl Job {
    /// Requests of a batch; a training counts as one.
    pub(crate) const fn items(&self) -> u64 {
        match self.kind {
            Kind::Batch { items, .. } => items,
            Kind::FineTune { .. } => 1,
        }
    }

    pub(crate) fn lengths(&self) -> Part {
        self.parts.last().copied().unwrap_or_default()
    }

    pub(crate) const fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    /// Takes in how it stands with the provider.
    pub(crate) fn saw(&mut self, look: &Look) {
        self.provider_state.clone_from(&look.word);
        if look.expires_unix_ms > 0 {
            self.expires_unix_ms = look.expires_unix_ms;
        }
        if matches!(self.kind, Kind::Batch { .. }) {
            (self.succeeded, self.failed) = (look.succeeded, look.failed);
        }
        if !look.fine_tuned_model.is_empty() {
            self.fine_tuned_model.clone_from(&look.fine_tuned_model);
        }
        self.trained_tokens = look.trained_tokens.or(self.trained_tokens);
    }

    pub(crate) fn heard(&mut self, events: Vec<jobs::Event>) {
        let keep = |event: jobs::Event| Event {
            at_unix_ms: event.at_unix_ms,
            level: event.level,
            message: event.message,
        };
        self.events = events.into_iter().rev().take(EVENTS_MAX).map(keep).collect();
        self.events.reverse();
    }

    const fn state(&self) -> v1::ProviderJobState {
        use v1::ProviderJobState as State;
        match &self.stage {
            Stage::Receiving => State::Receiving,
            Stage::Uploading | Stage::Creating { .. } => State::Queued,
            Stage::Running => State::Running,
            Stage::Collecting { .. } | Stage::Accounting { .. } => State::Collecting,
            Stage::Ended { ending: Ending::Succeeded } => State::Succeeded,
            Stage::Ended { ending: Ending::Failed } => State::Failed,
            Stage::Ended { ending: Ending::Cancelled } => State::Cancelled,
            Stage::Ended { ending: Ending::Expired } => State::Expired,
        }
    }

    /// As callers see it; `cancelling` is kept elsewhere.
    pub(crate) fn view(&self, cancelling: bool, events: bool) -> v1::ProviderJob {
        let kind = match self.kind {
            Kind::Batch { .. } => v1::ProviderJobKind::Batch,
            Kind::FineTune { .. } => v1::ProviderJobKind::FineTune,
        };
        let event = |event: &Event| v1::ProviderJobEvent {
            at_unix_ms: event.at_unix_ms,
            level: event.level.clone(),
            message: event.message.clone(),
        };
        v1::ProviderJob {
            job_id: self.id.clone(),
            kind: kind.into(),
            state: self.state().into(),
            cancelling: cancelling && !self.is_ended(),
            deployment: self.deployment.clone(),
            provider: self.provider.clone(),
            model: self.model.clone(),
            provider_job_id: self.provider_job_id.clone(),
            provider_state: self.provider_state.clone(),
            submitted_unix_ms: self.submitted_unix_ms,
            finished_unix_ms: self.finished_unix_ms,
            expires_unix_ms: self.expires_unix_ms,
            counts: matches!(self.kind, Kind::Batch { .. }).then(|| v1::ProviderJobCounts {
                total: self.items(),
                succeeded: self.succeeded,
                failed: self.failed,
                accounted: self.accounted,
            }),
            usage: self.usage.map(|usage| TokenUsage::from(usage).into()),
            cost_picodollars: self.cost_picodollars,
            fine_tuned_model: self.fine_tuned_model.clone(),
            error: self.problem.clone().map(v1::Error::from),
            events: if events { self.events.iter().map(event).collect() } else { Vec::new() },
            parts_received: u32::try_from(self.parts.len()).unwrap_or(u32::MAX),
        }
    }
}
