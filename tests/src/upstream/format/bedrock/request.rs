//! Reads a Converse request as strictly as the API does: what it does not know is refused.

use serde_json::Value;

use crate::upstream::asked::{
    AskedCall, AskedResult, AskedSampling, AskedTool, Chat, Speaker, Turn, picture, signature,
};
use crate::upstream::problem::Problem;
use crate::upstream::read::Fields;

/// Fields of a request. Source: the API reference of `Converse`.
const FIELDS: [&str; 12] = [
    "messages",
    "system",
    "inferenceConfig",
    "toolConfig",
    "guardrailConfig",
    "additionalModelRequestFields",
    "promptVariables",
    "additionalModelResponseFieldPaths",
    "requestMetadata",
    "performanceConfig",
    "serviceTier",
    "outputConfig",
];

pub(super) fn asked(fields: &Fields<'_>, model: &str) -> Result<Chat, Problem> {
    fields.only(&FIELDS)?;
    let mut chat = Chat { model: model.to_owned(), include_usage: true, ..Chat::default() };
    for block in fields.objects("system")? {
        block.only(&["text", "guardContent", "cachePoint"])?;
        chat.system.extend(block.text("text")?.map(str::to_owned));
    }
    for message in fields.objects("messages")? {
        message.only(&["role", "content"])?;
        let speaker = match message.must_text("role")? {
            "user" => Speaker::User,
            "assistant" => Speaker::Assistant,
            _ => return Err(message.wrong("role", "`user` or `assistant`")),
        };
        if chat.turns.last().is_some_and(|turn| turn.speaker == speaker) {
            return Err(Problem::invalid_field(
                "messages",
                "A conversation must alternate between user and assistant roles.",
            ));
        }
        let mut turn = Turn { speaker, ..Turn::default() };
        for block in message.objects("content")? {
            take(&mut turn, &block)?;
        }
        chat.add(turn);
    }
    if chat.turns.first().is_none_or(|turn| turn.speaker != Speaker::User) {
        return Err(Problem::invalid_field("messages", "A conversation must start with a user message."));
    }
    chat.check_pairs()?;
    tools(&mut chat, fields)?;
    if let Some(format) =
        fields.object("outputConfig")?.map(|config| config.object("textFormat")).transpose()?.flatten()
    {
        chat.json = format.must_text("type")? == "json_schema";
        let schema = format.must_object("structure")?.must_object("jsonSchema")?;
        let text = schema.must_text("schema")?;
        chat.schema = Some(serde_json::from_str(text).map_err(|_| schema.wrong("schema", "JSON"))?);
    }
    chat.sampling = sampling(fields)?;
    Ok(chat)
}

/// The only field of a union, and what it holds.
fn union<'a>(block: &Fields<'a>, known: &[&str]) -> Result<&'a str, Problem> {
    block.only(known)?;
    match block.names().as_slice() {
        [one] => Ok(one),
        _ => Err(block.wrong("", "exactly one member of the union")),
    }
}

fn take(turn: &mut Turn, block: &Fields<'_>) -> Result<(), Problem> {
    const KNOWN: [&str; 11] = [
        "text",
        "image",
        "document",
        "video",
        "audio",
        "toolUse",
        "toolResult",
        "guardContent",
        "cachePoint",
        "reasoningContent",
        "searchResult",
    ];
    match union(block, &KNOWN)? {
        "text" => {
            let text = block.must_text("text")?;
            if text.trim().is_empty() {
                return Err(block.wrong("text", "text that is not blank"));
            }
            turn.text.push_str(text);
        }
        "image" => {
            let image = block.must_object("image")?;
            let kind = format!("image/{}", image.must_text("format")?);
            let source = image.must_object("source")?;
            turn.images.push(match union(&source, &["bytes", "s3Location"])? {
                "bytes" => picture("messages", Some(&kind), source.must_text("bytes")?)?,
                _ => source.must_object("s3Location")?.must_text("uri")?.to_owned(),
            });
        }
        "toolUse" => {
            let call = block.must_object("toolUse")?;
            call.must_object("input")?;
            turn.calls.push(AskedCall {
                id: call.must_text("toolUseId")?.to_owned(),
                name: call.must_text("name")?.to_owned(),
                arguments: call.get("input").cloned().unwrap_or_default(),
            });
        }
        "toolResult" => {
            let result = block.must_object("toolResult")?;
            let mut text = String::new();
            for part in result.objects("content")? {
                match union(&part, &["json", "text", "image", "document", "video", "searchResult"])? {
                    "text" => text.push_str(part.must_text("text")?),
                    "json" => text.push_str(&part.get("json").map(Value::to_string).unwrap_or_default()),
                    _ => {}
                }
            }
            turn.results.push(AskedResult { id: result.must_text("toolUseId")?.to_owned(), text });
        }
        "reasoningContent" => reasoning(turn, &block.must_object("reasoningContent")?)?,
        _ => {}
    }
    Ok(())
}

