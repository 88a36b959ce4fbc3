//! From messages to domain types and back.
//!
//! Towards the domain every field is checked, and the error is a [`Fault`] that names the field as callers know it, the value
//! and what was expected. Towards the wire nothing can fail.

mod audio;
mod budget;
mod decision;
mod fault;
mod key;
mod policy;
mod request;
mod snapshot;

pub use decision::kept;
pub use policy::complexity;
pub use request::{Limits, check_size};

use std::time::Duration;

use domain::{
    classification::WorkloadClass,
    pricing::{LongPrompt, Price, TokenUsage},
    routing::Tier,
    units::{Money, Tokens},
};

use crate::v1;

impl From<Tier> for v1::Tier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::RemoteApi => Self::RemoteApi,
            Tier::LocalGpu => Self::LocalGpu,
            Tier::LocalCpu => Self::LocalCpu,
            Tier::Fallback => Self::Fallback,
            Tier::Edge => Self::Edge,
        }
    }
}

/// The tier of a message; `None` where it says nothing or something newer than this version.
#[must_use]
pub fn tier(value: i32) -> Option<Tier> {
    match v1::Tier::try_from(value).ok()? {
        v1::Tier::Unspecified => None,
        v1::Tier::RemoteApi => Some(Tier::RemoteApi),
        v1::Tier::LocalGpu => Some(Tier::LocalGpu),
        v1::Tier::LocalCpu => Some(Tier::LocalCpu),
        v1::Tier::Fallback => Some(Tier::Fallback),
        v1::Tier::Edge => Some(Tier::Edge),
    }
}

impl From<WorkloadClass> for v1::WorkloadClass {
    fn from(class: WorkloadClass) -> Self {
        match class {
            WorkloadClass::Light => Self::Light,
            WorkloadClass::Heavy => Self::Heavy,
            WorkloadClass::ComputeHeavyLocal => Self::ComputeHeavyLocal,
        }
    }
}

/// The class of a message; `None` where it says nothing.
#[must_use]
pub fn workload_class(value: i32) -> Option<WorkloadClass> {
    match v1::WorkloadClass::try_from(value).ok()? {
        v1::WorkloadClass::Unspecified => None,
        v1::WorkloadClass::Light => Some(WorkloadClass::Light),
        v1::WorkloadClass::Heavy => Some(WorkloadClass::Heavy),
        v1::WorkloadClass::ComputeHeavyLocal => Some(WorkloadClass::ComputeHeavyLocal),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<TokenUsage> for v1::TokenUsage {
    fn from(usage: TokenUsage) -> Self {
        Self {
            input: usage.input.get(),
            output: usage.output.get(),
            cached_input: usage.cached_input.get(),
            cache_write: usage.cache_write.get(),
            reasoning: usage.reasoning.get(),
            estimated: usage.estimated,
            audio_input: usage.audio_input.get(),
            audio_output: usage.audio_output.get(),
            audio_ms: millis(usage.audio),
            characters: usage.characters,
            cache_write_hour: usage.cache_write_hour.get(),
        }
    }
}

impl From<v1::TokenUsage> for TokenUsage {
    fn from(usage: v1::TokenUsage) -> Self {
        Self {
            input: Tokens::new(usage.input),
            output: Tokens::new(usage.output),
            cached_input: Tokens::new(usage.cached_input),
            cache_write: Tokens::new(usage.cache_write),
            cache_write_hour: Tokens::new(usage.cache_write_hour),
            reasoning: Tokens::new(usage.reasoning),
            estimated: usage.estimated,
            audio_input: Tokens::new(usage.audio_input),
            audio_output: Tokens::new(usage.audio_output),
            audio: Duration::from_millis(usage.audio_ms),
            characters: usage.characters,
        }
    }
}

impl From<Price> for v1::Price {
    fn from(price: Price) -> Self {
        Self {
            input: price.input.as_picodollars(),
            output: price.output.as_picodollars(),
            cached_input: price.cached_input.map(Money::as_picodollars),
            cache_write: price.cache_write.map(Money::as_picodollars),
            reasoning: price.reasoning.map(Money::as_picodollars),
            audio_input: price.audio_input.map(Money::as_picodollars),
            audio_output: price.audio_output.map(Money::as_picodollars),
            audio_hour: price.audio_hour.map(Money::as_picodollars),
            audio_minimum_ms: millis(price.audio_minimum),
            character: price.character.map(Money::as_picodollars),
            cache_write_hour: price.cache_write_hour.map(Money::as_picodollars),
            long_prompt: price.long_prompt.map(Into::into),
        }
    }
}

impl From<v1::Price> for Price {
    fn from(price: v1::Price) -> Self {
        Self {
            input: Money::picodollars(price.input),
            output: Money::picodollars(price.output),
            cached_input: price.cached_input.map(Money::picodollars),
            cache_write: price.cache_write.map(Money::picodollars),
            reasoning: price.reasoning.map(Money::picodollars),
            audio_input: price.audio_input.map(Money::picodollars),
            audio_output: price.audio_output.map(Money::picodollars),
            audio_hour: price.audio_hour.map(Money::picodollars),
            audio_minimum: Duration::from_millis(price.audio_minimum_ms),
            character: price.character.map(Money::picodollars),
            cache_write_hour: price.cache_write_hour.map(Money::picodollars),
            long_prompt: price.long_prompt.map(Into::into),
        }
    }
}

impl From<LongPrompt> for v1::LongPromptPrice {
    fn from(price: LongPrompt) -> Self {
        Self {
            above_tokens: price.above.get(),
            input: price.input.as_picodollars(),
            output: price.output.as_picodollars(),
            cached_input: price.cached_input.map(Money::as_picodollars),
            cache_write: price.cache_write.map(Money::as_picodollars),
            reasoning: price.reasoning.map(Money::as_picodollars),
            cache_write_hour: price.cache_write_hour.map(Money::as_picodollars),
        }
    }
}

impl From<v1::LongPromptPrice> for LongPrompt {
    fn from(price: v1::LongPromptPrice) -> Self {
        Self {
            above: Tokens::new(price.above_tokens),
            input: Money::picodollars(price.input),
            output: Money::picodollars(price.output),
            cached_input: price.cached_input.map(Money::picodollars),
            cache_write: price.cache_write.map(Money::picodollars),
            reasoning: price.reasoning.map(Money::picodollars),
            cache_write_hour: price.cache_write_hour.map(Money::picodollars),
        }
    }
}
