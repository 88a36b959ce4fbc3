//! Requests as lines of JSON, in the form of OpenAI's batches: `{"custom_id": …, "body": {…}}` with the body of a chat
//! completion or of embeddings; `method` and `url` may be there. A line may also be the body itself, with `custom_id` in it.
//!
//! What the contract models becomes its fields; the rest is carried as it stands.

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Map, Value};
use wire::v1::{self, batch_item::Request, content_part::Part, response_format, tool_choice};

type Fields = Map<String, Value>;

/// The requests of a file.
pub(super) fn items(file: &[u8]) -> anyhow::Result<Vec<v1::BatchItem>> {
    let lines = file.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(at, line)| item(line).with_context(|| format!("line {}", at + 1)))
        .collect()
}

fn item(line: &[u8]) -> anyhow::Result<v1::BatchItem> {
    let mut fields: Fields = serde_json::from_slice(line).context("expected a JSON object")?;
    let custom_id: String = take(&mut fields, "custom_id")?.context("custom_id is missing")?;
    let mut body = match fields.remove("body") {
        Some(body) => {
            for (name, value) in &fields {
                let known = match name.as_str() {
                    "method" => value == "POST",
                    "url" => value.as_str().is_some_and(|url| {
                        url.ends_with("/chat/completions") || url.ends_with("/embeddings")
                    }),
                    _ => false,
                };
                if !known {
                    bail!("{name} is {value}, expected POST of a chat completion or of embeddings");
                }
            }
            serde_json::from_value(body).context("body: expected a JSON object")?
        }
        None => fields,
    };
    let request = if body.contains_key("input") {
        Request::Embed(embed(&mut body)?)
    } else {
        Request::Generate(generate(&mut body)?)
    };
    Ok(v1::BatchItem { custom_id, request: Some(request) })
}

/// A field's value; `None` where it is absent or null.
fn take<T: for<'de> Deserialize<'de>>(fields: &mut Fields, name: &str) -> anyhow::Result<Option<T>> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            serde_json::from_value(value).map(Some).with_context(|| format!("{name} is of another type"))
        }
    }
}

fn text(fields: &mut Fields, name: &str) -> anyhow::Result<String> {
    Ok(take(fields, name)?.unwrap_or_default())
}

/// What is left, as it stands.
fn rest(fields: Fields) -> String {
    if fields.is_empty() { String::new() } else { Value::Object(fields).to_string() }
}

