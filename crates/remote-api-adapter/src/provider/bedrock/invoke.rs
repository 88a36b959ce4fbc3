//! InvokeModel: bodies that each model defines for itself, and tokens counted in headers.

use domain::{fault::Fault, pricing::TokenUsage, units::Tokens};
use reqwest::header::HeaderMap;
use wire::v1;

use crate::provider::{Completion, Reader};

pub(super) mod batch;
pub(super) mod embed;
pub(super) mod translate;

/// Where Bedrock counts the tokens of a model that does not say itself.
const INPUT_TOKENS: &str = "x-amzn-bedrock-input-token-count";
const OUTPUT_TOKENS: &str = "x-amzn-bedrock-output-token-count";

/// Reads an answer that comes in one body.
pub(super) struct Invoked<F> {
    read: F,
    counted: Option<TokenUsage>,
}

impl<F> Invoked<F>
where
    F: FnMut(&[u8]) -> Result<Completion, Fault> + Send,
{
    pub(super) const fn new(read: F) -> Self {
        Self { read, counted: None }
    }
}

impl<F> Reader for Invoked<F>
where
    F: FnMut(&[u8]) -> Result<Completion, Fault> + Send,
{
    fn head(&mut self, headers: &HeaderMap) {
        let count = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok().map(Tokens::new);
        self.counted = count(INPUT_TOKENS).map(|input| TokenUsage {
            input,
            output: count(OUTPUT_TOKENS).unwrap_or(Tokens::ZERO),
            ..TokenUsage::default()
        });
    }

    fn whole(&mut self, body: &[u8]) -> Result<Completion, Fault> {
        let mut completion = (self.read)(body)?;
        completion.usage = completion.usage.or(self.counted);
        Ok(completion)
    }

    fn feed(&mut self, _bytes: &[u8], _items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        Err(Fault::internal("an answer without a stream was streamed"))
    }

    fn is_done(&self) -> bool {
        false
    }

    fn end(&mut self, _items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        Err(Fault::internal("an answer without a stream was streamed"))
    }

    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion {
        Completion { items, ..Completion::default() }
    }
}
