//! `POST /v1/embeddings`: vectors of length 1 that follow from the text alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Plan;
use super::error::ApiError;

const DIMENSIONS_DEFAULT: usize = 8;
const DIMENSIONS_MAX: usize = 3_072;

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) model: String,
    input: Input,
    #[serde(default)]
    encoding_format: Option<Encoding>,
    #[serde(default)]
    dimensions: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Float,
    Base64,
}

impl Input {
    /// The texts as bytes, and the tokens they count.
    fn texts(&self) -> (Vec<Vec<u8>>, u64) {
        let bytes =
            |tokens: &Vec<u32>| tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>();
        let texts: Vec<Vec<u8>> = match self {
            Self::One(text) => vec![text.clone().into_bytes()],
            Self::Many(texts) => texts.iter().map(|text| text.clone().into_bytes()).collect(),
            Self::Tokens(tokens) => vec![bytes(tokens)],
            Self::ManyTokens(lists) => lists.iter().map(bytes).collect(),
        };
        // Four bytes a token, for text by estimate and for tokens because that is their size.
        let tokens = texts.iter().map(|text| text.len().div_ceil(4) as u64).sum();
        (texts, tokens)
    }
}

pub(super) fn answer(request: &Request) -> Result<Plan, ApiError> {
    let dimensions = request.dimensions.unwrap_or(DIMENSIONS_DEFAULT);
    if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
        let message = format!("Invalid 'dimensions': {dimensions}, expected 1 to {DIMENSIONS_MAX}.");
        return Err(ApiError::invalid_field("dimensions", message));
    }
    let (texts, tokens) = request.input.texts();
    if texts.is_empty() || texts.iter().any(Vec::is_empty) {
        return Err(ApiError::invalid_field("input", "Invalid 'input': empty."));
    }
    let encoding = request.encoding_format.unwrap_or(Encoding::Float);
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let embedding = encode(&vector(text, dimensions), encoding);
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(Plan::whole(
        json!({"object": "list", "data": data, "model": request.model, "usage": usage}).to_string(),
    ))
}

fn encode(vector: &[f32], encoding: Encoding) -> Value {
    match encoding {
        Encoding::Float => json!(vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            Value::String(STANDARD.encode(bytes))
        }
    }
}

/// FNV-1a over the text and the dimension's number, mapped to -1 to 1, scaled to length 1.
fn vector(text: &[u8], dimensions: usize) -> Vec<f32> {
    let hash = |number: usize| {
        let bytes = text.iter().copied().chain(number.to_le_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let raw: Vec<f32> = (0..dimensions)
        .map(|number| {
            let [_, _, _, _, _, a, b, _] = hash(number).to_le_bytes();
            f32::from(i16::from_le_bytes([a, b])) / 32_768.0
        })
        .collect();
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.into_iter().map(|value| value / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_texts_point_in_different_directions() {
        let (one, two) = (vector(b"one", 8), vector(b"two", 8));
        assert_ne!(one, two);
        assert_eq!(one, vector(b"one", 8));
        let length: f32 = one.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}
