use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue};

use super::*;
use crate::provider::jobs::Ended;

/// A side that is only asked for its name.
struct Nobody;

impl Side for Nobody {
    fn provider(&self) -> &str {
        "acme"
    }

    fn call<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        panic!("{ask:?}")
    }

    fn download<'a>(&'a self, url: Url, _to: &'a Path) -> BoxFuture<'a, Result<(), Failure>> {
        panic!("{url}")
    }
}

const PLACE: Place<'static> = Place { id: "a", position: 0 };

fn client(base: &str) -> JobClient {
    JobClient::new(&Url::parse(base).unwrap(), "/v1")
}

#[test]
fn a_line_names_the_public_endpoint_whatever_the_servers_prefix_is() {
    for base in
        ["https://api.openai.com/v1", "https://api.groq.com/openai/v1/", "https://r.example/openai/v1"]
    {
        let url = Url::parse(&format!("{}/chat/completions", base.trim_end_matches('/'))).unwrap();
        let json = HeaderValue::from_static("application/json");
        let prepared = Prepared {
            url,
            headers: HeaderMap::new(),
            content_type: json.clone(),
            accept: json,
            body: Bytes::from_static(b"{\"model\":\"m\",\"big\":12345678901234567890123}"),
        };
        let mut out = Vec::new();
        assert_eq!(client(base).batch_line(PLACE, &prepared, &mut out).unwrap(), "/v1/chat/completions");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\
             \"body\":{\"model\":\"m\",\"big\":12345678901234567890123}}\n"
        );
    }
}

#[test]
fn an_id_of_the_provider_cannot_lead_elsewhere() {
    let url = client("https://a.example/v1").job(Kind::Batch, "../../admin?x#y", &["cancel"]);
    assert_eq!(url.host_str(), Some("a.example"));
    assert_eq!(url.path(), "/v1/batches/..%2F..%2Fadmin%3Fx%23y/cancel");
}

#[test]
fn jobs_are_created_with_what_was_asked_and_nothing_else() {
    let files = ["file-1".to_owned(), "file-2".to_owned()];
    let batch = Work::Batch { endpoint: "/v1/embeddings", requests: Path::new("r"), count: 1 };
    let order = Order { uid: "j.1", model: "m", since_unix_ms: 0, work: batch };
    assert_eq!(
        String::from_utf8(creation(order, &files)).unwrap(),
        r#"{"input_file_id":"file-1","endpoint":"/v1/embeddings","completion_window":"24h","metadata":{"hybrid_job":"j.1"}}"#
    );
    let options = Options { suffix: "s".to_owned(), seed: Some(7), ..Options::default() };
    let work =
        |options| Work::FineTune { options, training: Path::new("t"), validation: Some(Path::new("v")) };
    assert_eq!(
        String::from_utf8(creation(Order { work: work(&options), ..order }, &files)).unwrap(),
        r#"{"model":"m","training_file":"file-1","validation_file":"file-2","suffix":"s","seed":7,"metadata":{"hybrid_job":"j.1"}}"#
    );
    let options = Options { epochs: Some(2), learning_rate_multiplier: Some(0.5), ..Options::default() };
    let written = String::from_utf8(creation(Order { work: work(&options), ..order }, &files)).unwrap();
    assert!(
        written.contains(
            r#""method":{"type":"supervised","supervised":{"hyperparameters":{"n_epochs":2,"learning_rate_multiplier":0.5}}}"#
        ),
        "{written}"
    );
}

const LINES: [&str; 5] = [
    r#"{"id":"batch_req_1","custom_id":"a","response":{"status_code":200,"request_id":"req_1","body":{"choices":[]}},"error":null}"#,
    r#"{"id":"batch_req_2","custom_id":"b","response":{"status_code":429,"request_id":"req_2","body":{"error":{"code":"x"}}},"error":null}"#,
    r#"{"id":"batch_req_3","custom_id":"c","response":null,"error":{"code":"batch_expired","message":"no time"}}"#,
    r#"{"id":"batch_req_4","custom_id":"d","response":null,"error":{"code":"batch_cancelled","message":"over"}}"#,
    r#"{"id":"batch_req_5","custom_id":"e","error":{"code":"server_error","message":"oops"}}"#,
];

#[test]
fn each_kind_of_line_says_what_became_of_its_request() {
    let read = |line: &'static str| client("https://a.example/v1").read(line.as_bytes()).unwrap();
    assert_eq!(read(LINES[0]).outcome, Outcome::Answer(b"{\"choices\":[]}"));
    assert_eq!((read(LINES[0]).custom_id.as_str(), read(LINES[0]).request_id.as_str()), ("a", "req_1"));
    assert_eq!(
        read(LINES[1]).outcome,
        Outcome::Refused { status: 429, body: b"{\"error\":{\"code\":\"x\"}}" }
    );
    assert_eq!(read(LINES[2]).outcome, Outcome::Expired);
    assert_eq!(read(LINES[3]).outcome, Outcome::Cancelled);
    let failed = Outcome::Failed { code: "server_error".to_owned(), message: "oops".to_owned() };
    assert_eq!(read(LINES[4]).outcome, failed);
}

#[test]
fn a_line_that_is_cut_anywhere_is_no_answer() {
    let client = client("https://a.example/v1");
    for line in LINES {
        for kept in 0..line.len() {
            assert!(client.read(&line.as_bytes()[..kept]).is_err(), "{}", &line[..kept]);
        }
    }
    for odd in ["{}", "[]", "null", r#"{"custom_id":"a"}"#, r#"{"custom_id":7,"error":{}}"#] {
        assert!(client.read(odd.as_bytes()).is_err(), "{odd}");
    }
}

#[test]
fn states_are_read_and_unknown_ones_are_waited_out() {
    let look = |status: &str| {
        let body = format!(
            r#"{{"id":"b","status":"{status}","errors":{{"data":[{{"code":"token_limit_exceeded","message":"too many"}}]}},
            "output_file_id":"o","error_file_id":null,"request_counts":{{"total":3,"completed":2,"failed":1}},"expires_at":5}}"#
        );
        let batch: Batch<'_> =
            parse(&Nobody, "a batch", body.as_bytes()).unwrap_or_else(|failure| panic!("{failure:?}"));
        batch.into_look(&Nobody)
    };
    let done = look("completed");
    assert_eq!(
        (done.ended, done.outputs, done.succeeded, done.failed),
        (Some(Ended::Completed), vec!["o".to_owned()], 2, 1)
    );
    assert_eq!(done.expires_unix_ms, 5_000);
    assert_eq!(look("cancelled").ended, Some(Ended::Cancelled));
    assert_eq!(look("expired").ended, Some(Ended::Expired));
    assert!(
        matches!(look("failed").ended, Some(Ended::Failed(fault)) if fault.provider_code == "token_limit_exceeded")
    );
    for running in ["validating", "in_progress", "finalizing", "cancelling", "paused"] {
        assert_eq!(look(running).ended, None, "{running}");
    }
}
