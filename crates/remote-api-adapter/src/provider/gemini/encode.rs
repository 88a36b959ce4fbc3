//! A domain request as Google's JSON.
//!
//! Google has no place for unknown fields: what the domain does not model is translated where there is an equivalent, carried
//! where it is Google's own, and refused by name otherwise. Names are compared in both of Google's spellings
//! (`generationConfig`, `generation_config`), so that a carried field cannot repeat one that is written here.

use domain::{
    fault::{Code, Fault, Origin},
    inference::{Generate, Request, ResponseFormat, Tool, ToolChoice, Translate},
};

use super::model::Generation;
use crate::provider::{
    Call,
    json::{self, Fields, Object},
    no_audio, translation,
};

mod carried;
mod config;
mod contents;
mod embeddings;
mod part;

use carried::Carried;

/// Which of the two services is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// The Gemini API.
    AiStudio,
    /// Vertex AI.
    Vertex,
}

/// What a request asks of a model; stands behind its name in the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Generate,
    Stream,
    /// One vector for one text.
    Embed,
    /// Vectors for several texts (AI Studio).
    EmbedBatch,
    /// Vectors of Vertex's older embedding models.
    Predict,
}

impl Method {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Generate => "generateContent",
            Self::Stream => "streamGenerateContent",
            Self::Embed => "embedContent",
            Self::EmbedBatch => "batchEmbedContents",
            Self::Predict => "predict",
        }
    }
}

/// A request ready to send.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) method: Method,
    pub(super) body: Vec<u8>,
}

/// Writes the request.
///
/// # Errors
/// `InvalidArgument` for carried JSON that is none or repeats a modelled field, `Unsupported` for what Google cannot do or what
/// could not be priced; both name the field.
pub(super) fn encode(call: Call<'_>, service: Service) -> Result<Encoded, Fault> {
    let generation = Generation::of(&call.target.upstream_model);
    match call.request {
        Request::Generate(request) => generate(request, generation, service),
        Request::Translate(request) => translate(request, generation),
        Request::Embed(request) => embeddings::encode(request, &call.target.upstream_model, service),
        Request::Transcribe(_) | Request::Speak(_) => {
            let why = "has no such endpoints: its models take audio as a part of a message";
            Err(no_audio("Google", call.target, why))
        }
    }
}

const fn method(stream: bool) -> Method {
    if stream { Method::Stream } else { Method::Generate }
}

fn generate(request: &Generate, generation: Generation, service: Service) -> Result<Encoded, Fault> {
    let carried = Carried::read(&request.envelope.extra_json, generation)?;
    let mut body = Vec::with_capacity(1024);
    let mut root = Object::begin(&mut body);
    contents::write(&mut root, &request.messages, contents::Rules { generation, service })?;
    if !request.tools.is_empty() {
        tools(&mut root, &request.tools)?;
        tool_config(&mut root, request);
    }
    json_beside_tools(request, generation)?;
    config::write(&mut root, request, &carried)?;
    carried.write(&mut root)?;
    root.end();
    Ok(Encoded { method: method(request.stream), body })
}

/// A translation is a chat with a model that generates.
fn translate(request: &Translate, generation: Generation) -> Result<Encoded, Fault> {
    let carried = Carried::read(&request.envelope.extra_json, generation)?;
    let mut body = Vec::with_capacity(512 + request.text.len());
    let mut root = Object::begin(&mut body);
    let one_part = |out: &mut Vec<u8>, role: Option<&str>, text: &str| {
        let mut content = Object::begin(out);
        if let Some(role) = role {
            content.text("role", role);
        }
        json::array(content.nested("parts"), [text], |out, text| {
            let mut part = Object::begin(out);
            part.text("text", text);
            part.end();
            Ok(())
        })?;
        content.end();
        Ok::<(), Fault>(())
    };
    one_part(root.nested("systemInstruction"), None, &translation::instruction(request))?;
    json::array(root.nested("contents"), [&request.text], |out, text| one_part(out, Some("user"), text))?;
    config::write_carried(&mut root, &carried)?;
    carried.write(&mut root)?;
    root.end();
    Ok(Encoded { method: method(request.stream), body })
}

