//! Errors of the hub's own API: `{"error": {"code", "message", "field"}}`. (The Prometheus API has its own form.)

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::ledger::LedgerError;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    field: Option<&'static str>,
    message: String,
}

impl ApiError {
    /// A parameter that cannot be used.
    pub(super) fn invalid(field: &'static str, value: &str, expected: &str) -> Self {
        let shown: String = value.chars().take(64).collect();
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "invalid_argument",
            field: Some(field),
            message: format!("{field} is {shown:?}, expected {expected}"),
        }
    }

    pub(super) fn not_found(message: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not_found", field: None, message }
    }

    pub(super) fn unauthenticated(what: &str) -> Self {
        let message = format!("{what} token is missing or wrong, expected `Authorization: Bearer <token>`");
        Self { status: StatusCode::UNAUTHORIZED, code: "unauthenticated", field: None, message }
    }

    pub(super) fn forbidden_host(host: &str) -> Self {
        let shown: String = host.chars().take(64).collect();
        Self {
            status: StatusCode::FORBIDDEN,
            code: "permission_denied",
            field: Some("host"),
            message: format!(
                "host is {shown:?}, expected an address, localhost or a name in observability-hub.allowed_hosts"
            ),
        }
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "unavailable",
            field: None,
            message: message.into(),
        }
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        tracing::error!(%error, "the ledger cannot be read");
        Self::unavailable(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message, "field": self.field}});
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        }
        response
    }
}

/// For paths that nothing serves.
pub(super) async fn not_found(uri: axum::http::Uri) -> ApiError {
    let shown: String = uri.path().chars().take(64).collect();
    ApiError::not_found(format!("path is {shown:?}, expected one of the documented ones"))
}
