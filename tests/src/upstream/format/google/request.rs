//! Reads a request as strictly as the API does: what it does not know is refused.

use serde_json::Value;

use crate::upstream::asked::{
    AskedCall, AskedResult, AskedSampling, AskedTool, Chat, Speaker, Turn, picture, signature,
};
use crate::upstream::problem::Problem;
use crate::upstream::read::Fields;

/// Fields of a request. Source: the API references of `GenerateContentRequest` (AI Studio) and of Vertex AI's.
const FIELDS: [&str; 9] = [
    "contents",
    "tools",
    "toolConfig",
    "safetySettings",
    "systemInstruction",
    "generationConfig",
    "cachedContent",
    "serviceTier",
    "store",
];
const VERTEX_FIELDS: [&str; 2] = ["labels", "modelArmorConfig"];
/// Fields of `generationConfig`.
const GENERATION: [&str; 24] = [
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "_responseJsonSchema",
    "responseFormat",
    "responseModalities",
    "candidateCount",
    "maxOutputTokens",
    "temperature",
    "topP",
    "topK",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "enableEnhancedCivicAnswers",
    "speechConfig",
    "thinkingConfig",
    "imageConfig",
    "mediaResolution",
    "routingConfig",
    "audioTimestamp",
];
const PART: [&str; 12] = [
    "text",
    "thought",
    "thoughtSignature",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "videoMetadata",
    "mediaResolution",
    "partMetadata",
];
/// What Google documents for signatures of calls that another model made.
const UNSIGNED: [&str; 2] = ["skip_thought_signature_validator", "context_engineering_is_the_way_to_go"];
/// What a tool's text is wrapped in.
const WRAPS: [&str; 4] = ["output", "result", "content", "error"];

pub(super) fn asked(fields: &Fields<'_>, model: &str, is_vertex: bool) -> Result<Chat, Problem> {
    let more: &[&str] = if is_vertex { &VERTEX_FIELDS } else { &[] };
    fields.only(&[FIELDS.as_slice(), more].concat())?;
    let mut chat = Chat { model: model.to_owned(), include_usage: true, ..Chat::default() };
    if let Some(system) = fields.object("systemInstruction")? {
        for part in system.objects("parts")? {
            chat.system.push(part.must_text("text")?.to_owned());
        }
    }
    for content in fields.objects("contents")? {
        content.only(&["role", "parts"])?;
        let speaker = match content.text("role")? {
            None | Some("user" | "function") => Speaker::User,
            Some("model") => Speaker::Assistant,
            Some(_) => return Err(content.wrong("role", "`user` or `model`")),
        };
        let mut turn = Turn { speaker, ..Turn::default() };
        let parts = content.objects("parts")?;
        if parts.is_empty() {
            return Err(content.wrong("parts", "at least one part"));
        }
        for part in parts {
            take(&mut turn, &part)?;
        }
        chat.add(turn);
    }
    if chat.turns.is_empty() {
        return Err(Problem::invalid_field("contents", "contents are required"));
    }
    check_pairs(&chat)?;
    tools(&mut chat, fields)?;
    if let Some(config) = fields.object("generationConfig")? {
        generation(&mut chat, &config)?;
    }
    Ok(chat)
}

