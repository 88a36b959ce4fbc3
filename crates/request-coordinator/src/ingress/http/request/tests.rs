use super::*;

/// As the ingress reads it: the body's shape first, then what it says.
fn chat(json: &str) -> Result<GenerateRequest, Fault> {
    let wire = read::<ChatBody>(json.as_bytes())?.into_wire()?;
    let numbered = GenerateRequest { request_id: "r1".to_owned(), ..wire.clone() };
    domain::inference::Generate::try_from(numbered)?;
    Ok(wire)
}

#[test]
fn unmodelled_fields_of_every_level_are_carried() {
    let wire = chat(
        r#"{"model":"m","logit_bias":{"1":2},"messages":[{"role":"user","audio":{"id":"a"},"content":[
            {"type":"text","text":"hi","cache_control":{"type":"ephemeral"}},
            {"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}]}]}"#,
    )
    .unwrap();
    assert_eq!(wire.extra_json, r#"{"logit_bias":{"1":2}}"#);
    assert_eq!(wire.messages[0].extra_json, r#"{"audio":{"id":"a"}}"#);
    assert_eq!(wire.messages[0].content[0].extra_json, r#"{"cache_control":{"type":"ephemeral"}}"#);
    assert!(
        matches!(&wire.messages[0].content[1].part, Some(Part::Json(json)) if json.contains("input_audio"))
    );
}

#[test]
fn errors_name_the_path() {
    for (json, field) in [
        ("{", "body"),
        (r#"{"model":"m"}"#, "messages"),
        (r#"{"model":"m","messages":[{"content":"a"}]}"#, "messages[0]"),
        (r#"{"messages":[{"role":"user","content":"a"}],"temperature":"hot"}"#, "temperature"),
        (r#"{"messages":[{"role":"king","content":"a"}]}"#, "messages[0].role"),
        (r#"{"messages":[{"role":"user","content":[{"text":"a"}]}]}"#, "messages[0].content[0].type"),
        (r#"{"messages":[{"role":"user","content":"a"}],"n":3}"#, "n"),
        (r#"{"messages":[],"tool_choice":7}"#, "tool_choice"),
        (r#"{"messages":[],"tools":[{"type":"web"}]}"#, "tools[0].type"),
        (r#"{"messages":[],"response_format":{"type":"xml"}}"#, "response_format.type"),
    ] {
        let fault = chat(json).unwrap_err();
        assert_eq!(fault.field, field, "{json}: {fault}");
    }
}

#[test]
fn tools_and_schemas_reach_the_wire_as_they_were() {
    let wire = chat(
        r#"{"messages":[{"role":"user","content":"a"}],
            "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},
                     {"type":"function","function":{"name":"g","x":1},"cache_control":{"type":"ephemeral"}}],
            "tool_choice":{"type":"function","function":{"name":"f"}},
            "response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"type":"object"},"strict":true}}}"#,
    )
    .unwrap();
    assert_eq!(wire.tools[0].parameters_json, r#"{"type":"object"}"#);
    let carried: Vec<&str> = wire.tools.iter().map(|tool| tool.extra_json.as_str()).collect();
    assert_eq!(carried, ["", r#"{"cache_control":{"type":"ephemeral"},"function":{"x":1}}"#]);
    assert_eq!(wire.tool_choice.unwrap().name, "f");
    assert_eq!(wire.response_format.unwrap().schema_json, r#"{"type":"object"}"#);
}
