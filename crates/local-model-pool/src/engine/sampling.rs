//! How the next token is chosen: one chain of llama.cpp samplers for each request, and a grammar where the answer must have
//! a form.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::json_schema_to_grammar;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

use domain::fault::{Code, Fault, Origin};

/// Seed that makes llama.cpp draw one (`LLAMA_DEFAULT_SEED`).
const RANDOM_SEED: u32 = u32::MAX;
/// Longest schema that is turned into a grammar, in bytes.
const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of a schema. llama.cpp's converter is recursive.
const SCHEMA_DEPTH_MAX: usize = 32;
/// Longest grammar that is accepted from the converter, in bytes.
const GRAMMAR_BYTES_MAX: usize = 1 << 20;

/// How an answer is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 = always the likeliest token.
    pub temperature: f32,
    /// Only the likeliest tokens that together have this probability; 1 = all.
    pub top_p: f32,
    /// Only so many of the likeliest tokens; 0 = all.
    pub top_k: u32,
    /// Less likely the more often a token was used already; -2 to 2.
    pub frequency_penalty: f32,
    /// Less likely once a token was used at all; -2 to 2.
    pub presence_penalty: f32,
    /// Equal seeds draw equal answers; `None` = a new one each time.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    /// llama.cpp's own defaults, without its penalties (which are off there too).
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_p: 0.95,
            top_k: 40,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
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
    /// Builds the chain in llama.cpp's order: penalties, top-k, top-p, temperature, draw.
    pub(crate) fn new(
        model: &LlamaModel,
        sampling: &Sampling,
        format: &Format,
        context: u32,
    ) -> Result<Self, Fault> {
        let mut chain = vec![];
        if sampling.frequency_penalty != 0.0 || sampling.presence_penalty != 0.0 {
            let window = i32::try_from(context).unwrap_or(i32::MAX);
            let (frequency, presence) = (sampling.frequency_penalty, sampling.presence_penalty);
            chain.push(LlamaSampler::penalties(model.n_vocab(), window, 1.0, frequency, presence));
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
            chain.push(LlamaSampler::temp(sampling.temperature));
            chain.push(LlamaSampler::dist(seed(sampling.seed)));
        }
        let grammar = match format {
            Format::Text => None,
            Format::JsonObject => Some(grammar(model, r#"{"type":"object"}"#)?),
            Format::JsonSchema(schema) => Some(grammar(model, schema)?),
        };
        Ok(Self { chain: LlamaSampler::chain(chain, true), grammar })
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

fn grammar(model: &LlamaModel, schema: &str) -> Result<LlamaSampler, Fault> {
    const FIELD: &str = "response_format.schema_json";
    if schema.len() > SCHEMA_BYTES_MAX {
        let text = format!("{FIELD} has {} bytes, expected at most {SCHEMA_BYTES_MAX}", schema.len());
        return Err(Fault::invalid(FIELD, text));
    }
    let value: serde_json::Value = serde_json::from_str(schema)
        .map_err(|error| Fault::invalid(FIELD, format!("{FIELD} is not JSON: {error}")))?;
    if depth(&value, 0) > SCHEMA_DEPTH_MAX {
        let text = format!("{FIELD} is nested deeper than {SCHEMA_DEPTH_MAX} levels");
        return Err(Fault::invalid(FIELD, text));
    }
    let unsupported = |reason: String| {
        let text = format!("{FIELD} cannot be enforced by llama.cpp: {reason}");
        Fault::new(Code::Unsupported, Origin::Caller, false, text).in_field(FIELD)
    };
    let text = json_schema_to_grammar(schema).map_err(|error| unsupported(error.to_string()))?;
    if text.len() > GRAMMAR_BYTES_MAX {
        return Err(unsupported(format!("its grammar takes {} bytes", text.len())));
    }
    LlamaSampler::grammar(model, &text, "root").map_err(|error| unsupported(error.to_string()))
}

/// Levels of nesting, counted no further than needed to refuse.
fn depth(value: &serde_json::Value, above: usize) -> usize {
    if above > SCHEMA_DEPTH_MAX {
        return above;
    }
    let below = above.saturating_add(1);
    match value {
        serde_json::Value::Array(items) => items.iter().map(|item| depth(item, below)).max().unwrap_or(below),
        serde_json::Value::Object(fields) => {
            fields.values().map(|field| depth(field, below)).max().unwrap_or(below)
        }
        _ => above,
    }
}
