//! ConverseStream's events.
//!
//! Pure: bytes in, pieces out. An answer is whole when `messageStop` has come and then `metadata` with what it cost, or the
//! proper end of the stream in its place; every other end is a fault, also one in the middle of a frame.
//!
//! ```text
//! messageStart ─► contentBlockStart? ─► contentBlockDelta* ─► contentBlockStop ─► … ─► messageStop ─► metadata
//! ```

use std::collections::BTreeMap;

use aws_smithy_types::event_stream::Message;
use domain::{fault::Fault, pricing::TokenUsage};
use serde::Deserialize;
use wire::v1;

use super::{
    decode::{self, Block, Tally, unknown},
    error::{broken, exception},
    frames::{Damaged, Frames},
};
use crate::provider::{
    Completion, Reader,
    exchange::{cut, malformed},
    json::Fields,
};

/// Blocks that may be open at once; Bedrock opens one after the other.
const BLOCKS_MAX: usize = 1_024;

/// Reads one answer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    provider: String,
    frames: Frames,
    tally: Tally,
    /// By `contentBlockIndex`.
    blocks: BTreeMap<u32, Block>,
    done: bool,
}

/// An event of a block. `start` and `delta` are objects with one field, which says what they are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockEvent<'a> {
    #[serde(default)]
    content_block_index: u32,
    #[serde(borrow, default)]
    start: Fields<'a>,
    #[serde(borrow, default)]
    delta: Fields<'a>,
}

impl Decoder {
    pub(super) fn new(provider: &str) -> Self {
        Self { provider: provider.to_owned(), ..Self::default() }
    }

    fn frame(&mut self, frame: &Message, items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let header = |name: &str| {
            let header = frame.headers().iter().find(|header| header.name().as_str() == name)?;
            header.value().as_string().ok().map(|value| value.as_str())
        };
        match header(":message-type") {
            Some("event") => self.event(header(":event-type").unwrap_or_default(), frame.payload(), items),
            Some("exception") => {
                Err(exception(&self.provider, header(":exception-type").unwrap_or_default(), frame.payload()))
            }
            Some("error") => {
                let message = header(":error-message").unwrap_or_default();
                Err(exception(&self.provider, header(":error-code").unwrap_or_default(), message.as_bytes()))
            }
            other => Err(unknown(&self.provider, "a message of the kind", other.unwrap_or_default())),
        }
    }

    fn event(&mut self, kind: &str, payload: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let Self { provider, tally, blocks, .. } = self;
        let wrong = |error| malformed(provider, "an event", &error);
        match kind {
            "contentBlockStart" | "contentBlockDelta" => {
                let event: BlockEvent<'_> = serde_json::from_slice(payload).map_err(wrong)?;
                if blocks.len() >= BLOCKS_MAX {
                    return Err(broken(format!("{provider} opened more than {BLOCKS_MAX} blocks at once")));
                }
                // only blocks of tools announce themselves
                let block = blocks.entry(event.content_block_index).or_default();
                for (kind, value) in event.start.into_entries() {
                    block.start(provider, &kind, value, tally, items)?;
                }
                for (kind, value) in event.delta.into_entries() {
                    block.delta(provider, &kind, value, tally, items)?;
                }
            }
            "contentBlockStop" => {
                let event: BlockEvent<'_> = serde_json::from_slice(payload).map_err(wrong)?;
                if let Some(block) = blocks.remove(&event.content_block_index) {
                    block.stop(tally, items);
                }
            }
            "messageStop" => {
                for block in std::mem::take(blocks).into_values() {
                    block.stop(tally, items);
                }
                tally.fields(provider, serde_json::from_slice(payload).map_err(wrong)?)?;
                if tally.finish_reason.is_none() {
                    return Err(broken(format!(
                        "{provider} ended the message without stopReason, expected one"
                    )));
                }
                tally.close(items);
            }
            "metadata" => {
                tally.fields(provider, serde_json::from_slice(payload).map_err(wrong)?)?;
                self.done = self.tally.finish_reason.is_some();
            }
            // messageStart says the role; others are of a later version
            _ => {}
        }
        Ok(())
    }

    fn damaged(&self, error: Damaged) -> Fault {
        broken(format!("{}: {error}", self.provider))
    }
}

impl Reader for Decoder {
    fn whole(&mut self, body: &[u8]) -> Result<Completion, Fault> {
        decode::converse(&self.provider, &mut self.tally, body)
    }

    fn feed(&mut self, bytes: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        // nothing after the end belongs to the answer
        if self.done {
            return Ok(());
        }
        self.frames.feed(bytes);
        while !self.done {
            match self.frames.next() {
                Ok(Some(frame)) => self.frame(&frame, items)?,
                Ok(None) => break,
                Err(error) => return Err(self.damaged(error)),
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn end(&mut self, _items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        if self.done || (self.tally.finish_reason.is_some() && self.frames.is_empty()) {
            self.done = true;
            return Ok(());
        }
        Err(cut(&self.provider))
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
