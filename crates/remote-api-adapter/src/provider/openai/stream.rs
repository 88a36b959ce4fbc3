//! A stream of chat completion chunks.
//!
//! Pure: bytes in, pieces out. An answer counts as whole when the server said `[DONE]`, or when the stream ended properly
//! after a finish reason (several servers never say `[DONE]`); every other end is a fault, so that a cut stream never looks
//! like a finished answer.

use domain::fault::{Code, Fault, Origin};
use wire::v1;

use super::{
    decode::{Reply, Tally, malformed},
    error::Words,
};
use crate::provider::{
    exchange::cut,
    sse::{Parser, TooLong},
};

/// Reads one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    provider: String,
    events: Parser,
    pub(super) tally: Tally,
    done: bool,
}

/// Why reading an event failed.
enum Broken {
    TooLong(TooLong),
    Fault(Fault),
}

impl From<TooLong> for Broken {
    fn from(error: TooLong) -> Self {
        Self::TooLong(error)
    }
}

impl Decoder {
    pub(super) fn new(provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            events: Parser::default(),
            tally: Tally::default(),
            done: false,
        }
    }

    pub(super) fn provider(&self) -> &str {
        &self.provider
    }

    /// Takes the next bytes; the pieces they complete go to `items`.
    ///
    /// # Errors
    /// An error the provider sent as an event, or an event that does not parse or is too long. The decoder is of no use
    /// afterwards.
    pub(super) fn feed(&mut self, bytes: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let Self { provider, events, tally, done } = self;
        let fed = events.feed(bytes, &mut |data: &[u8]| take(provider, tally, done, data, items));
        fed.map_err(|broken| fault(provider, broken))
    }

    /// Whether the server said that the answer is whole.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }

    /// The stream has ended properly, by the rules of its transport.
    ///
    /// # Errors
    /// `Upstream`: it ended before the answer did.
    pub(super) fn end(&mut self, items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let Self { provider, events, tally, done } = self;
        let fed = events.finish(&mut |data: &[u8]| take(provider, tally, done, data, items));
        fed.map_err(|broken| fault(provider, broken))?;
        if self.done || self.tally.finish_reason.is_some() {
            self.done = true;
            return Ok(());
        }
        Err(cut(&self.provider))
    }
}

fn fault(provider: &str, broken: Broken) -> Fault {
    match broken {
        Broken::Fault(fault) => fault,
        Broken::TooLong(error) => {
            Fault::new(Code::Upstream, Origin::Provider, true, format!("{provider}: {error}"))
        }
    }
}

fn take(
    provider: &str,
    tally: &mut Tally,
    done: &mut bool,
    data: &[u8],
    items: &mut Vec<v1::DeltaItem>,
) -> Result<(), Broken> {
    // nothing after the end belongs to the answer
    if *done || data.is_empty() {
        return Ok(());
    }
    if data == b"[DONE]" {
        *done = true;
        return Ok(());
    }
    let reply: Reply<'_> = serde_json::from_slice(data)
        .map_err(|error| Broken::Fault(malformed(provider, "a chunk", &error)))?;
    if reply.is_error() {
        let words = Words::of_body(data);
        return Err(Broken::Fault(words.refusal(None).into_failure(provider, None).fault));
    }
    tally.absorb(provider, reply, items).map_err(Broken::Fault)
}

#[cfg(test)]
mod tests;
