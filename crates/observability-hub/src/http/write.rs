//! `POST /api/v1/write`: the remote-write receiver.
//!
//! 204 all written; 400 something was invalid and the rest is kept; 413 too large; 415 another type or encoding;
//! 503 with `Retry-After` when the disk is full, so that the sender keeps its backlog.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::App;
use crate::{
    metric_store::{StoreError, Write},
    remote_write::{self, BODY_BYTES_MAX, DecodeError},
};

/// Requests that are read and decoded at once; with their bodies and samples they bound the memory of this path.
const AT_ONCE_MAX: usize = 4;
/// Requests that wait for a place, with nothing of them read; more are told to come back.
const WAITING_MAX: usize = 64;
/// How long a sender may take over its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Seconds a sender is told to wait.
const RETRY_AFTER_SECONDS: &str = "5";

/// Admission of writes.
#[derive(Debug, Clone)]
pub(super) struct WriteGate {
    at_once: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

impl Default for WriteGate {
    fn default() -> Self {
        Self {
            at_once: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            admitted: Arc::new(Semaphore::new(AT_ONCE_MAX + WAITING_MAX)),
        }
    }
}

struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.0, format!("{}\n", self.1)).into_response();
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            let wait = header::HeaderValue::from_static(RETRY_AFTER_SECONDS);
            response.headers_mut().insert(header::RETRY_AFTER, wait);
        }
        response
    }
}

pub(super) async fn write(
    State((app, gate)): State<(App, WriteGate)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let response = match take(&app, &gate, &headers, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => {
            tracing::debug!(status = refused.0.as_u16(), reason = %refused.1, "remote-write refused");
            refused.into_response()
        }
    };
    app.meters.request(response.status().as_u16());
    response
}

async fn take(app: &App, gate: &WriteGate, headers: &HeaderMap, body: Body) -> Result<(), Refused> {
    check_headers(headers)?;
    let busy = || Refused(StatusCode::SERVICE_UNAVAILABLE, "too many writes at once".to_owned());
    let _admitted = gate.admitted.try_acquire().map_err(|_| busy())?;
    let _place = gate.at_once.acquire().await.map_err(|_| busy())?;
    let body = read(headers, body).await?;
    let now_unix_ms = i64::try_from(app.clock.now_unix_ms()).unwrap_or(i64::MAX);
    let limits = app.write_limits;
    let compressed = body.clone();
    let decoded = tokio::task::spawn_blocking(move || remote_write::decode(&compressed, limits, now_unix_ms))
        .await
        .map_err(|_| Refused(StatusCode::BAD_REQUEST, "body cannot be decoded".to_owned()))?
        .map_err(|error| match error {
            DecodeError::TooLarge(_) => Refused(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            _ => Refused(StatusCode::BAD_REQUEST, error.to_string()),
        })?;
    let mut refused = decoded.refused.clone();
    if !decoded.series.is_empty() {
        let written = app
            .store
            .write(Write { body, decoded, received_unix_ms: now_unix_ms })
            .await
            .map_err(|error| store_refused(&error))?;
        app.meters.samples(written.samples);
        refused.merge(written.refused);
    }
    app.meters.refused(&refused);
    if refused.count() == 0 {
        Ok(())
    } else {
        let text = format!("{} samples refused, the others are written: {refused}", refused.count());
        Err(Refused(StatusCode::BAD_REQUEST, text))
    }
}

/// Type and encoding as the specification has them; a header that is missing means its default.
fn check_headers(headers: &HeaderMap) -> Result<(), Refused> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let unsupported = |what: &str, value: &str, expected: &str| {
        let shown: String = value.chars().take(64).collect();
        Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{what} is {shown:?}, expected {expected}")))
    };
    if let Some(value) = text(header::CONTENT_TYPE) {
        let mut parts = value.split(';').map(str::trim);
        let is_protobuf =
            parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/x-protobuf"));
        let is_first_version = parts.all(|parameter| match parameter.split_once('=') {
            Some((name, message)) if name.eq_ignore_ascii_case("proto") => {
                message.trim_matches('"') == "prometheus.WriteRequest"
            }
            _ => true,
        });
        if !(is_protobuf && is_first_version) {
            return unsupported(
                "content-type",
                value,
                "application/x-protobuf with proto=prometheus.WriteRequest",
            );
        }
    }
    match text(header::CONTENT_ENCODING) {
        Some(value) if !value.eq_ignore_ascii_case("snappy") => {
            unsupported("content-encoding", value, "snappy")
        }
        _ => Ok(()),
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Refused> {
    let too_large = || {
        let text = format!("body is too large, expected at most {BODY_BYTES_MAX} bytes");
        Refused(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large()),
        Ok(Err(error)) => Err(Refused(StatusCode::BAD_REQUEST, format!("body cannot be read: {error}"))),
        Err(_) => Err(Refused(StatusCode::REQUEST_TIMEOUT, "body did not come in time".to_owned())),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

fn store_refused(error: &StoreError) -> Refused {
    tracing::warn!(%error, "remote-write not kept");
    Refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
