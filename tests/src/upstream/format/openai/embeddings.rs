//! `POST …/embeddings`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::upstream::asked::Embed;
use crate::upstream::problem::Problem;
use crate::upstream::read::Fields;
use crate::upstream::vector::{DIMENSIONS_DEFAULT, DIMENSIONS_MAX, vector};

pub(super) fn asked(fields: &Fields<'_>, deployment: Option<&str>) -> Result<Embed, Problem> {
    let texts = match fields.get("input") {
        Some(Value::String(text)) => vec![text.clone().into_bytes()],
        Some(Value::Array(list)) if list.iter().all(Value::is_number) && !list.is_empty() => {
            vec![tokens(fields, list)?]
        }
        Some(Value::Array(list)) => list.iter().map(|one| text(fields, one)).collect::<Result<_, _>>()?,
        _ => return Err(fields.wrong("input", "a string or an array")),
    };
    if texts.is_empty() || texts.iter().any(Vec::is_empty) {
        return Err(Problem::invalid_field("input", "Invalid 'input': empty."));
    }
    let base64 = match fields.text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(fields.wrong("encoding_format", "`float` or `base64`")),
    };
    let dimensions = fields.whole("dimensions")?;
    let model = match deployment {
        Some(deployment) => deployment,
        None => fields.must_text("model")?,
    };
    Ok(Embed {
        model: model.to_owned(),
        texts,
        dimensions: dimensions.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
        base64,
    })
}

fn text(fields: &Fields<'_>, value: &Value) -> Result<Vec<u8>, Problem> {
    match value {
        Value::String(text) => Ok(text.clone().into_bytes()),
        Value::Array(list) => tokens(fields, list),
        _ => Err(fields.wrong("input", "strings or tokens")),
    }
}

/// Tokens as the bytes that they are made of here.
fn tokens(fields: &Fields<'_>, list: &[Value]) -> Result<Vec<u8>, Problem> {
    let token = |value: &Value| value.as_u64().and_then(|token| u32::try_from(token).ok());
    let tokens: Option<Vec<u32>> = list.iter().map(token).collect();
    let tokens = tokens.ok_or_else(|| fields.wrong("input", "tokens"))?;
    Ok(tokens.iter().flat_map(|token| token.to_le_bytes()).collect())
}

/// Four bytes a token, for text by estimate and for tokens because that is their size.
pub(in crate::upstream::format) fn token_count(texts: &[Vec<u8>]) -> u64 {
    texts.iter().map(|text| text.len().div_ceil(4) as u64).sum()
}

pub(in crate::upstream::format) fn vectors(asked: &Embed) -> Result<Vec<Vec<f32>>, Problem> {
    let dimensions = asked.dimensions.unwrap_or(DIMENSIONS_DEFAULT);
    if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
        let message = format!("Invalid 'dimensions': {dimensions}, expected 1 to {DIMENSIONS_MAX}.");
        return Err(Problem::invalid_field("dimensions", message));
    }
    Ok(asked.texts.iter().map(|text| vector(text, dimensions)).collect())
}

pub(super) fn answer(asked: &Embed) -> Result<Value, Problem> {
    let data: Vec<Value> = vectors(asked)?
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": encode(vector, asked.base64)}))
        .collect();
    let tokens = token_count(&asked.texts);
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(json!({"object": "list", "data": data, "model": asked.model, "usage": usage}))
}

fn encode(vector: &[f32], base64: bool) -> Value {
    if !base64 {
        return json!(vector);
    }
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    Value::String(STANDARD.encode(bytes))
}
