//! What an attempt costs.

use std::time::Duration;

use crate::units::{Money, Tokens};

/// An hour, milliseconds.
const HOUR_MS: u64 = 60 * 60 * 1_000;

/// What one attempt used, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// All input, cached and cache-written included.
    pub input: Tokens,
    /// All output, reasoning included.
    pub output: Tokens,
    /// Part of the input read from the provider's prompt cache.
    pub cached_input: Tokens,
    /// Part of the input written to the provider's prompt cache.
    pub cache_write: Tokens,
    /// Part of the cache write that is kept for an hour rather than for five minutes.
    pub cache_write_hour: Tokens,
    /// Part of the output spent on reasoning.
    pub reasoning: Tokens,
    /// Part of the input that is audio.
    pub audio_input: Tokens,
    /// Part of the output that is audio.
    pub audio_output: Tokens,
    /// Audio that was listened to.
    pub audio: Duration,
    /// Characters that were spoken.
    pub characters: u64,
    /// Counted on our side, because the executor was cut off.
    pub estimated: bool,
}

impl std::ops::AddAssign for TokenUsage {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input + other.input;
        self.output = self.output + other.output;
        self.cached_input = self.cached_input + other.cached_input;
        self.cache_write = self.cache_write + other.cache_write;
        self.cache_write_hour = self.cache_write_hour + other.cache_write_hour;
        self.reasoning = self.reasoning + other.reasoning;
        self.audio_input = self.audio_input + other.audio_input;
        self.audio_output = self.audio_output + other.audio_output;
        self.audio = self.audio.saturating_add(other.audio);
        self.characters = self.characters.saturating_add(other.characters);
        self.estimated |= other.estimated;
    }
}

/// The most that one attempt can use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Most {
    /// Tokens of the input, whatever their kind.
    pub input: Tokens,
    /// Tokens of the output, whatever their kind.
    pub output: Tokens,
    /// Audio to listen to.
    pub audio: Duration,
    /// Characters to speak.
    pub characters: u64,
}

/// Prices, each for one token unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Input.
    pub input: Money,
    /// Output.
    pub output: Money,
    /// Cached input; as input when absent.
    pub cached_input: Option<Money>,
    /// Written to the cache; as input when absent.
    pub cache_write: Option<Money>,
    /// Written to the cache for an hour; as other cache writes when absent.
    pub cache_write_hour: Option<Money>,
    /// Reasoning; as output when absent.
    pub reasoning: Option<Money>,
    /// Audio in the input; as input when absent.
    pub audio_input: Option<Money>,
    /// Audio in the output; as output when absent.
    pub audio_output: Option<Money>,
    /// An hour of audio that is listened to; nothing when absent.
    pub audio_hour: Option<Money>,
    /// Shorter audio is charged as if it were so long.
    pub audio_minimum: Duration,
    /// A character that is spoken; nothing when absent.
    pub character: Option<Money>,
    /// What long prompts cost, where that is different.
    pub long_prompt: Option<LongPrompt>,
}

/// Prices of a call with a long prompt. They hold for all of its tokens, as providers charge it (Google's for Gemini Pro:
/// <https://ai.google.dev/gemini-api/docs/pricing>), and each is meant as in [`Price`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongPrompt {
    /// A call with more input than this, cached input included, is one.
    pub above: Tokens,
    /// Input.
    pub input: Money,
    /// Output.
    pub output: Money,
    /// Cached input.
    pub cached_input: Option<Money>,
    /// Written to the cache.
    pub cache_write: Option<Money>,
    /// Written to the cache for an hour.
    pub cache_write_hour: Option<Money>,
    /// Reasoning.
    pub reasoning: Option<Money>,
}

impl LongPrompt {
    /// The prices; of what is no token, those of `base`.
    const fn price(&self, base: &Price) -> Price {
        Price {
            input: self.input,
            output: self.output,
            cached_input: self.cached_input,
            cache_write: self.cache_write,
            cache_write_hour: self.cache_write_hour,
            reasoning: self.reasoning,
            long_prompt: None,
            ..*base
        }
    }
}

impl Price {
    /// Costs nothing.
    pub const FREE: Self = Self {
        input: Money::ZERO,
        output: Money::ZERO,
        cached_input: None,
        cache_write: None,
        cache_write_hour: None,
        reasoning: None,
        audio_input: None,
        audio_output: None,
        audio_hour: None,
        audio_minimum: Duration::ZERO,
        character: None,
        long_prompt: None,
    };

