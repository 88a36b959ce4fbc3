//! Vectors, in the forms of the three methods.

use domain::{fault::Fault, pricing::TokenUsage, units::Tokens};
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::v1;

use super::{broken, malformed};
use crate::provider::{Completion, gemini::error::Words};

/// An answer of `embedContent`, `batchEmbedContents` or `predict`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    #[serde(default)]
    embedding: Option<Vector>,
    #[serde(default)]
    embeddings: Vec<Vector>,
    #[serde(default)]
    predictions: Vec<Prediction>,
    #[serde(default)]
    usage_metadata: Option<Usage>,
    #[serde(default)]
    truncated: bool,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Vector {
    #[serde(default)]
    values: Vec<f32>,
    #[serde(default)]
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Prediction {
    embeddings: Vector,
}

#[derive(Deserialize)]
struct Statistics {
    /// A number with a fraction of zero.
    #[serde(default)]
    token_count: f64,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    #[serde(default)]
    prompt_token_count: u64,
}

/// A whole answer to `inputs` texts.
///
/// # Errors
/// `Upstream` for what is no such answer: another count than asked for, vectors of several lengths, or of a part of a text.
pub(in super::super) fn embeddings(provider: &str, body: &[u8], inputs: usize) -> Result<Completion, Fault> {
    let reply: Reply<'_> =
        serde_json::from_slice(body).map_err(|error| malformed(provider, "embeddings", &error))?;
    if let Some(error) = reply.error {
        return Err(Words::of_error(error.get()).refusal(None).into_failure(provider, None).fault);
    }
    let vectors: Vec<Vector> = reply
        .embedding
        .into_iter()
        .chain(reply.embeddings)
        .chain(reply.predictions.into_iter().map(|prediction| prediction.embeddings))
        .collect();
    let even = vectors.windows(2).all(|pair| matches!(pair, [a, b] if a.values.len() == b.values.len()));
    if vectors.len() != inputs || !even || vectors.iter().any(|vector| vector.values.is_empty()) {
        let message = format!(
            "{provider} sent {} embeddings for {inputs} texts, expected one of the same length for each",
            vectors.len()
        );
        return Err(broken(message));
    }
    let cut = |vector: &Vector| vector.statistics.as_ref().is_some_and(|statistics| statistics.truncated);
    // `predict` counts for each text, AI Studio's batches not at all
    let counted = reply.usage_metadata.map(|usage| usage.prompt_token_count).or_else(|| {
        let mut each =
            vectors.iter().map(|vector| vector.statistics.as_ref().map(|said| count(said.token_count)));
        each.try_fold(0_u64, |sum, tokens| Some(sum.saturating_add(tokens?)))
    });
    let mut extra_json = String::new();
    if reply.truncated || vectors.iter().any(cut) {
        // only where the caller asked for it
        extra_json.push_str(r#"{"truncated":true}"#);
    }
    let embeddings = vectors.into_iter().map(|vector| v1::Embedding { values: vector.values }).collect();
    Ok(Completion {
        finish_reason: v1::FinishReason::Stop,
        usage: counted
            .filter(|count| *count > 0)
            .map(|count| TokenUsage { input: Tokens::new(count), ..TokenUsage::default() }),
        embeddings: Some(v1::Embeddings { embeddings }),
        extra_json,
        ..Completion::default()
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count: whole, and no less than zero"
)]
fn count(tokens: f64) -> u64 {
    tokens.max(0.0) as u64
}
