//! A domain request as JSON of the Responses interface.

use domain::{
    fault::{Code, Fault, Origin},
    inference::{Generate, ResponseFormat, Sampling, Tool, ToolChoice, Translate},
};
use serde_json::value::RawValue;

use super::{
    super::{
        chat_fields::{is_openais, says_nothing},
        encode::{Encoded, Endpoint, defaults, instruction, refuse_unanswerable},
    },
    input,
};
use crate::provider::{
    Target,
    json::{self, Fields, Object},
};

/// So that reasoning can be sent back without being stored.
const ENCRYPTED: &str = "reasoning.encrypted_content";
const LOGPROBS: &str = "message.output_text.logprobs";
/// Chat's fields that have the same name and meaning here.
const SAME: [&str; 9] = [
    "parallel_tool_calls",
    "user",
    "metadata",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "top_logprobs",
];

/// Objects and lists that are written field by field.
const MERGED: [&str; 4] = ["text", "reasoning", "include", "background"];

/// A field that this interface has no equivalent of; another deployment may.
pub(super) fn unsupported(field: impl Into<String>, why: &str) -> Fault {
    let field = field.into();
    let message = format!("{field} is given, and the Responses interface {why}");
    Fault::new(Code::Unsupported, Origin::Caller, true, message).in_field(field)
}

/// Writes a conversation.
///
/// # Errors
/// `Unsupported` for what the interface lacks, `InvalidArgument` for carried JSON that is none or repeats a modelled field;
/// both name the field.
pub(in super::super) fn generate(request: &Generate, target: &Target) -> Result<Encoded, Fault> {
    let mut body = Vec::with_capacity(1024);
    let mut root = Object::begin(&mut body);
    root.text("model", &target.upstream_model);
    input::items(root.nested("input"), &request.messages)?;
    sampling(&mut root, &request.sampling)?;
    if !request.tools.is_empty() {
        json::array(root.nested("tools"), request.tools.iter().enumerate(), |out, (index, offered)| {
            tool(out, offered, index)
        })?;
    }
    if let Some(choice) = &request.tool_choice {
        tool_choice(&mut root, choice);
    }
    finish(root, target, request.response_format.as_ref(), request.stream, &request.envelope.extra_json)?;
    Ok(Encoded { endpoint: Endpoint::Responses, body })
}

/// Writes a translation: a conversation with an instruction.
///
/// # Errors
/// As [`generate`].
pub(in super::super) fn translate(request: &Translate, target: &Target) -> Result<Encoded, Fault> {
    let mut body = Vec::with_capacity(512 + request.text.len());
    let mut root = Object::begin(&mut body);
    root.text("model", &target.upstream_model);
    root.text("instructions", &instruction(request));
    root.text("input", &request.text);
    finish(root, target, None, request.stream, &request.envelope.extra_json)?;
    Ok(Encoded { endpoint: Endpoint::Responses, body })
}

fn sampling(root: &mut Object<'_>, sampling: &Sampling) -> Result<(), Fault> {
    let absent = [
        ("top_k", sampling.top_k.is_some()),
        ("seed", sampling.seed.is_some()),
        ("frequency_penalty", sampling.frequency_penalty.is_some_and(|penalty| penalty != 0.0)),
        ("presence_penalty", sampling.presence_penalty.is_some_and(|penalty| penalty != 0.0)),
        ("stop", !sampling.stop.is_empty()),
    ];
    if let Some((field, _)) = absent.into_iter().find(|(_, given)| *given) {
        return Err(unsupported(field, "has no such field"));
    }
    root.optional("max_output_tokens", sampling.max_tokens);
    root.optional("temperature", sampling.temperature);
    root.optional("top_p", sampling.top_p);
    Ok(())
}

fn tool(out: &mut Vec<u8>, tool: &Tool, index: usize) -> Result<(), Fault> {
    let path = format!("tools[{index}]");
    // what to cache is not asked by a server that caches by itself
    let (_, extras) = Fields::parse(&path, &tool.extra_json)?.split("cache_control");
    if extras.contains("function") {
        return Err(unsupported(format!("{path}.function"), "has no such fields of a function"));
    }
    let mut object = Object::begin(out);
    object.text("type", "function");
    object.text("name", &tool.name);
    if !tool.description.is_empty() {
        object.text("description", &tool.description);
    }
    let place = format!("{path}.parameters");
    let schema = tool.parameters_json.trim();
    let schema = if schema.is_empty() { r#"{"type":"object","properties":{}}"# } else { schema };
    object.raw("parameters", json::object(&place, schema)?);
    // strict unless said otherwise, here only
    object.value("strict", &tool.strict.unwrap_or(false));
    object.carry(&path, &extras)?;
    object.end();
    Ok(())
}

fn tool_choice(root: &mut Object<'_>, choice: &ToolChoice) {
    let mode = match choice {
        ToolChoice::Auto => "auto",
        ToolChoice::None => "none",
        ToolChoice::Required => "required",
        ToolChoice::Named(name) => {
            let mut object = Object::begin(root.nested("tool_choice"));
            object.text("type", "function");
            object.text("name", name);
            object.end();
            return;
        }
    };
    root.text("tool_choice", mode);
}

/// What is the same for all: format, carried fields, defaults.
fn finish(
    mut root: Object<'_>,
    target: &Target,
    format: Option<&ResponseFormat>,
    stream: bool,
    extra_json: &str,
) -> Result<(), Fault> {
    let carried = Fields::parse("extra_json", extra_json)?;
    refuse_unanswerable(&carried)?;
    let defaults = defaults(target)?;
    root.value("stream", &stream);
    let mut asked = Asked::default();
    for (name, value) in carried.iter().filter(|(name, value)| !says_nothing(name, value.get())) {
        match (name, value.get()) {
            ("reasoning_effort", _) => asked.effort = Some(value.get()),
            ("verbosity", _) => asked.verbosity = Some(value.get()),
            ("logprobs", "true") => asked.logprobs = true,
            ("store", _) => asked.store = true,
            ("background", _) => return Err(unsupported("background", "is waited for here, expected false")),
            (name, json) if SAME.contains(&name) => {
                if let Some(same) = SAME.into_iter().find(|same| *same == name) {
                    root.raw(same, json);
                }
            }
            (name, _) if is_openais(name) => return Err(unsupported(name, "has no such field")),
            _ => {}
        }
    }
    root.value("store", &asked.store);
    stream_options(&mut root, stream, &carried)?;
    text(&mut root, format, asked.verbosity, &carried, &defaults)?;
    reasoning(&mut root, asked.effort, &carried, &defaults)?;
    include(&mut root, asked.logprobs, &carried, &defaults)?;
    let mut own = carried;
    own.retain(|name| !is_openais(name) && !MERGED.contains(&name));
    root.carry("extra_json", &own)?;
    root.complete(&defaults, &own);
    root.end();
    Ok(())
}

/// Chat's fields that are written in another place here.
#[derive(Default)]
struct Asked<'a> {
    effort: Option<&'a str>,
    verbosity: Option<&'a str>,
    logprobs: bool,
    store: bool,
}

