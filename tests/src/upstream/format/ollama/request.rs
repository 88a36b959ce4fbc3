//! Reads requests. Unknown fields are ignored, as Ollama does.

use serde_json::Value;

use crate::upstream::asked::{
    AskedCall, AskedResult, AskedSampling, AskedTool, Chat, Embed, Speaker, Turn, picture,
};
use crate::upstream::problem::Problem;
use crate::upstream::read::Fields;

pub(super) fn chat(fields: &Fields<'_>) -> Result<Chat, Problem> {
    let mut chat =
        Chat { model: fields.must_text("model")?.to_owned(), include_usage: true, ..Chat::default() };
    for message in fields.objects("messages")? {
        take(&mut chat, &message)?;
    }
    for tool in fields.objects("tools")? {
        let function = tool.must_object("function")?;
        chat.tools.push(AskedTool {
            name: function.must_text("name")?.to_owned(),
            description: function.text("description")?.unwrap_or_default().to_owned(),
            parameters: function.get("parameters").cloned().unwrap_or_default(),
        });
    }
    match fields.get("format") {
        None => {}
        Some(Value::String(name)) if name == "json" => chat.json = true,
        Some(schema @ Value::Object(_)) => {
            chat.json = true;
            chat.schema = Some(schema.clone());
        }
        Some(_) => return Err(fields.wrong("format", "`json` or a JSON schema")),
    }
    if let Some(options) = fields.object("options")? {
        // a bound below zero means none
        let bound = options.get("num_predict").and_then(Value::as_i64);
        chat.sampling = AskedSampling {
            max_tokens: bound.and_then(|count| u64::try_from(count).ok()),
            temperature: options.number("temperature")?,
            top_p: options.number("top_p")?,
            top_k: options.whole("top_k")?,
            seed: options.whole("seed")?,
            stop: options.texts("stop")?,
        };
    }
    chat.stream = fields.flag("stream")? != Some(false);
    Ok(chat)
}

fn take(chat: &mut Chat, message: &Fields<'_>) -> Result<(), Problem> {
    let text = message.text("content")?.unwrap_or_default().to_owned();
    let mut turn = Turn::default();
    match message.must_text("role")? {
        "system" => {
            chat.system.push(text);
            return Ok(());
        }
        "user" => {
            turn.text = text;
            for image in message.texts("images")? {
                turn.images.push(picture("messages", None, &image)?);
            }
        }
        "assistant" => {
            turn.speaker = Speaker::Assistant;
            turn.text = text;
            message.text("thinking")?.unwrap_or_default().clone_into(&mut turn.reasoning);
            for call in message.objects("tool_calls")? {
                let function = call.must_object("function")?;
                function.must_object("arguments")?;
                turn.calls.push(AskedCall {
                    id: call.text("id")?.unwrap_or_default().to_owned(),
                    name: function.must_text("name")?.to_owned(),
                    arguments: function.get("arguments").cloned().unwrap_or_default(),
                });
            }
        }
        "tool" => {
            let id =
                message.text("tool_call_id")?.or(message.text("tool_name")?).unwrap_or_default().to_owned();
            turn.results = vec![AskedResult { id, text }];
        }
        _ => return Err(message.wrong("role", "system, user, assistant or tool")),
    }
    chat.add(turn);
    Ok(())
}

pub(super) fn embed(fields: &Fields<'_>) -> Result<Embed, Problem> {
    let dimensions = fields.whole("dimensions")?;
    Ok(Embed {
        model: fields.must_text("model")?.to_owned(),
        texts: fields.texts("input")?.into_iter().map(String::into_bytes).collect(),
        dimensions: dimensions.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
        base64: false,
    })
}
