//! OpenAI's request bodies, towards the wire. Fields that are not modelled are carried as JSON.

use domain::fault::Fault;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};
use wire::v1::{
    self, ContentPart, GenerateRequest, ImageUrl, Message, ResponseFormat, Sampling, Tool, ToolCall,
    ToolChoice, content_part::Part,
};

/// An absent field and `null` are one: SDKs write out every field of a message, also of one they only send back.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(reader: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}

/// `POST /v1/chat/completions`.
#[derive(Debug, Deserialize)]
pub(super) struct ChatBody {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) model: String,
    // absent is as empty: both are refused by name
    #[serde(default, deserialize_with = "or_default")]
    messages: Vec<ChatMessage>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) stream: bool,
    pub(super) stream_options: Option<StreamOptions>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    seed: Option<u64>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    stop: Option<OneOrMany>,
    n: Option<u32>,
    #[serde(default, deserialize_with = "or_default")]
    tools: Vec<ChatTool>,
    tool_choice: Option<Value>,
    response_format: Option<ChatFormat>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct StreamOptions {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) include_usage: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

#[derive(Debug, Deserialize)]
struct ChatMessage {
    role: String,
    content: Option<ChatContent>,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    tool_calls: Vec<ChatToolCall>,
    #[serde(default, deserialize_with = "or_default")]
    tool_call_id: String,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ChatContent {
    Text(String),
    Parts(Vec<Map<String, Value>>),
}

#[derive(Debug, Deserialize)]
struct ChatToolCall {
    #[serde(default, deserialize_with = "or_default")]
    id: String,
    /// Always `function`.
    #[serde(default, rename = "type")]
    _kind: serde::de::IgnoredAny,
    /// Of a piece that a client sends back as it came.
    #[serde(default, rename = "index")]
    _index: serde::de::IgnoredAny,
    function: ChatFunctionCall,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct ChatFunctionCall {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    arguments: String,
}

#[derive(Debug, Deserialize)]
struct ChatTool {
    #[serde(rename = "type")]
    kind: String,
    function: Option<ChatFunction>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct ChatFunction {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    description: String,
    parameters: Option<Value>,
    strict: Option<bool>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct ChatFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<ChatSchema>,
}

#[derive(Debug, Deserialize)]
struct ChatSchema {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    schema: Option<Value>,
    strict: Option<bool>,
}

/// `POST /v1/embeddings`.
#[derive(Debug, Deserialize)]
pub(super) struct EmbedBody {
    #[serde(default)]
    pub(super) model: String,
    #[serde(default)]
    pub(super) input: OneOrMany,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) dimensions: u32,
    pub(super) encoding_format: Option<String>,
    #[serde(flatten)]
    pub(super) extra: Map<String, Value>,
}

/// Reads a body; the error names the path to the field, as in `messages[0].role`.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|plain| {
        if plain.is_syntax() || plain.is_eof() {
            return Fault::invalid("body", format!("the body is no JSON: {plain}"));
        }
        // read again only now: keeping track of the path costs time
        let reader = &mut serde_json::Deserializer::from_slice(body);
        match serde_path_to_error::deserialize::<_, T>(reader) {
            Ok(_) => Fault::invalid("body", format!("the body is no JSON of the expected shape: {plain}")),
            Err(error) => {
                let path = error.path().to_string();
                // `.` is the whole body, `?` a place that flattening hides
                let path = if path == "." || path == "?" { "body".to_owned() } else { path };
                Fault::invalid(path.clone(), format!("{path}: {}", error.into_inner()))
            }
        }
    })
}

/// The text of an object, nothing for an empty one.
pub(super) fn object(fields: Map<String, Value>) -> String {
    if fields.is_empty() { String::new() } else { Value::Object(fields).to_string() }
}

/// Without the fields that say nothing: a message that comes back has `"refusal": null`, which no other provider knows.
fn said_fields(mut fields: Map<String, Value>) -> Map<String, Value> {
    fields.retain(|_, value| !value.is_null());
    fields
}

impl ChatBody {
    /// Towards the wire. Who asks and the request's id are for the caller to fill in.
    pub(super) fn into_wire(self) -> Result<GenerateRequest, Fault> {
        if let Some(count) = self.n.filter(|count| *count != 1) {
            return Err(Fault::invalid("n", format!("n is {count}, expected 1: one answer a request")));
        }
        let sampling = Sampling {
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            stop: self.stop.map(OneOrMany::into_vec).unwrap_or_default(),
        };
        let messages: Result<Vec<_>, Fault> =
            self.messages.into_iter().enumerate().map(|(index, said)| message(said, index)).collect();
        let tools: Result<Vec<_>, Fault> =
            self.tools.into_iter().enumerate().map(|(index, offered)| tool(offered, index)).collect();
        Ok(GenerateRequest {
            messages: messages?,
            sampling: Some(sampling),
            tools: tools?,
            tool_choice: self.tool_choice.map(tool_choice).transpose()?,
            response_format: self.response_format.map(response_format).transpose()?,
            stream: self.stream,
            extra_json: object(self.extra),
            ..GenerateRequest::default()
        })
    }
}

