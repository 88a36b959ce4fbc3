//! `generationConfig`: how the answer is drawn, its shape and its thinking.

use domain::{
    fault::Fault,
    inference::{Generate, PartContent, ResponseFormat},
};

use super::{
    camel,
    carried::{Carried, Thinking},
    carry, shown, unsupported,
};
use crate::provider::json::{self, Object};

/// Texts that may end an answer.
const STOPS_MAX: usize = 5;

/// Writes the section, unless it would be empty.
///
/// # Errors
/// `Unsupported` and `InvalidArgument`, naming the field.
pub(super) fn write(root: &mut Object<'_>, request: &Generate, carried: &Carried<'_>) -> Result<(), Fault> {
    let mut section = Vec::new();
    let mut config = Object::begin(&mut section);
    sampling(&mut config, request)?;
    if let Some(format) = &request.response_format {
        response_format(&mut config, format)?;
    }
    if let Some(resolution) = media_resolution(request)? {
        config.text("mediaResolution", resolution);
    }
    finish(config, carried)?;
    attach(root, &section);
    Ok(())
}

/// Writes what is carried for the section, unless that is nothing.
///
/// # Errors
/// As [`write`].
pub(super) fn write_carried(root: &mut Object<'_>, carried: &Carried<'_>) -> Result<(), Fault> {
    let mut section = Vec::new();
    finish(Object::begin(&mut section), carried)?;
    attach(root, &section);
    Ok(())
}

fn attach(root: &mut Object<'_>, section: &[u8]) {
    if section != b"{}" {
        root.nested("generationConfig").extend_from_slice(section);
    }
}

fn sampling(config: &mut Object<'_>, request: &Generate) -> Result<(), Fault> {
    let sampling = &request.sampling;
    config.optional("maxOutputTokens", sampling.max_tokens);
    config.optional("temperature", sampling.temperature);
    config.optional("topP", sampling.top_p);
    config.optional("topK", sampling.top_k);
    if let Some(seed) = sampling.seed {
        if i32::try_from(seed).is_err() {
            let expected = "at most 2147483647, since Google's seeds have 32 bits";
            return Err(unsupported("seed", &seed.to_string(), expected));
        }
        config.value("seed", &seed);
    }
    config.optional("frequencyPenalty", sampling.frequency_penalty);
    config.optional("presencePenalty", sampling.presence_penalty);
    if sampling.stop.len() > STOPS_MAX {
        let value = format!("{} texts", sampling.stop.len());
        return Err(unsupported("stop", &value, &format!("at most {STOPS_MAX}")));
    }
    if !sampling.stop.is_empty() {
        config.value("stopSequences", &sampling.stop);
    }
    Ok(())
}

fn response_format(config: &mut Object<'_>, format: &ResponseFormat) -> Result<(), Fault> {
    match format {
        ResponseFormat::Text => {}
        ResponseFormat::JsonObject => config.text("responseMimeType", "application/json"),
        // Google has no name for a schema, and always keeps to it
        ResponseFormat::JsonSchema { schema_json, .. } => {
            config.text("responseMimeType", "application/json");
            let schema = json::object("response_format.json_schema.schema", schema_json)?;
            config.raw("responseJsonSchema", schema);
            config.reserve("responseSchema");
        }
    }
    Ok(())
}

/// OpenAI's detail of a picture; Google knows one for all pictures of a request.
fn media_resolution(request: &Generate) -> Result<Option<&'static str>, Fault> {
    let mut first: Option<&str> = None;
    for (index, message) in request.messages.iter().enumerate() {
        for (at, part) in message.content.iter().enumerate() {
            let PartContent::ImageUrl { detail, .. } = &part.content else { continue };
            let detail = if detail.is_empty() { "auto" } else { detail };
            if *first.get_or_insert(detail) != detail {
                let field = format!("messages[{index}].content[{at}].image_url.detail");
                let expected = "the same for all pictures: Google knows one for the whole request";
                return Err(unsupported(field, &shown(detail), expected));
            }
        }
    }
    Ok(match first {
        Some("low") => Some("MEDIA_RESOLUTION_LOW"),
        Some("high") => Some("MEDIA_RESOLUTION_HIGH"),
        _ => None,
    })
}

/// Thinking, logprobs and what is carried.
fn finish(mut config: Object<'_>, carried: &Carried<'_>) -> Result<(), Fault> {
    if let Some(thinking) = carried.thinking {
        let mut section = Object::begin(config.nested("thinkingConfig"));
        match thinking {
            Thinking::Level(level) => section.text("thinkingLevel", level),
            Thinking::Budget(tokens) => section.value("thinkingBudget", &tokens),
        }
        // thoughts are billed, so they are shown
        if thinking != Thinking::Budget(0) {
            section.value("includeThoughts", &true);
        }
        section.end();
    }
    if carried.logprobs {
        config.value("responseLogprobs", &true);
        config.optional("logprobs", carried.top_logprobs);
    }
    refuse_unanswerable(carried)?;
    carry(&mut config, "extra_json.generationConfig", &carried.config)?;
    config.end();
    Ok(())
}

/// What the answer has no room for, or the price table no price.
fn refuse_unanswerable(carried: &Carried<'_>) -> Result<(), Fault> {
    for (key, value) in carried.config.iter() {
        let expected = match (camel(key).as_str(), value.get()) {
            ("candidateCount", value) if value != "1" => "1: an answer carries one choice",
            ("responseModalities", value) if !value.eq_ignore_ascii_case("[\"text\"]") => "[\"TEXT\"]",
            ("speechConfig" | "imageConfig", _) => "none: answers are texts",
            _ => continue,
        };
        let field = format!("extra_json.generationConfig.{key}");
        return Err(unsupported(field, &shown(value.get()), expected));
    }
    Ok(())
}
