//! A stream of the Messages API.
//!
//! Pure: bytes in, pieces out. Only `message_stop` makes an answer whole; every other end is a fault, so that a cut stream
//! never looks like a finished answer. Events that this version does not know are skipped, as the API's versioning asks of
//! its clients (<https://platform.claude.com/docs/en/api/versioning>).

use domain::fault::{Code, Fault, Origin};
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::v1;

use super::{
    decode::{Delta, Ending, Tally, Usage, unknown_piece},
    error::Words,
};
use crate::provider::{
    exchange::{cut, malformed},
    json::{Fields, Text},
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

/// An event, but for the fields of which the type decides what they hold.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Text<'a>>,
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content_block: Option<Fields<'a>>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<Usage<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
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
        let fed = events
            .feed(bytes, &mut |data: &[u8]| take(provider, tally, done, data, items).map_err(Broken::Fault));
        fed.map_err(|broken| fault(provider, broken))
    }

    /// Whether the provider said that the answer is whole.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }

    /// The stream has ended properly, by the rules of its transport.
    ///
    /// # Errors
    /// `Upstream`: it ended before the answer did.
    pub(super) fn end(&mut self, items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let Self { provider, events, tally, done } = self;
        let fed =
            events.finish(&mut |data: &[u8]| take(provider, tally, done, data, items).map_err(Broken::Fault));
        fed.map_err(|broken| fault(provider, broken))?;
        if self.done { Ok(()) } else { Err(cut(&self.provider)) }
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
) -> Result<(), Fault> {
    // nothing after the end belongs to the answer
    if *done || data.is_empty() {
        return Ok(());
    }
    let bad = |error| malformed(provider, "an event", &error);
    let event: Event<'_> = serde_json::from_slice(data).map_err(bad)?;
    if let Some(error) = event.error {
        return Err(Words::of_error(error.get()).into_failure(None, provider, None).fault);
    }
    let delta = || event.delta.ok_or_else(|| lacks(provider, "delta"));
    match event.kind.as_deref().unwrap_or_default() {
        "message_start" => {
            let message = event.message.ok_or_else(|| lacks(provider, "message"))?;
            tally.begin(provider, message.get().as_bytes(), items)?;
        }
        "content_block_start" => {
            let block = event.content_block.ok_or_else(|| lacks(provider, "content_block"))?;
            tally.blocks.begin(provider, event.index, block, items)?;
        }
        "content_block_delta" => {
            let json = delta()?;
            let piece: Delta<'_> = serde_json::from_str(json.get()).map_err(bad)?;
            if !tally.blocks.grow(provider, event.index, piece, items)? {
                items.push(unknown_piece(json));
            }
        }
        "content_block_stop" => tally.blocks.end(event.index, items),
        "message_delta" => {
            let ending: Ending<'_> = serde_json::from_str(delta()?.get()).map_err(bad)?;
            tally.ending(&ending);
            if let Some(usage) = event.usage {
                tally.used(usage);
            }
        }
        "message_stop" => {
            tally.blocks.end_all(items);
            *done = true;
        }
        "" => {
            let message = format!("{provider} sent an event without a type");
            return Err(Fault::new(Code::Upstream, Origin::Provider, true, message));
        }
        // `ping`, and what is yet to be invented
        _ => {}
    }
    Ok(())
}

fn lacks(provider: &str, field: &str) -> Fault {
    let message = format!("{provider} sent an event without its {field}");
    Fault::new(Code::Upstream, Origin::Provider, true, message)
}

#[cfg(test)]
mod tests;
