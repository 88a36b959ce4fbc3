//! A domain request as a Converse body.
//!
//! What the domain models is written field by field. OpenAI's other fields are translated where Converse or the model has
//! their like, and refused by name where not ([`extras`]); names that are not OpenAI's go to Converse where it knows them and
//! to the model (`additionalModelRequestFields`) where it does not. A carried field never replaces one of ours.

use domain::{
    fault::{Code, Fault, Origin},
    inference::{Generate, ResponseFormat, Sampling, Translate},
};

use super::family::Family;
use crate::provider::{
    json::{self, Object},
    translation,
};

mod blocks;
mod extras;
mod tools;
mod turns;

use extras::Extras;

/// What this provider or this model cannot do; another may.
pub(super) fn unsupported(field: &str, problem: &str) -> Fault {
    let message = format!("{field} {problem}");
    Fault::new(Code::Unsupported, Origin::Caller, true, message).in_field(field)
}

/// Writes a conversation for `model`.
///
/// # Errors
/// `InvalidArgument` for what no provider could read, `Unsupported` for what this one or the model cannot do; both name the
/// field.
pub(super) fn converse(request: &Generate, model: &str) -> Result<Vec<u8>, Fault> {
    let family = Family::of(model);
    let extras = Extras::read(request, family)?;
    let mut body = Vec::with_capacity(1024);
    let mut root = Object::begin(&mut body);
    turns::write(&mut root, &request.messages, family)?;
    inference(&mut root, &request.sampling)?;
    tools::write(&mut root, request)?;
    if let Some(format) = &request.response_format {
        response_format(&mut root, format)?;
    }
    extras.write(&mut root)?;
    root.end();
    Ok(body)
}

/// A translation by a model that generates.
///
/// # Errors
/// As [`converse`].
pub(super) fn translation(request: &Translate, model: &str) -> Result<Vec<u8>, Fault> {
    let extras = Extras::of_translation(request, Family::of(model))?;
    let mut body = Vec::with_capacity(512 + request.text.len());
    let mut root = Object::begin(&mut body);
    turns::plain(&mut root, &translation::instruction(request), &request.text);
    root.reserve("inferenceConfig");
    extras.write(&mut root)?;
    root.end();
    Ok(body)
}

/// `top_k` is the models' own, see [`extras`].
fn inference(root: &mut Object<'_>, sampling: &Sampling) -> Result<(), Fault> {
    let absent = "but Converse has no such field; expected none";
    if sampling.seed.is_some() {
        return Err(unsupported("seed", &format!("is given, {absent}")));
    }
    let penalties =
        [("frequency_penalty", sampling.frequency_penalty), ("presence_penalty", sampling.presence_penalty)];
    for (name, penalty) in penalties {
        // zero is what happens anyway
        if let Some(penalty) = penalty.filter(|penalty| *penalty != 0.0) {
            return Err(unsupported(name, &format!("is {penalty}, {absent}")));
        }
    }
    let Sampling { max_tokens, temperature, top_p, stop, .. } = sampling;
    if max_tokens.is_none() && temperature.is_none() && top_p.is_none() && stop.is_empty() {
        root.reserve("inferenceConfig");
        return Ok(());
    }
    let mut config = Object::begin(root.nested("inferenceConfig"));
    config.optional("maxTokens", *max_tokens);
    config.optional("temperature", *temperature);
    config.optional("topP", *top_p);
    if !stop.is_empty() {
        config.value("stopSequences", stop);
    }
    config.end();
    Ok(())
}

fn response_format(root: &mut Object<'_>, format: &ResponseFormat) -> Result<(), Fault> {
    let (name, schema) = match format {
        ResponseFormat::Text => return Ok(()),
        ResponseFormat::JsonObject => {
            let problem =
                "is json_object, but Converse has no such format; expected json_schema with a schema";
            return Err(unsupported("response_format", problem));
        }
        // without `strict` a schema is only a wish, which keeping to it fulfils
        ResponseFormat::JsonSchema { name, schema_json, .. } => (name, schema_json),
    };
    let schema = json::object("response_format.json_schema.schema", schema)?;
    let mut output = Object::begin(root.nested("outputConfig"));
    let mut text = Object::begin(output.nested("textFormat"));
    text.text("type", "json_schema");
    let mut structure = Object::begin(text.nested("structure"));
    let mut definition = Object::begin(structure.nested("jsonSchema"));
    // a schema travels as text here
    definition.text("schema", schema);
    if !name.is_empty() {
        definition.text("name", name);
    }
    definition.end();
    structure.end();
    text.end();
    output.end();
    Ok(())
}
