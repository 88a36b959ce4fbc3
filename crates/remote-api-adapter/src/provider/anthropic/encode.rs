//! A domain request as a call of the Messages API.
//!
//! `turns` sorts the conversation into the system prompt and turns of two speakers, `block` writes its pieces, `options`
//! translates what the domain does not model. What the API or the model cannot do is refused by name before the call.

mod block;
mod options;
mod turns;

use domain::{
    fault::Fault,
    inference::{
        Generate, Message, Part, PartContent, Request, ResponseFormat, Role, Sampling, Tool, ToolChoice,
        Translate,
    },
};

use self::{
    block::Hour,
    options::Options,
    turns::{Conversation, Speaker},
};
use super::{model::Model, thinking::Thinking, unsupported};
use crate::provider::{
    Call, Target,
    json::{self, Fields, Object},
    no_audio, translation,
};

/// The API demands a bound on the answer. Every model that it still serves takes this one.
const MAX_TOKENS: u32 = 32_000;
/// What the domain models, or the API's counterpart of it, cannot come as a carried field.
const RESERVED: [&str; 8] = [
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "response_format",
    "tools",
    "tool_choice",
];

/// Writes the body of the call.
///
/// # Errors
/// `InvalidArgument` for carried JSON that is none or repeats a modelled field, `Unsupported` for what Anthropic or the model
/// cannot do; both name the field.
pub(super) fn encode(call: Call<'_>) -> Result<Vec<u8>, Fault> {
    match call.request {
        Request::Generate(request) => generate(request, call.target),
        Request::Translate(request) => translate(request, call.target),
        Request::Embed(_) => {
            let model = format!("{:?}", call.target.upstream_model);
            Err(unsupported("model", &model, "a model that embeds: Anthropic offers none"))
        }
        Request::Transcribe(_) | Request::Speak(_) => {
            Err(no_audio("Anthropic", call.target, "neither transcribes nor speaks"))
        }
    }
}

/// A translation is a conversation with a model that generates.
fn translate(request: &Translate, target: &Target) -> Result<Vec<u8>, Fault> {
    let says = |role: Role, text: String| Message {
        role,
        content: vec![Part { content: PartContent::Text(text), extra_json: String::new() }],
        tool_calls: Vec::new(),
        tool_call_id: String::new(),
        name: String::new(),
        extra_json: String::new(),
    };
    let request = Generate {
        envelope: request.envelope.clone(),
        messages: vec![
            says(Role::System, translation::instruction(request)),
            says(Role::User, request.text.clone()),
        ],
        sampling: Sampling::default(),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        stream: request.stream,
    };
    generate(&request, target)
}

fn generate(request: &Generate, target: &Target) -> Result<Vec<u8>, Fault> {
    let model = Model::of(&target.upstream_model);
    let hour = Hour { is_priced: target.prices_cache_hour };
    let options = Options::parse(&request.envelope.extra_json, hour)?;
    let max_tokens = request.sampling.max_tokens.or(target.max_output_tokens).unwrap_or(MAX_TOKENS);
    let thinking = Thinking::decide(model, options.effort.as_deref(), options.thinking, max_tokens)?;
    let conversation = Conversation::read(&request.messages, hour)?;
    if let Some(last) = conversation.turns.last()
        && last.speaker == Speaker::Assistant
        && (thinking.is_on() || !model.continues())
    {
        let field = format!("messages[{}].role", last.until);
        return Err(unsupported(field, "assistant", "a last turn of the user: no begun answer is continued"));
    }

    let mut body = Vec::with_capacity(1024);
    let mut root = Object::begin(&mut body);
    root.text("model", &target.upstream_model);
    root.value("max_tokens", &max_tokens);
    conversation.write(&mut root)?;
    sampling(&mut root, &request.sampling, model, thinking)?;
    if !request.tools.is_empty() {
        json::array(root.nested("tools"), request.tools.iter().enumerate(), |out, (index, offered)| {
            tool(out, offered, index, hour)
        })?;
    }
    tool_choice(&mut root, request, &options, model, thinking)?;
    thinking.write(&mut root);
    output_config(&mut root, request.response_format.as_ref(), &options, model, thinking)?;
    if let Some(user) = &options.user {
        let mut metadata = Object::begin(root.nested("metadata"));
        metadata.text("user_id", user);
        metadata.end();
    }
    if let Some(tier) = options.service_tier {
        root.text("service_tier", tier);
    }
    root.value("stream", &request.stream);
    for name in RESERVED {
        root.reserve(name);
    }
    root.carry("extra_json", &options.carried)?;
    root.end();
    Ok(body)
}

