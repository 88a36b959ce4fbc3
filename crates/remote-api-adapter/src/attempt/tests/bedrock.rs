//! Bedrock over real HTTP: keys, binary streams, tokens in headers, and calls that are several.

use super::*;
use crate::provider::bedrock::golden::framed;

const STREAM: &str = include_str!("../../provider/bedrock/golden/stream/plain.events");
const WHOLE: &str = include_str!("../../provider/bedrock/golden/decode/plain.json");

fn aws(upstream: &Upstream, keys: &str, model: &str, capability: &str) -> Adapter {
    adapter_of(&format!(
        r#"
[[providers]]
name = "acme"
kind = "bedrock"
base_url = "http://{}"
allow_private = true
retry = {{ backoff_base_ms = 1, backoff_max_ms = 2 }}
{keys}
[[providers.deployments]]
model = "large"
upstream_model = "{model}"
context_length = 1000
capabilities = ["{capability}"]
price = {{ input_per_million = "1", cached_input_per_million = "0.5", output_per_million = "4" }}
"#,
        upstream.address
    ))
}

/// An access key in files, and the setting that names them.
fn keys(token: bool) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for name in ["id", "secret", "token"] {
        std::fs::write(path(name), format!("canary-{name}\n")).unwrap();
    }
    let token =
        if token { format!(", session_token = {{ file = {:?} }}", path("token")) } else { String::new() };
    let setting = format!(
        "bedrock = {{ region = \"eu-central-1\", access_key_id = {{ file = {:?} }}, secret_access_key = {{ file = {:?} }}{token} }}",
        path("id"),
        path("secret"),
    );
    (folder, setting)
}

fn answered(content_type: &str, headers: &str, body: &[u8]) -> Vec<Act> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 X\r\ncontent-type: {content_type}\r\n{headers}content-length: {length}\r\n\r\n"
    );
    vec![Act::Send([head.as_bytes(), body].concat())]
}

fn stream() -> Vec<Act> {
    answered("application/vnd.amazon.eventstream", "x-amzn-requestid: aws-1\r\n", &framed(STREAM))
}

const CLAUDE: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";

#[tokio::test]
async fn a_signed_stream_comes_in_pieces_and_is_paid_for() {
    let upstream = Upstream::start([stream()]).await;
    let (_folder, keys) = keys(true);
    let (text, outcome) = ask(&aws(&upstream, &keys, CLAUDE, "generate"), &question(true)).await;
    let end = outcome.unwrap();
    assert_eq!(text, "Vier – das \"ist\" grün.\n");
    assert_eq!((end.cost_picodollars, end.provider_request_id.as_str()), (COST, "aws-1"));
    let head = upstream.seen().remove(0).head;
    let path = "post /model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3a0/converse-stream http/1.1";
    assert!(head.starts_with(path), "{head}");
    let signed = "/eu-central-1/bedrock/aws4_request, signedheaders=content-type;host;x-amz-date;x-amz-security-token, signature=";
    assert!(head.contains("authorization: aws4-hmac-sha256 credential=canary-id/"), "{head}");
    assert!(head.contains(signed), "{head}");
    assert!(head.contains("x-amz-security-token: canary-token"), "{head}");
    assert!(!head.contains("canary-secret"), "{head}");
    assert!(head.contains(&format!("host: {}", upstream.address)), "{head}");
}

#[tokio::test]
async fn an_api_key_is_shown_as_a_bearer() {
    let upstream = Upstream::start([json(200, "", WHOLE)]).await;
    let (folder, _) = keys(false);
    let setting = format!(
        "bedrock = {{ region = \"us-east-1\" }}\napi_key = {{ file = \"{}/id\" }}",
        folder.path().display()
    );
    let (text, outcome) = ask(&aws(&upstream, &setting, CLAUDE, "generate"), &question(false)).await;
    assert_eq!(text, "Vier – das \"ist\" grün.\n");
    assert!(!outcome.unwrap().usage.unwrap().estimated);
    let head = upstream.seen().remove(0).head;
    assert!(head.contains("authorization: bearer canary-id\r\n") && !head.contains("x-amz-date"), "{head}");
}

