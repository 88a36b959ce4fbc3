use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};

use super::*;

fn failure(status: u16, name: &str, body: &str) -> Failure {
    let mut headers = HeaderMap::new();
    if !name.is_empty() {
        let value = format!("{name}:http://internal.amazon.com/coral/com.amazon.bedrock/");
        headers.insert(ERROR_TYPE, HeaderValue::from_str(&value).unwrap());
    }
    let refused = Refused { status, headers: &headers, body: body.as_bytes() };
    refusal("acme", refused, &["canary-4711".to_owned()])
}

#[test]
fn each_of_awss_names_has_its_meaning() {
    let said = |message: &str| format!("{{\"message\":\"{message}\"}}");
    let cases = [
        (429, "ThrottlingException", "Too many requests", Code::RateLimited, true, true),
        (429, "ThrottlingException", "Too many tokens per day", Code::RateLimited, true, false),
        (400, "ServiceQuotaExceededException", "", Code::RateLimited, true, false),
        (429, "ModelNotReadyException", "not ready", Code::Unavailable, true, true),
        (408, "ModelTimeoutException", "", Code::Timeout, true, true),
        (424, "ModelErrorException", "", Code::Upstream, true, true),
        (500, "InternalServerException", "", Code::Upstream, true, true),
        (503, "ServiceUnavailableException", "", Code::Upstream, true, true),
        (403, "AccessDeniedException", "no access", Code::UpstreamAuth, true, false),
        (403, "UnrecognizedClientException", "", Code::UpstreamAuth, true, false),
        (403, "ExpiredTokenException", "", Code::UpstreamAuth, true, false),
        (403, "InvalidSignatureException", "", Code::UpstreamAuth, true, false),
        (404, "ResourceNotFoundException", "", Code::NotFound, true, false),
        (400, "ValidationException", "Malformed input request", Code::InvalidArgument, false, false),
        (
            400,
            "ValidationException",
            "Input is too long for requested model.",
            Code::ContextLengthExceeded,
            false,
            false,
        ),
        (
            400,
            "ValidationException",
            "The model returned the following errors: prompt is too long: 210000 tokens > 200000 maximum",
            Code::ContextLengthExceeded,
            false,
            false,
        ),
        (400, "ValidationException", "This model doesn't support tool use.", Code::Unsupported, true, false),
        (
            400,
            "ValidationException",
            "The provided model identifier is invalid.",
            Code::NotFound,
            true,
            false,
        ),
        (
            400,
            "ValidationException",
            "Invocation of model ID x with on-demand throughput isn't supported.",
            Code::NotFound,
            true,
            false,
        ),
        (400, "", "bad", Code::InvalidArgument, false, false),
        (502, "", "", Code::Upstream, true, true),
        (402, "", "", Code::UpstreamAuth, true, false),
    ];
    for (status, name, message, code, retryable, transient) in cases {
        let Failure { fault, transient: again } = failure(status, name, &said(message));
        assert_eq!(
            (fault.code, fault.retryable, again),
            (code, retryable, transient),
            "{status} {name} {message}"
        );
        let named = if name.is_empty() { status.to_string() } else { name.to_owned() };
        assert_eq!(fault.provider_code, named);
        assert_eq!(fault.retry_after, None::<Duration>);
    }
}

#[test]
fn a_name_in_the_body_counts_where_the_header_has_none() {
    let body = r#"{"__type":"com.amazon.coral.service#ExpiredTokenException","Message":"expired"}"#;
    let fault = failure(403, "", body).fault;
    assert_eq!((fault.code, fault.provider_code.as_str()), (Code::UpstreamAuth, "ExpiredTokenException"));
    assert!(fault.message.ends_with("expired"), "{fault}");
}

#[test]
fn a_models_own_status_is_told() {
    let body = r#"{"message":"m","originalStatusCode":429,"originalMessage":"slow down"}"#;
    let fault = failure(424, "ModelErrorException", body).fault;
    assert_eq!(fault.code, Code::RateLimited);
    assert!(fault.message.ends_with("slow down"), "{fault}");
    assert_eq!(exception("acme", "modelStreamErrorException", body.as_bytes()).code, Code::RateLimited);
}

#[test]
fn what_aws_quotes_of_a_request_is_not_repeated() {
    let body =
        r#"{"message":"The Canonical String was x-amz-security-token:canary-4711 for AKIAIOSFODNN7EXAMPLE"}"#;
    let text = failure(403, "InvalidSignatureException", body).fault.message;
    assert!(!text.contains("canary") && !text.contains("AKIA"), "{text}");
}

#[test]
fn a_page_in_place_of_an_error_is_shown_as_text() {
    let fault = failure(503, "", "<html>Service Unavailable</html>").fault;
    assert_eq!(fault.code, Code::Upstream);
    assert!(fault.message.contains("Service Unavailable"), "{fault}");
}
