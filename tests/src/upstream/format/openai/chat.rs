//! `POST …/chat/completions`.

use serde_json::{Value, json};

use super::{CREATED_UNIX_S, Flavour};
use crate::upstream::answer::{Answer, Finish, Usage};
use crate::upstream::asked::{
    AskedCall, AskedResult, AskedSampling, AskedTool, Chat, Speaker, Turn, picture_at,
};
use crate::upstream::body::{ID_DIGITS, Piece};
use crate::upstream::problem::Problem;
use crate::upstream::read::Fields;
use crate::upstream::stream::{Framing, Streamed, data};

/// What Groq says it refuses.
const GROQ_REFUSES: [&str; 3] = ["logprobs", "logit_bias", "top_logprobs"];

/// Reads a request. Fields that the answer does not depend on are accepted, as long as the body is JSON.
pub(super) fn asked(
    fields: &Fields<'_>,
    deployment: Option<&str>,
    flavour: Flavour,
) -> Result<Chat, Problem> {
    if flavour == Flavour::Groq
        && let Some(name) = GROQ_REFUSES.into_iter().find(|name| fields.get(name).is_some())
    {
        return Err(Problem::invalid_field(name, format!("property '{name}' is unsupported")));
    }
    let model = match deployment {
        Some(deployment) => deployment,
        None => fields.must_text("model")?,
    };
    let messages = fields.objects("messages")?;
    if messages.is_empty() {
        return Err(Problem::invalid_field("messages", "Invalid 'messages': empty array."));
    }
    let mut chat = Chat { model: model.to_owned(), ..Chat::default() };
    for message in &messages {
        take(&mut chat, message)?;
    }
    chat.tools = fields.objects("tools")?.iter().map(tool).collect::<Result<_, _>>()?;
    chat.tool_choice = match fields.get("tool_choice") {
        None => None,
        Some(Value::String(mode)) => Some(mode.clone()),
        Some(_) => {
            let function = fields.must_object("tool_choice")?.must_object("function")?;
            Some(format!("tool:{}", function.must_text("name")?))
        }
    };
    chat.parallel_tool_calls = fields.flag("parallel_tool_calls")?;
    if let Some(format) = fields.object("response_format")? {
        let kind = format.must_text("type")?;
        chat.json = kind != "text";
        if kind == "json_schema" {
            chat.schema = format.must_object("json_schema")?.get("schema").cloned();
        }
    }
    chat.sampling = AskedSampling {
        max_tokens: fields.whole("max_completion_tokens")?.or(fields.whole("max_tokens")?),
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.whole("top_k")?,
        seed: fields.whole("seed")?,
        stop: fields.texts("stop")?,
    };
    chat.stream = fields.flag("stream")? == Some(true);
    chat.include_usage = match fields.object("stream_options")? {
        Some(options) => options.flag("include_usage")? == Some(true),
        None => false,
    };
    Ok(chat)
}

fn take(chat: &mut Chat, message: &Fields<'_>) -> Result<(), Problem> {
    let role = message.must_text("role")?;
    let (text, images) = content(message)?;
    match role {
        "system" | "developer" => {
            chat.system.push(text);
            return Ok(());
        }
        "user" | "assistant" | "tool" => {}
        _ => return Err(message.wrong("role", "system, developer, user, assistant or tool")),
    }
    let mut turn = Turn { images, ..Turn::default() };
    match role {
        "tool" => {
            turn.results = vec![AskedResult { id: message.must_text("tool_call_id")?.to_owned(), text }]
        }
        "user" => turn.text = text,
        _ => {
            turn.speaker = Speaker::Assistant;
            turn.text = text;
            let reasoning = message.text("reasoning_content")?.or(message.text("reasoning")?);
            turn.reasoning = reasoning.unwrap_or_default().to_owned();
            turn.calls = message.objects("tool_calls")?.iter().map(call).collect::<Result<_, _>>()?;
        }
    }
    chat.add(turn);
    Ok(())
}

/// Text and pictures of a message.
fn content(message: &Fields<'_>) -> Result<(String, Vec<String>), Problem> {
    let (mut text, mut images) = (String::new(), Vec::new());
    match message.get("content") {
        Some(Value::String(whole)) => text.clone_from(whole),
        _ => {
            for part in message.objects("content")? {
                text.push_str(part.text("text")?.unwrap_or_default());
                if let Some(image) = part.object("image_url")? {
                    images.push(picture_at("messages", image.must_text("url")?)?);
                }
            }
        }
    }
    Ok((text, images))
}

fn call(call: &Fields<'_>) -> Result<AskedCall, Problem> {
    let function = call.must_object("function")?;
    let arguments = function.must_text("arguments")?;
    Ok(AskedCall {
        id: call.must_text("id")?.to_owned(),
        name: function.must_text("name")?.to_owned(),
        arguments: serde_json::from_str(arguments).unwrap_or_else(|_| Value::String(arguments.to_owned())),
    })
}

fn tool(tool: &Fields<'_>) -> Result<AskedTool, Problem> {
    let function = tool.must_object("function")?;
    Ok(AskedTool {
        name: function.must_text("name")?.to_owned(),
        description: function.text("description")?.unwrap_or_default().to_owned(),
        parameters: function.get("parameters").cloned().unwrap_or_default(),
    })
}

const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
    }
}

fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    })
}