    /// The cost of `usage`. Parts larger than their whole (a provider's slip) are charged as parts only.
    #[must_use]
    pub fn cost(&self, usage: &TokenUsage) -> Money {
        match self.long(usage.input) {
            Some(long) => long.flat(usage),
            None => self.flat(usage),
        }
    }

    /// The most that an attempt can cost which uses no more than this.
    #[must_use]
    pub fn worst_case(&self, most: &Most) -> Money {
        let short = self.flat_worst(most);
        self.long(most.input).map_or(short, |long| long.flat_worst(most).max(short))
    }

    /// The prices of a prompt of this length, where they are those of a long one.
    fn long(&self, input: Tokens) -> Option<Self> {
        self.long_prompt.filter(|long| input > long.above).map(|long| long.price(self))
    }

    fn flat(&self, usage: &TokenUsage) -> Money {
        let plain_input = usage
            .input
            .saturating_sub(usage.cached_input)
            .saturating_sub(usage.cache_write)
            .saturating_sub(usage.audio_input);
        let plain_output = usage.output.saturating_sub(usage.reasoning).saturating_sub(usage.audio_output);
        let write = self.cache_write.unwrap_or(self.input);
        let short_write = usage.cache_write.saturating_sub(usage.cache_write_hour);
        self.input.times(plain_input.get())
            + self.cached_input.unwrap_or(self.input).times(usage.cached_input.get())
            + write.times(short_write.get())
            + self.cache_write_hour.unwrap_or(write).times(usage.cache_write_hour.get())
            + self.output.times(plain_output.get())
            + self.reasoning.unwrap_or(self.output).times(usage.reasoning.get())
            + self.audio_input.unwrap_or(self.input).times(usage.audio_input.get())
            + self.audio_output.unwrap_or(self.output).times(usage.audio_output.get())
            + self.listening(usage.audio)
            + self.character.unwrap_or(Money::ZERO).times(usage.characters)
    }

    fn flat_worst(&self, most: &Most) -> Money {
        let dearest = |base: Money, others: &[Option<Money>]| {
            others.iter().flatten().fold(base, |dearest, price| dearest.max(*price))
        };
        let inputs = [self.cache_write, self.cache_write_hour, self.audio_input];
        dearest(self.input, &inputs).times(most.input.get())
            + dearest(self.output, &[self.reasoning, self.audio_output]).times(most.output.get())
            + self.listening(most.audio)
            + self.character.unwrap_or(Money::ZERO).times(most.characters)
    }

