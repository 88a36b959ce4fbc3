use reqwest::header::{HeaderMap, HeaderValue};

use super::*;

fn failure(status: u16, code: &str, message: &str) -> Failure {
    Refusal { status: Some(status), code, message, ..Refusal::default() }.into_failure("acme", None)
}

#[test]
fn each_status_has_its_code_and_says_whether_to_try_again() {
    let cases = [
        (400, Code::InvalidArgument, Origin::Caller, false, false),
        (422, Code::InvalidArgument, Origin::Caller, false, false),
        (401, Code::UpstreamAuth, Origin::Provider, true, false),
        (403, Code::UpstreamAuth, Origin::Provider, true, false),
        (402, Code::UpstreamAuth, Origin::Provider, true, false),
        (404, Code::NotFound, Origin::Provider, true, false),
        (408, Code::Timeout, Origin::Provider, true, true),
        (413, Code::PayloadTooLarge, Origin::Caller, false, false),
        (429, Code::RateLimited, Origin::Provider, true, true),
        (498, Code::RateLimited, Origin::Provider, true, true),
        (500, Code::Upstream, Origin::Provider, true, true),
        (501, Code::Upstream, Origin::Provider, true, false),
        (502, Code::Upstream, Origin::Provider, true, true),
        (503, Code::Upstream, Origin::Provider, true, true),
        (504, Code::Timeout, Origin::Provider, true, true),
        (529, Code::Upstream, Origin::Provider, true, true),
        (302, Code::Upstream, Origin::Provider, true, false),
        (405, Code::Upstream, Origin::Provider, true, false),
    ];
    for (status, code, origin, retryable, transient) in cases {
        let Failure { fault, transient: again } = failure(status, "", "text");
        assert_eq!(
            (fault.code, fault.origin, fault.retryable, again),
            (code, origin, retryable, transient),
            "status {status}"
        );
        assert_eq!(fault.provider_code, status.to_string());
    }
}

#[test]
fn what_the_provider_says_counts_more_than_its_status() {
    let code = |status, code, message| failure(status, code, message).fault.code;
    assert_eq!(code(429, "insufficient_quota", ""), Code::UpstreamAuth);
    assert!(!failure(429, "insufficient_quota", "").transient);
    assert_eq!(code(400, "", "Your credit balance is too low to access the API"), Code::UpstreamAuth);
    assert_eq!(code(400, "context_length_exceeded", ""), Code::ContextLengthExceeded);
    assert_eq!(
        code(400, "", "This model's maximum context length is 8192 tokens"),
        Code::ContextLengthExceeded
    );
    assert_eq!(code(400, "unsupported_value", ""), Code::Unsupported);
    assert_eq!(code(413, "rate_limit_exceeded", ""), Code::RateLimited);
    let misspoken = failure(400, "tool_use_failed", "");
    assert_eq!((misspoken.fault.code, misspoken.transient), (Code::Upstream, true));
}

#[test]
fn an_error_without_a_status_is_read_by_its_name() {
    let code = |kind| Refusal { kind, ..Refusal::default() }.into_failure("acme", None).fault.code;
    assert_eq!(code("rate_limit_exceeded"), Code::RateLimited);
    assert_eq!(code("invalid_request_error"), Code::InvalidArgument);
    assert_eq!(code("authentication_error"), Code::UpstreamAuth);
    assert_eq!(code("server_error"), Code::Upstream);
    assert_eq!(code(""), Code::Upstream);
}

#[test]
fn keys_do_not_come_back_in_an_error() {
    let key = "canary-4711-secret";
    let text = "Incorrect API key provided: sk-proj-abc***xyz.\r\nAuthorization: Bearer abcdefgh (canary-4711-secret) \
                gsk_12345678 {\"key\":\"AIzaSyXXXXXXX\"}";
    let out = scrub(text, Some(key));
    for hidden in ["sk-proj", "abcdefgh", "canary", "gsk_", "AIza", "\r", "\n"] {
        assert!(!out.contains(hidden), "{hidden:?} is in {out:?}");
    }
    assert!(out.starts_with("Incorrect API key provided: [redacted]"), "{out}");
}

#[test]
fn a_long_explanation_is_cut() {
    let out = scrub(&"ü ".repeat(100_000), None);
    assert_eq!(out.chars().count(), TEXT_MAX);
    assert!(out.ends_with('…'));
}

#[test]
fn a_code_cannot_carry_anything_else() {
    let fault = failure(400, "bad\r\nX-Header: 1 {}", "").fault;
    assert_eq!(fault.provider_code, "badX-Header1");
}

#[test]
fn the_wait_is_read_in_each_of_its_forms() {
    // Thu, 01 Jan 2026 00:00:00 GMT
    const NOW: u64 = 1_767_225_600_000;
    let asked = |name: &'static str, value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        retry_after(&headers, NOW)
    };
    assert_eq!(asked("retry-after", "7"), Some(Duration::from_secs(7)));
    assert_eq!(asked("retry-after", "0.25"), Some(Duration::from_millis(250)));
    assert_eq!(asked("retry-after-ms", "1500"), Some(Duration::from_millis(1_500)));
    assert_eq!(asked("retry-after", "Thu, 01 Jan 2026 00:00:05 GMT"), Some(Duration::from_secs(5)));
    assert_eq!(asked("retry-after", "Wed, 31 Dec 2025 23:59:00 GMT"), Some(Duration::ZERO));
    for nonsense in ["soon", "-1", "NaN", "1e400", "99999999999999999999"] {
        assert!(
            asked("retry-after", nonsense).is_none_or(|wait| wait > Duration::from_secs(1_000)),
            "{nonsense}"
        );
    }
}

#[test]
fn a_key_in_a_code_or_a_field_is_not_repeated() {
    let key = "canary/4711+key";
    for code in [key, "bad canary4711key!", "sk-other-4711"] {
        let refusal = Refusal { status: Some(400), code, param: code, message: "no", ..Refusal::default() };
        let fault = refusal.into_failure("acme", Some(key)).fault;
        assert_eq!((fault.provider_code.as_str(), fault.field.as_str()), ("redacted", "redacted"), "{code}");
    }
}