fn tools(root: &mut Object<'_>, tools: &[Tool]) -> Result<(), Fault> {
    // one entry for all functions: that is how Google reads parallel calls
    json::array(root.nested("tools"), [tools], |out, tools| {
        let mut entry = Object::begin(out);
        json::array(entry.nested("functionDeclarations"), tools.iter().enumerate(), |out, (index, tool)| {
            nothing_beside(index, &tool.extra_json)?;
            let mut function = Object::begin(out);
            function.text("name", &tool.name);
            if !tool.description.is_empty() {
                function.text("description", &tool.description);
            }
            if !tool.parameters_json.trim().is_empty() {
                let path = format!("tools[{index}].parameters");
                function.raw("parametersJsonSchema", json::object(&path, &tool.parameters_json)?);
            }
            function.end();
            Ok(())
        })?;
        entry.end();
        Ok(())
    })
}

/// A function's declaration has no other fields that a caller could mean.
fn nothing_beside(index: usize, extra_json: &str) -> Result<(), Fault> {
    let path = format!("tools[{index}]");
    match Fields::parse(&path, extra_json)?.iter().find(|(_, value)| value.get() != "null") {
        Some((key, value)) => {
            let expected = "nothing: Google's functions have no such field";
            Err(unsupported(format!("{path}.{key}"), &shown(value.get()), expected))
        }
        None => Ok(()),
    }
}

fn tool_config(root: &mut Object<'_>, request: &Generate) {
    let strict = request.tools.iter().any(|tool| tool.strict == Some(true));
    let (mode, name) = match &request.tool_choice {
        // decides for itself, but keeps to the schemas
        None | Some(ToolChoice::Auto) if strict => ("VALIDATED", None),
        None => return,
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Named(name)) => ("ANY", Some(name)),
    };
    let mut choice = Object::begin(root.nested("toolConfig"));
    let mut calling = Object::begin(choice.nested("functionCallingConfig"));
    calling.text("mode", mode);
    if let Some(name) = name {
        calling.value("allowedFunctionNames", &[name]);
    }
    calling.end();
    choice.end();
}

fn json_beside_tools(request: &Generate, generation: Generation) -> Result<(), Fault> {
    let wants_json = matches!(
        request.response_format,
        Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { .. })
    );
    if wants_json && !request.tools.is_empty() && !generation.has_json_beside_tools() {
        let expected = "one of tools and a JSON answer: models before Gemini 3 cannot do both";
        return Err(unsupported("response_format", "given beside tools", expected));
    }
    Ok(())
}

/// What Google cannot do; another provider may.
fn unsupported(field: impl Into<String>, value: &str, expected: &str) -> Fault {
    let field = field.into();
    let message = format!("{field} is {value}, expected {expected}");
    Fault::new(Code::Unsupported, Origin::Caller, true, message).in_field(field)
}

/// A JSON value for an error: its start.
fn shown(value: &str) -> String {
    let mut start: String = value.chars().take(40).collect();
    if start.len() < value.len() {
        start.push('…');
    }
    start
}

/// Google's own spelling of a name: `top_k` and `topK` are one field to it.
fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

/// Writes carried fields of Google's own as they stand.
///
/// # Errors
/// `InvalidArgument` naming the field under `path`: it is one of ours, in either spelling.
fn carry(object: &mut Object<'_>, path: &str, fields: &Fields<'_>) -> Result<(), Fault> {
    for (key, value) in fields.iter() {
        if object.has(&camel(key)) {
            return Err(beside(&format!("{path}.{key}")));
        }
        object.raw_dynamic(key, value.get());
    }
    Ok(())
}

fn beside(field: &str) -> Fault {
    let message = format!("{field} is given beside the modelled field, expected only one of them");
    Fault::invalid(field, message)
}

#[cfg(test)]
mod tests;
