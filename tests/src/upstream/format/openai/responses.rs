//! `POST …/responses`: the same conversation as items, and a stream of events that each have a type.

use serde_json::{Value, json};

use super::CREATED_UNIX_S;
use crate::upstream::answer::{Answer, Finish};
use crate::upstream::asked::{
    AskedCall, AskedResult, AskedSampling, AskedTool, Chat, Speaker, Turn, picture_at, signature,
};
use crate::upstream::body::{ID_DIGITS, Piece};
use crate::upstream::problem::Problem;
use crate::upstream::read::Fields;
use crate::upstream::stream::{Framing, Streamed, named};

/// Reads a request.
pub(super) fn asked(fields: &Fields<'_>) -> Result<Chat, Problem> {
    let mut chat = Chat { model: fields.must_text("model")?.to_owned(), ..Chat::default() };
    chat.system.extend(fields.text("instructions")?.map(str::to_owned));
    match fields.get("input") {
        Some(Value::String(text)) => chat.add(Turn { text: text.clone(), ..Turn::default() }),
        _ => {
            for item in fields.objects("input")? {
                take(&mut chat, &item)?;
            }
        }
    }
    if chat.turns.is_empty() {
        return Err(Problem::invalid_field("input", "Invalid 'input': empty."));
    }
    for tool in fields.objects("tools")? {
        chat.tools.push(AskedTool {
            name: tool.must_text("name")?.to_owned(),
            description: tool.text("description")?.unwrap_or_default().to_owned(),
            parameters: tool.get("parameters").cloned().unwrap_or_default(),
        });
    }
    chat.tool_choice = match fields.get("tool_choice") {
        None => None,
        Some(Value::String(mode)) => Some(mode.clone()),
        Some(_) => Some(format!("tool:{}", fields.must_object("tool_choice")?.must_text("name")?)),
    };
    chat.parallel_tool_calls = fields.flag("parallel_tool_calls")?;
    if let Some(format) = fields.object("text")?.map(|text| text.object("format")).transpose()?.flatten() {
        let kind = format.must_text("type")?;
        chat.json = kind != "text";
        chat.schema = (kind == "json_schema").then(|| format.get("schema").cloned()).flatten();
    }
    chat.sampling = AskedSampling {
        max_tokens: fields.whole("max_output_tokens")?,
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        ..AskedSampling::default()
    };
    chat.stream = fields.flag("stream")? == Some(true);
    chat.include_usage = true;
    Ok(chat)
}

fn take(chat: &mut Chat, item: &Fields<'_>) -> Result<(), Problem> {
    let mut turn = Turn { speaker: Speaker::Assistant, ..Turn::default() };
    match item.text("type")?.unwrap_or("message") {
        "message" => return message(chat, item),
        "reasoning" => {
            for summary in item.objects("summary")? {
                turn.reasoning.push_str(summary.must_text("text")?);
            }
            if let Some(sealed) = item.text("encrypted_content")? {
                if !turn.reasoning.is_empty() && sealed != signature(&turn.reasoning) {
                    return Err(Problem::invalid_field(
                        "input",
                        "the encrypted content could not be verified",
                    ));
                }
                turn.signatures.push(sealed.to_owned());
            }
        }
        "function_call" => {
            let arguments = item.must_text("arguments")?;
            turn.calls = vec![AskedCall {
                id: item.must_text("call_id")?.to_owned(),
                name: item.must_text("name")?.to_owned(),
                arguments: serde_json::from_str(arguments).map_err(|_| item.wrong("arguments", "JSON"))?,
            }];
        }
        "function_call_output" => {
            turn.speaker = Speaker::User;
            let text = item.must_text("output")?.to_owned();
            turn.results = vec![AskedResult { id: item.must_text("call_id")?.to_owned(), text }];
        }
        _ => return Err(item.wrong("type", "a known kind of item")),
    }
    chat.add(turn);
    Ok(())
}

fn message(chat: &mut Chat, item: &Fields<'_>) -> Result<(), Problem> {
    let (mut text, mut images) = (String::new(), Vec::new());
    match item.get("content") {
        Some(Value::String(whole)) => text.clone_from(whole),
        _ => {
            for part in item.objects("content")? {
                match part.must_text("type")? {
                    "input_text" | "output_text" => text.push_str(part.must_text("text")?),
                    "input_image" => images.push(picture_at("input", part.must_text("image_url")?)?),
                    _ => return Err(part.wrong("type", "input_text, output_text or input_image")),
                }
            }
        }
    }
    match item.must_text("role")? {
        "system" | "developer" => chat.system.push(text),
        "user" => chat.add(Turn { text, images, ..Turn::default() }),
        "assistant" => chat.add(Turn { speaker: Speaker::Assistant, text, images, ..Turn::default() }),
        _ => return Err(item.wrong("role", "system, developer, user or assistant")),
    }
    Ok(())
}

fn reasoning_item(answer: &Answer, done: bool) -> Value {
    let text = answer.reasoning.concat();
    let summary = if done { json!([{"type": "summary_text", "text": text}]) } else { json!([]) };
    let mut item = json!({"id": "rs_1", "type": "reasoning", "summary": summary});
    if let Some(fields) = item.as_object_mut().filter(|_| done) {
        fields.insert("encrypted_content".to_owned(), signature(&text).into());
    }
    item
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn message_item(content: &[Value], status: &str) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content})
}

fn call_item(call: &crate::upstream::answer::Called, arguments: &str, status: &str) -> Value {
    json!({
        "id": format!("fc_{}", call.id), "call_id": format!("call_{}", call.id), "type": "function_call",
        "name": call.name, "arguments": arguments, "status": status,
    })
}

