//! Remote-write 1.0 and the Prometheus API, over HTTP.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::{Method, StatusCode};
use observability_hub::{
    http::access::Access,
    metric_store::{
        Labels, Matcher, MetricStore, Sample, Series, StoreError, StoreSize, TimeRange, Write, Written,
    },
    remote_write::proto,
};
use prost::Message as _;
use serde_json::json;
use service_runtime::Secret;
use tempfile::TempDir;

use crate::support::{Answer, Hub, NOW_UNIX_MS};

pub(crate) const HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> proto::TimeSeries {
    proto::TimeSeries {
        labels: labels
            .iter()
            .map(|(name, value)| proto::Label { name: (*name).to_owned(), value: (*value).to_owned() })
            .collect(),
        samples: samples
            .iter()
            .map(|(timestamp, value)| proto::Sample { value: *value, timestamp: *timestamp })
            .collect(),
        histograms: Vec::new(),
    }
}

pub(crate) fn body(timeseries: Vec<proto::TimeSeries>) -> Bytes {
    let plain = proto::WriteRequest { timeseries }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&plain).unwrap().into()
}

async fn write(hub: &Hub, timeseries: Vec<proto::TimeSeries>) -> Answer {
    hub.send(Method::POST, "/api/v1/write", &HEADERS, body(timeseries)).await
}

async fn value(hub: &Hub, query: &str) -> serde_json::Value {
    let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let answer = hub.get(&format!("/api/v1/query?query={query}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json()["data"]["result"].clone()
}

#[tokio::test]
async fn what_is_written_can_be_asked_for() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    let answer = write(
        &hub,
        vec![
            series(&[("__name__", "up"), ("job", "a")], &[(NOW_UNIX_MS - 15_000, 0.0), (NOW_UNIX_MS, 1.0)]),
            series(&[("__name__", "up"), ("job", "b")], &[(NOW_UNIX_MS - 600_000, 1.0)]),
            series(&[("__name__", "load"), ("job", "a")], &[(NOW_UNIX_MS, f64::INFINITY)]),
        ],
    )
    .await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0));

    // The value of ten minutes ago is no present value.
    let expected = json!([{"metric": {"__name__": "up", "job": "a"}, "value": [1_700_000_000.0, "1"]}]);
    assert_eq!(value(&hub, "up").await, expected);
    assert_eq!(value(&hub, r#"up{job="b"}"#).await, json!([]));
    assert_eq!(value(&hub, "load").await[0]["value"][1], "+Inf");

    let listed = hub.get("/api/v1/series?match[]=up&match[]=load").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 3);
    let limited = hub.get("/api/v1/series?match[]=up&start=1699999990").await.json();
    assert_eq!(limited["data"], json!([{"__name__": "up", "job": "a"}]));
    assert_eq!(hub.get("/api/v1/labels").await.json()["data"], json!(["__name__", "job"]));
    assert_eq!(hub.get("/api/v1/label/job/values").await.json()["data"], json!(["a", "b"]));
    assert_eq!(hub.get("/api/v1/label/__name__/values").await.json()["data"], json!(["load", "up"]));
    let build = hub.get("/api/v1/status/buildinfo").await.json();
    assert_eq!(
        (&build["status"], &build["data"]["application"]),
        (&json!("success"), &json!("observability-hub"))
    );
}

