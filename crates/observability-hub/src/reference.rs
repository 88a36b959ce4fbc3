//! What savings are counted against: one model that could have answered everything.

use std::sync::Arc;

use domain::{
    pricing::{Price, TokenUsage},
    units::{Money, Tokens},
};
use price_table::Prices;

use crate::{config::Config, ledger::TokenCounts};

/// A model and its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `<provider>/<model>`.
    pub name: String,
    price: Price,
}

impl Reference {
    /// The configured one. Without a price table, or without the model in it, the hub runs all the same and says so once.
    pub(crate) fn read(config: &Config) -> Option<Arc<Self>> {
        let (provider, model) = config.reference_model.as_ref()?;
        let prices = match Prices::load(&config.prices_file) {
            Ok(prices) => prices,
            Err(error) => {
                tracing::warn!(%error, "savings are not counted");
                return None;
            }
        };
        let Some((price, _)) = prices.price(provider, model) else {
            tracing::warn!(
                provider,
                model,
                file = %config.prices_file.display(),
                "savings are not counted: the price table has no such model (observability-hub.reference_model)"
            );
            return None;
        };
        // sums do not tell which prompts were long
        let price = Price { long_prompt: None, ..price };
        Some(Arc::new(Self { name: format!("{provider}/{model}"), price }))
    }

    /// What so many tokens cost there: prices are linear, so the cost of a sum is the sum of the costs. Nothing is taken to have been
    /// cached: what another provider's cache would have held nobody knows. Long prompts cost what short ones do.
    #[must_use]
    pub fn cost(&self, tokens: &TokenCounts) -> Money {
        let count = |count: i64| Tokens::new(count.unsigned_abs());
        self.price.cost(&TokenUsage {
            input: count(tokens.input),
            output: count(tokens.output),
            reasoning: count(tokens.reasoning),
            ..TokenUsage::default()
        })
    }
}
