//! What an attempt costs.

use crate::units::{Money, Tokens};

/// Tokens of one attempt, by kind.
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
    /// Part of the output spent on reasoning.
    pub reasoning: Tokens,
    /// Counted on our side, because the executor was cut off.
    pub estimated: bool,
}

/// Prices, each for one token.
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
    /// Reasoning; as output when absent.
    pub reasoning: Option<Money>,
}

impl Price {
    /// Costs nothing.
    pub const FREE: Self = Self {
        input: Money::ZERO,
        output: Money::ZERO,
        cached_input: None,
        cache_write: None,
        reasoning: None,
    };

    /// The cost of `usage`. Parts larger than their whole (a provider's slip) are charged as parts only.
    #[must_use]
    pub fn cost(&self, usage: &TokenUsage) -> Money {
        let plain_input = usage.input.saturating_sub(usage.cached_input).saturating_sub(usage.cache_write);
        let plain_output = usage.output.saturating_sub(usage.reasoning);
        self.input.times(plain_input.get())
            + self.cached_input.unwrap_or(self.input).times(usage.cached_input.get())
            + self.cache_write.unwrap_or(self.input).times(usage.cache_write.get())
            + self.output.times(plain_output.get())
            + self.reasoning.unwrap_or(self.output).times(usage.reasoning.get())
    }

    /// The most that `input` and at most `output` tokens can cost.
    #[must_use]
    pub fn worst_case(&self, input: Tokens, output: Tokens) -> Money {
        let dearest = |base: Money, other: Option<Money>| other.map_or(base, |price| price.max(base));
        dearest(self.input, self.cache_write).times(input.get())
            + dearest(self.output, self.reasoning).times(output.get())
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
        cache_write: None,
        reasoning: None,
    };

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

    proptest::proptest! {
        #[test]
        fn the_worst_case_is_never_below_the_cost(
            input in 0u64..1_000_000, output in 0u64..100_000, cached in 0u64..1_000_000, written in 0u64..1_000_000,
            reasoning in 0u64..100_000, cache_write in 0i64..10_000_000, reason_price in 0i64..50_000_000,
        ) {
            let price = Price {
                cache_write: Some(Money::picodollars(cache_write)),
                reasoning: Some(Money::picodollars(reason_price)),
                ..PRICE
            };
            let cached = cached.min(input);
            let usage = TokenUsage {
                input: Tokens::new(input),
                output: Tokens::new(output),
                cached_input: Tokens::new(cached),
                cache_write: Tokens::new(written.min(input - cached)),
                reasoning: Tokens::new(reasoning.min(output)),
                estimated: false,
            };
            proptest::prop_assert!(price.cost(&usage) <= price.worst_case(usage.input, usage.output));
        }
    }
}