/// OpenAI itself never shows reasoning; the servers that speak its format do, under one of two names.
const fn reasoning_name(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Groq => "reasoning",
        Flavour::OpenAi | Flavour::Azure => "reasoning_content",
    }
}

fn set(value: &mut Value, name: &str, content: Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.insert(name.to_owned(), content);
    }
}

/// What Azure says of content: nothing found.
fn unfiltered() -> Value {
    json!({"violence": {"filtered": false, "severity": "safe"}})
}

/// The whole answer in one body.
pub(super) fn whole(answer: &Answer, flavour: Flavour) -> Value {
    let has_text = !answer.text.is_empty();
    let mut message = json!({
        "role": "assistant",
        "content": has_text.then(|| answer.text.concat()),
        "refusal": null,
        "annotations": [],
    });
    if !answer.reasoning.is_empty() {
        set(&mut message, reasoning_name(flavour), answer.reasoning.concat().into());
    }
    if !answer.calls.is_empty() {
        let calls = answer.calls.iter().map(|call| {
            let function = json!({"name": call.name, "arguments": call.arguments_json()});
            json!({"id": format!("call_{}", call.id), "type": "function", "function": function})
        });
        set(&mut message, "tool_calls", calls.collect());
    }
    let mut choice = json!({
        "index": 0, "message": message, "logprobs": null, "finish_reason": reason(answer.finish)
    });
    let mut body = json!({
        "id": format!("chatcmpl-{ID_DIGITS}"),
        "object": "chat.completion",
        "created": CREATED_UNIX_S,
        "model": answer.model,
        "usage": usage(&answer.usage),
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    });
    match flavour {
        Flavour::Azure => {
            set(&mut choice, "content_filter_results", unfiltered());
            set(&mut body, "prompt_filter_results", prompt_filter_results());
        }
        Flavour::Groq => set(&mut body, "x_groq", json!({"id": "req_fake"})),
        Flavour::OpenAi => {}
    }
    set(&mut body, "choices", json!([choice]));
    body
}

fn prompt_filter_results() -> Value {
    json!([{"prompt_index": 0, "content_filter_results": unfiltered()}])
}

/// Writes the events of one answer.
struct Events<'a> {
    answer: &'a Answer,
    flavour: Flavour,
}

/// The answer as server-sent events: the role, what is said, the reason of the end, the usage if asked for, `[DONE]`.
pub(super) fn stream(answer: &Answer, flavour: Flavour) -> Streamed {
    let events = Events { answer, flavour };
    let mut pieces = Vec::new();
    if flavour == Flavour::Azure {
        // Azure tells what it thinks of the prompt before anything else
        pieces.push(data(&json!({
            "id": "", "object": "", "created": 0, "model": "", "choices": [],
            "prompt_filter_results": prompt_filter_results(),
        })));
    }
    pieces.push(events.first());
    let reasoning = reasoning_name(flavour);
    pieces.extend(answer.reasoning.iter().map(|text| events.event(json!({reasoning: text}), None)));
    pieces.extend(answer.text.iter().map(|text| events.event(json!({"content": text}), None)));
    for (index, call) in answer.calls.iter().enumerate() {
        let function = json!({"name": call.name, "arguments": ""});
        let id = format!("call_{}", call.id);
        let begin = json!([{"index": index, "id": id, "type": "function", "function": function}]);
        pieces.push(events.event(json!({"tool_calls": begin}), None));
        pieces.extend(call.arguments.iter().map(|arguments| {
            let more = json!([{"index": index, "function": {"arguments": arguments}}]);
            events.event(json!({"tool_calls": more}), None)
        }));
    }
    pieces.push(events.last());
    if answer.include_usage {
        pieces.push(events.chunk(json!([]), usage(&answer.usage)));
    }
    pieces.push(Piece::new("data: [DONE]\n\n"));
    let accent = events.event(json!({"content": "é"}), None);
    let error = super::problem::refusal(&Problem::scripted(None, None), flavour);
    Streamed { framing: Framing::Sse, pieces, ending: 1, accent, error: data(&error.body) }
}

impl Events<'_> {
    fn first(&self) -> Piece {
        self.event(json!({"role": "assistant", "content": "", "refusal": null}), None)
    }

    /// The end; Groq says there what was used, asked for or not.
    fn last(&self) -> Piece {
        let mut chunk = self.value(
            json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": reason(self.answer.finish)}]),
            Value::Null,
        );
        if self.flavour == Flavour::Groq {
            set(&mut chunk, "x_groq", json!({"id": "req_fake", "usage": usage(&self.answer.usage)}));
        }
        data(&chunk)
    }

    fn event(&self, delta: Value, finish_reason: Option<&str>) -> Piece {
        let choices = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}]);
        self.chunk(choices, Value::Null)
    }

    fn chunk(&self, choices: Value, usage: Value) -> Piece {
        data(&self.value(choices, usage))
    }

    fn value(&self, choices: Value, usage: Value) -> Value {
        let mut chunk = json!({
            "id": format!("chatcmpl-{ID_DIGITS}"),
            "object": "chat.completion.chunk",
            "created": CREATED_UNIX_S,
            "model": self.answer.model,
            "service_tier": "default",
            "system_fingerprint": "fp_fake",
            "choices": choices,
        });
        if self.answer.include_usage {
            set(&mut chunk, "usage", usage);
        }
        chunk
    }
}
