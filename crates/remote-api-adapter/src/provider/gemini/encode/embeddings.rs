//! Texts to embed, in each service's words.
//!
//! - AI Studio: `batchEmbedContents`, for every model.
//! - Vertex AI: `embedContent` for Gemini's embedding models after the first, one text a call; `predict` for the first and for
//!   `text-embedding-…`.

use domain::{fault::Fault, inference::Embed};
use serde_json::value::RawValue;

use super::{Encoded, Method, Service, beside, camel, shown, unsupported};
use crate::provider::json::{self, Fields, Object};

/// Texts in one call of AI Studio.
const BATCH_MAX: usize = 100;
/// Texts in one call of Vertex's `predict`.
const PREDICT_MAX: usize = 250;
/// The one Gemini model among the older ones; it takes one text a call.
const FIRST: &str = "gemini-embedding-001";

/// Writes the request.
///
/// # Errors
/// `Unsupported` for more texts than a call takes; `InvalidArgument` and `Unsupported` for carried fields, by name.
pub(super) fn encode(request: &Embed, model: &str, service: Service) -> Result<Encoded, Fault> {
    let carried = carried(&request.envelope.extra_json)?;
    let name = model.rsplit('/').next().unwrap_or_default();
    let (method, texts_max) = match service {
        Service::AiStudio => (Method::EmbedBatch, BATCH_MAX),
        Service::Vertex if name == FIRST => (Method::Predict, 1),
        Service::Vertex if name.starts_with("gemini") => (Method::Embed, 1),
        Service::Vertex => (Method::Predict, PREDICT_MAX),
    };
    if request.inputs.len() > texts_max {
        let (value, expected) =
            (format!("{} texts", request.inputs.len()), format!("at most {texts_max} a call"));
        return Err(unsupported("input", &value, &expected));
    }
    let mut body = Vec::with_capacity(1024);
    let mut root = Object::begin(&mut body);
    match method {
        Method::Predict => predict(&mut root, request, &carried)?,
        Method::EmbedBatch => {
            let model = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
            json::array(root.nested("requests"), &request.inputs, |out, text| {
                let mut one = Object::begin(out);
                one.text("model", &model);
                content(&mut one, text, request.dimensions, &carried)?;
                one.end();
                Ok(())
            })?;
        }
        _ => {
            let text = request.inputs.first().map(String::as_str).unwrap_or_default();
            if !carried.iter().any(|(key, _)| camel(key) == "autoTruncate") {
                // a vector of half a text would pass for one of the whole
                root.value("autoTruncate", &false);
            }
            content(&mut root, text, request.dimensions, &carried)?;
        }
    }
    root.end();
    Ok(Encoded { method, body })
}

/// Google's own fields (`taskType`, `title` …).
fn carried(extra_json: &str) -> Result<Fields<'_>, Fault> {
    let mut own = Fields::default();
    for (key, value) in Fields::parse("extra_json", extra_json)?.into_entries() {
        match camel(&key).as_str() {
            "user" if value.get() != "null" => {
                let expected = "none: Google has nothing like it";
                return Err(unsupported("user", &shown(value.get()), expected));
            }
            "model"
            | "input"
            | "content"
            | "requests"
            | "instances"
            | "parameters"
            | "dimensions"
            | "encodingFormat"
            | "outputDimensionality" => {
                return Err(beside(&format!("extra_json.{}", &*key)));
            }
            _ => own.keep(key, value),
        }
    }
    Ok(own)
}

fn content(
    object: &mut Object<'_>,
    text: &str,
    dimensions: Option<u32>,
    carried: &Fields<'_>,
) -> Result<(), Fault> {
    let mut content = Object::begin(object.nested("content"));
    json::array(content.nested("parts"), [text], |out, text| {
        let mut part = Object::begin(out);
        part.text("text", text);
        part.end();
        Ok(())
    })?;
    content.end();
    object.optional("outputDimensionality", dimensions);
    object.carry("extra_json", carried)
}

/// `task_type` and `title` belong to each text, the rest to the call. Both are free objects to Google, in which only one
/// spelling of a name counts.
fn predict(root: &mut Object<'_>, request: &Embed, carried: &Fields<'_>) -> Result<(), Fault> {
    let mut of_text: Vec<(&'static str, &RawValue)> = Vec::new();
    let mut of_call: Vec<(String, &RawValue)> = Vec::new();
    for (key, value) in carried.iter() {
        match camel(key) {
            name if name == "taskType" => of_text.push(("task_type", value)),
            name if name == "title" => of_text.push(("title", value)),
            name => of_call.push((name, value)),
        }
    }
    json::array(root.nested("instances"), &request.inputs, |out, text| {
        let mut instance = Object::begin(out);
        instance.text("content", text);
        for (key, value) in &of_text {
            instance.raw(key, value.get());
        }
        instance.end();
        Ok(())
    })?;
    let mut parameters = Object::begin(root.nested("parameters"));
    if !of_call.iter().any(|(name, _)| name == "autoTruncate") {
        parameters.value("autoTruncate", &false);
    }
    parameters.optional("outputDimensionality", request.dimensions);
    for (name, value) in of_call {
        parameters.raw_dynamic(&name, value.get());
    }
    parameters.end();
    Ok(())
}
