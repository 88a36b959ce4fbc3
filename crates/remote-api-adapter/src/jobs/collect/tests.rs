use std::sync::Arc;

use super::*;
use crate::{
    config,
    jobs::{
        account::{Common, Events},
        batch::{First, write},
        record::Job,
    },
    route::Routes,
    settings::AdapterSettings,
};

const CONFIG: &str = r#"
[[providers]]
name = "acme"
kind = "openai"
base_url = "https://api.acme.example/v1"
[[providers.deployments]]
model = "m"
context_length = 1000
capabilities = ["generate"]
price = { input_per_million = "2", output_per_million = "8", batch_input_per_million = "1", batch_output_per_million = "4" }
"#;

fn route() -> Arc<Route> {
    let settings: AdapterSettings = toml::from_str(CONFIG).unwrap();
    let machine = NodeId::new("mainpc").unwrap();
    let providers = config::check(&settings, &machine).unwrap();
    let routes = Routes::new(machine, providers, &service_runtime::Clock::system()).unwrap();
    Arc::clone(routes.configured("mainpc/acme/m").unwrap())
}

fn item(name: &str) -> v1::BatchItem {
    let part =
        v1::ContentPart { part: Some(v1::content_part::Part::Text("four".to_owned())), ..Default::default() };
    let message = v1::Message { role: v1::Role::User.into(), content: vec![part], ..Default::default() };
    let request = v1::GenerateRequest { messages: vec![message], ..Default::default() };
    v1::BatchItem { custom_id: name.to_owned(), request: Some(v1::batch_item::Request::Generate(request)) }
}

fn line(name: &str, text: &str, usage: &str) -> String {
    format!(
        r#"{{"custom_id":"{name}","response":{{"status_code":200,"request_id":"r-{name}","body":{{"choices":[{{"index":0,"message":{{"content":"{text}"}},"finish_reason":"stop"}}]{usage}}}}},"error":null}}"#
    )
}

const USAGE: &str = r#","usage":{"prompt_tokens":10,"completion_tokens":2}"#;

fn job() -> Job {
    serde_json::from_value(serde_json::json!({
        "id": "j", "uid": "j.1", "kind": {"batch": {"endpoint": "/v1/chat/completions", "items": 4}}, "deployment": "mainpc/acme/m",
        "provider": "acme", "model": "m", "requested_model": "m", "parts": [], "stage": "running", "submitted_unix_ms": 1_000,
        "done_unix_ms": 5_000, "finished_unix_ms": 0, "provider_job_id": "b", "provider_state": "completed", "expires_unix_ms": 0,
        "cancel_sent": false, "succeeded": 0, "failed": 0, "accounted": 0, "usage": null, "cost_picodollars": null,
        "fine_tuned_model": "", "trained_tokens": null, "events": [], "problem": null,
    }))
    .unwrap()
}

/// The results of four items for these outputs.
fn collected(folder: &Path, outputs: &[String], ending: Ending) -> (Total, Vec<v1::BatchResult>) {
    let route = route();
    let desk = route.upstream.provider.jobs().unwrap();
    let items = ["a", "b", "c", "d"].map(item).to_vec();
    let written =
        write(First { job_id: "j", uid: "j.1", endpoint: "", position: 0 }, items, &route, desk).unwrap();
    std::fs::write(folder.join(store::ITEMS), &written.items).unwrap();
    let files: Vec<PathBuf> = (0..outputs.len()).map(|at| folder.join(format!("output-{at}"))).collect();
    for (file, text) in files.iter().zip(outputs) {
        std::fs::write(file, text).unwrap();
    }
    let (job, machine) = (job(), NodeId::new("mainpc").unwrap());
    let batch = Batch { folder, job: &job, ending, outputs: &files, route: &route, desk, machine: &machine };
    let total = batch.collect().unwrap();
    let mut frames = Frames::open(&folder.join(store::RESULTS), 0).unwrap();
    let results = std::iter::from_fn(|| frames.next().unwrap()).collect();
    (total, results)
}

