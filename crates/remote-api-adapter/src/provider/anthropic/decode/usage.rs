//! Tokens as the API counts them, by kind.
//!
//! `input_tokens` is what was neither read from the cache nor written to it; the domain's input is all three together.
//! Counts in a stream are cumulative: the last one of each counts.

use domain::{pricing::TokenUsage, units::Tokens};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A `usage` object.
#[derive(Debug, Deserialize)]
pub(in super::super) struct Usage<'a> {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    output_tokens_details: Option<OutputDetails>,
    /// One for each time the model was run, where one call runs it several times (a conversation that is compacted on the
    /// way): what is billed is their sum, of which the fields above tell the last.
    iterations: Option<Vec<Iteration>>,
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow, default)]
    inference_geo: Option<&'a RawValue>,
    #[serde(borrow, default)]
    server_tool_use: Option<&'a RawValue>,
    #[serde(borrow, default)]
    speed: Option<&'a RawValue>,
}

/// What was written to the cache, by how long it is kept.
#[derive(Debug, Deserialize)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Iteration {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
}

impl<'a> Usage<'a> {
    /// What is no count.
    pub(super) fn unmodelled(&self) -> impl Iterator<Item = (&'static str, &'a RawValue)> + use<'a> {
        let fields = [
            ("service_tier", self.service_tier),
            ("inference_geo", self.inference_geo),
            ("server_tool_use", self.server_tool_use),
            ("speed", self.speed),
        ];
        fields.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

/// The counts so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    last: Run,
    /// All runs together, where the API tells them apart.
    sum: Option<Run>,
    reasoning: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Run {
    uncached: u64,
    read: u64,
    written: u64,
    /// Of `written`, what is kept for an hour.
    hour: u64,
    output: u64,
}

impl Counts {
    pub(super) fn update(&mut self, usage: &Usage<'_>) {
        let Self { last, sum, reasoning } = self;
        let set = |count: &mut u64, said: Option<u64>| *count = said.unwrap_or(*count);
        set(&mut last.uncached, usage.input_tokens);
        set(&mut last.read, usage.cache_read_input_tokens);
        set(&mut last.written, usage.cache_creation_input_tokens);
        set(&mut last.hour, usage.cache_creation.as_ref().and_then(|kept| kept.ephemeral_1h_input_tokens));
        set(&mut last.output, usage.output_tokens);
        set(reasoning, usage.output_tokens_details.as_ref().and_then(|details| details.thinking_tokens));
        if let Some(runs) = usage.iterations.as_deref().filter(|runs| !runs.is_empty()) {
            let total =
                |of: fn(&Iteration) -> Option<u64>| runs.iter().filter_map(of).fold(0, u64::saturating_add);
            *sum = Some(Run {
                uncached: total(|run| run.input_tokens),
                read: total(|run| run.cache_read_input_tokens),
                written: total(|run| run.cache_creation_input_tokens),
                hour: total(|run| run.cache_creation.as_ref()?.ephemeral_1h_input_tokens),
                output: total(|run| run.output_tokens),
            });
        }
    }

    pub(super) fn into_usage(self) -> TokenUsage {
        let Run { uncached, read, written, hour, output } = self.sum.unwrap_or(self.last);
        TokenUsage {
            input: Tokens::new(uncached.saturating_add(read).saturating_add(written)),
            output: Tokens::new(output),
            cached_input: Tokens::new(read),
            cache_write: Tokens::new(written),
            cache_write_hour: Tokens::new(hour.min(written)),
            reasoning: Tokens::new(self.reasoning.min(output)),
            ..TokenUsage::default()
        }
    }
}