    /// The price of listening so long, rounded up to a whole pico-dollar.
    fn listening(&self, audio: Duration) -> Money {
        match self.audio_hour {
            Some(hour) if !audio.is_zero() => {
                let charged = audio.max(self.audio_minimum).as_millis();
                hour.share(u64::try_from(charged).unwrap_or(u64::MAX), HOUR_MS)
            }
            _ => Money::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// $2.50, $1.25 cached, $10 per million tokens.
    const PRICE: Price = Price {
        input: Money::picodollars(2_500_000),
        output: Money::picodollars(10_000_000),
        cached_input: Some(Money::picodollars(1_250_000)),
        ..Price::FREE
    };

    #[test]
    fn what_is_kept_for_an_hour_has_its_own_price() {
        let price = Price {
            cache_write: Some(Money::picodollars(3_000_000)),
            cache_write_hour: Some(Money::picodollars(5_000_000)),
            ..PRICE
        };
        let usage = TokenUsage {
            input: Tokens::new(1_000),
            cache_write: Tokens::new(600),
            cache_write_hour: Tokens::new(200),
            ..TokenUsage::default()
        };
        // 400 × $2.50/M + 400 × $3/M + 200 × $5/M
        assert_eq!(price.cost(&usage).to_string(), "$0.0032");
        let undivided = Price { cache_write_hour: None, ..price };
        assert_eq!(undivided.cost(&usage).to_string(), "$0.0028");
    }

    #[test]
    fn a_long_prompt_has_other_prices_for_the_whole_call() {
        let long = LongPrompt {
            above: Tokens::new(200_000),
            input: Money::picodollars(5_000_000),
            output: Money::picodollars(15_000_000),
            cached_input: None,
            cache_write: None,
            cache_write_hour: None,
            reasoning: None,
        };
        let price = Price { long_prompt: Some(long), ..PRICE };
        let of = |input: u64| {
            let (input, output) = (Tokens::new(input), Tokens::new(1_000));
            price.cost(&TokenUsage { input, output, ..TokenUsage::default() }).to_string()
        };
        assert_eq!(of(200_000), "$0.51");
        assert_eq!(of(200_001), "$1.015005");
        let worst = |input: u64| {
            let most = Most { input: Tokens::new(input), output: Tokens::new(1_000), ..Most::default() };
            price.worst_case(&most).to_string()
        };
        assert_eq!((worst(200_000), worst(200_001)), (of(200_000), of(200_001)));
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        let usage = TokenUsage {
            input: Tokens::new(1_000),
            output: Tokens::new(100),
            cached_input: Tokens::new(400),
            reasoning: Tokens::new(40),
            ..TokenUsage::default()
        };
        // 600 × $2.50/M + 400 × $1.25/M + 100 × $10/M = $0.003
        assert_eq!(PRICE.cost(&usage).to_string(), "$0.003");
    }

    #[test]
    fn more_cached_than_input_is_not_negative() {
        let usage =
            TokenUsage { input: Tokens::new(1), cached_input: Tokens::new(5), ..TokenUsage::default() };
        assert_eq!(PRICE.cost(&usage), Money::picodollars(6_250_000));
    }

    #[test]
    fn audio_is_charged_by_the_hour_by_the_token_or_by_the_character() {
        // $0.111 an hour, ten seconds at least
        let price = Price {
            audio_hour: Some(Money::picodollars(111_000_000_000)),
            audio_minimum: Duration::from_secs(10),
            ..Price::FREE
        };
        let heard = |seconds| TokenUsage { audio: Duration::from_secs(seconds), ..TokenUsage::default() };
        assert_eq!(price.cost(&heard(3_600)).to_string(), "$0.111");
        assert_eq!(price.cost(&heard(1)), price.cost(&heard(10)));
        assert_eq!(price.cost(&heard(0)), Money::ZERO);
        // 900 tokens of sound at $6 and 100 of text at $2.50 per million
        let price = Price { audio_input: Some(Money::picodollars(6_000_000)), ..PRICE };
        let usage =
            TokenUsage { input: Tokens::new(1_000), audio_input: Tokens::new(900), ..TokenUsage::default() };
        assert_eq!(price.cost(&usage).to_string(), "$0.00565");
        let price = Price { character: Some(Money::picodollars(15_000_000)), ..Price::FREE };
        assert_eq!(
            price.cost(&TokenUsage { characters: 1_000, ..TokenUsage::default() }).to_string(),
            "$0.015"
        );
    }

    proptest::proptest! {
        #[test]
        fn the_worst_case_is_never_below_the_cost(
            input in 0u64..1_000_000, output in 0u64..100_000, cached in 0u64..1_000_000, written in 0u64..1_000_000,
            reasoning in 0u64..100_000, cache_write in 0i64..10_000_000, reason_price in 0i64..50_000_000,
            audio_ms in 0u64..10_000_000, audio_price in 0i64..100_000_000, characters in 0u64..100_000,
            hour in 0u64..1_000_000, hour_price in 0i64..10_000_000, above in 0u64..1_000_000,
            long_price in 0i64..20_000_000,
        ) {
            let price = Price {
                cache_write: Some(Money::picodollars(cache_write)),
                cache_write_hour: Some(Money::picodollars(hour_price)),
                reasoning: Some(Money::picodollars(reason_price)),
                audio_input: Some(Money::picodollars(audio_price)),
                audio_output: Some(Money::picodollars(audio_price * 2)),
                audio_hour: Some(Money::picodollars(audio_price * 1_000)),
                audio_minimum: Duration::from_secs(10),
                character: Some(Money::picodollars(audio_price)),
                long_prompt: Some(LongPrompt {
                    above: Tokens::new(above),
                    input: Money::picodollars(long_price),
                    output: Money::picodollars(long_price),
                    cached_input: None,
                    cache_write: Some(Money::picodollars(hour_price)),
                    cache_write_hour: None,
                    reasoning: None,
                }),
                ..PRICE
            };
            let cached = cached.min(input);
            let written = written.min((input - cached) / 2);
            let usage = TokenUsage {
                input: Tokens::new(input),
                output: Tokens::new(output),
                cached_input: Tokens::new(cached),
                cache_write: Tokens::new(written),
                cache_write_hour: Tokens::new(hour.min(written)),
                reasoning: Tokens::new(reasoning.min(output)),
                audio_input: Tokens::new((input - cached) / 2),
                audio_output: Tokens::new((output - reasoning.min(output)) / 2),
                audio: Duration::from_millis(audio_ms),
                characters,
                estimated: false,
            };
            let most = Most { input: usage.input, output: usage.output, audio: usage.audio, characters };
            proptest::prop_assert!(price.cost(&usage) <= price.worst_case(&most));
        }
    }
}