fn text(result: &v1::BatchResult) -> String {
    match result.outcome.as_ref().unwrap() {
        batch_result::Outcome::End(end) => end.last_delta.as_ref().unwrap().items[0].text.clone(),
        batch_result::Outcome::Error(error) => error.code().as_str_name().to_owned(),
    }
}

#[test]
fn answers_come_in_the_order_of_the_items_whatever_the_order_of_the_lines() {
    let folder = tempfile::tempdir().unwrap();
    let done = [line("c", "three", USAGE), line("nobody", "?", USAGE), line("a", "one", "")].join("\n");
    let failed = [
        line("a", "a second answer", USAGE),
        r#"{"custom_id":"b","response":{"status_code":400,"body":{"error":{"message":"bad"}}}}"#.to_owned(),
        "garbage".to_owned(),
    ]
    .join("\r\n");
    let (total, results) = collected(folder.path(), &[done, failed], Ending::Succeeded);
    let said: Vec<String> = results.iter().map(text).collect();
    assert_eq!(said, ["one", "ERROR_CODE_INVALID_ARGUMENT", "three", "ERROR_CODE_UPSTREAM"]);
    assert_eq!((total.succeeded, total.failed), (2, 2));
    // c: 10 × $1/M + 2 × $4/M; a: counted here, because its server did not
    let batch_result::Outcome::End(a) = results[0].outcome.as_ref().unwrap() else { panic!("{results:?}") };
    let usage = a.usage.unwrap();
    assert!(usage.estimated && usage.input > 0 && usage.output == 1, "{usage:?}");
    assert_eq!(total.cost.as_picodollars(), 18_000_000 + a.cost_picodollars);
    assert_eq!(a.provider_request_id, "r-a");
}

#[test]
fn a_file_that_is_cut_anywhere_costs_requests_never_their_order_or_an_answer_that_is_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let whole = [line("a", "one", USAGE), line("b", "two", USAGE)].join("\n");
    // each place of a line is cut in the dialect's own tests
    for kept in (0..whole.len()).step_by(9) {
        let (total, results) = collected(folder.path(), &[whole[..kept].to_owned()], Ending::Succeeded);
        assert_eq!((results.len(), total.succeeded + total.failed), (4, 4));
        for (result, said) in results.iter().zip(["one", "two"]) {
            let text = text(result);
            assert!(text == said || text == "ERROR_CODE_UPSTREAM", "{kept}: {text}");
        }
        assert!(total.succeeded < 2, "{kept}");
    }
}

#[test]
fn without_a_line_the_end_of_the_job_says_why() {
    let folder = tempfile::tempdir().unwrap();
    for (ending, code) in [
        (Ending::Cancelled, "ERROR_CODE_CANCELLED"),
        (Ending::Expired, "ERROR_CODE_TIMEOUT"),
        (Ending::Failed, "ERROR_CODE_UPSTREAM"),
    ] {
        let (_, results) = collected(folder.path(), &[], ending);
        assert!(results.iter().all(|result| text(result) == code), "{ending:?}");
    }
}

#[test]
fn events_are_the_same_from_wherever_they_are_told_again() {
    let folder = tempfile::tempdir().unwrap();
    collected(folder.path(), &[line("a", "one", USAGE)], Ending::Cancelled);
    let told = |accounted| {
        let common = Common::new(&job(), "mainpc");
        let mut events = Events::open(folder.path(), common, accounted).unwrap();
        let mut all = Vec::new();
        loop {
            let group = events.take(3).unwrap();
            if group.is_empty() {
                return all;
            }
            all.extend(group);
        }
    };
    let whole = told(0);
    assert_eq!(whole.iter().map(|(counter, _)| *counter).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for accounted in 0..=4 {
        assert_eq!(told(accounted), whole[usize::try_from(accounted).unwrap()..]);
    }
    let outcomes: Vec<v1::Outcome> = whole.iter().map(|(_, event)| event.outcome()).collect();
    assert_eq!(outcomes[0], v1::Outcome::Ok);
    assert!(outcomes[1..].iter().all(|outcome| *outcome == v1::Outcome::Cancelled));
    assert_eq!((whole[0].1.cost_picodollars, whole[0].1.duration_ms), (18_000_000, 4_000));
}
