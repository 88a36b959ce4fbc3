//! Where Azure's calls go, how they show their key, and what its errors mean. Its bodies are OpenAI's, see there.

use domain::{
    fault::{Code, Origin},
    inference::{Embed, Request},
};
use reqwest::{Method, Url, header::HeaderMap};
use service_runtime::Secret;

use super::*;
use crate::{
    credential::Credential,
    provider::{
        Api, Call, Dialect, Failure, Prepared, Refused, Target,
        golden::{Golden, envelope, plain},
        jobs::{Kind, Place},
        openai::encode::Endpoint,
    },
    settings::AzureAuth,
};

const GOLDEN: Golden = Golden("azure");

fn addresses(base: &str, version: Option<&str>) -> Result<Addresses, crate::config::Invalid> {
    Addresses::new(&Url::parse(base).unwrap(), version)
}

fn refusal(status: u16, body: &[u8]) -> Failure {
    let azure = azure(AzureAuth::Key, None);
    azure.refusal("azure", Refused { status, headers: &HeaderMap::new(), body }, None)
}

fn azure(auth: AzureAuth, version: Option<&str>) -> Azure {
    let addresses = addresses("https://res.openai.azure.com", version).unwrap();
    Azure::new("azure".to_owned(), addresses, auth)
}

#[test]
fn each_surface_has_its_addresses() {
    let bases = [
        ("https://res.openai.azure.com", None),
        ("https://res.openai.azure.com/openai/v1/", None),
        ("https://res.services.ai.azure.com", Some("preview")),
        ("https://res.openai.azure.com/", Some("2024-10-21")),
        ("https://res.openai.azure.com/openai", Some("2025-04-01-preview")),
        ("https://res.services.ai.azure.com/models", None),
    ];
    let mut written = String::new();
    for (base, version) in bases {
        let addresses = addresses(base, version).unwrap();
        written.push_str(&format!("{base} {version:?}\n"));
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses, Endpoint::Embeddings] {
            written.push_str(&format!("  {}\n", addresses.of(endpoint, "my gpt/4o?")));
        }
    }
    GOLDEN.compare("encode", "addresses", &written);
}

#[test]
fn a_version_that_is_none_is_refused_by_name() {
    let cases = [
        ("https://res.openai.azure.com", "2024"),
        ("https://res.openai.azure.com", "2024-10-21-beta"),
        ("https://res.openai.azure.com", "2024/10/21"),
        ("https://res.openai.azure.com/openai/v1", "2024-10-21"),
        ("https://res.services.ai.azure.com/models", "v1"),
    ];
    for (base, version) in cases {
        assert_eq!(
            addresses(base, Some(version)).unwrap_err().field,
            "azure.api_version",
            "{base} {version}"
        );
    }
}

#[test]
fn bodies_are_openais() {
    let embed = Embed { envelope: envelope(""), inputs: vec!["one".to_owned()], dimensions: None };
    let cases = [
        ("plain", Request::Generate(plain()), Api::Chat),
        ("responses", Request::Generate(plain()), Api::Responses),
        ("embed", Request::Embed(embed), Api::Chat),
    ];
    for (name, request, api) in cases {
        let target = Target { upstream_model: "prod".to_owned(), api, ..Target::default() };
        let call = Call { target: &target, request: &request };
        let (prepared, _) = azure(AzureAuth::Key, Some("2024-10-21")).prepare(call).unwrap();
        let body = String::from_utf8(prepared.body.to_vec()).unwrap();
        GOLDEN.compare("encode", name, &format!("POST {}\n{body}\n", prepared.url));
    }
}

#[tokio::test]
async fn the_key_goes_where_it_belongs_and_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "canary-4711").unwrap();
    let key = Credential::new(Secret::file(&path)).current().unwrap();
    for (auth, header, value) in [
        (AzureAuth::Key, "api-key", "canary-4711"),
        (AzureAuth::Bearer, "authorization", "Bearer canary-4711"),
    ] {
        let url = Url::parse("https://res.openai.azure.com").unwrap();
        let mut request = reqwest::Request::new(Method::POST, url);
        azure(auth, None).authorize(&mut request, Some(&key)).await.unwrap();
        assert_eq!(request.headers().get(header).unwrap(), value);
        assert_eq!(request.headers().len(), 1);
        assert!(!format!("{:?}", request.headers()).contains("canary"));
    }
}

