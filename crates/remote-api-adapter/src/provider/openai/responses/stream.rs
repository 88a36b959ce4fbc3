//! A stream of events of the Responses interface.
//!
//! Pure: bytes in, pieces out. An answer is whole only once `response.completed` or `response.incomplete` has come; there is
//! no other terminator. What came in pieces is not repeated when its item ends; an item without pieces is taken whole.
//!
//! Reasoning belongs to the item after it, and must stand before it when it comes back: before a call it goes out at the
//! call, before a text at the message.

use std::collections::HashMap;

use domain::{fault::Fault, pricing::TokenUsage};
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::v1;

use super::{
    super::{decode::malformed, error::Words},
    decode::{self, Item, Response},
};
use crate::provider::{
    Completion,
    exchange::cut,
    json::Text,
    sse::{EventReader, Events},
};

/// Reads one answer.
pub(in super::super) type Decoder = EventReader<State>;

/// What is known so far.
#[derive(Debug, Default)]
pub(in super::super) struct State {
    /// Items that came in pieces, by their place; a call with its number.
    begun: HashMap<u64, Begun>,
    calls: u32,
    /// Items to be sent back whose successor has not come, as JSON.
    waiting: Vec<String>,
    /// The last part of a summary that was told.
    summary: Option<(u64, u64)>,
    end: Option<Completion>,
    used: Option<TokenUsage>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Begun {
    call: u32,
    in_pieces: bool,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(default)]
    output_index: u64,
    #[serde(default)]
    summary_index: u64,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    item: Option<&'a RawValue>,
    #[serde(borrow, default)]
    annotation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

impl Event<'_> {
    fn delta(&self) -> Result<String, serde_json::Error> {
        self.delta.map_or_else(|| Ok(String::new()), |delta| serde_json::from_str(delta.get()))
    }
}

impl State {
    /// Tells what waits, at the message.
    fn release(&mut self, items: &mut Vec<v1::DeltaItem>) {
        if !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            items.push(v1::DeltaItem { extra_json: decode::output_items(&waiting), ..Default::default() });
        }
    }

    /// The start of the next call, with what waits.
    fn call(&mut self, id: Text<'_>, name: Text<'_>, arguments_json: String) -> v1::DeltaItem {
        let index = self.calls;
        self.calls += 1;
        let waiting = std::mem::take(&mut self.waiting);
        let extra_json = if waiting.is_empty() { String::new() } else { decode::output_items(&waiting) };
        let (id, name) = (id.into_string(), name.into_string());
        call(v1::ToolCallDelta { index, id, name, arguments_json, extra_json })
    }

    fn piece(
        &mut self,
        kind: &str,
        event: &Event<'_>,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), serde_json::Error> {
        let at = event.output_index;
        if matches!(kind, "response.output_text.delta" | "response.refusal.delta") {
            self.release(items);
        }
        match kind {
            "response.output_text.delta" => {
                let logprobs = event.logprobs.filter(|list| !matches!(list.get(), "null" | "[]"));
                let piece = logprobs.map_or_else(v1::DeltaItem::default, |list| decode::logprobs(list.get()));
                items.push(v1::DeltaItem { text: event.delta()?, ..piece });
            }
            "response.refusal.delta" => {
                items.extend(event.delta.map(|delta| decode::extra("refusal", delta.get())));
            }
            "response.output_text.annotation.added" => {
                items.extend(event.annotation.map(decode::annotation));
            }
            "response.reasoning_text.delta" => items.push(thought(event.delta()?)),
            "response.reasoning_summary_text.delta" => {
                let part = (at, event.summary_index);
                let parted = self.summary.replace(part).is_some_and(|before| before != part);
                items.push(thought(if parted {
                    format!("\n\n{}", event.delta()?)
                } else {
                    event.delta()?
                }));
            }
            "response.output_item.added" => return self.added(event, items),
            "response.function_call_arguments.delta" => {
                let Some(begun) = self.begun.get_mut(&at) else { return Ok(()) };
                begun.in_pieces = true;
                let arguments_json = event.delta()?;
                items.push(call(v1::ToolCallDelta {
                    index: begun.call,
                    arguments_json,
                    ..Default::default()
                }));
                return Ok(());
            }
            "response.output_item.done" => return self.ended(event, items),
            // states, and repetitions of what came in pieces
            _ => return Ok(()),
        }
        self.begun.entry(at).or_default().in_pieces = true;
        Ok(())
    }

    /// An item begins: of interest where it is a call, whose name does not come in pieces.
    fn added(&mut self, event: &Event<'_>, items: &mut Vec<v1::DeltaItem>) -> Result<(), serde_json::Error> {
        let Some(Item::Call(begun)) = event.item.map(decode::item).transpose()? else { return Ok(()) };
        self.begun.insert(event.output_index, Begun { call: self.calls, in_pieces: false });
        items.push(self.call(begun.call_id, begun.name, String::new()));
        Ok(())
    }

    /// An item ends: what has not been told of it is told now.
    fn ended(&mut self, event: &Event<'_>, items: &mut Vec<v1::DeltaItem>) -> Result<(), serde_json::Error> {
        let Some(json) = event.item else { return Ok(()) };
        let begun = self.begun.remove(&event.output_index);
        let told = begun.is_some_and(|begun| begun.in_pieces);
        match decode::item(json)? {
            Item::Message(fields) if told => items.extend(decode::phase(&fields)),
            Item::Message(fields) => {
                self.release(items);
                decode::message(&fields, items)?;
            }
            Item::Call(_) if told => {}
            Item::Call(whole) => {
                let arguments_json = whole.arguments.map(Text::into_string).unwrap_or_default();
                items.push(match begun {
                    Some(Begun { call: index, .. }) => {
                        call(v1::ToolCallDelta { index, arguments_json, ..Default::default() })
                    }
                    None => self.call(whole.call_id, whole.name, arguments_json),
                });
            }
            Item::Reasoning(reasoning) => {
                let text = reasoning.text();
                if !told && !text.is_empty() {
                    items.push(thought(text));
                }
                if reasoning.can_come_back() {
                    self.waiting.push(json.get().to_owned());
                }
            }
            Item::Other => self.waiting.push(json.get().to_owned()),
        }
        Ok(())
    }
}

