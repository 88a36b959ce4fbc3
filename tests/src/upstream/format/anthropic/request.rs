//! Reads a request as strictly as the API does: what it does not know is refused.

use serde_json::Value;

use crate::upstream::asked::{
    AskedCall, AskedResult, AskedSampling, AskedTool, Chat, Speaker, Turn, picture, signature,
};
use crate::upstream::problem::Problem;
use crate::upstream::read::Fields;

/// Fields of a request. Source: the API reference of `POST /v1/messages`; `output_format` is the older name of
/// `output_config.format`.
const FIELDS: [&str; 20] = [
    "model",
    "max_tokens",
    "messages",
    "system",
    "metadata",
    "stop_sequences",
    "stream",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
    "service_tier",
    "container",
    "cache_control",
    "mcp_servers",
    "context_management",
    "inference_geo",
    "diagnostics",
    "speed",
];
/// Fields that only the first version of the API has.
const SAMPLING: [&str; 3] = ["temperature", "top_k", "top_p"];

pub(super) fn asked(fields: &Fields<'_>, version: &str) -> Result<Chat, Problem> {
    let more: &[&str] = if version == "2023-06-01" { &SAMPLING } else { &[] };
    fields.only(&[FIELDS.as_slice(), more].concat())?;
    let mut chat = Chat { model: fields.must_text("model")?.to_owned(), ..Chat::default() };
    system(&mut chat, fields)?;
    for message in fields.objects("messages")? {
        message.only(&["role", "content"])?;
        let speaker = match message.must_text("role")? {
            "user" => Speaker::User,
            "assistant" => Speaker::Assistant,
            _ => return Err(message.wrong("role", "`user` or `assistant`")),
        };
        let mut turn = Turn { speaker, ..Turn::default() };
        match message.get("content") {
            Some(Value::String(text)) => turn.text.clone_from(text),
            _ => {
                for block in message.objects("content")? {
                    take(&mut turn, &block)?;
                }
            }
        }
        chat.add(turn);
    }
    if chat.turns.first().is_none_or(|turn| turn.speaker != Speaker::User) {
        return Err(Problem::invalid_field("messages", "messages: first message must use the \"user\" role"));
    }
    chat.check_pairs()?;
    tools(&mut chat, fields)?;
    let config = fields.object("output_config")?;
    let format = match &config {
        Some(config) => config.object("format")?,
        None => fields.object("output_format")?,
    };
    if let Some(format) = format {
        chat.json = format.must_text("type")? == "json_schema";
        chat.schema = format.get("schema").cloned();
    }
    chat.sampling = sampling(fields)?;
    thinking(&chat, fields)?;
    chat.stream = fields.flag("stream")? == Some(true);
    chat.include_usage = true;
    Ok(chat)
}

fn system(chat: &mut Chat, fields: &Fields<'_>) -> Result<(), Problem> {
    match fields.get("system") {
        None => {}
        Some(Value::String(text)) => chat.system.push(text.clone()),
        Some(_) => {
            for block in fields.objects("system")? {
                block.only(&["type", "text", "cache_control", "citations"])?;
                chat.system.push(block.must_text("text")?.to_owned());
            }
        }
    }
    Ok(())
}

fn take(turn: &mut Turn, block: &Fields<'_>) -> Result<(), Problem> {
    match block.must_text("type")? {
        "text" => {
            block.only(&["type", "text", "cache_control", "citations"])?;
            let text = block.must_text("text")?;
            if text.is_empty() {
                return Err(block.wrong("text", "text that is not empty"));
            }
            turn.text.push_str(text);
        }
        "image" => turn.images.push(image(block)?),
        "tool_use" => {
            block.only(&["type", "id", "name", "input", "cache_control", "caller"])?;
            turn.calls.push(AskedCall {
                id: block.must_text("id")?.to_owned(),
                name: block.must_text("name")?.to_owned(),
                arguments: block
                    .get("input")
                    .filter(|input| input.is_object())
                    .cloned()
                    .ok_or_else(|| block.wrong("input", "an object"))?,
            });
        }
        "tool_result" => {
            block.only(&["type", "tool_use_id", "content", "is_error", "cache_control"])?;
            let id = block.must_text("tool_use_id")?.to_owned();
            turn.results.push(AskedResult { id, text: result(block)? });
        }
        "thinking" => {
            block.only(&["type", "thinking", "signature"])?;
            let (text, sign) = (block.must_text("thinking")?, block.must_text("signature")?);
            if sign != signature(text) {
                return Err(block.wrong("signature", "the `signature` of the `thinking` block"));
            }
            turn.reasoning.push_str(text);
            turn.signatures.push(sign.to_owned());
        }
        "redacted_thinking" => turn.signatures.push(block.must_text("data")?.to_owned()),
        "document" | "search_result" => {}
        _ => return Err(block.wrong("type", "a known kind of block")),
    }
    Ok(())
}

