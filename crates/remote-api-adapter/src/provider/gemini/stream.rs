//! A stream of chunks.
//!
//! Pure: bytes in, pieces out. Google has no terminator: an answer is whole when the stream ended properly after a finish reason
//! (the last count of tokens may come with it or after it); every other end is a fault, so that a cut stream never looks like a
//! finished answer.

use domain::fault::{Code, Fault, Origin};
use wire::v1;

use super::decode::{self, Reply, Tally, malformed};
use crate::provider::{
    Completion, Reader,
    exchange::cut,
    sse::{Parser, TooLong},
};

/// Reads one answer.
#[derive(Debug)]
pub(super) struct Decoder {
    provider: String,
    events: Parser,
    tally: Tally,
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
    /// `request_id` names tool calls that come without an id.
    pub(super) fn new(provider: &str, request_id: &str) -> Self {
        Self { provider: provider.to_owned(), events: Parser::default(), tally: Tally::new(request_id) }
    }

    fn fault(&self, broken: Broken) -> Fault {
        match broken {
            Broken::Fault(fault) => fault,
            Broken::TooLong(error) => {
                Fault::new(Code::Upstream, Origin::Provider, true, format!("{}: {error}", self.provider))
            }
        }
    }
}

impl Reader for Decoder {
    fn whole(&mut self, body: &[u8]) -> Result<Completion, Fault> {
        decode::whole(&self.provider, std::mem::take(&mut self.tally), body)
    }

    fn feed(&mut self, bytes: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let Self { provider, events, tally } = self;
        let fed = events.feed(bytes, &mut |data: &[u8]| take(provider, tally, data, items));
        fed.map_err(|broken| self.fault(broken))
    }

    /// Never: only the end of the body says so.
    fn is_done(&self) -> bool {
        false
    }

    fn end(&mut self, items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let Self { provider, events, tally } = self;
        let fed = events.finish(&mut |data: &[u8]| take(provider, tally, data, items));
        fed.map_err(|broken| self.fault(broken))?;
        if self.tally.is_whole() { Ok(()) } else { Err(cut(&self.provider)) }
    }

    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion {
        std::mem::take(&mut self.tally).into_completion(items)
    }
}

fn take(
    provider: &str,
    tally: &mut Tally,
    data: &[u8],
    items: &mut Vec<v1::DeltaItem>,
) -> Result<(), Broken> {
    if data.is_empty() {
        return Ok(());
    }
    let reply: Reply<'_> = serde_json::from_slice(data)
        .map_err(|error| Broken::Fault(malformed(provider, "a chunk", &error)))?;
    tally.absorb(provider, reply, items).map_err(Broken::Fault)
}

#[cfg(test)]
mod tests;