fn take(turn: &mut Turn, part: &Fields<'_>) -> Result<(), Problem> {
    part.only(&PART)?;
    if let Some(text) = part.text("text")? {
        let is_thought = part.flag("thought")? == Some(true);
        if is_thought { &mut turn.reasoning } else { &mut turn.text }.push_str(text);
    } else if let Some(data) = part.object("inlineData")? {
        turn.images.push(picture(
            "contents",
            Some(data.must_text("mimeType")?),
            // both alphabets are base64 to Google
            &data.must_text("data")?.replace('-', "+").replace('_', "/"),
        )?);
    } else if let Some(file) = part.object("fileData")? {
        turn.images.push(file.must_text("fileUri")?.to_owned());
    } else if let Some(call) = part.object("functionCall")? {
        call.only(&["id", "name", "args"])?;
        turn.calls.push(AskedCall {
            id: call.text("id")?.unwrap_or_default().to_owned(),
            name: call.must_text("name")?.to_owned(),
            arguments: call.object("args")?.map_or_else(
                || Ok(Value::Object(serde_json::Map::new())),
                |_| call.get("args").cloned().ok_or_else(|| call.wrong("args", "an object")),
            )?,
        });
    } else if let Some(response) = part.object("functionResponse")? {
        response.must_object("response")?;
        let text = response.get("response").map(unwrapped).unwrap_or_default();
        turn.results.push(AskedResult { id: response.must_text("name")?.to_owned(), text });
    }
    if let Some(sign) = part.text("thoughtSignature")? {
        let ours = sign.len() == signature("").len() && sign.starts_with("c2lnbmVkO");
        if !ours && !UNSIGNED.contains(&sign) {
            return Err(part.wrong("thoughtSignature", "a valid thought signature"));
        }
        turn.signatures.push(sign.to_owned());
    }
    Ok(())
}

/// The text that a tool's answer was wrapped around, or the JSON that it is.
fn unwrapped(response: &Value) -> String {
    let only =
        response.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next());
    match only {
        Some((name, Value::String(text))) if WRAPS.contains(&name.as_str()) => text.clone(),
        Some((name, value)) if WRAPS.contains(&name.as_str()) => value.to_string(),
        _ => response.to_string(),
    }
}

/// As many results as calls, in the turn after them.
fn check_pairs(chat: &Chat) -> Result<(), Problem> {
    let mut calls = 0;
    for turn in &chat.turns {
        if turn.results.len() != calls {
            let message = "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.";
            return Err(Problem::invalid_field("contents", message));
        }
        calls = turn.calls.len();
    }
    Ok(())
}

fn tools(chat: &mut Chat, fields: &Fields<'_>) -> Result<(), Problem> {
    for tool in fields.objects("tools")? {
        for function in tool.objects("functionDeclarations")? {
            chat.tools.push(AskedTool {
                name: function.must_text("name")?.to_owned(),
                description: function.text("description")?.unwrap_or_default().to_owned(),
                parameters: function
                    .any(&["parametersJsonSchema", "parameters"])
                    .cloned()
                    .unwrap_or_default(),
            });
        }
    }
    let config = fields.object("toolConfig")?;
    let Some(calling) = config.map(|config| config.object("functionCallingConfig")).transpose()?.flatten()
    else {
        return Ok(());
    };
    let names = calling.texts("allowedFunctionNames")?;
    chat.tool_choice = match (calling.text("mode")?, names.as_slice()) {
        (Some("ANY"), [name]) => Some(format!("tool:{name}")),
        (Some("ANY"), _) => Some("required".to_owned()),
        (Some("NONE"), _) => Some("none".to_owned()),
        (Some("AUTO" | "VALIDATED"), _) => Some("auto".to_owned()),
        (None, _) => None,
        _ => return Err(calling.wrong("mode", "AUTO, ANY, NONE or VALIDATED")),
    };
    Ok(())
}

fn generation(chat: &mut Chat, config: &Fields<'_>) -> Result<(), Problem> {
    config.only(&GENERATION)?;
    chat.json = config.text("responseMimeType")? == Some("application/json");
    let names = ["responseJsonSchema", "_responseJsonSchema", "responseSchema"];
    chat.schema = config.any(&names).cloned();
    if chat.schema.is_some() && !chat.json {
        return Err(config.wrong("responseMimeType", "application/json when there is a schema"));
    }
    chat.sampling = AskedSampling {
        max_tokens: config.whole("maxOutputTokens")?,
        temperature: config.number("temperature")?,
        top_p: config.number("topP")?,
        // a double in the API
        top_k: config.number("topK")?.map(|count| count as u64),
        seed: config.whole("seed")?,
        stop: config.texts("stopSequences")?,
    };
    Ok(())
}
