//! A stream of the Messages API.
//!
//! Pure: bytes in, pieces out. Only `message_stop` makes an answer whole; every other end is a fault, so that a cut stream
//! never looks like a finished answer. Events that this version does not know are skipped, as the API's versioning asks of
//! its clients (<https://platform.claude.com/docs/en/api/versioning>).

use domain::{
    fault::{Code, Fault, Origin},
    pricing::TokenUsage,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::v1;

use super::{
    decode::{self, Delta, Ending, Tally, Usage, unknown_piece},
    error::Words,
};
use crate::provider::{
    Completion,
    exchange::malformed,
    json::{Fields, Text},
    sse::{EventReader, Events},
};

/// Reads one answer.
pub(super) type Decoder = EventReader<Messages>;

/// The events so far.
#[derive(Debug, Default)]
pub(super) struct Messages {
    tally: Tally,
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

impl Events for Messages {
    fn take(&mut self, provider: &str, data: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let bad = |error| malformed(provider, "an event", &error);
        let event: Event<'_> = serde_json::from_slice(data).map_err(bad)?;
        if let Some(error) = event.error {
            return Err(Words::of_error(error.get()).into_failure(None, provider, None).fault);
        }
        let delta = || event.delta.ok_or_else(|| lacks(provider, "delta"));
        match event.kind.as_deref().unwrap_or_default() {
            "message_start" => {
                let message = event.message.ok_or_else(|| lacks(provider, "message"))?;
                self.tally.begin(provider, message.get().as_bytes(), items)?;
            }
            "content_block_start" => {
                let block = event.content_block.ok_or_else(|| lacks(provider, "content_block"))?;
                self.tally.blocks.begin(provider, event.index, block, items)?;
            }
            "content_block_delta" => {
                let json = delta()?;
                let piece: Delta<'_> = serde_json::from_str(json.get()).map_err(bad)?;
                if !self.tally.blocks.grow(provider, event.index, piece, items)? {
                    items.push(unknown_piece(json));
                }
            }
            "content_block_stop" => self.tally.blocks.end(event.index, items),
            "message_delta" => {
                let ending: Ending<'_> = serde_json::from_str(delta()?.get()).map_err(bad)?;
                self.tally.ending(&ending);
                if let Some(usage) = event.usage {
                    self.tally.used(usage);
                }
            }
            "message_stop" => {
                self.tally.blocks.end_all(items);
                self.done = true;
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

    fn is_done(&self) -> bool {
        self.done
    }

    fn whole(&mut self, provider: &str, body: &[u8]) -> Result<Completion, Fault> {
        decode::message(provider, &mut self.tally, body)
    }

    fn used(&self) -> Option<TokenUsage> {
        self.tally.usage()
    }

    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion {
        std::mem::take(&mut self.tally).into_completion(items)
    }
}

fn lacks(provider: &str, field: &str) -> Fault {
    let message = format!("{provider} sent an event without its {field}");
    Fault::new(Code::Upstream, Origin::Provider, true, message)
}

#[cfg(test)]
mod tests;
