//! Batches in Anthropic's wire format: the requests come with the creation, the results are told under their `custom_id`.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::{Answer, Outcome, State, answers::find};

/// Looks at a batch, or at the list, until it has ended.
const LOOKS: u64 = 3;

/// Answers what stands below `/v1/messages/batches`.
pub(super) fn answer(state: &mut State, method: &Method, below: &[&str], bytes: &Bytes) -> Outcome {
    match (method.as_str(), below) {
        ("POST", []) => {
            let body = serde_json::from_slice::<Value>(bytes).map_err(|error| (400, error.to_string()))?;
            create(state, &body)
        }
        ("GET", []) => {
            let ids: Vec<String> =
                state.messages.iter().filter_map(|batch| Some(batch["id"].as_str()?.to_owned())).collect();
            for id in &ids {
                look(state, id)?;
            }
            let data: Vec<Value> = state.messages.iter().map(shown).collect();
            let (first, last) = (ids.first(), ids.last());
            Ok(Answer::Json(json!({"data": data, "has_more": false, "first_id": first, "last_id": last})))
        }
        ("GET", [id]) => look(state, id),
        ("GET", [id, "results"]) => {
            let batch = find(&mut state.messages, id)?;
            match batch["results"].as_str() {
                Some(results) => Ok(Answer::File(Bytes::from(results.to_owned()))),
                None => Err((404, "the batch has not ended".to_owned())),
            }
        }
        ("POST", [id, "cancel"]) => {
            let batch = find(&mut state.messages, id)?;
            if batch["processing_status"] == "in_progress" {
                batch["processing_status"] = "canceling".into();
                batch["cancel_initiated_at"] = "2026-11-21T00:00:00Z".into();
            }
            Ok(Answer::Json(shown(batch)))
        }
        _ => Err((404, format!("Not found ({method} {below:?})"))),
    }
}

/// A batch as it is told.
fn shown(batch: &Value) -> Value {
    let mut shown = batch.clone();
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|name, _| !matches!(name.as_str(), "requests" | "results" | "looks"));
    }
    shown
}

fn create(state: &mut State, body: &Value) -> Outcome {
    let requests = body["requests"].as_array().filter(|requests| !requests.is_empty());
    let requests = requests.ok_or((400, "requests: Field required".to_owned()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut seen = std::collections::BTreeSet::new();
    for (at, request) in requests.iter().enumerate() {
        let id = request["custom_id"].as_str().unwrap_or_default();
        if id.is_empty() || id.len() > 64 || !id.chars().all(plain) {
            return Err((400, format!("requests.{at}.custom_id: String should match pattern")));
        }
        if !seen.insert(id) {
            return Err((400, format!("requests.{at}.custom_id: must be unique")));
        }
        for field in ["model", "max_tokens", "messages"] {
            if request.pointer(&format!("/params/{field}")).is_none_or(Value::is_null) {
                return Err((400, format!("requests.{at}.params.{field}: Field required")));
            }
        }
    }
    let id = state.id("msgbatch");
    let batch = json!({
        "id": id, "type": "message_batch", "processing_status": "in_progress",
        "request_counts": {"processing": requests.len(), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
        "created_at": state.now(), "expires_at": "2036-11-22T00:00:00.000000Z", "ended_at": null, "archived_at": null,
        "cancel_initiated_at": null, "results_url": null, "requests": requests, "looks": 0,
    });
    state.messages.insert(0, batch.clone());
    Ok(Answer::Json(shown(&batch)))
}

fn look(state: &mut State, id: &str) -> Outcome {
    let (endless, invalid) = (state.script.endless, state.script.invalid);
    let results_url = format!("http://{}/v1/messages/batches/{id}/results", state.address);
    let batch = find(&mut state.messages, id)?;
    let looks = batch["looks"].as_u64().unwrap_or(0) + 1;
    batch["looks"] = looks.into();
    let cancelled = batch["processing_status"] == "canceling";
    let running = batch["processing_status"] == "in_progress";
    if cancelled || (running && looks >= LOOKS && !endless) {
        end(batch, cancelled, invalid);
        batch["results_url"] = results_url.into();
    }
    Ok(Answer::Json(shown(batch)))
}

fn end(batch: &mut Value, cancelled: bool, invalid: bool) {
    let requests = batch["requests"].as_array().cloned().unwrap_or_default();
    // A cancelled batch got through half of its requests.
    let reached = if cancelled { requests.len() / 2 } else { requests.len() };
    let mut lines = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        let result = match at < reached {
            false => Some(json!({"type": "canceled"})),
            true if invalid => Some(errored("invalid_request_error", "something is wrong")),
            true => result(&request["params"]),
        };
        if let Some(result) = result {
            lines.push(json!({"custom_id": request["custom_id"], "result": result}));
        }
    }
    let count = |kind: &str| {
        lines.iter().filter(|line| line.pointer("/result/type") == Some(&Value::from(kind))).count()
    };
    batch["request_counts"] = json!({
        "processing": 0, "succeeded": count("succeeded"), "errored": count("errored"), "canceled": count("canceled"),
        "expired": count("expired"),
    });
    batch["processing_status"] = "ended".into();
    batch["ended_at"] = "2026-11-21T00:00:00Z".into();
    // No order is promised.
    let lines: Vec<String> = lines.iter().rev().map(Value::to_string).collect();
    batch["results"] = (lines.join("\n") + "\n").into();
}

fn errored(kind: &str, message: &str) -> Value {
    let error = json!({"type": "error", "request_id": "req_1", "error": {"type": kind, "message": message}});
    json!({"type": "errored", "error": error})
}

/// What became of a request; `None` where that is lost.
fn result(params: &Value) -> Option<Value> {
    let said = params["messages"].as_array()?.last().map(|last| &last["content"]);
    let text = match said {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    };
    if text.contains("lose") {
        return None;
    }
    if text.contains("expire") {
        return Some(json!({"type": "expired"}));
    }
    if text.contains("refuse") {
        let message = "prompt is too long: 210000 tokens > 200000 maximum";
        return Some(errored("invalid_request_error", message));
    }
    let reply = format!("echo: {text}");
    let tokens = |text: &str| text.len().div_ceil(4);
    let usage = json!({
        "input_tokens": tokens(&text), "output_tokens": tokens(&reply), "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0, "service_tier": "batch",
    });
    Some(json!({"type": "succeeded", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": params["model"],
        "content": [{"type": "text", "text": reply}], "stop_reason": "end_turn", "stop_sequence": null, "usage": usage,
    }}))
}
