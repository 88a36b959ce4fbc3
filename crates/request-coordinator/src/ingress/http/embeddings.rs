//! `POST /v1/embeddings`.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use domain::fault::Fault;
use serde_json::{Value, json};
use tokio::time::Instant;
use wire::v1::{EmbedRequest, Embedding, execute_request::Method};

use super::{
    Hints,
    answer::{Hybrid, answer_fields},
    chat::{first, tell},
    error::Refused,
    model_or_placement,
    request::{EmbedBody, object, read},
    whole,
};
use crate::{
    admission::Visitor,
    dispatch::{Asked, Coordinator, Event},
    ingress::new_request_id,
};

pub(super) async fn embeddings(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let at = Instant::now();
    let body = whole(body, coordinator.bus.max_payload())?;
    let hints = Hints::read(&headers)?;
    let asked: EmbedBody = read(&body)?;
    let base64 = match asked.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let start: String = other.chars().take(40).collect();
            let message = format!("encoding_format is {start:?}, expected float or base64");
            return Err(Fault::invalid("encoding_format", message).into());
        }
    };
    let id = new_request_id();
    let request = EmbedRequest {
        request_id: id.clone(),
        model: model_or_placement(asked.model.clone()),
        agent: hints.agent,
        inputs: asked.input.into_vec(),
        dimensions: asked.dimensions,
        profile: hints.profile,
        deadline_ms: hints.deadline_ms,
        extra_json: object(asked.extra),
    };
    let mut events = coordinator.submit(Asked::new(Method::Embed(request), "http", at, visitor)?)?;
    let (decision, event) = first(&mut events).await?;
    let Event::End(end) = event else {
        return Err(Fault::internal("an embedding came in pieces").into());
    };
    let vectors = end.embeddings.as_ref().map(|all| all.embeddings.as_slice()).unwrap_or_default();
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({ "object": "embedding", "index": index, "embedding": encode(vector, base64) }))
        .collect();
    let tokens = end.usage.unwrap_or_default().input;
    let mut answer = json!({
        "object": "list",
        "data": data,
        "model": end.model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
        "hybrid": Hybrid::new(&id, decision.as_deref(), &end),
    });
    answer_fields(&mut answer, &end.extra_json);
    let mut response = axum::Json(answer).into_response();
    tell(&mut response, &id, decision.as_deref(), Some(&end));
    Ok(response)
}

/// Numbers, or the little-endian bytes that OpenAI's SDKs ask for.
fn encode(vector: &Embedding, base64: bool) -> Value {
    if base64 {
        let bytes: Vec<u8> = vector.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Value::String(BASE64_STANDARD.encode(bytes))
    } else {
        vector.values.iter().copied().map(Value::from).collect()
    }
}