#[tokio::test]
async fn a_key_that_is_not_there_takes_the_deployment_down_and_a_rotated_one_brings_it_up() {
    let upstream = Upstream::start([json(200, "", WHOLE)]).await;
    let (folder, keys) = keys(false);
    std::fs::remove_file(folder.path().join("secret")).unwrap();
    let adapter = aws(&upstream, &keys, CLAUDE, "generate");
    assert!(adapter.routes.registered()[0].state_detail.contains("secret"));
    let fault = ask(&adapter, &question(false)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.retryable, upstream.seen().len()), (Code::UpstreamAuth, true, 0));

    std::fs::write(folder.path().join("secret"), "new").unwrap();
    assert_eq!(adapter.routes.registered()[0].state_detail, "");
    ask(&adapter, &question(false)).await.1.unwrap();
}

#[tokio::test]
async fn a_signing_key_that_was_refused_is_tried_again_with_the_next_request() {
    let refused = json(403, "x-amzn-errortype: ExpiredTokenException\r\n", "{}");
    let upstream = Upstream::start([refused, json(200, "", WHOLE)]).await;
    let (_folder, keys) = keys(true);
    let adapter = aws(&upstream, &keys, CLAUDE, "generate");
    assert_eq!(ask(&adapter, &question(false)).await.1.unwrap_err().code, Code::UpstreamAuth);
    ask(&adapter, &question(false)).await.1.unwrap();
}

#[tokio::test]
async fn several_api_keys_take_turns() {
    let upstream = Upstream::start([json(200, "", WHOLE)]).await;
    let (folder, _) = keys(false);
    let folder = folder.path().display();
    let setting = format!(
        "bedrock = {{ region = \"us-east-1\" }}\napi_keys = [{{ file = \"{folder}/id\" }}, {{ file = \"{folder}/secret\" }}]"
    );
    let adapter = aws(&upstream, &setting, CLAUDE, "generate");
    for _ in 0..2 {
        ask(&adapter, &question(false)).await.1.unwrap();
    }
    let heads: Vec<String> = upstream.seen().into_iter().map(|seen| seen.head).collect();
    assert!(heads[0].contains("bearer canary-id\r\n") && heads[1].contains("bearer canary-secret\r\n"));
}

