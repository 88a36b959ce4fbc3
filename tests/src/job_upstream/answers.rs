//! What a job comes to: the lines of a batch's outputs, lists, ends.

use serde_json::{Value, json};

use super::{Answer, Outcome};

pub(super) fn find<'j>(jobs: &'j mut [Value], id: &str) -> Result<&'j mut Value, (u16, String)> {
    jobs.iter_mut().find(|job| job["id"] == id).ok_or((404, format!("No job found with id '{id}'.")))
}

pub(super) fn list(jobs: &[Value]) -> Value {
    json!({"object": "list", "data": jobs, "has_more": false})
}

pub(super) fn cancel(jobs: &mut [Value], id: &str) -> Outcome {
    let job = find(jobs, id)?;
    if ["completed", "failed", "cancelled", "succeeded"].iter().any(|ended| job["status"] == *ended) {
        return Err((400, format!("Job has already ended: {}", job["status"])));
    }
    job["status"] = "cancelling".into();
    Ok(Answer::Json(job.clone()))
}

/// The line that answers a line; `None` where it is lost.
pub(super) fn row(line: &Value, endpoint: &Value) -> Result<Option<Value>, String> {
    if line["url"] != *endpoint || line["method"] != "POST" {
        return Err(format!("a line goes to {}, expected {endpoint}", line["url"]));
    }
    let body = &line["body"];
    let said = body["messages"].as_array().and_then(|said| said.last()).map(|last| &last["content"]);
    let text = match said {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    };
    let number = line["custom_id"].as_str().unwrap_or_default();
    let answered = |status: u16, body: Value| {
        let response = json!({"status_code": status, "request_id": format!("req-{number}"), "body": body});
        json!({"id": format!("batch_req_{number}"), "custom_id": number, "response": response, "error": null})
    };
    if text.contains("lose") {
        return Ok(None);
    }
    if text.contains("expire") {
        let error = json!({"code": "batch_expired", "message": "This request could not be executed before the completion window expired."});
        return Ok(Some(json!({"id": "x", "custom_id": number, "response": null, "error": error})));
    }
    if text.contains("refuse") {
        let error = json!({"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"});
        return Ok(Some(answered(400, json!({"error": error}))));
    }
    let tokens = |text: &str| text.len().div_ceil(4);
    if endpoint == "/v1/embeddings" {
        let inputs = body["input"].as_array().map_or(0, Vec::len);
        let data: Vec<Value> = (0..inputs)
            .map(|index| json!({"object": "embedding", "index": index, "embedding": [0.5, 0.25, 1.0]}))
            .collect();
        let usage = json!({"prompt_tokens": 4 * inputs, "total_tokens": 4 * inputs});
        return Ok(Some(answered(
            200,
            json!({"object": "list", "data": data, "model": body["model"], "usage": usage}),
        )));
    }
    let reply = format!("echo: {text}");
    let (input, output) = (tokens(&text), tokens(&reply));
    let message = json!({"role": "assistant", "content": reply});
    Ok(Some(answered(
        200,
        json!({
            "id": format!("chatcmpl-{number}"), "object": "chat.completion", "created": 1_700_000_000, "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output},
        }),
    )))
}