/// Refuses what has no place in the contract, rather than lose it.
fn nothing_left(fields: &Fields, place: &str) -> anyhow::Result<()> {
    match fields.keys().next() {
        Some(name) => {
            bail!("{place}.{name} has no place in a request of this system, expected nothing there")
        }
        None => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

fn embed(body: &mut Fields) -> anyhow::Result<v1::EmbedRequest> {
    // the model is the job's
    body.remove("model");
    let inputs = take::<OneOrMany>(body, "input")?.map(OneOrMany::into_vec).unwrap_or_default();
    let dimensions = take(body, "dimensions")?.unwrap_or_default();
    Ok(v1::EmbedRequest { inputs, dimensions, extra_json: rest(std::mem::take(body)), ..Default::default() })
}

fn generate(body: &mut Fields) -> anyhow::Result<v1::GenerateRequest> {
    body.remove("model");
    let messages: Vec<Fields> = take(body, "messages")?.context("messages or input is missing")?;
    let messages = messages.into_iter().enumerate();
    let messages: anyhow::Result<Vec<_>> =
        messages.map(|(at, fields)| message(fields).with_context(|| format!("messages[{at}]"))).collect();
    let tools: Vec<Fields> = take(body, "tools")?.unwrap_or_default();
    let tools: anyhow::Result<Vec<_>> = tools
        .into_iter()
        .enumerate()
        .map(|(at, fields)| tool(fields).with_context(|| format!("tools[{at}]")))
        .collect();
    let max_tokens = take(body, "max_completion_tokens")?;
    let sampling = v1::Sampling {
        max_tokens: max_tokens.or(take(body, "max_tokens")?),
        temperature: take(body, "temperature")?,
        top_p: take(body, "top_p")?,
        top_k: take(body, "top_k")?,
        seed: take(body, "seed")?,
        frequency_penalty: take(body, "frequency_penalty")?,
        presence_penalty: take(body, "presence_penalty")?,
        stop: take::<OneOrMany>(body, "stop")?.map(OneOrMany::into_vec).unwrap_or_default(),
    };
    Ok(v1::GenerateRequest {
        messages: messages?,
        sampling: Some(sampling),
        tools: tools?,
        tool_choice: take(body, "tool_choice")?.map(choice).transpose()?,
        response_format: take(body, "response_format")?.map(format).transpose()?,
        stream: take(body, "stream")?.unwrap_or_default(),
        extra_json: rest(std::mem::take(body)),
        ..v1::GenerateRequest::default()
    })
}

fn message(mut fields: Fields) -> anyhow::Result<v1::Message> {
    let role: String = take(&mut fields, "role")?.context("role is missing")?;
    let role = match role.as_str() {
        "system" => v1::Role::System,
        "developer" => v1::Role::Developer,
        "user" => v1::Role::User,
        "assistant" => v1::Role::Assistant,
        "tool" => v1::Role::Tool,
        other => bail!("role is {other:?}, expected system, developer, user, assistant or tool"),
    };
    let plain = |text: String| v1::ContentPart { part: Some(Part::Text(text)), ..Default::default() };
    let content = match fields.remove("content") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => vec![plain(text)],
        Some(Value::Array(parts)) => parts.into_iter().map(part).collect::<anyhow::Result<_>>()?,
        Some(other) => bail!("content is {other}, expected text or parts"),
    };
    let calls: Vec<Fields> = take(&mut fields, "tool_calls")?.unwrap_or_default();
    Ok(v1::Message {
        role: role.into(),
        content,
        tool_calls: calls.into_iter().map(call).collect::<anyhow::Result<_>>()?,
        tool_call_id: text(&mut fields, "tool_call_id")?,
        name: text(&mut fields, "name")?,
        extra_json: rest(fields),
    })
}

fn part(value: Value) -> anyhow::Result<v1::ContentPart> {
    let mut fields: Fields =
        serde_json::from_value(value).context("content: expected parts that are objects")?;
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    let part = match kind {
        "text" => Part::Text(text(&mut fields, "text")?),
        "image_url" => {
            let mut image: Fields = take(&mut fields, "image_url")?.context("image_url is missing")?;
            let url = text(&mut image, "url")?;
            let detail = text(&mut image, "detail")?;
            nothing_left(&image, "image_url")?;
            Part::ImageUrl(v1::ImageUrl { url, detail })
        }
        _ => return Ok(v1::ContentPart { part: Some(Part::Json(rest(fields))), ..Default::default() }),
    };
    fields.remove("type");
    Ok(v1::ContentPart { part: Some(part), extra_json: rest(fields) })
}

fn call(mut fields: Fields) -> anyhow::Result<v1::ToolCall> {
    fields.remove("type");
    let mut function: Fields = take(&mut fields, "function")?.context("tool_calls: function is missing")?;
    let call = v1::ToolCall {
        id: text(&mut fields, "id")?,
        name: text(&mut function, "name")?,
        arguments_json: text(&mut function, "arguments")?,
        extra_json: rest(fields),
    };
    nothing_left(&function, "tool_calls.function")?;
    Ok(call)
}

fn tool(mut fields: Fields) -> anyhow::Result<v1::Tool> {
    let mut function: Fields = take(&mut fields, "function")?.context("function is missing")?;
    fields.remove("type");
    let mut tool = v1::Tool {
        name: text(&mut function, "name")?,
        description: text(&mut function, "description")?,
        parameters_json: function.remove("parameters").map(|schema| schema.to_string()).unwrap_or_default(),
        strict: take(&mut function, "strict")?,
        extra_json: String::new(),
    };
    if !function.is_empty() {
        fields.insert("function".to_owned(), Value::Object(function));
    }
    tool.extra_json = rest(fields);
    Ok(tool)
}

fn choice(value: Value) -> anyhow::Result<v1::ToolChoice> {
    use tool_choice::Mode;
    let (mode, name) = match value.as_str() {
        Some("auto") => (Mode::Auto, String::new()),
        Some("none") => (Mode::None, String::new()),
        Some("required") => (Mode::Required, String::new()),
        _ => match value.pointer("/function/name").and_then(Value::as_str) {
            Some(name) => (Mode::Named, name.to_owned()),
            None => bail!("tool_choice is {value}, expected auto, none, required or a function"),
        },
    };
    Ok(v1::ToolChoice { mode: mode.into(), name })
}

fn format(value: Value) -> anyhow::Result<v1::ResponseFormat> {
    use response_format::Kind;
    let schema = value.get("json_schema");
    let part = |name: &str| schema.and_then(|schema| schema.get(name));
    let kind = match value.get("type").and_then(Value::as_str) {
        Some("text") => Kind::Text,
        Some("json_object") => Kind::JsonObject,
        Some("json_schema") => Kind::JsonSchema,
        _ => bail!("response_format is {value}, expected text, json_object or json_schema"),
    };
    Ok(v1::ResponseFormat {
        kind: kind.into(),
        name: part("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        schema_json: part("schema").map(Value::to_string).unwrap_or_default(),
        strict: part("strict").and_then(Value::as_bool),
    })
}

#[cfg(test)]
mod tests;
