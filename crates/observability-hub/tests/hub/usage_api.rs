//! The usage API, the live feed and the page.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Method, StatusCode};
use observability_hub::{config::Role, http::access::Access, metric_store::local::LocalStore, telemetry};
use opentelemetry::metrics::MeterProvider as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use wire::v1::{Outcome, Tier};

use crate::support::{Hub, NOW_UNIX_MS, attempt};

const DAY_MS: u64 = 86_400_000;

/// Two requests: one that fell back from the cloud, one local; and one of the day before.
async fn filled(folder: &TempDir) -> Hub {
    let hub = Hub::start(folder.path()).await;
    hub.record(vec![
        attempt("r1", 1, |event| {
            event.outcome = Outcome::Failed.into();
            event.error_code = wire::v1::ErrorCode::Upstream.into();
            event.cost_picodollars = 0;
            event.usage = None;
        }),
        attempt("r1", 2, |event| {
            event.tier = Tier::LocalCpu.into();
            event.provider = "llama.cpp".to_owned();
            event.model = "demo".to_owned();
            event.cost_picodollars = 0;
        }),
        attempt("r2", 1, |event| event.decision = "quoted \"reason\", with comma".to_owned()),
        attempt("r0", 1, |event| {
            event.finished_unix_ms -= DAY_MS;
            event.agent = String::new();
        }),
    ])
    .await;
    hub
}

#[tokio::test]
async fn the_summary_of_today_adds_up() {
    let folder = TempDir::new().unwrap();
    let hub = filled(&folder).await;
    let summary = hub.get("/api/usage/summary").await.json();
    let totals = &summary["totals"];
    assert_eq!(
        (&totals["requests"], &totals["attempts"], &totals["ok"], &totals["failed"], &totals["cancelled"]),
        (&json!(2), &json!(3), &json!(2), &json!(1), &json!(0))
    );
    assert_eq!(totals["tokens"]["input"], 2_000);
    assert_eq!(
        (&totals["cost_picodollars"], &totals["cost_dollars"]),
        (&json!(270_000_000), &json!("0.00027"))
    );
    for groups in ["by_tier", "by_provider", "by_model", "by_agent", "by_day"] {
        let attempts = |group: &Value| group["attempts"].as_i64().unwrap();
        assert_eq!(summary[groups].as_array().unwrap().iter().map(attempts).sum::<i64>(), 3, "{groups}");
    }
    assert_eq!(summary["by_tier"][0]["name"], "remote-api");
    assert_eq!(summary["by_day"][0]["name"], "2023-11-14");

    let everything = hub.get("/api/usage/summary?from=0").await.json();
    assert_eq!(
        (&everything["totals"]["requests"], &everything["totals"]["attempts"]),
        (&json!(3), &json!(4))
    );
}