/// Newer models take none of it but the defaults; none takes a warm draw while it thinks
/// (`build-with-claude/thinking`, "feature compatibility").
fn sampling(
    root: &mut Object<'_>,
    sampling: &Sampling,
    model: Model,
    thinking: Thinking<'_>,
) -> Result<(), Fault> {
    let is_default = |value: f32| (value - 1.0).abs() < f32::EPSILON;
    if let Some(value) = sampling.temperature {
        let refused = |expected| Err(unsupported("temperature", &value.to_string(), expected));
        if value > 1.0 {
            return refused("0 to 1");
        }
        if !model.samples() && !is_default(value) {
            return refused("1 or nothing: the model's draw cannot be changed");
        }
        if thinking.is_on() && !is_default(value) {
            return refused("1 or nothing while the model thinks");
        }
        if model.samples() {
            root.value("temperature", &value);
        }
    }
    // 1 cuts nothing off, so that leaving it out says the same
    if let Some(value) = sampling.top_p.filter(|value| !is_default(*value)) {
        let refused = |expected| Err(unsupported("top_p", &value.to_string(), expected));
        if !model.samples() {
            return refused("1 or nothing: the model's draw cannot be changed");
        }
        if thinking.is_on() && value < 0.95 {
            return refused("0.95 or more while the model thinks");
        }
        if sampling.temperature.is_some() && !model.samples_both_ways() {
            return refused("1 or nothing beside temperature: the model takes one of them");
        }
        root.value("top_p", &value);
    }
    if let Some(count) = sampling.top_k {
        if !model.samples() || thinking.is_on() {
            let expected = "nothing: this model, or a model that thinks, draws from all tokens";
            return Err(unsupported("top_k", &count.to_string(), expected));
        }
        root.value("top_k", &count);
    }
    if let Some(seed) = sampling.seed {
        return Err(unsupported("seed", &seed.to_string(), "nothing: Anthropic draws anew each time"));
    }
    let penalties =
        [("frequency_penalty", sampling.frequency_penalty), ("presence_penalty", sampling.presence_penalty)];
    for (field, penalty) in penalties {
        if let Some(value) = penalty.filter(|value| value.abs() > f32::EPSILON) {
            return Err(unsupported(field, &value.to_string(), "0 or nothing: Anthropic has no penalties"));
        }
    }
    if let Some(index) = sampling.stop.iter().position(|text| text.trim().is_empty()) {
        let expected = "a text with more than white space: Anthropic takes no other";
        return Err(unsupported(format!("stop[{index}]"), "blank", expected));
    }
    if !sampling.stop.is_empty() {
        root.value("stop_sequences", &sampling.stop);
    }
    Ok(())
}

fn tool(out: &mut Vec<u8>, tool: &Tool, index: usize, hour: Hour) -> Result<(), Fault> {
    let mut object = Object::begin(out);
    object.text("name", &tool.name);
    if !tool.description.is_empty() {
        object.text("description", &tool.description);
    }
    // demanded also of a tool without arguments
    let schema = if tool.parameters_json.trim().is_empty() {
        r#"{"type":"object","properties":{}}"#
    } else {
        json::object(&format!("tools[{index}].parameters"), &tool.parameters_json)?
    };
    object.raw("input_schema", schema);
    object.optional("strict", tool.strict);
    tool_extras(&mut object, &format!("tools[{index}]"), &tool.extra_json, hour).map(|()| object.end())
}

/// Anthropic's own fields of a tool (`cache_control`, `input_examples` …), also where they stand beside OpenAI's function.
fn tool_extras(object: &mut Object<'_>, path: &str, extra_json: &str, hour: Hour) -> Result<(), Fault> {
    let (functions, own) = Fields::parse(path, extra_json)?.split("function");
    let inside = format!("{path}.function");
    for (path, fields) in functions
        .into_iter()
        .map(|function| Ok((inside.as_str(), Fields::parse(&inside, function.get())?)))
        .chain([Ok((path, own))])
        .collect::<Result<Vec<_>, Fault>>()?
    {
        if let Some(value) = fields.get("cache_control") {
            hour.check(&format!("{path}.cache_control"), value)?;
        }
        object.carry(path, &fields)?;
    }
    Ok(())
}

fn tool_choice(
    root: &mut Object<'_>,
    request: &Generate,
    options: &Options<'_>,
    model: Model,
    thinking: Thinking<'_>,
) -> Result<(), Fault> {
    if request.tools.is_empty() {
        // nothing to choose from, and the API refuses a choice without tools
        return Ok(());
    }
    let (kind, name) = match &request.tool_choice {
        None if !options.one_tool_at_a_time => return Ok(()),
        None | Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name)),
    };
    if matches!(kind, "any" | "tool") && (thinking.is_on() || !model.obeys_tool_choice()) {
        let asked = name.map_or_else(|| "required".to_owned(), |name| format!("{name:?}"));
        let expected = "auto or none: this model, or a model that thinks, cannot be made to call a tool";
        return Err(unsupported("tool_choice", &asked, expected));
    }
    let mut object = Object::begin(root.nested("tool_choice"));
    object.text("type", kind);
    if let Some(name) = name {
        object.text("name", name);
    }
    if options.one_tool_at_a_time && kind != "none" {
        object.value("disable_parallel_tool_use", &true);
    }
    object.end();
    Ok(())
}

/// The schema of the answer and the effort, beside what the caller wrote there itself.
fn output_config(
    root: &mut Object<'_>,
    format: Option<&ResponseFormat>,
    options: &Options<'_>,
    model: Model,
    thinking: Thinking<'_>,
) -> Result<(), Fault> {
    let schema = match format {
        None | Some(ResponseFormat::Text) => None,
        Some(ResponseFormat::JsonObject) => {
            let expected = "json_schema: Anthropic keeps to schemas only";
            return Err(unsupported("response_format", "json_object", expected));
        }
        Some(ResponseFormat::JsonSchema { .. }) if !model.keeps_to_schemas() => {
            let expected = "text: this model keeps to no schema, Claude 4.5 and later do";
            return Err(unsupported("response_format", "json_schema", expected));
        }
        // a schema is always satisfied exactly; its label has no place
        Some(ResponseFormat::JsonSchema { schema_json, name: _, strict: _ }) => {
            Some(json::object("response_format.json_schema.schema", schema_json)?)
        }
    };
    let own = &options.output_config;
    if schema.is_none() && thinking.effort().is_none() && own.iter().next().is_none() {
        return Ok(());
    }
    let mut object = Object::begin(root.nested("output_config"));
    if let Some(effort) = thinking.effort() {
        object.text("effort", effort);
    }
    if let Some(schema) = schema {
        let mut format = Object::begin(object.nested("format"));
        format.text("type", "json_schema");
        format.raw("schema", schema);
        format.end();
    }
    object.carry("extra_json.output_config", own)?;
    object.end();
    Ok(())
}

#[cfg(test)]
mod tests;
