//! What all dialects that answer in events have in common: bytes in, events out, and no end that nobody said.

use domain::{
    fault::{Code, Fault, Origin},
    pricing::TokenUsage,
};
use wire::v1;

use super::{Parser, TooLong};
use crate::provider::{Completion, Reader, exchange::cut};

/// What a dialect makes of the events of one answer. Pure.
pub(crate) trait Events: Send {
    /// Takes in the data of one event, which is not empty; the pieces it completes go to `items`. Not called once
    /// [`Events::is_done`].
    ///
    /// # Errors
    /// An error the provider sent as an event, or an event that does not parse.
    fn take(&mut self, provider: &str, data: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault>;

    /// Whether the provider has said that the answer is whole.
    fn is_done(&self) -> bool;

    /// Whether the answer is whole if its transport says that it ended here.
    fn is_whole(&self) -> bool {
        self.is_done()
    }

    /// An answer in one body.
    ///
    /// # Errors
    /// As [`Reader::whole`].
    fn whole(&mut self, provider: &str, body: &[u8]) -> Result<Completion, Fault>;

    /// What the provider has counted so far; `None` where it has said nothing.
    fn used(&self) -> Option<TokenUsage>;

    /// The answer, once it is whole; `items` are its last pieces.
    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion;
}

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct EventReader<E> {
    provider: String,
    parser: Parser,
    pub(crate) events: E,
    /// The transport has ended, and the answer with it.
    ended: bool,
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

impl<E: Events + Default> EventReader<E> {
    pub(crate) fn new(provider: &str) -> Self {
        Self::with(provider, E::default())
    }
}

impl<E: Events> EventReader<E> {
    pub(crate) fn with(provider: &str, events: E) -> Self {
        Self { provider: provider.to_owned(), parser: Parser::default(), events, ended: false }
    }

    fn read(
        &mut self,
        items: &mut Vec<v1::DeltaItem>,
        parse: impl FnOnce(&mut Parser, &mut dyn FnMut(&[u8]) -> Result<(), Broken>) -> Result<(), Broken>,
    ) -> Result<(), Fault> {
        let Self { provider, parser, events, .. } = self;
        let mut take = |data: &[u8]| {
            // nothing after the end belongs to the answer
            if data.is_empty() || events.is_done() {
                return Ok(());
            }
            events.take(provider, data, items).map_err(Broken::Fault)
        };
        parse(parser, &mut take).map_err(|broken| broken.into_fault(provider))
    }
}

impl<E: Events> Reader for EventReader<E> {
    fn whole(&mut self, body: &[u8]) -> Result<Completion, Fault> {
        self.events.whole(&self.provider, body)
    }

    fn feed(&mut self, bytes: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        self.read(items, |parser, mut take| parser.feed(bytes, &mut take))
    }

    fn is_done(&self) -> bool {
        self.ended || self.events.is_done()
    }

    fn end(&mut self, items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        self.read(items, |parser, mut take| parser.finish(&mut take))?;
        if self.events.is_whole() {
            self.ended = true;
            return Ok(());
        }
        Err(cut(&self.provider))
    }

    fn used(&self) -> Option<TokenUsage> {
        self.events.used()
    }

    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion {
        self.events.completion(items)
    }
}
