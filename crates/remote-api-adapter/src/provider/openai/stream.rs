//! A stream of chat completion chunks.
//!
//! Pure: bytes in, pieces out. An answer counts as whole when the server said `[DONE]`, or when the stream ended properly
//! after a finish reason (several servers never say `[DONE]`); every other end is a fault, so that a cut stream never looks
//! like a finished answer.

use domain::{fault::Fault, pricing::TokenUsage};
use wire::v1;

use super::{
    decode::{self, Reply, Tally, malformed},
    error::Words,
};
use crate::provider::{
    Completion,
    sse::{EventReader, Events},
};

/// Reads one answer.
pub(super) type Decoder = EventReader<Chunks>;

/// The chunks so far.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    tally: Tally,
    done: bool,
}

impl Events for Chunks {
    fn take(&mut self, provider: &str, data: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let mut reply: Reply<'_> =
            serde_json::from_slice(data).map_err(|error| malformed(provider, "a chunk", &error))?;
        self.tally.count(&mut reply);
        if reply.is_error() {
            return Err(Words::of_body(data).refusal(None).into_failure(provider, None).fault);
        }
        self.tally.absorb(provider, reply, items)
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn is_whole(&self) -> bool {
        self.done || self.tally.finish_reason.is_some()
    }

    fn whole(&mut self, provider: &str, body: &[u8]) -> Result<Completion, Fault> {
        decode::chat(provider, &mut self.tally, body)
    }

    fn used(&self) -> Option<TokenUsage> {
        self.tally.usage
    }

    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion {
        std::mem::take(&mut self.tally).into_completion(items)
    }
}

#[cfg(test)]
mod tests;