#[tokio::test]
async fn awss_errors_are_told_apart_and_quote_no_key() {
    let error = |name: &str| format!("x-amzn-errortype: {name}:http://internal.amazon.com/\r\n");
    let quoted = r#"{"message":"expected x-amz-security-token:canary-token and canary-id"}"#;
    let cases = [
        (403, "ExpiredTokenException", quoted, Code::UpstreamAuth, 1),
        (429, "ThrottlingException", r#"{"message":"slow"}"#, Code::RateLimited, 3),
        (400, "ServiceQuotaExceededException", "{}", Code::RateLimited, 1),
        (400, "ValidationException", r#"{"message":"Input is too long"}"#, Code::ContextLengthExceeded, 1),
        (503, "ServiceUnavailableException", "{}", Code::Upstream, 3),
    ];
    let (_folder, keys) = keys(true);
    for (status, name, body, code, calls) in cases {
        let upstream = Upstream::start([json(status, &error(name), body)]).await;
        let fault = ask(&aws(&upstream, &keys, CLAUDE, "generate"), &question(true)).await.1.unwrap_err();
        assert_eq!((fault.code, upstream.seen().len()), (code, calls), "{name}");
        assert_eq!(fault.provider_code, name);
        assert!(!fault.message.contains("canary"), "{fault}");
    }
}

#[tokio::test]
async fn an_exception_in_a_stream_is_a_fault_after_what_came_before() {
    let events = framed(include_str!("../../provider/bedrock/golden/stream/broken-throttled.events"));
    let upstream = Upstream::start([answered("application/vnd.amazon.eventstream", "", &events)]).await;
    let (_folder, keys) = keys(false);
    let (text, outcome) = ask(&aws(&upstream, &keys, CLAUDE, "generate"), &question(true)).await;
    assert_eq!((text.as_str(), outcome.unwrap_err().code), ("Vi", Code::RateLimited));
}

fn embed(inputs: &[&str]) -> Request {
    let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
    Request::Embed(Embed { envelope: envelope(), inputs, dimensions: None })
}

fn vector(value: u32) -> Vec<Act> {
    json(200, "", &format!("{{\"embedding\":[{value}],\"inputTextTokenCount\":{value}}}"))
}

#[tokio::test]
async fn texts_that_do_not_fit_into_one_call_are_embedded_in_several() {
    let upstream = Upstream::start([vector(1), vector(2)]).await;
    let (_folder, keys) = keys(false);
    let adapter = aws(&upstream, &keys, "amazon.titan-embed-text-v2:0", "embed");
    let end = ask(&adapter, &embed(&["a", "b", "c"])).await.1.unwrap();
    let vectors: Vec<f32> =
        end.embeddings.unwrap().embeddings.iter().flat_map(|embedding| embedding.values.clone()).collect();
    assert_eq!((vectors, end.usage.unwrap().input), (vec![1.0, 2.0, 2.0], 5));
    let mut bodies: Vec<String> = upstream.seen().into_iter().map(|seen| seen.body).collect();
    bodies.sort();
    assert_eq!(bodies, [r#"{"inputText":"a"}"#, r#"{"inputText":"b"}"#, r#"{"inputText":"c"}"#]);
}

#[tokio::test]
async fn a_text_that_fails_after_others_were_paid_for_is_not_repeated_here() {
    let upstream = Upstream::start([vector(1), json(503, "", "{}")]).await;
    let (_folder, keys) = keys(false);
    let adapter = aws(&upstream, &keys, "amazon.titan-embed-text-v2:0", "embed");
    let fault = ask(&adapter, &embed(&["a", "b"])).await.1.unwrap_err();
    assert_eq!((fault.code, fault.retryable, upstream.seen().len()), (Code::Upstream, true, 2));
}

#[tokio::test]
async fn tokens_that_only_a_header_counts_are_paid_for() {
    let body = r#"{"embeddings":{"float":[[1],[2]]}}"#;
    let upstream = Upstream::start([json(200, "x-amzn-bedrock-input-token-count: 7\r\n", body)]).await;
    let (_folder, keys) = keys(false);
    let adapter = aws(&upstream, &keys, "cohere.embed-multilingual-v3", "embed");
    let end = ask(&adapter, &embed(&["a", "b"])).await.1.unwrap();
    let usage = end.usage.unwrap();
    assert_eq!((usage.input, usage.estimated, end.cost_picodollars), (7, false, 7_000_000));
}

#[tokio::test]
async fn a_model_that_only_translates_gets_its_own_body_also_when_asked_to_stream() {
    let upstream = Upstream::start([json(200, "", r#"[{"translation_text":"Bonjour"}]"#)]).await;
    let (_folder, keys) = keys(false);
    let arn = "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/nllb-200";
    let request = Request::Translate(domain::inference::Translate {
        envelope: envelope(),
        text: "Guten Tag".to_owned(),
        source_language: Some("de".to_owned()),
        target_language: "fr".to_owned(),
        stream: true,
    });
    let (text, outcome) = ask(&aws(&upstream, &keys, arn, "translate"), &request).await;
    assert_eq!((text.as_str(), outcome.is_ok()), ("Bonjour", true));
    let seen = upstream.seen().remove(0);
    let path =
        "post /model/arn%3aaws%3asagemaker%3aeu-central-1%3a123456789012%3aendpoint%2fnllb-200/invoke ";
    assert!(seen.head.starts_with(path), "{}", seen.head);
    let parameters = r#"{"src_lang":"deu_Latn","tgt_lang":"fra_Latn","max_new_tokens":512}"#;
    assert_eq!(seen.body, format!("{{\"inputs\":\"Guten Tag\",\"parameters\":{parameters}}}"));
}
