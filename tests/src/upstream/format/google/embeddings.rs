//! `embedContent`, `batchEmbedContents`, and Vertex's older `predict`.

use serde_json::{Value, json};

use crate::upstream::asked::Embed;
use crate::upstream::format::openai::{token_count, vectors};
use crate::upstream::problem::Problem;
use crate::upstream::read::Fields;

pub(super) fn asked(fields: &Fields<'_>, model: &str, verb: &str) -> Result<Embed, Problem> {
    let mut asked = Embed { model: model.to_owned(), ..Embed::default() };
    match verb {
        "predict" => {
            for instance in fields.objects("instances")? {
                asked.texts.push(instance.must_text("content")?.as_bytes().to_vec());
            }
            if let Some(parameters) = fields.object("parameters")? {
                asked.dimensions = dimensions(&parameters)?;
            }
        }
        "batchEmbedContents" => {
            fields.only(&["requests"])?;
            for request in fields.objects("requests")? {
                if request.must_text("model")? != format!("models/{model}") {
                    return Err(request.wrong("model", "the model of the address"));
                }
                take(&mut asked, &request)?;
            }
        }
        _ => take(&mut asked, fields)?,
    }
    if asked.texts.is_empty() || asked.texts.iter().any(Vec::is_empty) {
        return Err(Problem::invalid_field("content", "content is required"));
    }
    Ok(asked)
}

fn dimensions(fields: &Fields<'_>) -> Result<Option<usize>, Problem> {
    Ok(fields.whole("outputDimensionality")?.map(|count| usize::try_from(count).unwrap_or(usize::MAX)))
}

fn take(asked: &mut Embed, request: &Fields<'_>) -> Result<(), Problem> {
    let known = [
        "model",
        "content",
        "taskType",
        "title",
        "outputDimensionality",
        "embedContentConfig",
        "autoTruncate",
    ];
    request.only(&known)?;
    let mut text = String::new();
    for part in request.must_object("content")?.objects("parts")? {
        text.push_str(part.must_text("text")?);
    }
    asked.texts.push(text.into_bytes());
    let config = request.object("embedContentConfig")?;
    let nested = config.map(|config| dimensions(&config)).transpose()?.flatten();
    asked.dimensions = asked.dimensions.or(dimensions(request)?).or(nested);
    Ok(())
}

pub(super) fn answer(asked: &Embed, verb: &str) -> Result<Value, Problem> {
    let tokens = token_count(&asked.texts);
    let vectors = vectors(asked)?;
    Ok(match verb {
        "predict" => {
            let predictions = vectors.iter().zip(&asked.texts).map(|(values, text)| {
                let statistics = json!({"truncated": false, "token_count": text.len().div_ceil(4)});
                json!({"embeddings": {"values": values, "statistics": statistics}})
            });
            let characters: usize = asked.texts.iter().map(Vec::len).sum();
            json!({
                "predictions": predictions.collect::<Vec<_>>(),
                "metadata": {"billableCharacterCount": characters},
            })
        }
        "batchEmbedContents" => {
            let embeddings: Vec<Value> = vectors.iter().map(|values| json!({"values": values})).collect();
            json!({"embeddings": embeddings, "usageMetadata": {"promptTokenCount": tokens}})
        }
        _ => {
            let values = vectors.into_iter().next().unwrap_or_default();
            json!({"embedding": {"values": values}, "usageMetadata": {"promptTokenCount": tokens}})
        }
    })
}