fn reasoning(turn: &mut Turn, content: &Fields<'_>) -> Result<(), Problem> {
    if union(content, &["reasoningText", "redactedContent"])? == "redactedContent" {
        turn.signatures.push(content.must_text("redactedContent")?.to_owned());
        return Ok(());
    }
    let thought = content.must_object("reasoningText")?;
    let (text, sign) = (thought.must_text("text")?, thought.must_text("signature")?);
    if sign != signature(text) {
        return Err(thought.wrong("signature", "the signature of the reasoning"));
    }
    turn.reasoning.push_str(text);
    turn.signatures.push(sign.to_owned());
    Ok(())
}

fn tools(chat: &mut Chat, fields: &Fields<'_>) -> Result<(), Problem> {
    let has_blocks = chat.turns.iter().any(|turn| !turn.calls.is_empty() || !turn.results.is_empty());
    let Some(config) = fields.object("toolConfig")? else {
        if has_blocks {
            return Err(Problem::invalid_field(
                "toolConfig",
                "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
            ));
        }
        return Ok(());
    };
    for tool in config.objects("tools")? {
        if union(&tool, &["toolSpec", "systemTool", "cachePoint"])? != "toolSpec" {
            continue;
        }
        let spec = tool.must_object("toolSpec")?;
        spec.only(&["name", "description", "inputSchema", "strict"])?;
        if spec.get("description").is_some_and(|text| text.as_str().is_none_or(str::is_empty)) {
            return Err(spec.wrong("description", "text that is not empty"));
        }
        chat.tools.push(AskedTool {
            name: spec.must_text("name")?.to_owned(),
            description: spec.text("description")?.unwrap_or_default().to_owned(),
            parameters: spec.must_object("inputSchema")?.get("json").cloned().unwrap_or_default(),
        });
    }
    if chat.tools.is_empty() {
        return Err(config.wrong("tools", "at least one tool"));
    }
    if let Some(choice) = config.object("toolChoice")? {
        chat.tool_choice = Some(match union(&choice, &["auto", "any", "tool"])? {
            "any" => "required".to_owned(),
            "tool" => format!("tool:{}", choice.must_object("tool")?.must_text("name")?),
            _ => "auto".to_owned(),
        });
    }
    Ok(())
}

fn sampling(fields: &Fields<'_>) -> Result<AskedSampling, Problem> {
    let mut sampling = AskedSampling::default();
    if let Some(config) = fields.object("inferenceConfig")? {
        config.only(&["maxTokens", "temperature", "topP", "stopSequences"])?;
        sampling.max_tokens = config.whole("maxTokens")?;
        sampling.temperature = config.number("temperature")?;
        sampling.top_p = config.number("topP")?;
        sampling.stop = config.texts("stopSequences")?;
        if sampling.temperature.is_some_and(|temperature| !(0.0..=1.0).contains(&temperature)) {
            return Err(config.wrong("temperature", "0 to 1"));
        }
    }
    if let Some(more) = fields.object("additionalModelRequestFields")? {
        sampling.top_k = more.whole("top_k")?;
    }
    Ok(sampling)
}