fn message(said: ChatMessage, index: usize) -> Result<Message, Fault> {
    let role = match said.role.as_str() {
        "system" => v1::Role::System,
        "developer" => v1::Role::Developer,
        "user" => v1::Role::User,
        "assistant" => v1::Role::Assistant,
        "tool" => v1::Role::Tool,
        other => {
            let field = format!("messages[{index}].role");
            let start: String = other.chars().take(40).collect();
            let message =
                format!("{field} is {start:?}, expected system, developer, user, assistant or tool");
            return Err(Fault::invalid(field, message));
        }
    };
    let content = match said.content {
        None => Vec::new(),
        Some(ChatContent::Text(text)) => {
            vec![ContentPart { part: Some(Part::Text(text)), extra_json: String::new() }]
        }
        Some(ChatContent::Parts(parts)) => parts
            .into_iter()
            .enumerate()
            .map(|(at, fields)| part(fields, &format!("messages[{index}].content[{at}]")))
            .collect::<Result<_, _>>()?,
    };
    let tool_calls = said
        .tool_calls
        .into_iter()
        .map(|call| ToolCall {
            id: call.id,
            name: call.function.name,
            arguments_json: call.function.arguments,
            extra_json: object(said_fields(call.extra)),
        })
        .collect();
    Ok(Message {
        role: role.into(),
        content,
        tool_calls,
        tool_call_id: said.tool_call_id,
        name: said.name,
        extra_json: object(said_fields(said.extra)),
    })
}

fn part(mut fields: Map<String, Value>, field: &str) -> Result<ContentPart, Fault> {
    let wrong = |name: &str, expected: &str| {
        let field = format!("{field}.{name}");
        let message = format!("{field} is missing or of another type, expected {expected}");
        Fault::invalid(field, message)
    };
    let kind = fields.get("type").and_then(Value::as_str).map(str::to_owned);
    let part = match kind.as_deref() {
        Some("text") => match fields.remove("text") {
            Some(Value::String(text)) => Part::Text(text),
            _ => return Err(wrong("text", "a text")),
        },
        Some("image_url") => {
            let Some(Value::Object(mut image)) = fields.remove("image_url") else {
                return Err(wrong("image_url", "an object with url"));
            };
            let Some(Value::String(url)) = image.remove("url") else {
                return Err(wrong("image_url.url", "an http(s) or data URL"));
            };
            let detail = image.remove("detail").and_then(|detail| detail.as_str().map(str::to_owned));
            Part::ImageUrl(ImageUrl { url, detail: detail.unwrap_or_default() })
        }
        Some(_) => {
            return Ok(ContentPart { part: Some(Part::Json(object(fields))), extra_json: String::new() });
        }
        None => return Err(wrong("type", "text, image_url or another kind of part")),
    };
    fields.remove("type");
    Ok(ContentPart { part: Some(part), extra_json: object(fields) })
}

fn tool(offered: ChatTool, index: usize) -> Result<Tool, Fault> {
    let Some(function) = offered.function.filter(|_| offered.kind == "function") else {
        let field = format!("tools[{index}].type");
        let message = format!("{field} is {:?}, expected function, with an object function", offered.kind);
        return Err(Fault::invalid(field, message));
    };
    let mut extra = offered.extra;
    if !function.extra.is_empty() {
        extra.insert("function".to_owned(), Value::Object(function.extra));
    }
    Ok(Tool {
        name: function.name,
        description: function.description,
        parameters_json: function.parameters.map(|schema| schema.to_string()).unwrap_or_default(),
        strict: function.strict,
        extra_json: object(extra),
    })
}

fn tool_choice(choice: Value) -> Result<ToolChoice, Fault> {
    use v1::tool_choice::Mode;
    let named = choice.pointer("/function/name").and_then(Value::as_str);
    let mode = match (&choice, named) {
        (_, Some(_)) => Mode::Named,
        (Value::String(text), _) if text == "auto" => Mode::Auto,
        (Value::String(text), _) if text == "none" => Mode::None,
        (Value::String(text), _) if text == "required" => Mode::Required,
        (Value::Null, _) => Mode::Unspecified,
        _ => {
            let start: String = choice.to_string().chars().take(80).collect();
            let message =
                format!("tool_choice is {start}, expected auto, none, required or a function's name");
            return Err(Fault::invalid("tool_choice", message));
        }
    };
    Ok(ToolChoice { mode: mode.into(), name: named.unwrap_or_default().to_owned() })
}

fn response_format(format: ChatFormat) -> Result<ResponseFormat, Fault> {
    use v1::response_format::Kind;
    let (kind, schema) = match (format.kind.as_str(), format.json_schema) {
        ("text", _) => (Kind::Text, None),
        ("json_object", _) => (Kind::JsonObject, None),
        ("json_schema", Some(schema)) => (Kind::JsonSchema, Some(schema)),
        ("json_schema", None) => {
            let message = "response_format.json_schema is missing, expected an object with schema";
            return Err(Fault::invalid("response_format.json_schema", message));
        }
        (other, _) => {
            let start: String = other.chars().take(40).collect();
            let message =
                format!("response_format.type is {start:?}, expected text, json_object or json_schema");
            return Err(Fault::invalid("response_format.type", message));
        }
    };
    let schema = schema.unwrap_or(ChatSchema { name: String::new(), schema: None, strict: None });
    Ok(ResponseFormat {
        kind: kind.into(),
        name: schema.name,
        schema_json: schema.schema.map(|schema| schema.to_string()).unwrap_or_default(),
        strict: schema.strict,
    })
}

#[cfg(test)]
mod tests;
