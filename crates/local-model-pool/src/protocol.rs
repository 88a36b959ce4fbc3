//! What an engine's process tells the pool: one JSON object a line, on its standard output. (Its log goes to standard error,
//! and nothing goes the other way: when the pool closes the standard input, the engine ends.)

use serde::{Deserialize, Serialize};

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// How far the load is.
    Loading {
        /// 0 to 100.
        percent: u32,
    },
    /// It listens on its subject.
    Ready(Ready),
    /// What it is busy with has changed.
    Occupancy {
        /// Requests it computes.
        busy: u32,
        /// Requests that wait for a slot.
        waiting: u32,
    },
    /// It has begun with a request: a cancel that comes now finds it.
    Taken {
        /// Which.
        request_id: String,
    },
    /// It did not take a request, and has said why to its caller.
    Refused {
        /// Which.
        request_id: String,
    },
    /// A request ended.
    Finished(Finished),
    /// It cannot run; the process ends after this.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

/// What a loaded model offers and takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Tokens of prompt and answer, for each slot.
    pub context_length: u32,
    /// Requests at once.
    pub slots: u32,
    /// Length of vectors; 0 = does not embed.
    pub embedding_dimensions: u32,
    /// Bytes of tensors.
    pub weights_bytes: u64,
    /// Bytes of memory that the process has now; 0 = unknown.
    pub resident_bytes: u64,
    /// How long loading took.
    pub load_ms: u64,
}

/// How a request went, for the pool's metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Which.
    pub request_id: String,
    /// The kind of work.
    pub operation: Operation,
    /// The fault's code; empty when it went well.
    pub error: String,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Part of them that was not computed again.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// From the request to its first token; `None` = there was none.
    pub first_token_us: Option<u64>,
    /// From the request to its end.
    pub total_us: u64,
}

/// Kinds of work, named as OpenTelemetry's `gen_ai.operation.name` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Text.
    Chat,
    /// Vectors.
    Embeddings,
}

impl Operation {
    /// The value of `gen_ai.operation.name`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
        }
    }
}
