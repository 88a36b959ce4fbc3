//! Errors in OpenAI's shape.

use hyper::StatusCode;
use serde_json::json;

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
}

impl ApiError {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, kind, code, param: None, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message)
    }

    pub(super) fn invalid_field(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::invalid(message) }
    }

    pub(super) fn wrong_key() -> Self {
        let message = "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", Some("invalid_api_key"), message)
    }

    pub(super) fn unknown_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("model_not_found"), message)
    }

    pub(super) fn unknown_address(method: &str, path: &str) -> Self {
        let message = format!("Invalid URL ({method} {path})");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", None, message)
    }

    /// What OpenAI says with this status.
    pub(super) fn scripted(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => Self::wrong_key(),
            402 => Self::new(
                status,
                "insufficient_quota",
                Some("insufficient_quota"),
                "You exceeded your current quota, please check your plan and billing details.",
            ),
            429 => {
                Self::new(status, "requests", Some("rate_limit_exceeded"), "Rate limit reached for requests.")
            }
            500.. => Self::new(
                status,
                "server_error",
                None,
                "The server had an error while processing your request. Sorry about that!",
            ),
            _ => Self { status, ..Self::invalid("The request was refused.") },
        }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}
