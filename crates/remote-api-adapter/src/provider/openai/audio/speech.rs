//! Speech as it comes: plain audio, or events with audio in base64 and, at the end, its tokens.
//!
//! Plain audio ends where its transport says so; a body that is cut before is a fault of the transport's. Events end with
//! `speech.audio.done`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use domain::{
    fault::{Code, Fault, Origin},
    pricing::TokenUsage,
    units::Tokens,
};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::v1;

use super::super::error::Words;
use crate::provider::{
    Completion, Reader,
    exchange::{cut, malformed},
    json::Text,
    sse::{Parser, TooLong},
};

/// Reads one answer.
pub(in super::super) struct Speech {
    provider: String,
    /// Characters that were sent, which some models are charged by.
    characters: u64,
    /// Whether the price goes by tokens: without events they are not told.
    by_tokens: bool,
    events: Option<Parser>,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    begun: bool,
    done: bool,
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    audio: Option<Text<'a>>,
    #[serde(default)]
    usage: Option<Counted>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Counted {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
}

enum Broken {
    TooLong(TooLong),
    Fault(Fault),
}

impl From<TooLong> for Broken {
    fn from(error: TooLong) -> Self {
        Self::TooLong(error)
    }
}

impl Broken {
    fn into_fault(self, provider: &str) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::TooLong(error) => {
                Fault::new(Code::Upstream, Origin::Provider, true, format!("{provider}: {error}"))
            }
        }
    }
}

impl Speech {
    pub(in super::super) fn new(provider: &str, characters: u64, by_tokens: bool) -> Self {
        Self {
            provider: provider.to_owned(),
            characters,
            by_tokens,
            events: by_tokens.then(Parser::default),
            tally: Tally::default(),
        }
    }
}

fn take(
    provider: &str,
    tally: &mut Tally,
    data: &[u8],
    items: &mut Vec<v1::DeltaItem>,
) -> Result<(), Broken> {
    if tally.done || data.is_empty() || data == b"[DONE]" {
        return Ok(());
    }
    let event: Event<'_> = serde_json::from_slice(data)
        .map_err(|error| Broken::Fault(malformed(provider, "an event", &error)))?;
    if let Some(error) = event.error {
        let failure = Words::of_error(error.get()).refusal(None).into_failure(provider, None);
        return Err(Broken::Fault(failure.fault));
    }
    if let Some(text) = event.audio {
        let audio = BASE64_STANDARD.decode(text.as_bytes()).map_err(|_| {
            let message = format!("{provider} sent audio that is no base64");
            Broken::Fault(Fault::new(Code::Upstream, Origin::Provider, true, message))
        })?;
        if !audio.is_empty() {
            tally.begun = true;
            items.push(v1::DeltaItem { audio, ..v1::DeltaItem::default() });
        }
    }
    if event.usage.is_some() {
        tally.usage = event.usage;
    }
    tally.done = event.kind.as_deref() == Some("speech.audio.done");
    Ok(())
}

impl Reader for Speech {
    fn head(&mut self, headers: &HeaderMap) {
        // a server that knows no events sends the audio itself
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_events = kind.starts_with("text/event-stream");
        self.events = is_events.then(Parser::default);
    }

    /// Audio is never JSON: whatever this is, it is no speech.
    fn whole(&mut self, body: &[u8]) -> Result<Completion, Fault> {
        Err(Words::of_body(body).refusal(None).into_failure(&self.provider, None).fault)
    }

    fn feed(&mut self, bytes: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let Self { provider, events, tally, .. } = self;
        let Some(parser) = events else {
            if !bytes.is_empty() {
                tally.begun = true;
                items.push(v1::DeltaItem { audio: bytes.to_vec(), ..v1::DeltaItem::default() });
            }
            return Ok(());
        };
        let fed = parser.feed(bytes, &mut |data: &[u8]| take(provider, tally, data, items));
        fed.map_err(|broken| broken.into_fault(provider))
    }

    fn is_done(&self) -> bool {
        self.tally.done
    }

    fn end(&mut self, items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let Self { provider, events, tally, .. } = self;
        let is_plain = events.is_none();
        if let Some(parser) = events {
            let fed = parser.finish(&mut |data: &[u8]| take(provider, tally, data, items));
            fed.map_err(|broken| broken.into_fault(provider))?;
        }
        if self.tally.done || (is_plain && self.tally.begun) { Ok(()) } else { Err(cut(&self.provider)) }
    }

    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion {
        let usage = match self.tally.usage {
            Some(counted) => Some(TokenUsage {
                input: Tokens::new(counted.input_tokens),
                output: Tokens::new(counted.output_tokens),
                audio_output: Tokens::new(counted.output_tokens),
                characters: self.characters,
                ..TokenUsage::default()
            }),
            None if self.by_tokens => None,
            None => Some(TokenUsage { characters: self.characters, ..TokenUsage::default() }),
        };
        Completion { items, finish_reason: v1::FinishReason::Stop, usage, ..Completion::default() }
    }
}
