//! The price table: written in dollars per million tokens, kept in whole pico-dollars per token.
//!
//! A crate of its own, because three read it: the adapter, which charges by it, the hub, which says what a reference model would have
//! cost, and the command line, which prices the past again.

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use domain::{
    pricing::{LongPrompt, Price},
    routing::Capabilities,
    units::{Money, Tokens},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// $1 per million tokens is a million pico-dollars per token, so six decimals are exact.
const DECIMALS: usize = 6;

/// An amount of dollars per million tokens, as it was written; turned into [`Money`] by [`Dollars::per_token`].
///
/// A TOML number is taken by its shortest decimal text, which is what was written for up to 15 digits; text is exact always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dollars(String);

impl Dollars {
    /// The price of one token, exactly.
    ///
    /// # Errors
    /// What was expected, where the text is no amount from 0 to 1,000,000 with at most six decimals.
    pub fn per_token(&self) -> Result<Money, String> {
        let refused = || {
            let text: String = self.0.chars().take(40).collect();
            format!(
                "{text:?}, expected dollars per million tokens, 0 to 1000000 with at most {DECIMALS} decimals"
            )
        };
        let (whole, decimals) = self.0.split_once('.').unwrap_or((&self.0, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let kept = decimals.trim_end_matches('0');
        if !digits(whole) || !digits(decimals) || whole.len() > 7 || kept.len() > DECIMALS {
            return Err(refused());
        }
        // both fit: at most seven and six digits
        let whole: i64 = whole.parse().map_err(|_| refused())?;
        let fraction: i64 = format!("{kept:0<DECIMALS$}").parse().map_err(|_| refused())?;
        let picodollars = whole * 1_000_000 + fraction;
        if picodollars > 1_000_000 * 1_000_000 {
            return Err(refused());
        }
        Ok(Money::picodollars(picodollars))
    }
}

impl From<&str> for Dollars {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl de::Visitor<'_> for Seen {
            type Value = Dollars;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("dollars per million tokens, as text or a number")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Dollars, E> {
                Ok(Dollars(text.trim().to_owned()))
            }
            fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Dollars, E> {
                Ok(Dollars(whole.to_string()))
            }
            fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Dollars, E> {
                Ok(Dollars(whole.to_string()))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Dollars, E> {
                Ok(Dollars(number.to_string()))
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

/// Prices of one model, dollars per million tokens. What is absent costs as much as its kind: cached input and cache writes
/// as input, cache writes for an hour as other cache writes, reasoning as output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceSettings {
    /// Input.
    pub input_per_million: Option<Dollars>,
    /// Output; may be absent for a model that only embeds.
    pub output_per_million: Option<Dollars>,
    /// Input read from the provider's prompt cache.
    pub cached_input_per_million: Option<Dollars>,
    /// Input written to the provider's prompt cache.
    pub cache_write_per_million: Option<Dollars>,
    /// Input written to the provider's prompt cache for an hour; where it is absent, a request that wants that is refused.
    pub cache_write_hour_per_million: Option<Dollars>,
    /// Reasoning.
    pub reasoning_per_million: Option<Dollars>,
    /// Input in a batch; absent = the model is not offered in batches.
    pub batch_input_per_million: Option<Dollars>,
    /// Output in a batch; may be absent for a model that only embeds.
    pub batch_output_per_million: Option<Dollars>,
    /// Input of a batch that was read from the provider's prompt cache; absent = as input in a batch.
    pub batch_cached_input_per_million: Option<Dollars>,
    /// Input of a batch that was written to the provider's prompt cache; absent = as input in a batch.
    pub batch_cache_write_per_million: Option<Dollars>,
    /// Tokens of audio in the input; absent = as input.
    pub audio_input_per_million: Option<Dollars>,
    /// Tokens of audio in the output; absent = as output.
    pub audio_output_per_million: Option<Dollars>,
    /// An hour of audio that is listened to, dollars; takes the place of tokens for a model that transcribes.
    pub audio_per_hour: Option<Dollars>,
    /// Shorter audio is charged as if it were so long, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_minimum_seconds: Option<u64>,
    /// Characters that are spoken; takes the place of tokens for a model that speaks.
    pub characters_per_million: Option<Dollars>,
    /// Input of a batch that was written to the provider's prompt cache for an hour; absent = as other cache writes in a batch.
    pub batch_cache_write_hour_per_million: Option<Dollars>,
    /// What a call with a long prompt costs instead, all of it; the fields as here, with `above_tokens`.
    pub long_prompt: Option<Box<PriceSettings>>,
    /// Of `long_prompt`: a call with more input than this, cached input included, has a long prompt.
    pub above_tokens: Option<u64>,
    /// Training on top of the model, for each trained token (tokens of the data times epochs).
    pub training_per_million: Option<Dollars>,
}

impl PriceSettings {
    /// The prices per token, hour and character. `field` names this setting in errors; what is needed depends on what the model
    /// can do.
    ///
    /// # Errors
    /// Field and problem: an amount that is none, or one that is missing.
    pub fn check(&self, field: &str, can: Capabilities) -> Result<Price, Invalid> {
        let long_prompt = self.long(field, |long, field| long.flat(field, can))?;
        Ok(Price { long_prompt, ..self.flat(field, can)? })
    }

    /// The prices per token in a batch; `None` where there are none. See [`PriceSettings::check`].
    ///
    /// # Errors
    /// Field and problem: an amount that is none, or an output price that is missing beside the input's.
    pub fn check_batch(&self, field: &str, has_output: bool) -> Result<Option<Price>, Invalid> {
        let Some(flat) = self.flat_batch(field, has_output)? else { return Ok(None) };
        let long_prompt = self.long(field, |long, field| {
            long.flat_batch(field, has_output)?.ok_or_else(|| missing(field, "batch_input_per_million"))
        })?;
        Ok(Some(Price { long_prompt, ..flat }))
    }

    /// The prices of a long prompt, as `check` reads them.
    fn long(
        &self,
        field: &str,
        check: impl FnOnce(&Self, &str) -> Result<Price, Invalid>,
    ) -> Result<Option<LongPrompt>, Invalid> {
        if self.above_tokens.is_some() {
            let problem = "is given, expected it in long_prompt only";
            return Err(Invalid::new(format!("{field}.above_tokens"), problem));
        }
        let Some(long) = &self.long_prompt else { return Ok(None) };
        let field = format!("{field}.long_prompt");
        if long.long_prompt.is_some() {
            return Err(Invalid::new(format!("{field}.long_prompt"), "is given, expected one step"));
        }
        let Some(above) = long.above_tokens else {
            let problem = "is missing, expected a number of tokens";
            return Err(Invalid::new(format!("{field}.above_tokens"), problem));
        };
        let Price { input, output, cached_input, cache_write, cache_write_hour, reasoning, .. } =
            check(long, &field)?;
        let above = Tokens::new(above);
        Ok(Some(LongPrompt { above, input, output, cached_input, cache_write, cache_write_hour, reasoning }))
    }

    fn flat(&self, field: &str, can: Capabilities) -> Result<Price, Invalid> {
        let read = |name: &str, amount: &Option<Dollars>| read(field, name, amount.as_ref());
        let given = |name: &str, amount: &Option<Dollars>, is_needed: bool| match read(name, amount)? {
            None if is_needed => Err(missing(field, name)),
            amount => Ok(amount),
        };
        let writes = can.generate || can.translate;
        let transcribes = can.transcribe && self.audio_per_hour.is_none();
        let speaks = can.speak && self.characters_per_million.is_none();
        let needs_input = writes || can.embed || transcribes || speaks;
        let input = given("input_per_million", &self.input_per_million, needs_input)?;
        let output = given("output_per_million", &self.output_per_million, writes || transcribes)?;
        let audio_output = given("audio_output_per_million", &self.audio_output_per_million, speaks)?;
        let hour = read("audio_per_hour", &self.audio_per_hour)?;
        Ok(Price {
            input: input.unwrap_or(Money::ZERO),
            output: output.unwrap_or(Money::ZERO),
            audio_input: read("audio_input_per_million", &self.audio_input_per_million)?,
            audio_output,
            audio_hour: hour.map(|per_million| per_million.times(1_000_000)),
            audio_minimum: Duration::from_secs(self.audio_minimum_seconds.unwrap_or(0)),
            character: read("characters_per_million", &self.characters_per_million)?,
            cached_input: read("cached_input_per_million", &self.cached_input_per_million)?,
            cache_write: read("cache_write_per_million", &self.cache_write_per_million)?,
            cache_write_hour: read("cache_write_hour_per_million", &self.cache_write_hour_per_million)?,
            reasoning: read("reasoning_per_million", &self.reasoning_per_million)?,
            long_prompt: None,
        })
    }

    fn flat_batch(&self, field: &str, has_output: bool) -> Result<Option<Price>, Invalid> {
        let read = |name: &str, amount: &Option<Dollars>| read(field, name, amount.as_ref());
        let output = read("batch_output_per_million", &self.batch_output_per_million)?;
        let cached_input = read("batch_cached_input_per_million", &self.batch_cached_input_per_million)?;
        let cache_write = read("batch_cache_write_per_million", &self.batch_cache_write_per_million)?;
        let hour = &self.batch_cache_write_hour_per_million;
        let cache_write_hour = read("batch_cache_write_hour_per_million", hour)?;
        let Some(input) = read("batch_input_per_million", &self.batch_input_per_million)? else {
            return match output.or(cached_input).or(cache_write).or(cache_write_hour) {
                Some(_) => Err(missing(field, "batch_input_per_million")),
                None => Ok(None),
            };
        };
        let output = match output {
            None if has_output => return Err(missing(field, "batch_output_per_million")),
            other => other.unwrap_or(Money::ZERO),
        };
        Ok(Some(Price { input, output, cached_input, cache_write, cache_write_hour, ..Price::FREE }))
    }

    /// The price of a trained token; `None` where there is none.
    ///
    /// # Errors
    /// Field and problem: an amount that is none.
    pub fn check_training(&self, field: &str) -> Result<Option<Money>, Invalid> {
        read(field, "training_per_million", self.training_per_million.as_ref())
    }
}

fn read(field: &str, name: &str, amount: Option<&Dollars>) -> Result<Option<Money>, Invalid> {
    let read = amount.map(Dollars::per_token).transpose();
    read.map_err(|problem| Invalid::new(format!("{field}.{name}"), format!("is {problem}")))
}

fn missing(field: &str, name: &str) -> Invalid {
    Invalid::new(format!("{field}.{name}"), "is missing, expected a price")
}

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct Invalid {
    /// Path of the setting, as in `providers[0].base_url`.
    pub field: String,
    /// Its value and what was expected.
    pub problem: String,
}

impl Invalid {
    /// A setting and what is wrong with it.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The same, seen from further outside.
    #[must_use]
    pub fn within(mut self, outside: &str) -> Self {
        self.field = format!("{outside}.{}", self.field);
        self
    }
}

/// The table of a price file, by provider and model.
#[derive(Debug, Default)]
pub struct Prices(BTreeMap<(String, String), PriceSettings>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    price: Vec<Row>,
}

/// A row of the price file: whose model it is, and beside that the prices.
#[derive(Deserialize)]
struct Row {
    provider: String,
    model: String,
    #[serde(flatten)]
    price: toml::Table,
}

impl Prices {
    /// Reads a price file.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, has unknown keys, or names a model twice.
    pub fn load(path: &Path) -> Result<Self, Invalid> {
        let invalid = |problem: String| Invalid::new("prices_file", format!("{}: {problem}", path.display()));
        let text =
            std::fs::read_to_string(path).map_err(|error| invalid(format!("cannot be read: {error}")))?;
        Self::parse(&text).map_err(|error| invalid(error.to_string()))
    }

    /// Reads the text of a price file.
    ///
    /// # Errors
    /// It is no TOML, has unknown keys, or names a model twice.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let file: File = toml::from_str(text)
            .map_err(|error| Invalid::new("price", error.to_string().trim_end().to_owned()))?;
        let mut prices = BTreeMap::new();
        for (index, row) in file.price.into_iter().enumerate() {
            let field = format!("price[{index}]");
            let price: PriceSettings = row
                .price
                .try_into()
                .map_err(|error| Invalid::new(field.as_str(), error.to_string().trim_end().to_owned()))?;
            // each row is checked although this machine may use none of them
            let by_audio = price.audio_per_hour.is_some() || price.characters_per_million.is_some();
            price.check(&field, Capabilities { embed: !by_audio, ..Capabilities::default() })?;
            price.check_batch(&field, price.output_per_million.is_some())?;
            price.check_training(&field)?;
            let key = (row.provider, row.model);
            if prices.contains_key(&key) {
                let problem = format!("is {:?} of {:?}, which the file has already", key.1, key.0);
                return Err(Invalid::new(format!("{field}.model"), problem));
            }
            prices.insert(key, price);
        }
        Ok(Self(prices))
    }

    /// The prices of a model at a provider, as they are written.
    #[must_use]
    pub fn get(&self, provider: &str, model: &str) -> Option<&PriceSettings> {
        self.0.get(&(provider.to_owned(), model.to_owned()))
    }

    /// The price of a model at a provider, and the one in a batch where there is one.
    #[must_use]
    pub fn price(&self, provider: &str, model: &str) -> Option<(Price, Option<Price>)> {
        let written = self.get(provider, model)?;
        // each row was checked when the table was read
        let batch = written.check_batch("price", written.batch_output_per_million.is_some());
        Some((written.check("price", Capabilities::default()).ok()?, batch.ok().flatten()))
    }
}

#[cfg(test)]
mod tests;
