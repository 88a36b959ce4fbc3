//! The caller's fields that the domain does not model.
//!
//! OpenAI's names are translated or refused by name; every other name is Anthropic's own and carried as it stands, unless
//! what it switches on has a price that the ledger would not know.

use domain::fault::Fault;
use serde_json::value::RawValue;

use super::{super::unsupported, block::Hour};
use crate::provider::json::{Fields, Text};

/// OpenAI's fields without a counterpart; some say only what is so anyway when they have one of these values.
const WITHOUT_COUNTERPART: [(&str, &[&str]); 14] = [
    ("audio", &[]),
    ("function_call", &[]),
    ("functions", &[]),
    ("logit_bias", &["{}"]),
    ("logprobs", &["false"]),
    ("modalities", &["[\"text\"]"]),
    ("n", &["1"]),
    ("prediction", &[]),
    ("prompt_cache_key", &[]),
    ("prompt_cache_retention", &[]),
    ("store", &["false"]),
    ("top_logprobs", &["0"]),
    ("verbosity", &[]),
    ("web_search_options", &[]),
];

/// Anthropic's fields that change the price; only these values do not.
const PRICED: [(&str, &[&str]); 3] =
    [("fallbacks", &["[]"]), ("inference_geo", &["\"global\""]), ("speed", &["\"standard\""])];

/// What the fields come to.
#[derive(Debug, Default)]
pub(super) struct Options<'a> {
    /// `reasoning_effort`.
    pub(super) effort: Option<Text<'a>>,
    /// Anthropic's own `thinking`.
    pub(super) thinking: Option<&'a RawValue>,
    pub(super) one_tool_at_a_time: bool,
    /// Who asks, for the provider's watch on abuse.
    pub(super) user: Option<Text<'a>>,
    pub(super) service_tier: Option<&'static str>,
    /// Anthropic's own `output_config`.
    pub(super) output_config: Fields<'a>,
    /// Anthropic's other fields.
    pub(super) carried: Fields<'a>,
}

impl<'a> Options<'a> {
    /// # Errors
    /// `InvalidArgument`: no object, or a value that makes no sense; `Unsupported`: a field without counterpart or price.
    pub(super) fn parse(extra_json: &'a str, hour: Hour) -> Result<Self, Fault> {
        let mut options = Self::default();
        for (key, value) in Fields::parse("extra_json", extra_json)?.into_entries() {
            // says nothing
            if value.get() == "null" {
                continue;
            }
            options.take(key, value, hour)?;
        }
        Ok(options)
    }

    fn take(&mut self, key: Text<'a>, value: &'a RawValue, hour: Hour) -> Result<(), Fault> {
        match &*key {
            "reasoning_effort" => self.effort = Some(read(&key, value, "a text")?),
            "thinking" => self.thinking = Some(value),
            "output_config" => self.output_config = Fields::parse("output_config", value.get())?,
            "parallel_tool_calls" => self.one_tool_at_a_time = !read::<bool>(&key, value, "true or false")?,
            "user" | "safety_identifier" => self.is_asked_by(&key, read(&key, value, "a text")?)?,
            "metadata" => self.metadata(value)?,
            "service_tier" => self.service_tier = Some(service_tier(value)?),
            // usage comes always, and padding never
            "stream_options" => {
                for (name, value) in Fields::parse("stream_options", value.get())?.iter() {
                    if !matches!((name, value.get()), ("include_usage", _) | ("include_obfuscation", "false"))
                    {
                        let field = format!("stream_options.{name}");
                        return Err(unsupported(field, value.get(), "nothing: Anthropic has no such option"));
                    }
                }
            }
            "cache_control" => {
                hour.check("cache_control", value)?;
                self.carried.keep(key, value);
            }
            _ => return self.other(key, value),
        }
        Ok(())
    }

    fn other(&mut self, key: Text<'a>, value: &'a RawValue) -> Result<(), Fault> {
        let packed: String = value.get().split_ascii_whitespace().collect();
        let refused = |expected: &str| {
            let shown: String = value.get().chars().take(40).collect();
            Err(unsupported(&*key, &shown, expected))
        };
        let row = |table: &[(&str, &'static [&'static str])]| {
            table.iter().find(|(name, _)| *name == &*key).map(|(_, idle)| idle.contains(&packed.as_str()))
        };
        match (row(&WITHOUT_COUNTERPART), row(&PRICED)) {
            (Some(true), _) => return Ok(()),
            (Some(false), _) => return refused("nothing: Anthropic has no such option"),
            (None, Some(false)) => return refused("nothing: no price is known for it"),
            (None, Some(true) | None) => {}
        }
        if self.carried.contains(&key) {
            let field = format!("extra_json.{}", &*key);
            let message = format!("{field} is given twice, expected once");
            return Err(Fault::invalid(field, message));
        }
        self.carried.keep(key, value);
        Ok(())
    }

    fn is_asked_by(&mut self, field: &str, user: Text<'a>) -> Result<(), Fault> {
        if self.user.as_ref().is_some_and(|known| *known != user) {
            let expected = "one name of the user: Anthropic takes one";
            return Err(unsupported(field, "another than was given already", expected));
        }
        self.user = Some(user);
        Ok(())
    }

    /// OpenAI's are any pairs, Anthropic's the user alone.
    fn metadata(&mut self, value: &'a RawValue) -> Result<(), Fault> {
        for (key, value) in Fields::parse("metadata", value.get())?.iter() {
            let field = format!("metadata.{key}");
            if key != "user_id" {
                return Err(unsupported(field, "given", "nothing: Anthropic takes a user_id alone"));
            }
            if value.get() != "null" {
                let user = read(&field, value, "a text")?;
                self.is_asked_by(&field, user)?;
            }
        }
        Ok(())
    }
}

fn service_tier(value: &RawValue) -> Result<&'static str, Fault> {
    match value.get() {
        "\"auto\"" => Ok("auto"),
        "\"default\"" | "\"standard_only\"" => Ok("standard_only"),
        other => {
            let shown: String = other.chars().take(40).collect();
            Err(unsupported("service_tier", &shown, "`auto`, `default` or `standard_only`"))
        }
    }
}

fn read<'a, T: serde::Deserialize<'a>>(field: &str, value: &'a RawValue, expected: &str) -> Result<T, Fault> {
    serde_json::from_str(value.get()).map_err(|_| {
        let shown: String = value.get().chars().take(40).collect();
        Fault::invalid(field, format!("{field} is {shown}, expected {expected}"))
    })
}
