use std::{collections::BTreeMap, sync::Mutex};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue};

use super::*;
use crate::provider::jobs::Ended;

const UID: &str = "night.19a1b2c3d4e0007";

/// A server that answers with what it was given, by path and query.
#[derive(Default)]
struct Scripted {
    answers: BTreeMap<String, String>,
    asked: Mutex<Vec<String>>,
}

impl Scripted {
    fn answer(&self, url: &Url) -> Result<Vec<u8>, Failure> {
        let place =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        self.asked.lock().unwrap().push(place.clone());
        let answer = self.answers.get(&place).unwrap_or_else(|| panic!("{place} was asked for"));
        Ok(answer.clone().into_bytes())
    }
}

impl Side for Scripted {
    fn provider(&self) -> &str {
        "acme"
    }

    fn call<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        futures::future::ready(self.answer(&ask.url)).boxed()
    }

    fn download<'a>(&'a self, url: Url, to: &'a Path) -> BoxFuture<'a, Result<(), Failure>> {
        let written = self.answer(&url).map(|bytes| std::fs::write(to, bytes).unwrap());
        futures::future::ready(written).boxed()
    }
}

fn client() -> JobClient {
    JobClient::new(&Url::parse("https://api.example/v1/messages").unwrap())
}

fn prepared() -> Prepared {
    let json = HeaderValue::from_static("application/json");
    Prepared {
        url: Url::parse("https://api.example/v1/messages").unwrap(),
        headers: HeaderMap::new(),
        content_type: json.clone(),
        accept: json,
        body: Bytes::from_static(b"{\"model\":\"m\",\"big\":12345678901234567890123}"),
    }
}

#[test]
fn requests_make_one_list_under_ids_that_the_api_takes() {
    let mut out = b"{\"requests\":[".to_vec();
    for (position, custom_id) in ["a", &"x".repeat(64)].into_iter().enumerate() {
        let position = position as u64;
        let id = client().line_id(UID, position, custom_id);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        assert!(id.len() <= 64 && id.chars().all(plain), "{id}");
        let place = Place { id: &id, position };
        assert_eq!(client().batch_line(place, &prepared(), &mut out).unwrap(), "/v1/messages");
    }
    out.extend_from_slice(b"]}");
    let text = String::from_utf8(out.clone()).unwrap();
    assert!(text.contains("\"params\":{\"model\":\"m\",\"big\":12345678901234567890123}"), "{text}");
    let body: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let ids: Vec<&str> =
        body["requests"].as_array().unwrap().iter().map(|one| one["custom_id"].as_str().unwrap()).collect();
    assert!(ids[0].starts_with("19a1b2c3d4e0007-") && ids[0].ends_with("-0"), "{ids:?}");
    assert_eq!(ids[0].trim_end_matches('0'), ids[1].trim_end_matches('1'));
    assert_ne!(tag(UID), tag("other.19a1b2c3d4e0007"), "the job's name counts too");
}

#[test]
fn an_id_of_the_provider_cannot_lead_elsewhere() {
    let url = client().batch("../../admin?x#y", &["results"]);
    assert_eq!(url.host_str(), Some("api.example"));
    assert_eq!(url.path(), "/v1/messages/batches/..%2F..%2Fadmin%3Fx%23y/results");
}

const LINES: [&str; 4] = [
    r#"{"custom_id":"a","result":{"type":"succeeded","message":{"content":[]}}}"#,
    r#"{"custom_id":"b","result":{"type":"errored","error":{"type":"error","request_id":"req_2","error":{"type":"invalid_request_error","message":"no"}}}}"#,
    r#"{"custom_id":"c","result":{"type":"canceled"}}"#,
    r#"{"custom_id":"d","result":{"type":"expired"}}"#,
];

#[test]
fn each_kind_of_line_says_what_became_of_its_request() {
    let client = client();
    let read = |line: &'static str| client.read(line.as_bytes()).unwrap();
    assert_eq!(read(LINES[0]).outcome, Outcome::Answer(b"{\"content\":[]}"));
    let refused = read(LINES[1]);
    assert!(matches!(refused.outcome, Outcome::Refused { status: 400, .. }), "{refused:?}");
    assert_eq!((refused.custom_id.as_str(), refused.request_id.as_str()), ("b", "req_2"));
    assert_eq!(read(LINES[2]).outcome, Outcome::Cancelled);
    assert_eq!(read(LINES[3]).outcome, Outcome::Expired);
    let odd = read(r#"{"custom_id":"e","result":{"type":"eaten"}}"#);
    assert!(matches!(odd.outcome, Outcome::Failed { .. }), "{odd:?}");
    let own_fault = read(r#"{"custom_id":"e","result":{"type":"errored","error":{"error":{"type":"new"}}}}"#);
    assert!(matches!(own_fault.outcome, Outcome::Refused { status: 500, .. }), "{own_fault:?}");
}

#[test]
fn a_line_that_is_cut_anywhere_is_no_answer() {
    let client = client();
    for line in LINES {
        for kept in 0..line.len() {
            assert!(client.read(&line.as_bytes()[..kept]).is_err(), "{}", &line[..kept]);
        }
    }
    for odd in ["{}", "null", r#"{"custom_id":"a","result":{"type":"succeeded"}}"#, r#"{"custom_id":"a"}"#] {
        assert!(client.read(odd.as_bytes()).is_err(), "{odd}");
    }
}

fn batch(id: &str, status: &str, created: &str, counts: &str, more: &str) -> String {
    let results = match status {
        "ended" => "\"https://elsewhere.example/results\"",
        _ => "null",
    };
    format!(
        r#"{{"id":"{id}","type":"message_batch","processing_status":"{status}","created_at":"{created}","request_counts":{{{counts}}},
        "expires_at":"2026-11-22T00:00:00Z","results_url":{results}{more}}}"#
    )
}

