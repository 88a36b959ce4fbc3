//! A domain request as Ollama's JSON.
//!
//! A prompt that is too long is refused by the server (`truncate: false`), not cut; an answer that fills the context ends
//! there (`shift: false`). The context's length goes along with each call, since the server's own default is much shorter
//! than what models have, and than what the deployment says of itself.

use domain::{
    fault::{Code, Fault, Origin},
    inference::{Embed, Generate, Request, ResponseFormat, Sampling, Tool, ToolChoice, Translate},
};

use super::messages::{message_of_text, messages};
use crate::provider::{
    Call, Target,
    json::{self, Fields, Object},
    no_audio,
    openai::{
        chat_fields::{is_openais, says_nothing},
        encode::instruction,
    },
};

/// Seeds are 32 bits wide there.
const SEED_MAX: u64 = i32::MAX as u64;

/// Writes the request.
///
/// # Errors
/// `Unsupported` for what the server has no equivalent of, `InvalidArgument` for carried JSON that is none or repeats a
/// modelled field; both name the field.
pub(super) fn encode(call: Call<'_>) -> Result<Vec<u8>, Fault> {
    match call.request {
        Request::Generate(request) => chat(request, call.target),
        Request::Translate(request) => translation(request, call.target),
        Request::Embed(request) => embeddings(request, call.target),
        Request::Transcribe(_) | Request::Speak(_) => {
            Err(no_audio("Ollama", call.target, "neither transcribes nor speaks"))
        }
    }
}

/// A field that the server has no equivalent of; another provider may.
pub(super) fn unsupported(field: impl Into<String>, why: &str) -> Fault {
    let field = field.into();
    let message = format!("{field} is given, and Ollama {why}");
    Fault::new(Code::Unsupported, Origin::Caller, true, message).in_field(field)
}

fn chat(request: &Generate, target: &Target) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::with_capacity(1024);
    let mut root = Object::begin(&mut body);
    root.text("model", &target.upstream_model);
    messages(root.nested("messages"), &request.messages)?;
    match &request.tool_choice {
        None | Some(ToolChoice::Auto) => tools(&mut root, &request.tools)?,
        // tools that must not be called are not shown
        Some(ToolChoice::None) => root.reserve("tools"),
        Some(ToolChoice::Required | ToolChoice::Named(_)) => {
            return Err(unsupported("tool_choice", "cannot be made to call a tool, expected auto or none"));
        }
    }
    match &request.response_format {
        None | Some(ResponseFormat::Text) => {}
        Some(ResponseFormat::JsonObject) => root.text("format", "json"),
        // every schema is enforced here, strict or not
        Some(ResponseFormat::JsonSchema { schema_json, .. }) => {
            root.raw("format", json::object("response_format.json_schema.schema", schema_json)?);
        }
    }
    let carried = Fields::parse("extra_json", &request.envelope.extra_json)?;
    let carried = translated(&mut root, carried)?;
    finish(root, target, Some(&request.sampling), request.stream, carried)?;
    Ok(body)
}

/// A translation is a chat with a model that generates.
fn translation(request: &Translate, target: &Target) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::with_capacity(512 + request.text.len());
    let mut root = Object::begin(&mut body);
    root.text("model", &target.upstream_model);
    let said = [("system", instruction(request)), ("user", request.text.clone())];
    json::array(root.nested("messages"), said, |out, (role, text)| {
        message_of_text(out, role, &text);
        Ok(())
    })?;
    let carried = Fields::parse("extra_json", &request.envelope.extra_json)?;
    let carried = translated(&mut root, carried)?;
    finish(root, target, None, request.stream, carried)?;
    Ok(body)
}

fn embeddings(request: &Embed, target: &Target) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::with_capacity(1024);
    let mut root = Object::begin(&mut body);
    root.text("model", &target.upstream_model);
    root.value("input", &request.inputs);
    root.optional("dimensions", request.dimensions);
    root.value("truncate", &false);
    let carried = Fields::parse("extra_json", &request.envelope.extra_json)?;
    let carried = translated(&mut root, carried)?;
    options(&mut root, target, None, &carried)?;
    others(root, target, carried)?;
    Ok(body)
}

