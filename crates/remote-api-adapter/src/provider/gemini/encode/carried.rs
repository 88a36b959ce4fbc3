//! The fields of a request that the domain does not model: OpenAI's are translated or refused, Google's go along.

use domain::fault::Fault;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{beside, camel, carry, shown, unsupported};
use crate::provider::{
    gemini::model::Generation,
    json::{Fields, Object, Text},
};

/// OpenAI's names of what the domain models; the ingress has taken them out, so that these are repetitions.
const MODELLED: [&str; 15] = [
    "model",
    "messages",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "tools",
    "tool_choice",
    "response_format",
];

/// Fields of OpenAI's chat API that Google has nothing for.
const NOT_OFFERED: [&str; 11] = [
    "audio",
    "function_call",
    "functions",
    "logit_bias",
    "metadata",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "user",
    "web_search_options",
];

/// Top-level fields of Google's that are written here, whether or not this request has them.
const WRITTEN: [&str; 5] = ["contents", "systemInstruction", "toolConfig", "tools", "model"];

/// How much a model shall think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    /// Gemini 3 and later.
    Level(&'static str),
    /// Gemini 2.5: tokens.
    Budget(u32),
}

/// The carried fields of a request, sorted.
#[derive(Debug, Default)]
pub(super) struct Carried<'a> {
    pub(super) thinking: Option<Thinking>,
    pub(super) logprobs: bool,
    /// Alternatives for each token.
    pub(super) top_logprobs: Option<u32>,
    /// Fields of the carried `generationConfig`.
    pub(super) config: Fields<'a>,
    native: Fields<'a>,
}

impl<'a> Carried<'a> {
    /// Reads the fields.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no JSON object or repeats a modelled field, `Unsupported` for what Google has nothing for;
    /// both name the field.
    pub(super) fn read(extra_json: &'a str, generation: Generation) -> Result<Self, Fault> {
        let mut carried = Self::default();
        for (key, value) in Fields::parse("extra_json", extra_json)?.into_entries() {
            if value.get() != "null" {
                carried.take(key, value, generation)?;
            }
        }
        if carried.top_logprobs.is_some() && !carried.logprobs {
            let message = "top_logprobs is given without logprobs, expected logprobs to be true";
            return Err(Fault::invalid("top_logprobs", message));
        }
        Ok(carried)
    }

    fn take(&mut self, key: Text<'a>, value: &'a RawValue, generation: Generation) -> Result<(), Fault> {
        let only = |expected: &str| Err(unsupported(&*key, &shown(value.get()), expected));
        match &*key {
            "reasoning_effort" => {
                self.thinking = Some(thinking(&typed::<String>(&key, value, "a text")?, generation)?)
            }
            "logprobs" => self.logprobs = typed(&key, value, "true or false")?,
            "top_logprobs" => {
                let count: u32 = typed(&key, value, "0 to 20")?;
                if count > 20 {
                    return only("0 to 20");
                }
                self.top_logprobs = (count > 0).then_some(count);
            }
            "n" if value.get() != "1" => return only("1: an answer carries one choice"),
            "parallel_tool_calls" if !typed::<bool>(&key, value, "true or false")? => {
                return only("true: Google's models cannot be kept from calling several tools");
            }
            "store" if typed::<bool>(&key, value, "true or false")? => {
                return only("false: nothing is stored");
            }
            "verbosity" if value.get() != "\"medium\"" => return only("\"medium\" or nothing"),
            "modalities" if typed::<Vec<String>>(&key, value, "a list of texts")? != ["text"] => {
                return only("[\"text\"]");
            }
            "service_tier" | "serviceTier"
                if !matches!(value.get(), "\"auto\"" | "\"default\"" | "\"standard\"") =>
            {
                return only("`auto`, `default` or `standard`: no price is known for another");
            }
            "stream_options" => stream_options(value)?,
            "n"
            | "parallel_tool_calls"
            | "store"
            | "verbosity"
            | "modalities"
            | "service_tier"
            | "serviceTier" => {}
            name if NOT_OFFERED.contains(&name) => return only("none: Google's models have nothing like it"),
            name if MODELLED.contains(&name) || WRITTEN.contains(&camel(name).as_str()) => {
                return Err(beside(&format!("extra_json.{name}")));
            }
            "generationConfig" | "generation_config" => {
                self.config = Fields::parse(&format!("extra_json.{}", &*key), value.get())?;
            }
            _ => self.native.keep(key, value),
        }
        Ok(())
    }

    /// Writes what is Google's own.
    ///
    /// # Errors
    /// As [`carry`].
    pub(super) fn write(&self, root: &mut Object<'_>) -> Result<(), Fault> {
        carry(root, "extra_json", &self.native)
    }
}

fn typed<T: DeserializeOwned>(field: &str, value: &RawValue, expected: &str) -> Result<T, Fault> {
    serde_json::from_str(value.get()).map_err(|_| {
        let message = format!("{field} is {}, expected {expected}", shown(value.get()));
        Fault::invalid(field, message)
    })
}

/// Usage is always told, and nothing is padded.
fn stream_options(value: &RawValue) -> Result<(), Fault> {
    for (key, value) in Fields::parse("extra_json.stream_options", value.get())?.iter() {
        match (key, value.get()) {
            ("include_usage", _) | ("include_obfuscation", "false" | "null") => {}
            (key, value) => {
                let field = format!("stream_options.{key}");
                return Err(unsupported(field, &shown(value), "none: Google's models have nothing like it"));
            }
        }
    }
    Ok(())
}

/// Google's own table for its OpenAI-compatible API: <https://ai.google.dev/gemini-api/docs/openai#thinking>.
fn thinking(effort: &str, generation: Generation) -> Result<Thinking, Fault> {
    let field = "reasoning_effort";
    let chosen = match (generation, effort) {
        (Generation::Levels, "minimal") => Thinking::Level("MINIMAL"),
        (Generation::Levels, "low") => Thinking::Level("LOW"),
        (Generation::Levels, "medium") => Thinking::Level("MEDIUM"),
        (Generation::Levels, "high") => Thinking::Level("HIGH"),
        (Generation::Budgets { can_stop: true }, "none") => Thinking::Budget(0),
        (Generation::Budgets { .. }, "minimal" | "low") => Thinking::Budget(1_024),
        (Generation::Budgets { .. }, "medium") => Thinking::Budget(8_192),
        (Generation::Budgets { .. }, "high") => Thinking::Budget(24_576),
        (Generation::Other, _) => {
            let expected = "none: only models from Gemini 2.5 on can be told how much to think";
            return Err(unsupported(field, &shown(effort), expected));
        }
        (Generation::Levels | Generation::Budgets { can_stop: false }, "none") => {
            let expected = "`minimal` or more: this model always thinks";
            return Err(unsupported(field, "`none`", expected));
        }
        _ => return Err(unsupported(field, &shown(effort), "`minimal`, `low`, `medium` or `high`")),
    };
    Ok(chosen)
}
