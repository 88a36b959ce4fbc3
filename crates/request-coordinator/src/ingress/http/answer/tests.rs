use serde_json::{Value, json};
use wire::v1::{Delta, ToolCallDelta};

use super::{super::request, *};

fn head() -> Head {
    Head { id: "chatcmpl-1".to_owned(), created: 7, model: "m".to_owned() }
}

fn item(text: &str, extra: &Value) -> DeltaItem {
    DeltaItem { text: text.to_owned(), extra_json: extra.to_string(), ..DeltaItem::default() }
}

fn call(index: u32, id: &str, arguments: &str, extra: &Value) -> DeltaItem {
    let call = ToolCallDelta {
        index,
        id: id.to_owned(),
        name: if id.is_empty() { String::new() } else { "f".to_owned() },
        arguments_json: arguments.to_owned(),
        extra_json: if extra.is_null() { String::new() } else { extra.to_string() },
    };
    DeltaItem { tool_calls: vec![call], ..DeltaItem::default() }
}

fn end(extra_json: &str) -> End {
    End { finish_reason: FinishReason::Stop.into(), extra_json: extra_json.to_owned(), ..End::default() }
}

fn whole(items: Vec<DeltaItem>, end: &End) -> Value {
    let mut gathered = Gathered::default();
    gathered.add(items);
    let hybrid = Hybrid::new("r1", None, end);
    // as the client gets it: text, then parsed
    let text = serde_json::to_string(&gathered.completion(&head(), end, hybrid)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn chunks(out: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(out).unwrap();
    let events = text.split("\n\n").filter(|event| !event.is_empty());
    let data = events.map(|event| event.strip_prefix("data: ").unwrap()).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn streamed(items: &[DeltaItem], end: &End) -> Vec<Value> {
    let mut out = Vec::new();
    head().pieces(&mut out, items);
    head().finish(&mut out, end, &Hybrid::new("r1", None, end), false);
    chunks(&out)
}

fn logprobs(token: &str) -> Value {
    json!({ "logprobs": { "content": [{ "token": token, "logprob": -0.25, "bytes": [97], "top_logprobs": [] }] } })
}

#[test]
fn log_probabilities_stand_at_the_choice() {
    let items = [item("a", &logprobs("a")), item("b", &logprobs("b"))];
    let stream = streamed(&items, &end(""));
    assert_eq!(stream[0]["choices"][0]["logprobs"], logprobs("a")["logprobs"]);
    assert_eq!(stream[0]["choices"][0]["delta"], json!({ "content": "a" }));
    let whole = whole(items.to_vec(), &end(""));
    let tokens = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.iter().map(|token| &token["token"]).collect::<Vec<_>>(), ["a", "b"]);
    assert!(whole["choices"][0]["message"].get("logprobs").is_none());
}

#[test]
fn without_log_probabilities_the_whole_answer_says_null() {
    let whole = whole(vec![item("a", &json!({}))], &end(""));
    let choice = &whole["choices"][0];
    assert_eq!((&choice["logprobs"], &choice["message"]["refusal"]), (&Value::Null, &Value::Null));
    assert_eq!(choice["message"]["content"], "a");
}

#[test]
fn fields_of_a_piece_are_in_the_delta_and_together_in_the_message() {
    let block = |n: u32| json!({ "thinking_blocks": [{ "type": "thinking", "signature": n }] });
    let items = [item("", &block(1)), item("x", &block(2)), item("", &json!({ "audio": { "data": "AA" } }))];
    let stream = streamed(&items, &end(""));
    assert_eq!(stream[0]["choices"][0]["delta"], block(1));
    assert_eq!(stream[2]["choices"][0]["delta"]["audio"]["data"], "AA");
    let mut items = items.to_vec();
    items.push(item("", &json!({ "audio": { "data": "BB", "expires_at": 3 } })));
    let message = &whole(items, &end(""))["choices"][0]["message"];
    let signatures: Vec<_> =
        message["thinking_blocks"].as_array().unwrap().iter().map(|b| &b["signature"]).collect();
    assert_eq!(signatures, [1, 2]);
    assert_eq!(message["audio"], json!({ "data": "AABB", "expires_at": 3 }));
}

#[test]
fn a_refusal_comes_in_pieces_and_takes_the_place_of_the_text() {
    let items = vec![item("", &json!({ "refusal": "I " })), item("", &json!({ "refusal": "won't" }))];
    let message = &whole(items, &end(""))["choices"][0]["message"];
    assert_eq!((&message["refusal"], &message["content"]), (&json!("I won't"), &Value::Null));
}

#[test]
fn fields_of_a_call_stay_at_their_call() {
    let signed = json!({ "extra_content": { "google": { "thought_signature": "c2ln" } } });
    let items =
        [call(0, "a", "{}", &signed), call(1, "b", "{", &Value::Null), call(1, "", "}", &Value::Null)];
    let stream = streamed(&items, &end(""));
    assert_eq!(stream[0]["choices"][0]["delta"]["tool_calls"][0]["extra_content"], signed["extra_content"]);
    let message = &whole(items.to_vec(), &end(""))["choices"][0]["message"];
    assert_eq!(message["tool_calls"][0]["extra_content"], signed["extra_content"]);
    assert_eq!(
        message["tool_calls"][1],
        json!({ "id": "b", "type": "function", "function": { "name": "f", "arguments": "{}" } })
    );
}

#[test]
fn the_end_has_its_fields_beside_the_choices_and_the_providers_word_at_the_choice() {
    let end = end(r#"{"system_fingerprint":"fp_1","service_tier":"flex","finish_reason":"eos"}"#);
    let last = streamed(&[], &end).pop().unwrap_or_default();
    for answer in [last, whole(vec![item("a", &json!({}))], &end)] {
        assert_eq!(
            (&answer["system_fingerprint"], &answer["service_tier"]),
            (&json!("fp_1"), &json!("flex"))
        );
        let choice = &answer["choices"][0];
        assert_eq!(
            (&choice["finish_reason"], &choice["native_finish_reason"]),
            (&json!("stop"), &json!("eos"))
        );
    }
}

#[test]
fn no_carried_field_replaces_one_that_is_written_here() {
    let forged =
        json!({ "role": "system", "content": "forged", "reasoning_content": "forged", "tool_calls": [] });
    let of_call = json!({ "id": "forged", "index": 9, "type": "forged", "function": {} });
    let items = [item("true", &forged), call(0, "a", "{}", &of_call)];
    let end =
        end(r#"{"id":"forged","model":"forged","usage":"forged","hybrid":"forged","choices":"forged"}"#);
    for answer in streamed(&items, &end).into_iter().chain([whole(items.to_vec(), &end)]) {
        assert!(!answer.to_string().contains("forged"), "{answer}");
    }
}

#[test]
fn what_is_no_object_costs_only_itself() {
    let broken = DeltaItem { text: "a".to_owned(), extra_json: "[1".to_owned(), ..DeltaItem::default() };
    assert_eq!(streamed(std::slice::from_ref(&broken), &end("7"))[0]["choices"][0]["delta"]["content"], "a");
    assert_eq!(whole(vec![broken], &end("7"))["choices"][0]["message"]["content"], "a");
}

#[test]
fn json_that_is_laid_out_in_lines_stays_one_event() {
    let laid_out = "{\n \"annotations\": [\r\n  \"a\\nb\"\n ]\n}";
    let piece = DeltaItem { extra_json: laid_out.to_owned(), ..DeltaItem::default() };
    let delta = &streamed(&[piece], &end(""))[0]["choices"][0]["delta"];
    assert_eq!(*delta, json!({ "annotations": ["a\nb"] }));
}

#[test]
fn a_message_that_is_sent_back_as_it_came_says_the_same_again() {
    let signed = json!({ "extra_content": { "google": { "thought_signature": "c2ln" } } });
    let blocks = json!({ "thinking_blocks": [{ "type": "thinking", "thinking": "t", "signature": "s" }] });
    let mut thought = item("So:", &blocks);
    thought.reasoning = "because".to_owned();
    let end = End { last_delta: Some(Delta::default()), ..end("") };
    let mut message =
        whole(vec![thought, call(0, "a", r#"{"b": 1}"#, &signed)], &end)["choices"][0]["message"].take();
    // what SDKs add when they write a message out
    for absent in ["audio", "function_call", "annotations", "name", "tool_call_id"] {
        message[absent] = Value::Null;
    }
    let again = json!({ "model": "m", "tools": null, "messages": [
        { "role": "user", "content": "x", "tool_calls": null }, message
    ] });
    let body: request::ChatBody = request::read(again.to_string().as_bytes()).unwrap();
    let wire = body.into_wire().unwrap();
    assert!(wire.messages[0].extra_json.is_empty());
    let back = &wire.messages[1];
    let extra: Value = serde_json::from_str(&back.extra_json).unwrap();
    assert_eq!(
        extra,
        json!({ "reasoning_content": "because", "thinking_blocks": blocks["thinking_blocks"] })
    );
    let sent = &back.tool_calls[0];
    assert_eq!(
        (sent.id.as_str(), sent.name.as_str(), sent.arguments_json.as_str()),
        ("a", "f", r#"{"b": 1}"#)
    );
    assert_eq!(serde_json::from_str::<Value>(&sent.extra_json).unwrap(), signed);
}
