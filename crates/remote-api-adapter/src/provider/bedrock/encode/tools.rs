//! Tools and which of them has to be called.

use domain::{
    fault::Fault,
    inference::{Generate, Message, Role, Tool, ToolChoice},
};

use super::{
    blocks::{CachePoint, cache_point},
    unsupported,
};
use crate::provider::json::{self, Fields, Object};

/// A tool without parameters.
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

/// Writes `toolConfig`, where there are tools. To choose none is to offer none.
pub(super) fn write(root: &mut Object<'_>, request: &Generate) -> Result<(), Fault> {
    let offered = !request.tools.is_empty() && request.tool_choice != Some(ToolChoice::None);
    if !offered {
        let called = |message: &Message| message.role == Role::Tool || !message.tool_calls.is_empty();
        if request.messages.iter().any(called) {
            let field = if request.tools.is_empty() { "tools" } else { "tool_choice" };
            let problem =
                "offers no tool, but Converse wants the tools that a conversation has used; expected tools";
            return Err(unsupported(field, problem));
        }
        if matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
            let message = "tool_choice demands a tool, expected tools to choose from";
            return Err(Fault::invalid("tool_choice", message));
        }
        return Ok(());
    }
    let mut config = Object::begin(root.nested("toolConfig"));
    json::array(config.nested("tools"), request.tools.iter().enumerate(), |out, (index, offered)| {
        tool(out, offered, index)?;
        let path = format!("tools[{index}]");
        if let Some(point) = cached(&path, &offered.extra_json)? {
            out.push(b',');
            point.write_to(out);
        }
        Ok(())
    })?;
    if let Some(choice) = &request.tool_choice {
        let mut object = Object::begin(config.nested("toolChoice"));
        match choice {
            ToolChoice::Auto | ToolChoice::None => object.raw("auto", "{}"),
            ToolChoice::Required => object.raw("any", "{}"),
            ToolChoice::Named(name) => {
                let mut tool = Object::begin(object.nested("tool"));
                tool.text("name", name);
                tool.end();
            }
        }
        object.end();
    }
    config.end();
    Ok(())
}

/// The cache point behind a tool, where its `cache_control` wants one.
fn cached<'a>(path: &str, extra_json: &'a str) -> Result<Option<CachePoint<'a>>, Fault> {
    let mut point = None;
    for (key, value) in Fields::parse(path, extra_json)?.into_entries() {
        match &*key {
            _ if value.get() == "null" => {}
            "cache_control" => point = Some(cache_point(value.get(), path)?),
            other => {
                let problem = "is given, but Converse has no such field of a tool; expected none";
                return Err(unsupported(&format!("{path}.{other}"), problem));
            }
        }
    }
    Ok(point)
}

fn tool(out: &mut Vec<u8>, tool: &Tool, index: usize) -> Result<(), Fault> {
    let mut object = Object::begin(out);
    let mut spec = Object::begin(object.nested("toolSpec"));
    spec.text("name", &tool.name);
    if !tool.description.is_empty() {
        spec.text("description", &tool.description);
    }
    let mut schema = Object::begin(spec.nested("inputSchema"));
    let parameters = tool.parameters_json.trim();
    let parameters = if parameters.is_empty() {
        NO_PARAMETERS
    } else {
        json::object(&format!("tools[{index}].parameters"), parameters)?
    };
    schema.raw("json", parameters);
    schema.end();
    // not strict is what happens anyway, also with models that do not know the word
    if tool.strict == Some(true) {
        spec.value("strict", &true);
    }
    spec.end();
    object.end();
    Ok(())
}
