//! A stream of chunks.
//!
//! Pure: bytes in, pieces out. Google has no terminator: an answer is whole when the stream ended properly after a finish reason
//! (the last count of tokens may come with it or after it); every other end is a fault, so that a cut stream never looks like a
//! finished answer.

use domain::{fault::Fault, pricing::TokenUsage};
use wire::v1;

use super::decode::{self, Reply, Tally, malformed};
use crate::provider::{
    Completion,
    sse::{EventReader, Events},
};

/// Reads one answer.
pub(super) type Decoder = EventReader<Chunks>;

/// The chunks so far.
#[derive(Debug)]
pub(super) struct Chunks(Tally);

/// The reader of an answer; `request_id` names tool calls that come without an id.
pub(super) fn decoder(provider: &str, request_id: &str) -> Decoder {
    Decoder::with(provider, Chunks(Tally::new(request_id)))
}

impl Events for Chunks {
    fn take(&mut self, provider: &str, data: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let reply: Reply<'_> =
            serde_json::from_slice(data).map_err(|error| malformed(provider, "a chunk", &error))?;
        self.0.absorb(provider, reply, items)
    }

    /// Never: only the end of the body says so.
    fn is_done(&self) -> bool {
        false
    }

    fn is_whole(&self) -> bool {
        self.0.is_whole()
    }

    fn whole(&mut self, provider: &str, body: &[u8]) -> Result<Completion, Fault> {
        decode::whole(provider, &mut self.0, body)
    }

    fn used(&self) -> Option<TokenUsage> {
        self.0.usage()
    }

    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion {
        std::mem::take(&mut self.0).into_completion(items)
    }
}

#[cfg(test)]
mod tests;