fn thought(reasoning: String) -> v1::DeltaItem {
    v1::DeltaItem { reasoning, ..v1::DeltaItem::default() }
}

fn call(call: v1::ToolCallDelta) -> v1::DeltaItem {
    v1::DeltaItem { tool_calls: vec![call], ..v1::DeltaItem::default() }
}

impl Events for State {
    fn take(&mut self, provider: &str, data: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        if data == b"[DONE]" {
            return Ok(());
        }
        let broken = |error: serde_json::Error| malformed(provider, "an event", &error);
        let event: Event<'_> = serde_json::from_slice(data).map_err(broken)?;
        match &*event.kind {
            "error" => {
                return Err(Words::of_body(data).refusal(None).into_failure(provider, None).fault);
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let json = event.response.ok_or_else(|| cut(provider))?;
                let response: Response<'_> = serde_json::from_str(json.get()).map_err(broken)?;
                self.used = response.used();
                let end = response.end(provider, self.calls)?;
                self.release(items);
                self.end = Some(end);
            }
            kind => self.piece(kind, &event, items).map_err(broken)?,
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.end.is_some()
    }

    fn whole(&mut self, provider: &str, body: &[u8]) -> Result<Completion, Fault> {
        let broken = |error: serde_json::Error| malformed(provider, "an answer", &error);
        let mut response: Response<'_> = serde_json::from_slice(body).map_err(broken)?;
        self.used = response.used();
        let mut items = Vec::new();
        let Some(output) = response.output.take() else {
            // an error in place of an answer, for example
            response.end(provider, 0)?;
            return Err(cut(provider));
        };
        for (json, output_index) in output.into_iter().zip(0..) {
            let event = Event {
                kind: Text::from("response.output_item.done"),
                output_index,
                summary_index: 0,
                delta: None,
                item: Some(json),
                annotation: None,
                logprobs: None,
                response: None,
            };
            self.ended(&event, &mut items).map_err(broken)?;
        }
        self.release(&mut items);
        Ok(Completion { items, ..response.end(provider, self.calls)? })
    }

    fn used(&self) -> Option<TokenUsage> {
        self.used
    }

    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion {
        Completion { items, ..self.end.take().unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests;