/// The items of a finished answer.
fn output(answer: &Answer) -> Vec<Value> {
    let mut items = Vec::new();
    if !answer.reasoning.is_empty() {
        items.push(reasoning_item(answer, true));
    }
    if !answer.text.is_empty() {
        items.push(message_item(&[text_part(&answer.text.concat())], "completed"));
    }
    items.extend(answer.calls.iter().map(|call| call_item(call, &call.arguments_json(), "completed")));
    items
}

fn response(answer: &Answer, status: &str, output: &[Value], usage: Value) -> Value {
    let incomplete = match (status, answer.finish) {
        ("incomplete", Finish::ContentFilter) => json!({"reason": "content_filter"}),
        ("incomplete", _) => json!({"reason": "max_output_tokens"}),
        _ => Value::Null,
    };
    json!({
        "id": format!("resp_{ID_DIGITS}"),
        "object": "response",
        "created_at": CREATED_UNIX_S,
        "status": status,
        "error": null,
        "incomplete_details": incomplete,
        "instructions": null,
        "metadata": {},
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": true,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage,
    })
}

fn finished(answer: &Answer) -> (&'static str, Value) {
    let status = match answer.finish {
        Finish::Stop | Finish::ToolCalls => "completed",
        Finish::Length | Finish::ContentFilter => "incomplete",
    };
    let usage = &answer.usage;
    let usage = json!({
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    });
    (status, response(answer, status, &output(answer), usage))
}

/// The whole answer in one body.
pub(super) fn whole(answer: &Answer) -> Value {
    finished(answer).1
}

/// Events with their numbers.
#[derive(Default)]
struct Events {
    pieces: Vec<Piece>,
    items: usize,
}

impl Events {
    fn push(&mut self, kind: &str, mut event: Value) {
        if let Some(fields) = event.as_object_mut() {
            fields.insert("type".to_owned(), kind.into());
            fields.insert("sequence_number".to_owned(), self.pieces.len().into());
        }
        self.pieces.push(named(kind, &event));
    }

    fn item(&mut self, begun: Value, done: Value, inside: impl FnOnce(&mut Self, usize)) {
        let index = self.items;
        self.items += 1;
        self.push("response.output_item.added", json!({"output_index": index, "item": begun}));
        inside(self, index);
        self.push("response.output_item.done", json!({"output_index": index, "item": done}));
    }

    fn reasoning(&mut self, answer: &Answer) {
        let text = answer.reasoning.concat();
        self.item(reasoning_item(answer, false), reasoning_item(answer, true), |events, index| {
            let at = |name: &str, value: Value| {
                json!({"item_id": "rs_1", "output_index": index, "summary_index": 0, name: value})
            };
            let part = |text: &str| json!({"type": "summary_text", "text": text});
            events.push("response.reasoning_summary_part.added", at("part", part("")));
            for piece in &answer.reasoning {
                events.push("response.reasoning_summary_text.delta", at("delta", piece.as_str().into()));
            }
            events.push("response.reasoning_summary_text.done", at("text", text.as_str().into()));
            events.push("response.reasoning_summary_part.done", at("part", part(&text)));
        });
    }

    fn message(&mut self, answer: &Answer) {
        let text = answer.text.concat();
        let done = message_item(&[text_part(&text)], "completed");
        self.item(message_item(&[], "in_progress"), done, |events, index| {
            let at = |name: &str, value: Value| {
                json!({"item_id": "msg_1", "output_index": index, "content_index": 0, "logprobs": [], name: value})
            };
            events.push("response.content_part.added", at("part", text_part("")));
            for piece in &answer.text {
                events.push("response.output_text.delta", at("delta", piece.as_str().into()));
            }
            events.push("response.output_text.done", at("text", text.as_str().into()));
            events.push("response.content_part.done", at("part", text_part(&text)));
        });
    }

    fn call(&mut self, call: &crate::upstream::answer::Called) {
        let arguments = call.arguments_json();
        let done = call_item(call, &arguments, "completed");
        self.item(call_item(call, "", "in_progress"), done, |events, index| {
            let id = format!("fc_{}", call.id);
            let at = |name: &str, value: &str| json!({"item_id": id, "output_index": index, name: value});
            for piece in &call.arguments {
                events.push("response.function_call_arguments.delta", at("delta", piece));
            }
            events.push("response.function_call_arguments.done", at("arguments", &arguments));
        });
    }
}

/// The answer as events; the last one carries it whole.
pub(super) fn stream(answer: &Answer) -> Streamed {
    let mut events = Events::default();
    let begun = response(answer, "in_progress", &[], Value::Null);
    events.push("response.created", json!({"response": begun.clone()}));
    events.push("response.in_progress", json!({"response": begun}));
    if !answer.reasoning.is_empty() {
        events.reasoning(answer);
    }
    if !answer.text.is_empty() {
        events.message(answer);
    }
    for call in &answer.calls {
        events.call(call);
    }
    let (status, whole) = finished(answer);
    events.push(&format!("response.{status}"), json!({"response": whole}));
    let accent = json!({
        "type": "response.output_text.delta", "sequence_number": 0, "item_id": "msg_1", "output_index": 0,
        "content_index": 0, "logprobs": [], "delta": "é",
    });
    let error = json!({
        "type": "error", "sequence_number": 0, "code": "server_error", "param": null,
        "message": "The server had an error while processing your request. Sorry about that!",
    });
    Streamed {
        framing: Framing::Sse,
        pieces: events.pieces,
        ending: 1,
        accent: named("response.output_text.delta", &accent),
        error: named("error", &error),
    }
}