#[tokio::test]
async fn a_requests_attempts_are_listed_in_order() {
    let folder = TempDir::new().unwrap();
    let hub = filled(&folder).await;
    let request = hub.get("/api/usage/requests/r1").await.json();
    let outcomes: Vec<&str> =
        request["attempts"].as_array().unwrap().iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["failed", "ok"]);
    assert_eq!(request["attempts"][0]["error_code"], "upstream");
    let missing = hub.get("/api/usage/requests/unknown").await;
    assert_eq!(
        (missing.status, &missing.json()["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!("not_found"))
    );
}

#[tokio::test]
async fn exports_hold_every_row_of_the_range() {
    let folder = TempDir::new().unwrap();
    let hub = filled(&folder).await;
    hub.record((0..2_500).map(|number| attempt(&format!("bulk{number:04}"), 1, |_| {})).collect()).await;

    let lines = hub.get("/api/usage/export?format=jsonl&from=0").await;
    assert_eq!(lines.headers["content-type"], "application/x-ndjson");
    let rows: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2_504);
    let ids: std::collections::BTreeSet<_> =
        rows.iter().map(|row| row["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2_504);
    assert_eq!(rows[0]["request_id"], "r0", "oldest first");

    let csv = hub.get("/api/usage/export?format=csv").await.text();
    let mut records = csv.lines();
    let columns: Vec<&str> = records.next().unwrap().split(',').collect();
    assert_eq!((columns[0], columns.len()), ("event_id", 39));
    assert_eq!(records.count(), 2_503, "today only");
    assert!(csv.contains("\"quoted \"\"reason\"\", with comma\""));
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    for (path, field) in [
        ("/api/usage/summary?from=yesterday", "from"),
        ("/api/usage/summary?to=-1", "to"),
        ("/api/usage/summary?from=5&to=4", "to"),
        ("/api/usage/summary?form=5", "parameter"),
        ("/api/usage/export?format=xml", "format"),
        ("/api/usage/recent?limit=0", "limit"),
        ("/api/usage/recent?limit=501", "limit"),
    ] {
        let answer = hub.get(path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        let error = &answer.json()["error"];
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_argument"), &json!(field)), "{path}");
    }
}

#[tokio::test]
async fn the_latest_attempts_come_with_their_latencies() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    let rows = (1..=100_u64).map(|number| {
        attempt(&format!("r{number:03}"), 1, |event| {
            event.finished_unix_ms += number;
            event.duration_ms = number * 10;
            event.time_to_first_token_ms = number;
        })
    });
    hub.record(rows.collect()).await;
    let recent = hub.get("/api/usage/recent?limit=3").await.json();
    let ids: Vec<&str> = recent["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["request_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["r100", "r099", "r098"]);
    assert_eq!(recent["latency"]["duration_ms"], json!({"p50": 500, "p95": 950}));
    assert_eq!(recent["latency"]["time_to_first_token_ms"], json!({"p50": 50, "p95": 95}));
}

/// The data of the next `totals` event.
async fn next_totals(body: &mut hyper::body::Incoming) -> Value {
    let mut text = String::new();
    loop {
        let frame = body.frame().await.expect("the feed ended").unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        let event = text.split("\n\n").find(|event| event.starts_with("event: totals"));
        if let Some(data) = event.and_then(|event| event.lines().find_map(|line| line.strip_prefix("data: ")))
        {
            return serde_json::from_str(data).unwrap();
        }
    }
}

#[tokio::test]
async fn the_live_feed_follows_the_ledger_and_has_room_for_so_many_pages() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start_with(folder.path(), Access::default(), 1, None).await;
    let response = hub.open(Method::GET, "/api/live", &[], Bytes::new()).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut feed = response.into_body();
    assert_eq!(next_totals(&mut feed).await["summary"]["totals"]["attempts"], 0);
    assert_eq!(hub.get("/api/live").await.status, StatusCode::SERVICE_UNAVAILABLE);

    hub.record(vec![attempt("r1", 1, |_| {})]).await;
    let event = loop {
        let event = next_totals(&mut feed).await;
        if event["summary"]["totals"]["attempts"] == 1 {
            break event;
        }
    };
    assert_eq!(event["summary"]["totals"]["cost_dollars"], "0.00027");
    assert_eq!(event["commits"], 1);

    hub.stop().await;
    while let Some(frame) = feed.frame().await {
        frame.expect("the feed ends cleanly on shutdown");
    }
}

#[tokio::test]
async fn the_page_is_strict_about_where_its_parts_come_from() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/render.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = hub.get(path).await;
        assert_eq!(
            (answer.status, answer.headers["content-type"].to_str().unwrap()),
            (StatusCode::OK, media_type)
        );
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        let text = answer.text();
        for forbidden in ["http://", "https://", "innerHTML", "<script>", " style=\"", " onclick"] {
            let found = text.replace("http://www.w3.org/2000/svg", "").contains(forbidden);
            assert!(!found, "{path} contains {forbidden}");
        }
    }
    let missing = hub.get("/nowhere").await;
    assert_eq!(
        (missing.status, &missing.json()["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!("not_found"))
    );
}

#[tokio::test]
async fn metrics_equal_the_ledger_also_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let hub = filled(&folder).await;
    let expected = [
        r#"hybrid_ledger_attempts_total{outcome="failed",provider="openai",tier="remote-api"} 1"#,
        r#"hybrid_ledger_attempts_total{outcome="ok",provider="openai",tier="remote-api"} 2"#,
        r#"hybrid_ledger_attempts_total{outcome="ok",provider="llama.cpp",tier="local-cpu"} 1"#,
        r#"hybrid_ledger_tokens_total{kind="input",provider="openai",tier="remote-api"} 2000"#,
        r#"hybrid_ledger_tokens_total{kind="output",provider="llama.cpp",tier="local-cpu"} 200"#,
        r#"hybrid_ledger_cost_dollars_total{provider="openai",tier="remote-api"} 0.00054"#,
        "hybrid_ledger_dead_letters_total 0",
    ];
    let before = scrape(&hub, &folder.path().join("other"));
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    let after = scrape(&hub, &folder.path().join("another"));
    for line in expected {
        assert!(before.lines().any(|found| found == line), "{line} not in\n{before}");
        assert!(after.lines().any(|found| found == line), "{line} not in\n{after}");
    }
}

/// What `/metrics` would say of the hub's ledger, through the exporter that the process uses.
fn scrape(hub: &Hub, store: &std::path::Path) -> String {
    use prometheus::Encoder as _;
    let registry = prometheus::Registry::new();
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .build()
        .unwrap();
    let provider = opentelemetry_sdk::metrics::SdkMeterProvider::builder().with_reader(exporter).build();
    let options =
        observability_hub::config::Config::try_from(observability_hub::config::Raw::default()).unwrap();
    let (store, _) = LocalStore::open(store, options.metrics, NOW_UNIX_MS).unwrap();
    let store: Arc<dyn observability_hub::metric_store::MetricStore> = Arc::new(store);
    telemetry::observe(&provider.meter("test"), &hub.ledger, &store, Role::Active);
    let mut text = Vec::new();
    prometheus::TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
    String::from_utf8(text).unwrap()
}
