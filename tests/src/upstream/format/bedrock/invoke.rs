//! InvokeModel: the body is the model's own. Titan's and Cohere's embeddings, and a translator in Hugging Face's form.

use serde_json::{Value, json};

use crate::upstream::asked::{Asked, Embed, Translate};
use crate::upstream::format::openai::{token_count, vectors as vectors_of};
use crate::upstream::problem::Problem;
use crate::upstream::read::Fields;

pub(super) fn asked(fields: &Fields<'_>, model: &str) -> Result<Asked, Problem> {
    if model.contains("titan-embed") {
        fields.only(&["inputText", "dimensions", "normalize", "embeddingTypes"])?;
        let texts = vec![fields.must_text("inputText")?.as_bytes().to_vec()];
        return Ok(Asked::Embed(embed(model, texts, fields.whole("dimensions")?)));
    }
    if model.contains("cohere.embed") {
        let known = [
            "texts",
            "input_type",
            "truncate",
            "embedding_types",
            "images",
            "inputs",
            "output_dimension",
            "max_tokens",
        ];
        fields.only(&known)?;
        fields.must_text("input_type")?;
        let texts = fields.texts("texts")?.into_iter().map(String::into_bytes).collect();
        let mut asked = embed(model, texts, fields.whole("output_dimension")?);
        // here: whether the vectors are asked for by type
        asked.base64 = fields.get("embedding_types").is_some();
        return Ok(Asked::Embed(asked));
    }
    let parameters = fields.must_object("parameters")?;
    Ok(Asked::Translate(Translate {
        model: model.to_owned(),
        text: fields.must_text("inputs")?.to_owned(),
        source: parameters.text("src_lang")?.unwrap_or_default().to_owned(),
        target: parameters.must_text("tgt_lang")?.to_owned(),
    }))
}

fn embed(model: &str, texts: Vec<Vec<u8>>, dimensions: Option<u64>) -> Embed {
    let dimensions = dimensions.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    Embed { model: model.to_owned(), texts, dimensions, base64: false }
}

pub(super) fn vectors(asked: &Embed) -> Result<Value, Problem> {
    if asked.texts.is_empty() || asked.texts.iter().any(Vec::is_empty) {
        return Err(Problem::invalid("Malformed input request: expected minLength: 1, actual: 0"));
    }
    let vectors = vectors_of(asked)?;
    if asked.model.contains("titan-embed") {
        let vector = vectors.into_iter().next().unwrap_or_default();
        let tokens = token_count(&asked.texts);
        return Ok(json!({
            "embedding": vector, "embeddingsByType": {"float": vector}, "inputTextTokenCount": tokens
        }));
    }
    let texts: Vec<_> = asked.texts.iter().map(|text| String::from_utf8_lossy(text)).collect();
    Ok(if asked.base64 {
        json!({"id": "fake", "response_type": "embeddings_by_type", "embeddings": {"float": vectors}, "texts": texts})
    } else {
        json!({"id": "fake", "response_type": "embeddings_floats", "embeddings": vectors, "texts": texts})
    })
}

/// A translation that shows what it is one of.
pub(super) fn translation(asked: &Translate) -> Value {
    json!([{"translation_text": format!("[{} {}] {}", asked.source, asked.target, asked.text)}])
}
