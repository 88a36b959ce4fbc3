use super::*;

fn generate_of(line: &str) -> v1::GenerateRequest {
    match items(line.as_bytes()).unwrap().remove(0).request {
        Some(Request::Generate(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_line_of_openais_batches_keeps_everything() {
    let request = generate_of(
        r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4o-mini",
        "messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"see","cache_control":{"type":"ephemeral"}},
        {"type":"image_url","image_url":{"url":"https://e.com/a.png","detail":"low"}},{"type":"input_audio","input_audio":{"data":"AA=="}}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}],"refusal":"no"},
        {"role":"tool","tool_call_id":"c1","content":"ok"}],"max_completion_tokens":5,"stop":"x","temperature":0.5,
        "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}],"tool_choice":{"type":"function","function":{"name":"f"}},
        "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"},"strict":true}},"user":"u","metadata":{"k":"v"}}}"#
            .replace('\n', " ")
            .as_str(),
    );
    assert_eq!(request.messages.len(), 4);
    let said = &request.messages[1].content;
    assert_eq!(said[0].extra_json, r#"{"cache_control":{"type":"ephemeral"}}"#);
    assert!(matches!(&said[1].part, Some(Part::ImageUrl(image)) if image.detail == "low"));
    assert!(matches!(&said[2].part, Some(Part::Json(json)) if json.contains("input_audio")));
    assert_eq!(request.messages[2].tool_calls[0].arguments_json, "{}");
    assert_eq!(request.messages[2].extra_json, r#"{"refusal":"no"}"#);
    assert_eq!(request.messages[3].tool_call_id, "c1");
    let sampling = request.sampling.unwrap();
    assert_eq!(
        (sampling.max_tokens, sampling.temperature, sampling.stop),
        (Some(5), Some(0.5), vec!["x".to_owned()])
    );
    assert_eq!((request.tools[0].strict, request.tool_choice.unwrap().name.as_str()), (Some(true), "f"));
    assert_eq!(request.response_format.unwrap().schema_json, r#"{"type":"object"}"#);
    let carried: Value = serde_json::from_str(&request.extra_json).unwrap();
    assert_eq!(carried, serde_json::json!({"user": "u", "metadata": {"k": "v"}}));
}

#[test]
fn a_bare_body_and_embeddings_are_requests_too() {
    let file = b"{\"custom_id\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n\n\
                 {\"custom_id\":\"b\",\"body\":{\"input\":\"one\",\"model\":\"m\",\"dimensions\":3}}\n";
    let items = items(file).unwrap();
    assert_eq!(items.len(), 2);
    assert!(
        matches!(&items[1].request, Some(Request::Embed(embed)) if embed.inputs == ["one"] && embed.dimensions == 3)
    );
}

#[test]
fn fields_of_a_tool_that_are_not_modelled_are_carried() {
    let line = r#"{"custom_id":"a","messages":[],"tools":[{"function":{"name":"f","colour":1},"cache_control":{}}]}"#;
    let request = generate_of(line);
    assert_eq!(request.tools[0].extra_json, r#"{"cache_control":{},"function":{"colour":1}}"#);
}

#[test]
fn a_line_that_is_no_request_is_named_by_its_number() {
    for (line, why) in [
        ("{", "JSON object"),
        ("{\"messages\":[]}", "custom_id is missing"),
        ("{\"custom_id\":\"a\"}", "messages or input is missing"),
        ("{\"custom_id\":\"a\",\"messages\":[{\"role\":\"king\"}]}", "messages[0]"),
        ("{\"custom_id\":\"a\",\"url\":\"/v1/moderations\",\"body\":{\"input\":\"x\"}}", "url"),
        ("{\"custom_id\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":3}]}", "content"),
        ("{\"custom_id\":\"a\",\"messages\":[],\"temperature\":\"hot\"}", "temperature"),
    ] {
        let error = format!("{:#}", items(format!("\n{line}").as_bytes()).unwrap_err());
        assert!(error.contains("line 2") && error.contains(why), "{error}");
    }
}