#[test]
fn errors_mean_what_they_mean_everywhere() {
    let cases: [(u16, &str, Code, bool); 6] = [
        (
            401,
            r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key."}}"#,
            Code::UpstreamAuth,
            false,
        ),
        (
            401,
            r#"{ "statusCode": 401, "message": "Unauthorized. Access token is missing." }"#,
            Code::UpstreamAuth,
            false,
        ),
        (
            404,
            r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment does not exist."}}"#,
            Code::NotFound,
            false,
        ),
        (
            429,
            r#"{"error":{"code":"429","message":"Requests have exceeded call rate limit."}}"#,
            Code::RateLimited,
            true,
        ),
        (
            400,
            r#"{"error":{"code":"context_length_exceeded","message":"too long"}}"#,
            Code::ContextLengthExceeded,
            false,
        ),
        (503, r#"{"error":{"code":"InternalServerError","message":"no"}}"#, Code::Upstream, true),
    ];
    for (status, body, code, transient) in cases {
        let failure = refusal(status, body.as_bytes());
        assert_eq!((failure.fault.code, failure.transient), (code, transient), "{body}");
    }
}

#[test]
fn a_filtered_prompt_says_what_it_was_filtered_for() {
    let body = br#"{"error":{"message":"The response was filtered.","type":null,"param":"prompt","code":"content_filter","status":400,
        "innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{
            "hate":{"filtered":false,"severity":"safe"},"jailbreak":{"filtered":true,"detected":true},
            "violence":{"filtered":true,"severity":"high"}}}}}"#;
    let fault = refusal(400, body).fault;
    assert_eq!((fault.code, fault.origin, fault.retryable), (Code::InvalidArgument, Origin::Caller, false));
    assert_eq!((fault.field.as_str(), fault.provider_code.as_str()), ("messages", "content_filter"));
    assert!(fault.message.contains("jailbreak, violence (high)"), "{fault}");
    assert!(!fault.message.contains("hate"), "{fault}");
}

#[test]
fn jobs_have_their_addresses_and_name_endpoints_as_the_surface_does() {
    let json = reqwest::header::HeaderValue::from_static("application/json");
    for (base, version, batches, endpoint) in [
        ("https://res.openai.azure.com", None, "/openai/v1/batches", "/v1/chat/completions"),
        (
            "https://res.services.ai.azure.com/openai/v1/",
            Some("preview"),
            "/openai/v1/batches?api-version=preview",
            "/v1/chat/completions",
        ),
        (
            "https://res.openai.azure.com/",
            Some("2024-10-21"),
            "/openai/batches?api-version=2024-10-21",
            "/chat/completions",
        ),
    ] {
        let azure = Azure::new("azure".to_owned(), addresses(base, version).unwrap(), AzureAuth::Key);
        let jobs = azure.jobs().unwrap();
        assert!(jobs.offers(Kind::Batch).is_ok() && jobs.offers(Kind::FineTune).is_ok());
        let url = addresses(base, version).unwrap().of(Endpoint::ChatCompletions, "my-gpt");
        let prepared = Prepared {
            url,
            headers: HeaderMap::new(),
            content_type: json.clone(),
            accept: json.clone(),
            body: bytes::Bytes::from_static(b"{}"),
        };
        let place = Place { id: "a", position: 0 };
        assert_eq!(jobs.batch_line(place, &prepared, &mut Vec::new()).unwrap(), endpoint, "{base}");
        let Some(client) = addresses(base, version).unwrap().jobs() else { panic!("{base}") };
        let listed = client.list(Kind::Batch);
        let query = listed.query().map(|query| format!("?{query}")).unwrap_or_default();
        assert_eq!(format!("{}{query}", listed.path()), batches);
    }
    let models = addresses("https://res.services.ai.azure.com/models", None).unwrap();
    assert!(Azure::new("azure".to_owned(), models, AzureAuth::Key).jobs().is_err());
}