fn tools(root: &mut Object<'_>, tools: &[Tool]) -> Result<(), Fault> {
    if tools.is_empty() {
        return Ok(());
    }
    json::array(root.nested("tools"), tools.iter().enumerate(), |out, (index, tool)| {
        if tool.strict == Some(true) {
            return Err(unsupported(format!("tools[{index}].strict"), "does not hold calls to a schema"));
        }
        let path = format!("tools[{index}]");
        let extra = Fields::parse(&path, &tool.extra_json)?;
        // what to cache is not asked by a server that caches by itself
        if let Some((key, _)) =
            extra.iter().find(|(key, value)| *key != "cache_control" && value.get() != "null")
        {
            return Err(unsupported(format!("{path}.{key}"), "has no such field of a tool"));
        }
        let mut object = Object::begin(out);
        object.text("type", "function");
        let mut function = Object::begin(object.nested("function"));
        function.text("name", &tool.name);
        function.text("description", &tool.description);
        let path = format!("tools[{index}].parameters");
        let schema = tool.parameters_json.trim();
        // it wants a schema for every tool
        let schema = if schema.is_empty() { r#"{"type":"object","properties":{}}"# } else { schema };
        function.raw("parameters", json::object(&path, schema)?);
        function.end();
        object.end();
        Ok(())
    })
}

/// Writes what is OpenAI's and has an equivalent, and gives back what is the server's own.
fn translated<'a>(root: &mut Object<'_>, mut carried: Fields<'a>) -> Result<Fields<'a>, Fault> {
    for (name, value) in
        carried.iter().filter(|(name, value)| is_openais(name) && !says_nothing(name, value.get()))
    {
        match (name, value.get()) {
            ("reasoning_effort", "\"none\"") => root.value("think", &false),
            ("reasoning_effort", "\"low\"" | "\"medium\"" | "\"high\"") => root.raw("think", value.get()),
            ("reasoning_effort", _) => {
                return Err(unsupported("reasoning_effort", "knows only none, low, medium and high"));
            }
            ("logprobs", "true") => root.value("logprobs", &true),
            ("top_logprobs", count) => root.raw("top_logprobs", count),
            _ => return Err(unsupported(name, "has no such field")),
        }
    }
    carried.retain(|name| !is_openais(name));
    Ok(carried)
}

fn finish(
    mut root: Object<'_>,
    target: &Target,
    sampling: Option<&Sampling>,
    stream: bool,
    carried: Fields<'_>,
) -> Result<(), Fault> {
    root.value("stream", &stream);
    // the caller may know better
    for name in ["truncate", "shift"] {
        if !carried.contains(name) {
            root.value(name, &false);
        }
    }
    options(&mut root, target, sampling, &carried)?;
    others(root, target, carried)
}

/// How the answer is drawn, and how the model is loaded.
fn options(
    root: &mut Object<'_>,
    target: &Target,
    sampling: Option<&Sampling>,
    carried: &Fields<'_>,
) -> Result<(), Fault> {
    let own = carried.get("options").map_or("", serde_json::value::RawValue::get);
    let own = Fields::parse("extra_json.options", own)?;
    let defaults = Fields::parse("defaults", &target.defaults)?;
    let defaults = defaults.get("options").map_or("", serde_json::value::RawValue::get);
    let defaults = Fields::parse("defaults.options", defaults)?;
    let mut object = Object::begin(root.nested("options"));
    if let Some(sampling) = sampling {
        drawn(&mut object, sampling)?;
    }
    let says_length = own.contains("num_ctx") || defaults.contains("num_ctx");
    if target.context_length > 0 && !says_length {
        object.value("num_ctx", &target.context_length);
    }
    object.carry("extra_json.options", &own)?;
    object.complete(&defaults, &own);
    object.end();
    Ok(())
}

fn drawn(object: &mut Object<'_>, sampling: &Sampling) -> Result<(), Fault> {
    if let Some(seed) = sampling.seed.filter(|seed| *seed > SEED_MAX) {
        return Err(unsupported("seed", &format!("takes 0 to {SEED_MAX}, not {seed}")));
    }
    object.optional("num_predict", sampling.max_tokens);
    object.optional("temperature", sampling.temperature);
    object.optional("top_p", sampling.top_p);
    object.optional("top_k", sampling.top_k);
    object.optional("seed", sampling.seed);
    object.optional("frequency_penalty", sampling.frequency_penalty);
    object.optional("presence_penalty", sampling.presence_penalty);
    if !sampling.stop.is_empty() {
        object.value("stop", &sampling.stop);
    }
    Ok(())
}

/// The server's own fields, the caller's before the deployment's.
fn others(mut root: Object<'_>, target: &Target, carried: Fields<'_>) -> Result<(), Fault> {
    let (_, carried) = carried.split("options");
    root.carry("extra_json", &carried)?;
    let defaults = Fields::parse("defaults", &target.defaults)?;
    root.complete(&defaults, &carried);
    root.end();
    Ok(())
}
