//! Top-level fields that the domain does not model: OpenAI's, Converse's and the models' own.
//!
//! | field of OpenAI | becomes |
//! | --- | --- |
//! | `reasoning_effort` | the model's setting, see [`reasoning`] |
//! | `parallel_tool_calls: false` | Claude's `disable_parallel_tool_use` |
//! | `metadata`, `user`, `safety_identifier` | `requestMetadata`, which AWS writes to its logs |
//! | `service_tier: flex` | `serviceTier` |
//!
//! A value that asks for what happens anyway ([`NEUTRAL`]) is no field. Every other of OpenAI's names is refused.

use domain::{
    fault::Fault,
    inference::{Generate, Sampling, ToolChoice, Translate},
};
use serde_json::value::RawValue;

use super::{super::family::Family, unsupported};
use crate::provider::json::{Fields, Object, Text};

mod reasoning;

/// Names of Converse itself, which stand at its top level.
const CONVERSE: [&str; 8] = [
    "guardrailConfig",
    "performanceConfig",
    "promptVariables",
    "additionalModelResponseFieldPaths",
    "requestMetadata",
    "serviceTier",
    "outputConfig",
    "toolConfig",
];
/// Modelled fields under the names that Converse or OpenAI have for them.
const MODELLED: [&str; 18] = [
    "messages",
    "system",
    "inferenceConfig",
    "modelId",
    "model",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "tools",
    "tool_choice",
    "response_format",
];
/// OpenAI's names without their like here.
const REFUSED: [&str; 16] = [
    "n",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "verbosity",
    "prediction",
    "audio",
    "modalities",
    "store",
    "web_search_options",
    "functions",
    "function_call",
    "prompt_cache_key",
    "prompt_cache_retention",
    "moderation",
    "best_of",
];
/// What such a field may say, because it is so anyway.
const NEUTRAL: [(&str, &str); 12] = [
    ("n", "1"),
    ("best_of", "1"),
    ("logprobs", "false"),
    ("top_logprobs", "0"),
    ("logit_bias", "{}"),
    ("verbosity", "\"medium\""),
    ("modalities", "[\"text\"]"),
    ("store", "false"),
    ("functions", "[]"),
    ("parallel_tool_calls", "true"),
    ("service_tier", "\"auto\""),
    ("service_tier", "\"default\""),
];

/// The fields, sorted by where they go.
#[derive(Default)]
pub(super) struct Extras<'a> {
    /// To Converse, as they stand.
    converse: Fields<'a>,
    /// To the model, as they stand.
    model: Fields<'a>,
    /// To the model, translated: name and JSON.
    translated: Vec<(&'static str, String)>,
    /// Key and JSON text.
    metadata: Vec<(Text<'a>, &'a RawValue)>,
    flex: bool,
    /// One tool call at a time.
    sequential: bool,
}

impl<'a> Extras<'a> {
    pub(super) fn read(request: &'a Generate, family: Family) -> Result<Self, Fault> {
        let mut extras = Self::sort(&request.envelope.extra_json, family, &request.sampling)?;
        if extras.sequential && !request.tools.is_empty() {
            extras.translated.push(("tool_choice", one_call(request.tool_choice.as_ref(), family)?));
        }
        if let Some(top_k) = request.sampling.top_k {
            extras.translated.push(top_k_of(family, top_k)?);
        }
        Ok(extras)
    }

    pub(super) fn of_translation(request: &'a Translate, family: Family) -> Result<Self, Fault> {
        Self::sort(&request.envelope.extra_json, family, &Sampling::default())
    }

    fn sort(json: &'a str, family: Family, sampling: &Sampling) -> Result<Self, Fault> {
        let mut extras = Self::default();
        for (key, value) in Fields::parse("extra_json", json)?.into_entries() {
            let name = &*key;
            if value.get() == "null" || NEUTRAL.contains(&(name, value.get())) {
                continue;
            }
            if MODELLED.contains(&name) {
                let field = format!("extra_json.{name}");
                let message =
                    format!("{field} is given beside the modelled field, expected only one of them");
                return Err(Fault::invalid(field, message));
            }
            if REFUSED.contains(&name) {
                let problem = format!("is {}, but Converse has no such field; expected none", start(value));
                return Err(unsupported(name, &problem));
            }
            match name {
                "reasoning_effort" => {
                    extras.translated.extend(reasoning::effort(value, family, sampling.max_tokens)?);
                }
                "parallel_tool_calls" if value.get() == "false" => extras.sequential = true,
                "parallel_tool_calls" => {
                    let field = format!("extra_json.{name}");
                    let message = format!("{field} is {}, expected true or false", start(value));
                    return Err(Fault::invalid(field, message));
                }
                "service_tier" => extras.flex = flex(value)?,
                "serviceTier" if value.get().contains("priority") => {
                    return Err(unsupported(
                        "serviceTier",
                        "is priority, expected default or flex: no price is known for it",
                    ));
                }
                // usage is always told, and padding never is ours to set
                "stream_options" => stream_options(value)?,
                "metadata" => extras.metadata.extend(metadata(value)?),
                "user" | "safety_identifier" => {
                    let value = text("extra_json", name, value)?;
                    extras.metadata.push((key, value));
                }
                "additionalModelRequestFields" => {
                    for (key, value) in
                        Fields::parse("additionalModelRequestFields", value.get())?.into_entries()
                    {
                        extras.pass(key, value)?;
                    }
                }
                name if CONVERSE.contains(&name) => extras.converse.keep(key, value),
                _ => extras.pass(key, value)?,
            }
        }
        Ok(extras)
    }

