//! Errors in OpenAI's shape.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use domain::fault::{Code, Fault, Origin};
use serde_json::{Value, json};

/// A request that gets an error instead of an answer.
pub(super) struct Refused(pub(super) Fault);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

/// 499 is nginx's "client closed request".
const CLIENT_CLOSED_REQUEST: u16 = 499;

pub(super) fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::ContextLengthExceeded | Code::Unsupported => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::BudgetExceeded => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable | Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Code::Upstream | Code::UpstreamAuth => StatusCode::BAD_GATEWAY,
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled => {
            StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The body: `{"error": {"message", "type", "param", "code"}}`.
pub(super) fn body(fault: &Fault) -> Value {
    let kind = match (fault.code, fault.origin) {
        (Code::Unauthenticated | Code::PermissionDenied, _) => "authentication_error",
        (Code::RateLimited, _) => "rate_limit_error",
        (Code::BudgetExceeded, _) => "insufficient_quota",
        (_, Origin::Caller) => "invalid_request_error",
        (_, Origin::Provider) => "upstream_error",
        (_, Origin::Policy | Origin::Local | Origin::Internal) => "server_error",
    };
    let param = if fault.field.is_empty() { Value::Null } else { fault.field.as_str().into() };
    json!({ "error": { "message": fault.message, "type": kind, "param": param, "code": fault.code.as_str() } })
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (status(self.0.code), Json(body(&self.0))).into_response();
        if let Some(wait) = self.0.retry_after {
            // whole seconds, rounded up: a client that comes too early is refused again
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