fn image(block: &Fields<'_>) -> Result<String, Problem> {
    block.only(&["type", "source", "cache_control"])?;
    let source = block.must_object("source")?;
    match source.must_text("type")? {
        "base64" => picture("messages", Some(source.must_text("media_type")?), source.must_text("data")?),
        "url" => Ok(source.must_text("url")?.to_owned()),
        _ => Err(source.wrong("type", "`base64` or `url`")),
    }
}

fn result(block: &Fields<'_>) -> Result<String, Problem> {
    if let Some(Value::String(text)) = block.get("content") {
        return Ok(text.clone());
    }
    let mut text = String::new();
    for part in block.objects("content")? {
        text.push_str(part.text("text")?.unwrap_or_default());
    }
    Ok(text)
}

fn tools(chat: &mut Chat, fields: &Fields<'_>) -> Result<(), Problem> {
    for tool in fields.objects("tools")? {
        let schema = tool.must_object("input_schema")?;
        if schema.text("type")? != Some("object") {
            return Err(schema.wrong("type", "`object`"));
        }
        chat.tools.push(AskedTool {
            name: tool.must_text("name")?.to_owned(),
            description: tool.text("description")?.unwrap_or_default().to_owned(),
            parameters: tool.get("input_schema").cloned().unwrap_or_default(),
        });
    }
    let Some(choice) = fields.object("tool_choice")? else { return Ok(()) };
    choice.only(&["type", "name", "disable_parallel_tool_use"])?;
    chat.tool_choice = Some(match choice.must_text("type")? {
        "auto" => "auto".to_owned(),
        "any" => "required".to_owned(),
        "none" => "none".to_owned(),
        "tool" => format!("tool:{}", choice.must_text("name")?),
        _ => return Err(choice.wrong("type", "auto, any, tool or none")),
    });
    chat.parallel_tool_calls = choice.flag("disable_parallel_tool_use")?.map(|disabled| !disabled);
    Ok(())
}

fn sampling(fields: &Fields<'_>) -> Result<AskedSampling, Problem> {
    let max_tokens = fields.whole("max_tokens")?;
    if max_tokens.is_none_or(|count| count == 0) {
        return Err(Problem::invalid_field("max_tokens", "max_tokens: Field required"));
    }
    let temperature = fields.number("temperature")?;
    if temperature.is_some_and(|temperature| !(0.0..=1.0).contains(&temperature)) {
        return Err(fields.wrong("temperature", "0 to 1"));
    }
    Ok(AskedSampling {
        max_tokens,
        temperature,
        top_p: fields.number("top_p")?,
        top_k: fields.whole("top_k")?,
        seed: None,
        stop: fields.texts("stop_sequences")?,
    })
}

/// Thinking does not go together with everything.
fn thinking(chat: &Chat, fields: &Fields<'_>) -> Result<(), Problem> {
    let Some(thinking) = fields.object("thinking")? else { return Ok(()) };
    let kind = thinking.must_text("type")?;
    if kind == "enabled" {
        let budget =
            thinking.whole("budget_tokens")?.ok_or_else(|| thinking.wrong("budget_tokens", "a number"))?;
        if budget < 1_024 || chat.sampling.max_tokens.is_some_and(|max| budget >= max) {
            return Err(thinking.wrong("budget_tokens", "1024 or more, and less than `max_tokens`"));
        }
    }
    if kind != "disabled" {
        if chat.sampling.temperature.is_some_and(|temperature| temperature < 1.0)
            || chat.sampling.top_k.is_some()
        {
            return Err(fields.wrong("temperature", "1 when thinking is enabled"));
        }
        if chat
            .tool_choice
            .as_deref()
            .is_some_and(|choice| choice == "required" || choice.starts_with("tool:"))
        {
            return Err(
                fields.wrong("tool_choice", "one that does not force tool use when thinking is enabled")
            );
        }
    }
    Ok(())
}
