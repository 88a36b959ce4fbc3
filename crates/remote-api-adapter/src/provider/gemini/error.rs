//! Google's errors: `google.rpc.Status` under `error`, at times wrapped in a list, with OAuth's older form from the token
//! endpoint. Reference: <https://cloud.google.com/apis/design/errors>.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::provider::{json::Text, refusal::Refusal};

/// The words of an error.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// The HTTP status that Google repeats in the body.
    status: Option<u16>,
    message: String,
    /// `RESOURCE_EXHAUSTED`, `INVALID_ARGUMENT` …
    name: String,
    /// `API_KEY_INVALID`, `SERVICE_DISABLED` …; more exact than the name.
    reason: String,
    /// The field that is wrong, in Google's words.
    field: String,
    retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct Enclosed<'a> {
    #[serde(borrow)]
    error: &'a RawValue,
    #[serde(borrow, default)]
    error_description: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Status<'a> {
    #[serde(default)]
    code: Option<u16>,
    #[serde(borrow, default)]
    message: Option<Text<'a>>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(borrow, default)]
    details: Vec<&'a RawValue>,
}

/// The fields of the details that mean something here; each kind of detail has some of them.
#[derive(Deserialize)]
struct Detail<'a> {
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
    #[serde(borrow, default, rename = "retryDelay")]
    retry_delay: Option<Text<'a>>,
    #[serde(borrow, default, rename = "fieldViolations")]
    field_violations: Vec<Violation<'a>>,
}

#[derive(Deserialize)]
struct Violation<'a> {
    #[serde(borrow, default)]
    field: Option<Text<'a>>,
}

impl Words {
    /// Reads the value of an `error` field.
    pub(super) fn of_error(value: &str) -> Self {
        let Ok(said) = serde_json::from_str::<Status<'_>>(value) else {
            // OAuth: a word
            let word = serde_json::from_str::<Text<'_>>(value).map(Text::into_string);
            return Self { name: word.unwrap_or_else(|_| value.to_owned()), ..Self::default() };
        };
        let mut words = Self {
            status: said.code.filter(|code| (400..600).contains(code)),
            message: said.message.map(Text::into_string).unwrap_or_default(),
            name: said.status.map(Text::into_string).unwrap_or_default(),
            ..Self::default()
        };
        for detail in said.details {
            let Ok(detail) = serde_json::from_str::<Detail<'_>>(detail.get()) else { continue };
            if let Some(reason) = detail.reason {
                words.reason = reason.into_string();
            }
            if let Some(delay) = detail.retry_delay {
                words.retry_after = duration(&delay);
            }
            if let Some(field) = detail.field_violations.into_iter().find_map(|violation| violation.field) {
                words.field = field.into_string();
            }
        }
        words
    }

    /// Reads a whole body: an object, a list of one, or text.
    pub(super) fn of_body(body: &[u8]) -> Self {
        let listed = serde_json::from_slice::<Vec<Enclosed<'_>>>(body).ok();
        let first = listed.and_then(|list| list.into_iter().next());
        match first.or_else(|| serde_json::from_slice(body).ok()) {
            Some(Enclosed { error, error_description }) => {
                let mut words = Self::of_error(error.get());
                if let Some(description) = error_description {
                    words.message = description.into_string();
                }
                words
            }
            None => Self { message: String::from_utf8_lossy(body).into_owned(), ..Self::default() },
        }
    }

    pub(super) fn message(&self) -> &str {
        if self.message.is_empty() { &self.name } else { &self.message }
    }

    /// The error, with the status of the response, or else the one in the body.
    pub(super) fn refusal(&self, status: Option<u16>) -> Refusal<'_> {
        Refusal {
            status: status.or(self.status),
            message: self.message(),
            kind: &self.name,
            code: if self.reason.is_empty() { &self.name } else { &self.reason },
            param: &self.field,
            retry_after: self.retry_after,
        }
    }
}

/// A `google.protobuf.Duration` in JSON: seconds with a fraction and `s`, as in `34.07s`.
fn duration(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use domain::fault::Code;

    use super::*;
    use crate::provider::Failure;

    fn failure(status: Option<u16>, body: &str) -> Failure {
        Words::of_body(body.as_bytes()).refusal(status).into_failure("acme", None)
    }

    #[test]
    fn each_error_has_its_meaning() {
        let invalid_key = r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT",
            "details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"},
            {"@type":"type.googleapis.com/google.rpc.LocalizedMessage","locale":"en-US","message":"API key not valid."}]}}"#;
        let long = r#"{"error":{"code":400,"message":"The input token count (1196265) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#;
        let long_on_vertex = r#"{"error":{"code":400,"message":"Unable to submit request because the input token count is 1200000 but model only supports up to 1048576. Reduce the input token count and try again.","status":"INVALID_ARGUMENT"}}"#;
        let broke = r#"{"error":{"code":429,"message":"Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing.","status":"RESOURCE_EXHAUSTED"}}"#;
        let named = |code: u16, status: &str| {
            format!(r#"{{"error":{{"code":{code},"message":"text","status":"{status}"}}}}"#)
        };
        let cases = [
            (invalid_key.to_owned(), Code::UpstreamAuth, false),
            (long.to_owned(), Code::ContextLengthExceeded, false),
            (long_on_vertex.to_owned(), Code::ContextLengthExceeded, false),
            (broke.to_owned(), Code::UpstreamAuth, false),
            (named(400, "INVALID_ARGUMENT"), Code::InvalidArgument, false),
            (named(400, "FAILED_PRECONDITION"), Code::UpstreamAuth, false),
            (named(401, "UNAUTHENTICATED"), Code::UpstreamAuth, false),
            (named(403, "PERMISSION_DENIED"), Code::UpstreamAuth, false),
            (named(404, "NOT_FOUND"), Code::NotFound, false),
            (named(429, "RESOURCE_EXHAUSTED"), Code::RateLimited, true),
            (named(500, "INTERNAL"), Code::Upstream, true),
            (named(503, "UNAVAILABLE"), Code::Upstream, true),
            (named(504, "DEADLINE_EXCEEDED"), Code::Timeout, true),
        ];
        for (body, code, transient) in cases {
            for wrapped in [body.clone(), format!("[{body}\n]")] {
                let failure = failure(None, &wrapped);
                assert_eq!((failure.fault.code, failure.transient), (code, transient), "{wrapped}");
            }
        }
    }

    #[test]
    fn the_wait_and_the_field_are_found_in_the_details() {
        let body = r#"[{"error":{"code":429,"message":"Quota exceeded.","status":"RESOURCE_EXHAUSTED","details":[
            {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinute"}]},
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.074824224s"}]}}]"#;
        let fault = failure(Some(429), body).fault;
        assert_eq!(fault.retry_after, Some(Duration::from_secs_f64(34.074_824_224)));
        assert_eq!(fault.provider_code, "RESOURCE_EXHAUSTED");

        let body = r#"{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT","details":[
            {"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"contents[0].parts[0]","description":"bad"}]}]}}"#;
        assert_eq!(failure(Some(400), body).fault.field, "contents[0].parts[0]");
    }

    #[test]
    fn other_bodies_are_read_too() {
        let oauth =
            Words::of_body(br#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#);
        assert_eq!((oauth.message(), oauth.name.as_str()), ("Invalid JWT Signature.", "invalid_grant"));
        assert_eq!(failure(Some(502), "<html>Bad Gateway</html>").fault.code, Code::Upstream);
        for nonsense in ["-1s", "soon", "NaNs", "1e400s", ""] {
            assert_eq!(duration(nonsense), None, "{nonsense}");
        }
    }
}
