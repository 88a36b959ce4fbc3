//! How the next token is chosen: one chain of llama.cpp samplers for each request, and a grammar where the answer must have
//! a form.

mod grammar;
mod logprobs;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;

use domain::fault::Fault;

pub(crate) use grammar::{Form, Thought};
pub(crate) use logprobs::of as logprobs;
pub use logprobs::{Likelihood, TokenLogprob};

/// Seed that makes llama.cpp draw one (`LLAMA_DEFAULT_SEED`).
const RANDOM_SEED: u32 = u32::MAX;
/// Tokens back that the repeat penalty looks, as in llama.cpp (`repeat_last_n`).
const REPEAT_WINDOW: i32 = 64;

/// How an answer is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 = always the likeliest token.
    pub temperature: f32,
    /// Only the likeliest tokens that together have this probability; 1 = all.
    pub top_p: f32,
    /// Only so many of the likeliest tokens; 0 = all.
    pub top_k: u32,
    /// Only tokens at least this likely, measured by the likeliest one; 0 = all.
    pub min_p: f32,
    /// By what the logits of recently used tokens are divided; above 0, 1 = not at all.
    pub repeat_penalty: f32,
    /// Less likely the more often a token was used already; -2 to 2.
    pub frequency_penalty: f32,
    /// Less likely once a token was used at all; -2 to 2.
    pub presence_penalty: f32,
    /// Added to the logits of tokens, by their number.
    pub logit_bias: Vec<(u32, f32)>,
    /// Equal seeds draw equal answers; `None` = a new one each time.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    /// llama.cpp's own defaults.
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_p: 0.95,
            top_k: 40,
            min_p: 0.05,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: vec![],
            seed: None,
        }
    }
}

/// The form an answer must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Format {
    /// Any text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that this JSON Schema allows.
    JsonSchema(String),
}

/// Chooses tokens for one request.
pub(crate) struct Sampler {
    chain: LlamaSampler,
    grammar: Option<LlamaSampler>,
}

/// The grammar and the model disagree: no token of the vocabulary continues the answer.
#[derive(Debug, thiserror::Error)]
#[error("no token continues the answer in the form that was asked for")]
pub(crate) struct DeadEnd;

impl Sampler {
    /// Builds the chain in llama.cpp's order: bias, penalties, top-k, top-p, min-p, temperature, draw.
    ///
    /// # Errors
    /// The form cannot be enforced, or a bias is for a token that the model does not have.
    pub(crate) fn new(
        model: &LlamaModel,
        sampling: &Sampling,
        form: &Form<'_>,
        context: u32,
    ) -> Result<Self, Fault> {
        let mut chain = biases(model, &sampling.logit_bias)?;
        let (frequency, presence) = (sampling.frequency_penalty, sampling.presence_penalty);
        if frequency != 0.0 || presence != 0.0 {
            let window = i32::try_from(context).unwrap_or(i32::MAX);
            chain.push(LlamaSampler::penalties(model.n_vocab(), window, 1.0, frequency, presence));
        }
        if sampling.repeat_penalty > 0.0 && sampling.repeat_penalty != 1.0 {
            let repeat = sampling.repeat_penalty;
            chain.push(LlamaSampler::penalties(model.n_vocab(), REPEAT_WINDOW, repeat, 0.0, 0.0));
        }
        if sampling.temperature <= 0.0 {
            chain.push(LlamaSampler::greedy());
        } else {
            if sampling.top_k > 0 {
                chain.push(LlamaSampler::top_k(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)));
            }
            if sampling.top_p < 1.0 {
                chain.push(LlamaSampler::top_p(sampling.top_p, 1));
            }
            if sampling.min_p > 0.0 {
                chain.push(LlamaSampler::min_p(sampling.min_p, 1));
            }
            chain.push(LlamaSampler::temp(sampling.temperature));
            chain.push(LlamaSampler::dist(seed(sampling.seed)));
        }
        Ok(Self { chain: LlamaSampler::chain(chain, true), grammar: grammar::sampler(model, form)? })
    }

    /// Chooses the token that follows the `index`-th token of the last batch.
    pub(crate) fn sample(&mut self, context: &LlamaContext<'_>, index: i32) -> Result<LlamaToken, DeadEnd> {
        let Some(grammar) = &mut self.grammar else { return Ok(self.chain.sample(context, index)) };
        // Most tokens fit the grammar anyway, and checking one is much cheaper than checking the whole vocabulary. This is
        // also how llama.cpp's own server does it (`common_sampler_sample`).
        let mut candidates = context.token_data_array_ith(index);
        candidates.apply_sampler(&mut self.chain);
        let free = candidates.selected_token().filter(|token| allows(grammar, *token));
        let token = match free {
            Some(token) => token,
            None => {
                let mut candidates = context.token_data_array_ith(index);
                candidates.apply_sampler(grammar);
                candidates.data.retain(|candidate| candidate.logit().is_finite());
                if candidates.data.is_empty() {
                    return Err(DeadEnd);
                }
                candidates.apply_sampler(&mut self.chain);
                candidates.selected_token().ok_or(DeadEnd)?
            }
        };
        // Not `accept` on a chain with the grammar in it: a token the grammar refuses would throw through foreign frames.
        grammar.try_accept(token).map_err(|_refused| DeadEnd)?;
        self.chain.accept(token);
        Ok(token)
    }
}

/// Whether the grammar allows this token next.
fn allows(grammar: &mut LlamaSampler, token: LlamaToken) -> bool {
    let mut one = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 1.0, 0.0)], false);
    one.apply_sampler(grammar);
    one.data.first().is_some_and(|candidate| candidate.logit().is_finite())
}

fn seed(seed: Option<u64>) -> u32 {
    let Some(seed) = seed else { return RANDOM_SEED };
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let folded = (seed ^ (seed >> 32)) as u32;
    if folded == RANDOM_SEED { RANDOM_SEED - 1 } else { folded }
}

/// The sampler of biases, if there are any.
fn biases(model: &LlamaModel, biases: &[(u32, f32)]) -> Result<Vec<LlamaSampler>, Fault> {
    let count = model.n_vocab();
    let known = |(token, bias): &(u32, f32)| {
        let number = i32::try_from(*token).ok().filter(|number| *number < count);
        number.map(|number| LlamaLogitBias::new(LlamaToken(number), *bias)).ok_or_else(|| {
            let text =
                format!("logit_bias names token {token}, the model has 0 to {}", count.saturating_sub(1));
            Fault::invalid("logit_bias", text)
        })
    };
    let biases = biases.iter().map(known).collect::<Result<Vec<_>, _>>()?;
    Ok(if biases.is_empty() { vec![] } else { vec![LlamaSampler::logit_bias(count, &biases)] })
}
