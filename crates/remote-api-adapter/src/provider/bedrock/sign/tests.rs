//! AWS's published examples through the path that product requests take, and requests of ours as botocore signs them.

use std::sync::{Arc, Mutex};

use reqwest::{Method, Url};

use super::*;

/// 30 August 2015, 12:36:00 UTC, the time of AWS's examples.
const EXAMPLE_MS: u64 = 1_440_938_160_000;
/// 20 November 2026, 12:00:00 UTC.
const NOW_MS: u64 = 1_795_176_000_000;
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn key(session_token: Option<&str>) -> Credentials {
    Credentials::new("AKIDEXAMPLE", SECRET, session_token.map(str::to_owned), None, "test")
}

fn request(method: Method, url: &str, content_type: Option<&str>, body: &str) -> Request {
    let mut request = Request::new(method, Url::parse(url).unwrap());
    if let Some(content_type) = content_type {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
    }
    if !body.is_empty() {
        *request.body_mut() = Some(body.to_owned().into());
    }
    request
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// The signed headers and the signature.
fn signed(request: &Request) -> (&str, &str) {
    let (_, rest) = header(request, "authorization").split_once("SignedHeaders=").unwrap();
    rest.split_once(", Signature=").unwrap()
}

/// <https://docs.aws.amazon.com/general/latest/gr/signature-v4-test-suite.html>, and the walk-through of ListUsers in the IAM
/// guide.
#[test]
fn awss_published_examples_are_signed_as_published() {
    let form = Some("application/x-www-form-urlencoded");
    let service = Scope { region: "us-east-1", service: "service" };
    let iam = Scope { region: "us-east-1", service: "iam" };
    let cases = [
        (
            "get-vanilla",
            request(Method::GET, "https://example.amazonaws.com/", None, ""),
            service,
            ("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ),
        (
            "get-vanilla-query-order-key-case",
            request(Method::GET, "https://example.amazonaws.com/?Param2=value2&Param1=value1", None, ""),
            service,
            ("host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ),
        (
            "post-vanilla",
            request(Method::POST, "https://example.amazonaws.com/", None, ""),
            service,
            ("host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ),
        (
            "post-x-www-form-urlencoded",
            request(Method::POST, "https://example.amazonaws.com/", form, "Param1=value1"),
            service,
            (
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ),
        (
            "ListUsers",
            request(
                Method::GET,
                "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
                Some("application/x-www-form-urlencoded; charset=utf-8"),
                "",
            ),
            iam,
            (
                "content-type;host;x-amz-date",
                "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ),
    ];
    for (name, mut request, scope, expected) in cases {
        sign(&mut request, key(None), scope, EXAMPLE_MS).unwrap();
        assert_eq!(signed(&request), expected, "{name}");
        assert_eq!(header(&request, "x-amz-date"), "20150830T123600Z", "{name}");
    }
}

/// The expected values are botocore 1.44.5's for the same requests, keys and time.
#[test]
fn requests_of_ours_are_signed_as_by_awss_own_client() {
    let base = "https://bedrock-runtime.eu-central-1.amazonaws.com/model";
    let converse = format!("{base}/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse");
    let profile =
        "arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3Ainference-profile%2Feu.amazon.nova-pro-v1%3A0";
    let private = format!("http://127.0.0.1:8080/model/{profile}/converse-stream");
    let text = r#"{"messages":[{"role":"user","content":[{"text":"ü"}]}]}"#;
    let token = "token/with+signs==";
    let cases = [
        (
            converse.as_str(),
            r#"{"messages":[]}"#,
            None,
            (
                "content-type;host;x-amz-date",
                "771dd4e6a5ded59b942861ef21b0442d9920f6eb1f43eb7373d2c914ddfabf80",
            ),
        ),
        (
            converse.as_str(),
            r#"{"messages":[]}"#,
            Some(token),
            (
                "content-type;host;x-amz-date;x-amz-security-token",
                "e822767263283f25a3c585f78808012193c44e14103370a832beb27ccfeac3fb",
            ),
        ),
        (
            private.as_str(),
            text,
            None,
            (
                "content-type;host;x-amz-date",
                "e0cfec971296e7fab8f19ab1a9d1cfe2b0e52b2558c7a192e9f90fee6a8be442",
            ),
        ),
    ];
    for (url, body, token, expected) in cases {
        let mut request = request(Method::POST, url, Some("application/json"), body);
        request.headers_mut().insert("accept", HeaderValue::from_static("application/json"));
        let scope = Scope { region: "eu-central-1", service: "bedrock" };
        sign(&mut request, key(token), scope, NOW_MS).unwrap();
        assert_eq!(signed(&request), expected, "{url}");
        assert_eq!(header(&request, "x-amz-security-token"), token.unwrap_or_default());
        let credential =
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261120/eu-central-1/bedrock/aws4_request, ";
        assert!(header(&request, "authorization").starts_with(credential));
    }
}

#[test]
fn a_key_that_would_break_a_header_is_an_error() {
    let mut request = request(Method::POST, "https://example.amazonaws.com/", None, "{}");
    let scope = Scope { region: "us-east-1", service: "bedrock" };
    let problem = sign(&mut request, key(Some("a\r\nx-admin: 1")), scope, NOW_MS).unwrap_err();
    assert!(!problem.contains("x-admin"), "{problem}");
}

#[test]
fn neither_key_nor_prompt_reaches_a_log_or_a_debug_text() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let mut request = request(Method::POST, "https://example.amazonaws.com/", None, "canary-prompt");
    tracing::subscriber::with_default(subscriber, || {
        tracing::trace!("the log listens");
        let scope = Scope { region: "us-east-1", service: "bedrock" };
        sign(&mut request, key(Some("canary-token")), scope, NOW_MS).unwrap();
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("the log listens"));
    assert!(!log.contains("canary"), "{log}");
    let shown = format!("{request:?}");
    assert!(!shown.contains("canary") && !shown.contains("Signature="), "{shown}");
}