    fn pass(&mut self, key: Text<'a>, value: &'a RawValue) -> Result<(), Fault> {
        if self.model.contains(&key) {
            let field = format!("additionalModelRequestFields.{}", &*key);
            let message = format!("{field} is given twice, expected once");
            return Err(Fault::invalid(field, message));
        }
        self.model.keep(key, value);
        Ok(())
    }

    /// Writes the rest of the body.
    pub(super) fn write(&self, root: &mut Object<'_>) -> Result<(), Fault> {
        if !self.metadata.is_empty() {
            let mut object = Object::begin(root.nested("requestMetadata"));
            for (key, value) in &self.metadata {
                object.raw_dynamic(key, value.get());
            }
            object.end();
        }
        if self.flex {
            root.raw("serviceTier", r#"{"type":"flex"}"#);
        }
        if !self.translated.is_empty() || self.model.iter().next().is_some() {
            let mut object = Object::begin(root.nested("additionalModelRequestFields"));
            for (key, value) in &self.translated {
                object.raw(key, value);
            }
            object.carry("extra_json", &self.model)?;
            object.end();
        }
        root.carry("extra_json", &self.converse)
    }
}

/// `parallel_tool_calls: false` in the words of Claude. A forced choice has its place in `toolConfig`, and both at once is
/// refused by the model.
fn one_call(choice: Option<&ToolChoice>, family: Family) -> Result<String, Fault> {
    let field = "parallel_tool_calls";
    match (family, choice) {
        (Family::Claude(..), None | Some(ToolChoice::Auto)) => {
            Ok(r#"{"type":"auto","disable_parallel_tool_use":true}"#.to_owned())
        }
        (Family::Claude(..), _) => Err(unsupported(
            field,
            "is false beside a tool_choice other than auto, expected only one of them",
        )),
        _ => Err(unsupported(field, "is false, but the model has no such setting; expected true")),
    }
}

/// The model's own name of it.
fn top_k_of(family: Family, top_k: u32) -> Result<(&'static str, String), Fault> {
    match family {
        Family::Claude(..) | Family::Mistral => Ok(("top_k", top_k.to_string())),
        Family::Cohere => Ok(("k", top_k.to_string())),
        Family::Nova => Ok(("inferenceConfig", format!(r#"{{"topK":{top_k}}}"#))),
        Family::Nova2 | Family::GptOss | Family::Other => Err(unsupported(
            "top_k",
            "is given, but the model is not known to have such a setting; expected none",
        )),
    }
}

fn flex(value: &RawValue) -> Result<bool, Fault> {
    match value.get() {
        "\"flex\"" => Ok(true),
        "\"priority\"" => {
            let problem = "is `priority`, expected `auto`, `default` or `flex`: no price is known for it";
            Err(unsupported("service_tier", problem))
        }
        _ => Err(unsupported(
            "service_tier",
            &format!("is {}, expected `auto`, `default` or `flex`", start(value)),
        )),
    }
}

fn stream_options(value: &RawValue) -> Result<(), Fault> {
    let fields = Fields::parse("extra_json.stream_options", value.get())?;
    let silent = |key: &str, value: &RawValue| {
        key == "include_usage" || (key == "include_obfuscation" && value.get() != "true")
    };
    match fields.iter().find(|(key, value)| !silent(key, value) && value.get() != "null") {
        None => Ok(()),
        Some((key, _)) => {
            let problem = "is given, but Converse has no such option; expected none";
            Err(unsupported(&format!("stream_options.{key}"), problem))
        }
    }
}

fn metadata(value: &RawValue) -> Result<Vec<(Text<'_>, &RawValue)>, Fault> {
    let entries = Fields::parse("metadata", value.get())?.into_entries();
    entries
        .map(|(key, value)| {
            let value = text("metadata", &key, value)?;
            Ok((key, value))
        })
        .collect()
}

/// # Errors
/// `InvalidArgument`: the value is no text.
fn text<'a>(path: &str, key: &str, value: &'a RawValue) -> Result<&'a RawValue, Fault> {
    if value.get().starts_with('"') {
        return Ok(value);
    }
    let field = format!("{path}.{key}");
    let message = format!("{field} is {}, expected a text", start(value));
    Err(Fault::invalid(field, message))
}

/// The beginning of a value, for messages.
fn start(value: &RawValue) -> String {
    value.get().chars().take(40).collect()
}
