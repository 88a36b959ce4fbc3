//! Fields of a request that the domain does not model, as far as this engine knows them: OpenAI's names, and those of
//! llama.cpp's own server.
//!
//! What would change the answer and cannot be done is refused by name. What is none of the engine's business (`user`,
//! `metadata`, other providers' fields) is passed over.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use domain::fault::{Code, Fault, Origin};

/// Most tokens that are reported beside each one, as at OpenAI.
const TOP_LOGPROBS_MAX: u32 = 20;
/// Most tokens with a bias, as at OpenAI.
const BIASES_MAX: usize = 1_024;
/// Fields that ask for what local models have nothing like.
const NOT_OFFERED: [&str; 5] = ["audio", "function_call", "functions", "web_search_options", "grammar"];

/// What was asked for beside what the domain models.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Extras {
    /// See [`crate::engine::Generate::logprobs`].
    pub(super) logprobs: Option<u32>,
    pub(super) logit_bias: Vec<(u32, f32)>,
    pub(super) min_p: Option<f32>,
    pub(super) repeat_penalty: Option<f32>,
    pub(super) parallel_tool_calls: Option<bool>,
    /// Variables of the chat template.
    pub(super) variables: Map<String, Value>,
}

impl Extras {
    /// Reads the fields.
    ///
    /// # Errors
    /// `InvalidArgument` for a value out of range, `Unsupported` for what cannot be done; both name the field.
    pub(super) fn read(extra_json: &str) -> Result<Self, Fault> {
        let mut extras = Self::default();
        if extra_json.is_empty() {
            return Ok(extras);
        }
        let fields: BTreeMap<String, Value> = serde_json::from_str(extra_json).map_err(|error| {
            Fault::invalid("extra_json", format!("extra_json is no JSON object: {error}"))
        })?;
        let (mut wanted, mut top) = (false, None);
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
            match name.as_str() {
                "logprobs" => wanted = typed(&name, value)?,
                "top_logprobs" => top = Some(within(&name, typed(&name, value)?, 0, TOP_LOGPROBS_MAX)?),
                "logit_bias" => extras.logit_bias = biases(&name, value)?,
                "min_p" => extras.min_p = Some(within(&name, typed(&name, value)?, 0.0, 1.0)?),
                "repeat_penalty" | "repetition_penalty" => {
                    extras.repeat_penalty = Some(within(&name, typed(&name, value)?, 0.1, 10.0)?);
                }
                "parallel_tool_calls" => extras.parallel_tool_calls = Some(typed(&name, value)?),
                "chat_template_kwargs" => extras.variables.append(&mut typed(&name, value)?),
                "reasoning_effort" => effort(&name, value, &mut extras.variables)?,
                "n" if value != 1 => return Err(only(&name, &value, "1: an answer carries one choice")),
                "modalities" if value != serde_json::json!(["text"]) => {
                    return Err(only(&name, &value, "[\"text\"]"));
                }
                name if NOT_OFFERED.contains(&name) => {
                    return Err(only(name, &value, "none: local models have nothing like it"));
                }
                _ => {}
            }
        }
        if top.is_some_and(|top| top > 0) && !wanted {
            let text = "top_logprobs is given without logprobs, expected logprobs to be true";
            return Err(Fault::invalid("top_logprobs", text));
        }
        extras.logprobs = wanted.then(|| top.unwrap_or(0));
        Ok(extras)
    }
}

/// How much to think: templates that know levels read the word, those that only know thinking or not the flag.
fn effort(name: &str, value: Value, variables: &mut Map<String, Value>) -> Result<(), Fault> {
    let effort: String = typed(name, value)?;
    let thinks = !matches!(effort.as_str(), "none" | "minimal");
    variables.entry("enable_thinking").or_insert(Value::Bool(thinks));
    variables.entry(name).or_insert(Value::String(effort));
    Ok(())
}

fn biases(name: &str, value: Value) -> Result<Vec<(u32, f32)>, Fault> {
    let map: BTreeMap<String, f32> = typed(name, value)?;
    if map.len() > BIASES_MAX {
        let text = format!("{name} has {} tokens, expected at most {BIASES_MAX}", map.len());
        return Err(Fault::invalid(name, text));
    }
    let bias = |(token, bias): (String, f32)| {
        let expected =
            || Fault::invalid(name, format!("{name} names {token:?}, expected the number of a token"));
        Ok((token.parse().map_err(|_no_number| expected())?, within(name, bias, -100.0, 100.0)?))
    };
    map.into_iter().map(bias).collect()
}

fn typed<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, Fault> {
    serde_json::from_value(value).map_err(|error| Fault::invalid(name, format!("{name}: {error}")))
}

fn within<T: PartialOrd + Copy + std::fmt::Display>(
    name: &str,
    value: T,
    least: T,
    most: T,
) -> Result<T, Fault> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(Fault::invalid(name, format!("{name} is {value}, expected {least} to {most}")))
}

fn only(name: &str, value: &Value, expected: &str) -> Fault {
    let shown: String = value.to_string().chars().take(80).collect();
    let text = format!("{name} is {shown}, expected {expected}");
    Fault::new(Code::Unsupported, Origin::Caller, false, text).in_field(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_fields_are_read_and_foreign_ones_passed_over() {
        let extras = Extras::read(
            r#"{"logprobs":true,"top_logprobs":3,"logit_bias":{"7":-100},"min_p":0.1,"repeat_penalty":1.2,"n":1,
                "parallel_tool_calls":false,"chat_template_kwargs":{"enable_thinking":true},"reasoning_effort":"none",
                "user":"u","generationConfig":{},"stream_options":{"include_usage":true},"seed":null}"#,
        );
        let variables = serde_json::json!({"enable_thinking": true, "reasoning_effort": "none"});
        let expected = Extras {
            logprobs: Some(3),
            logit_bias: vec![(7, -100.0)],
            min_p: Some(0.1),
            repeat_penalty: Some(1.2),
            parallel_tool_calls: Some(false),
            variables: variables.as_object().unwrap().clone(),
        };
        assert_eq!(extras.unwrap(), expected);
        assert_eq!(Extras::read("").unwrap(), Extras::default());
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (json, field, code) in [
            (r#"{"n":2}"#, "n", Code::Unsupported),
            (r#"{"audio":{}}"#, "audio", Code::Unsupported),
            (r#"{"modalities":["audio"]}"#, "modalities", Code::Unsupported),
            (r#"{"top_logprobs":2}"#, "top_logprobs", Code::InvalidArgument),
            (r#"{"logprobs":true,"top_logprobs":21}"#, "top_logprobs", Code::InvalidArgument),
            (r#"{"logprobs":1}"#, "logprobs", Code::InvalidArgument),
            (r#"{"logit_bias":{"a":1}}"#, "logit_bias", Code::InvalidArgument),
            (r#"{"logit_bias":{"1":101}}"#, "logit_bias", Code::InvalidArgument),
            (r#"{"min_p":1.5}"#, "min_p", Code::InvalidArgument),
            (r#"{"repeat_penalty":0}"#, "repeat_penalty", Code::InvalidArgument),
            ("[]", "extra_json", Code::InvalidArgument),
        ] {
            let fault = Extras::read(json).unwrap_err();
            assert_eq!((fault.field.as_str(), fault.code), (field, code), "{json}: {fault}");
        }
    }
}
