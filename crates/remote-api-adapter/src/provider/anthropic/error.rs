//! Errors of the API: `{"type": "error", "error": {"type": …, "message": …}}`, as a response or as an event of a stream.
//!
//! Each type has its status (<https://platform.claude.com/docs/en/api/errors>), so that one inside a stream means the same as
//! one in front of it. Three meanings hide behind `invalid_request_error` and are told by the message alone: a prompt that is
//! too long, a spending limit, and what this model does not do.

use domain::fault::{Code, Origin};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::provider::{Failure, json::Text, refusal::Refusal};

/// The words of an error.
#[derive(Debug, Default)]
pub(super) struct Words {
    kind: String,
    message: String,
}

#[derive(Deserialize)]
struct Enclosed<'a> {
    #[serde(borrow)]
    error: &'a RawValue,
}

#[derive(Deserialize)]
struct Explained<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    message: Option<Text<'a>>,
}

impl Words {
    /// Reads a body; one that is no JSON (a gateway's page) counts as text.
    pub(super) fn of_body(body: &[u8]) -> Self {
        match serde_json::from_slice::<Enclosed<'_>>(body) {
            Ok(enclosed) => Self::of_error(enclosed.error.get()),
            Err(_) => Self { message: String::from_utf8_lossy(body).into_owned(), ..Self::default() },
        }
    }

    /// Reads the value of an `error` field.
    pub(super) fn of_error(json: &str) -> Self {
        match serde_json::from_str::<Explained<'_>>(json) {
            Ok(explained) => Self {
                kind: explained.kind.map(Text::into_string).unwrap_or_default(),
                message: explained.message.map(Text::into_string).unwrap_or_default(),
            },
            Err(_) => Self { message: json.to_owned(), ..Self::default() },
        }
    }

    /// The fault for the caller; `status` is absent inside a stream. `key` is what must not be repeated.
    pub(super) fn into_failure(self, status: Option<u16>, provider: &str, key: Option<&str>) -> Failure {
        let status = status.or_else(|| self.status());
        let refusal = Refusal {
            status,
            message: &self.message,
            kind: &self.kind,
            param: self.field(),
            ..Refusal::default()
        };
        let mut failure = refusal.into_failure(provider, key);
        if status == Some(400) {
            self.tell_apart(&mut failure);
        }
        failure
    }

    /// The status that goes with the kind of error, where it is a known one.
    pub(super) fn status(&self) -> Option<u16> {
        Some(match self.kind.as_str() {
            "invalid_request_error" => 400,
            "authentication_error" => 401,
            "billing_error" => 402,
            "permission_error" => 403,
            "not_found_error" => 404,
            "conflict_error" => 409,
            "request_too_large" => 413,
            "rate_limit_error" => 429,
            "api_error" => 500,
            "timeout_error" => 504,
            "overloaded_error" => 529,
            _ => return None,
        })
    }

    /// The request's field that the message begins with, as in `messages.1.content.0.text: …`. Only its first part: the
    /// positions are those of the translated request.
    fn field(&self) -> &str {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        match self.message.split_once(": ") {
            Some((path, _)) if !path.is_empty() && path.chars().all(plain) => {
                path.split('.').next().unwrap_or_default()
            }
            _ => "",
        }
    }

    /// What else a 400 can mean.
    fn tell_apart(&self, failure: &mut Failure) {
        let text = self.message.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
        let fault = &mut failure.fault;
        if says(&["prompt is too long", "exceed context limit", "exceeds the context"]) {
            fault.code = Code::ContextLengthExceeded;
            fault.field.clear();
        } else if says(&["reached your specified api usage limit", "reached your specified workspace"]) {
            // a limit of the owner's own: as good as out of credit
            (fault.code, fault.origin, fault.retryable) = (Code::UpstreamAuth, Origin::Provider, true);
            fault.field.clear();
        } else if fault.code == Code::InvalidArgument
            && says(&["not supported", "does not support", "deprecated for this model"])
        {
            (fault.code, fault.retryable) = (Code::Unsupported, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn failure(status: Option<u16>, kind: &str, message: &str) -> Failure {
        let body = format!(
            r#"{{"type":"error","error":{{"type":{kind:?},"message":{message:?}}},"request_id":"req_1"}}"#
        );
        Words::of_body(body.as_bytes()).into_failure(status, "acme", Some("canary-4711"))
    }

    #[test]
    fn each_type_means_the_same_in_a_stream_and_before_it() {
        for (status, kind, code, transient) in [
            (400, "invalid_request_error", Code::InvalidArgument, false),
            (401, "authentication_error", Code::UpstreamAuth, false),
            (402, "billing_error", Code::UpstreamAuth, false),
            (403, "permission_error", Code::UpstreamAuth, false),
            (404, "not_found_error", Code::NotFound, false),
            (409, "conflict_error", Code::Upstream, false),
            (413, "request_too_large", Code::PayloadTooLarge, false),
            (429, "rate_limit_error", Code::RateLimited, true),
            (500, "api_error", Code::Upstream, true),
            (504, "timeout_error", Code::Timeout, true),
            (529, "overloaded_error", Code::Upstream, true),
        ] {
            let told = failure(Some(status), kind, "text");
            assert_eq!((told.fault.code, told.transient), (code, transient), "{kind}");
            assert_eq!(told.fault.provider_code, kind);
            assert_eq!(failure(None, kind, "text"), told, "{kind}");
        }
        assert_eq!(failure(None, "something_new", "text").fault.code, Code::Upstream);
    }

    #[test]
    fn a_bad_request_is_told_apart_by_its_message() {
        for (message, code, retryable, field) in [
            ("max_tokens: 99 > 64, which is the maximum", Code::InvalidArgument, false, "max_tokens"),
            ("messages.1.content.0.text: Field required", Code::InvalidArgument, false, "messages"),
            ("Invalid: something", Code::InvalidArgument, false, "Invalid"),
            ("something is wrong: here", Code::InvalidArgument, false, ""),
            ("prompt is too long: 210000 tokens > 200000 maximum", Code::ContextLengthExceeded, false, ""),
            (
                "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
                Code::ContextLengthExceeded,
                false,
                "",
            ),
            ("Your credit balance is too low to access the Anthropic API.", Code::UpstreamAuth, true, ""),
            (
                "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
                Code::UpstreamAuth,
                true,
                "",
            ),
            ("`temperature` is deprecated for this model.", Code::Unsupported, true, ""),
            (
                "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\".",
                Code::Unsupported,
                true,
                "",
            ),
        ] {
            let Failure { fault, transient } = failure(Some(400), "invalid_request_error", message);
            assert_eq!(
                (fault.code, fault.retryable, fault.field.as_str(), transient),
                (code, retryable, field, false),
                "{message}"
            );
        }
    }

    #[test]
    fn what_is_no_error_of_the_api_is_still_one() {
        let page = Words::of_body(b"<html>bad gateway</html>").into_failure(Some(502), "acme", None);
        assert!(page.transient && page.fault.message.contains("bad gateway"), "{page:?}");
        let text = Words::of_body(br#"{"error":"slow down"}"#).into_failure(Some(429), "acme", None);
        assert_eq!(text.fault.code, Code::RateLimited);
        assert_eq!(text.fault.retry_after, None::<Duration>);
    }

    #[test]
    fn a_key_does_not_come_back() {
        let told =
            failure(Some(401), "authentication_error", "invalid x-api-key canary-4711 sk-ant-api03-abc");
        for hidden in ["canary", "sk-ant"] {
            assert!(!told.fault.message.contains(hidden), "{}", told.fault.message);
        }
    }
}