#[test]
fn states_are_read_and_unknown_ones_are_waited_out() {
    let look = |status: &str, counts: &str, more: &str| {
        let body = batch("b", status, "2026-11-21T00:00:00Z", counts, more);
        let batch: Batch<'_> = serde_json::from_str(&body).unwrap();
        batch.into_look()
    };
    let done = look("ended", r#""succeeded":2,"errored":1"#, "");
    assert_eq!((done.ended, done.succeeded, done.failed), (Some(Ended::Completed), 2, 1));
    // results come from the configured server, whatever address it names
    assert_eq!((done.outputs, done.expires_unix_ms), (vec!["b".to_owned()], 1_795_305_600_000));
    let cancelled = look("ended", r#""succeeded":2"#, r#","cancel_initiated_at":"2026-11-21T01:00:00Z""#);
    assert_eq!(cancelled.ended, Some(Ended::Cancelled));
    assert_eq!(look("ended", r#""succeeded":1,"expired":1"#, "").ended, Some(Ended::Expired));
    for running in ["in_progress", "canceling", "paused"] {
        let look = look(running, r#""processing":3"#, "");
        assert_eq!((look.ended, look.failed, look.outputs.len()), (None, 0, 0), "{running}");
    }
}

/// What a search finds, and what it asked the server.
async fn found(
    listed: &[String],
    results: &[(&str, String)],
    others: &[String],
) -> Result<Option<String>, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let requests = folder.path().join("requests");
    let mut answers = BTreeMap::from([(
        "/v1/messages/batches?limit=1000".to_owned(),
        format!(r#"{{"data":[{}],"has_more":false,"first_id":null,"last_id":null}}"#, listed.join(",")),
    )]);
    for (id, text) in results {
        answers.insert(format!("/v1/messages/batches/{id}/results"), text.clone());
    }
    let side = Scripted { answers, ..Scripted::default() };
    let work = Work::Batch { endpoint: ENDPOINT, requests: &requests, count: 3 };
    // 2026-11-21T00:00:00Z
    let order = Order { uid: UID, model: "m", since_unix_ms: 1_795_219_200_000, work };
    let found = client().find(&side, order, others).await;
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "a file is left");
    found
}

const THREE: &str = r#""succeeded":3"#;
const LATER: &str = "2026-11-21T00:01:00Z";

fn results_of(uid: &str) -> String {
    format!("{{\"custom_id\":\"{}2\",\"result\":{{\"type\":\"canceled\"}}}}\n", tag(uid))
}

#[tokio::test]
async fn a_creation_that_was_not_heard_of_is_known_by_its_results() {
    let ended = |id: &str| batch(id, "ended", LATER, THREE, "");
    let listed = [ended("theirs"), ended("ours")];
    let results = [("theirs", results_of("day.19a1b2c3d4e0007")), ("ours", results_of(UID))];
    assert_eq!(found(&listed, &results, &[]).await.unwrap().as_deref(), Some("ours"));
    assert_eq!(found(&listed[..1], &results, &[]).await.unwrap(), None);
    // nothing is asked of what is known to be another job's
    assert_eq!(found(&listed[..1], &[], &["theirs".to_owned()]).await.unwrap(), None);
}

#[tokio::test]
async fn nothing_is_created_beside_a_batch_that_may_be_ours() {
    let running = batch("b", "in_progress", LATER, r#""processing":3"#, "");
    let failure = found(std::slice::from_ref(&running), &[], &[]).await.unwrap_err();
    assert!(failure.transient && failure.fault.message.contains("batch b"), "{failure:?}");
    assert_eq!(found(std::slice::from_ref(&running), &[], &["b".to_owned()]).await.unwrap(), None);
    // another size, and another time
    let larger = batch("b", "in_progress", LATER, r#""processing":4"#, "");
    let older = batch("b", "in_progress", "2026-11-20T23:40:00Z", r#""processing":3"#, "");
    assert_eq!(found(&[larger, older], &[], &[]).await.unwrap(), None);
    // clocks differ a little
    let early = batch("b", "in_progress", "2026-11-20T23:55:00Z", r#""processing":3"#, "");
    assert!(found(&[early], &[], &[]).await.is_err());
}