#[tokio::test]
async fn resent_old_and_out_of_order_samples_are_no_error() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    let now = || series(&[("__name__", "up")], &[(NOW_UNIX_MS, 1.0)]);
    let hours_ago = |hours: i64| series(&[("__name__", "up")], &[(NOW_UNIX_MS - hours * 3_600_000, 1.0)]);
    for write_request in [vec![now()], vec![now()], vec![hours_ago(1)], vec![hours_ago(23)], vec![]] {
        assert_eq!(write(&hub, write_request).await.status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn invalid_samples_are_told_and_the_valid_rest_is_kept() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    let minute = 60_000;
    for (expected, bad) in [
        ("future", series(&[("__name__", "bad")], &[(NOW_UNIX_MS + 11 * minute, 1.0)])),
        ("retention", series(&[("__name__", "bad")], &[(NOW_UNIX_MS - 25 * 60 * minute, 1.0)])),
        ("__name__", series(&[("job", "bad")], &[(NOW_UNIX_MS, 1.0)])),
        ("twice", series(&[("__name__", "bad"), ("a", "1"), ("a", "2")], &[(NOW_UNIX_MS, 1.0)])),
        ("another value", series(&[("__name__", "kept")], &[(NOW_UNIX_MS, 99.0)])),
    ] {
        let good = series(&[("__name__", "kept")], &[(NOW_UNIX_MS, 1.0)]);
        let answer = write(&hub, vec![good, bad]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{expected}");
        assert!(answer.text().contains(expected), "{expected}: {}", answer.text());
        assert_eq!(value(&hub, "kept").await[0]["value"][1], "1", "{expected}");
        assert_eq!(value(&hub, "bad").await, json!([]), "{expected}");
    }
}

#[tokio::test]
async fn a_stale_marker_ends_a_series() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    write(&hub, vec![series(&[("__name__", "up")], &[(NOW_UNIX_MS - 10, 1.0), (NOW_UNIX_MS, stale)])]).await;
    assert_eq!(value(&hub, "up").await, json!([]));
}

#[tokio::test]
async fn other_types_and_encodings_are_refused_with_415_and_missing_headers_mean_the_default() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    let good = body(vec![series(&[("__name__", "up")], &[(NOW_UNIX_MS, 1.0)])]);
    let protobuf = "application/x-protobuf";
    for (content_type, encoding, expected) in [
        (Some(protobuf), Some("snappy"), StatusCode::NO_CONTENT),
        (
            Some("application/x-protobuf;proto=prometheus.WriteRequest"),
            Some("snappy"),
            StatusCode::NO_CONTENT,
        ),
        (None, None, StatusCode::NO_CONTENT),
        (Some("application/json"), Some("snappy"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (
            Some("application/x-protobuf;proto=io.prometheus.write.v2.Request"),
            Some("snappy"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (Some(protobuf), Some("gzip"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (Some(protobuf), Some("identity"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let headers: Vec<_> = [("content-type", content_type), ("content-encoding", encoding)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let answer = hub.send(Method::POST, "/api/v1/write", &headers, good.clone()).await;
        assert_eq!(answer.status, expected, "{headers:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn damaged_and_oversized_bodies_are_the_senders_fault() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    let snappy_of_noise: Bytes = snap::raw::Encoder::new().compress_vec(&[0xff; 100]).unwrap().into();
    for (what, body, expected) in [
        ("empty", Bytes::new(), StatusCode::BAD_REQUEST),
        ("no snappy", Bytes::from_static(b"up 1"), StatusCode::BAD_REQUEST),
        ("no protobuf", snappy_of_noise, StatusCode::BAD_REQUEST),
        // Claims 4 GiB in five bytes.
        ("bomb", Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]), StatusCode::PAYLOAD_TOO_LARGE),
        ("too large", Bytes::from(vec![0; (32 << 20) + 1]), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let answer = hub.send(Method::POST, "/api/v1/write", &HEADERS, body).await;
        assert_eq!(answer.status, expected, "{what}: {}", answer.text());
    }
    assert_eq!(hub.get("/api/v1/write").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn acknowledged_samples_are_there_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    let writes = (0..40).map(|number| {
        let labels = [("__name__".to_owned(), "m".to_owned()), ("n".to_owned(), number.to_string())];
        let labels: Vec<(&str, &str)> =
            labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = vec![series(&labels, &[(NOW_UNIX_MS, f64::from(number))])];
        let hub = &hub;
        async move { write(hub, request).await.status }
    });
    for status in futures::future::join_all(writes).await {
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    assert_eq!(value(&hub, "m").await.as_array().unwrap().len(), 40);
    assert_eq!(value(&hub, r#"m{n="39"}"#).await[0]["value"][1], "39");
}

#[tokio::test]
async fn more_than_a_selector_is_bad_data_that_says_so() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    for path in [
        "/api/v1/query?query=rate(up[5m])",
        "/api/v1/query",
        "/api/v1/query?query=up&time=yesterday",
        "/api/v1/series",
        "/api/v1/series?match[]=up&start=2&end=1",
        "/api/v1/label/a-b/values",
    ] {
        let answer = hub.get(path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        let error = answer.json();
        assert_eq!((&error["status"], &error["errorType"]), (&json!("error"), &json!("bad_data")), "{path}");
    }
    let answer = hub.get("/api/v1/query?query=rate(up[5m])").await;
    assert!(answer.text().contains("plain selector"), "{}", answer.text());
}

#[tokio::test]
async fn a_query_may_come_as_a_form() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    write(&hub, vec![series(&[("__name__", "up")], &[(NOW_UNIX_MS, 1.0)])]).await;
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let form = Bytes::from_static(b"query=up&time=1700000000");
    let answer = hub.send(Method::POST, "/api/v1/query", &headers, form).await;
    assert_eq!(answer.json()["data"]["result"][0]["value"][1], "1");
}

/// A disk that has no space, which a test cannot make of a real one.
struct FullDisk;

impl MetricStore for FullDisk {
    fn write(&self, _write: Write) -> BoxFuture<'_, Result<Written, StoreError>> {
        Box::pin(std::future::ready(Err(StoreError::OutOfSpace("no space left on device".to_owned()))))
    }

    fn select(&self, _: Vec<Matcher>, _: TimeRange) -> BoxFuture<'_, Result<Vec<Series>, StoreError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn newest(
        &self,
        _: Vec<Matcher>,
        _: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<(Labels, Sample)>, StoreError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn labels(&self, _: Vec<Matcher>, _: TimeRange) -> BoxFuture<'_, Result<Vec<Labels>, StoreError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn size(&self) -> StoreSize {
        StoreSize::default()
    }
}

#[tokio::test]
async fn a_full_disk_asks_the_sender_to_come_back_and_queries_still_work() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start_with(folder.path(), Access::default(), 4, Some(Arc::new(FullDisk))).await;
    let answer = write(&hub, vec![series(&[("__name__", "up")], &[(NOW_UNIX_MS, 1.0)])]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(hub.get("/api/v1/query?query=up").await.status, StatusCode::OK);
}

#[tokio::test]
async fn tokens_are_asked_for_where_they_are_configured() {
    let folder = TempDir::new().unwrap();
    let (read, writing) = (folder.path().join("read"), folder.path().join("write"));
    std::fs::write(&read, "reader\n").unwrap();
    std::fs::write(&writing, "writer\n").unwrap();
    let access = Access {
        read_token: Some(Secret::file(&read)),
        write_token: Some(Secret::file(&writing)),
        ..Access::default()
    };
    let hub = Hub::start_with(folder.path(), access, 4, None).await;
    let up = || body(vec![series(&[("__name__", "up")], &[(NOW_UNIX_MS, 1.0)])]);
    let with = |token: &'static str| [HEADERS[0], HEADERS[1], ("authorization", token)];
    for (token, expected) in [
        ("Bearer writer", StatusCode::NO_CONTENT),
        ("Bearer reader", StatusCode::UNAUTHORIZED),
        ("Bearer ", StatusCode::UNAUTHORIZED),
        ("Basic writer", StatusCode::UNAUTHORIZED),
    ] {
        let answer = hub.send(Method::POST, "/api/v1/write", &with(token), up()).await;
        assert_eq!(answer.status, expected, "{token}");
    }
    for path in ["/api/usage/summary", "/api/v1/query?query=up", "/api/live"] {
        assert_eq!(hub.get(path).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let good = [("authorization", "Bearer reader")];
    let answer = hub.send(Method::GET, "/api/usage/summary", &good, Bytes::new()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(hub.get("/").await.status, StatusCode::OK, "the page itself holds no data");

    std::fs::write(&read, "rotated\n").unwrap();
    let answer = hub.send(Method::GET, "/api/usage/summary", &good, Bytes::new()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "a rotated token no longer holds");
}

#[tokio::test]
async fn a_name_that_is_not_allowed_is_refused_on_every_path() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::start(folder.path()).await;
    for path in ["/", "/api/usage/summary", "/api/v1/write", "/nowhere"] {
        let answer = hub.send(Method::GET, path, &[("host", "rebound.example:7076")], Bytes::new()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(answer.json()["error"]["field"], "host");
    }
}