fn stream_options(root: &mut Object<'_>, stream: bool, carried: &Fields<'_>) -> Result<(), Fault> {
    root.reserve("stream_options");
    let Some(wanted) = carried.get("stream_options").filter(|value| stream && value.get() != "null") else {
        return Ok(());
    };
    let mut wanted = Fields::parse("extra_json.stream_options", wanted.get())?;
    // usage always comes here
    wanted.retain(|name| name != "include_usage");
    if wanted.iter().next().is_some() {
        Object::wrap(root.nested("stream_options"), &wanted);
    }
    Ok(())
}

/// An object of this interface's that the caller, the deployment or chat's fields have a part in.
fn merged<'a>(name: &str, fields: &Fields<'a>) -> Result<Fields<'a>, Fault> {
    let json = fields.get(name).map(RawValue::get).filter(|json| *json != "null");
    Fields::parse(&format!("extra_json.{name}"), json.unwrap_or_default())
}

fn text(
    root: &mut Object<'_>,
    format: Option<&ResponseFormat>,
    verbosity: Option<&str>,
    carried: &Fields<'_>,
    defaults: &Fields<'_>,
) -> Result<(), Fault> {
    let (own, defaults) = (merged("text", carried)?, merged("text", defaults)?);
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    if let Some(format) = format {
        let mut written = Object::begin(object.nested("format"));
        match format {
            ResponseFormat::Text => written.text("type", "text"),
            ResponseFormat::JsonObject => written.text("type", "json_object"),
            ResponseFormat::JsonSchema { name, schema_json, strict } => {
                written.text("type", "json_schema");
                written.text("name", if name.is_empty() { "answer" } else { name });
                let schema = json::object("response_format.json_schema.schema", schema_json)?;
                written.raw("schema", schema);
                // strict unless said otherwise, here only
                written.value("strict", &strict.unwrap_or(false));
            }
        }
        written.end();
    }
    if let Some(verbosity) = verbosity {
        object.raw("verbosity", verbosity);
    }
    object.carry("extra_json.text", &own)?;
    object.complete(&defaults, &own);
    object.end();
    write(root, "text", &out);
    Ok(())
}

fn reasoning(
    root: &mut Object<'_>,
    effort: Option<&str>,
    carried: &Fields<'_>,
    defaults: &Fields<'_>,
) -> Result<(), Fault> {
    let (own, defaults) = (merged("reasoning", carried)?, merged("reasoning", defaults)?);
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    if let Some(effort) = effort {
        object.raw("effort", effort);
    }
    object.carry("extra_json.reasoning", &own)?;
    object.complete(&defaults, &own);
    object.end();
    write(root, "reasoning", &out);
    Ok(())
}

/// What an answer shall hold beside the usual; a list of the caller's or the deployment's takes the place of ours.
fn include(
    root: &mut Object<'_>,
    logprobs: bool,
    carried: &Fields<'_>,
    defaults: &Fields<'_>,
) -> Result<(), Fault> {
    let mut wanted = match carried.get("include").or_else(|| defaults.get("include")) {
        None => vec![ENCRYPTED.to_owned()],
        Some(list) => serde_json::from_str::<Vec<String>>(list.get()).map_err(|_| {
            let message = "extra_json.include is of another type, expected a list of texts";
            Fault::invalid("extra_json.include", message)
        })?,
    };
    if logprobs && !wanted.iter().any(|name| name == LOGPROBS) {
        wanted.push(LOGPROBS.to_owned());
    }
    if wanted.is_empty() {
        root.reserve("include");
    } else {
        root.value("include", &wanted);
    }
    Ok(())
}

/// Writes an object that was made aside, unless it is empty.
fn write(root: &mut Object<'_>, name: &'static str, object: &[u8]) {
    if object == b"{}" {
        root.reserve(name);
    } else {
        root.nested(name).extend_from_slice(object);
    }
}
