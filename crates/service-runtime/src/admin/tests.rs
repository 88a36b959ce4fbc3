use super::*;
use crate::testing::{free_port, get as fetch};

fn process() -> Process {
    Process::for_tests("test-service", "mainpc", "state")
}

#[tokio::test]
async fn readiness_follows_the_components_and_the_shutdown() {
    let process = process();
    let addr = process.serve_admin(free_port(), Router::new()).await.unwrap();
    let bus = process.health.component("bus");

    let (status, answer) = fetch(addr, "/readyz").await;
    assert_eq!(status, 503);
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "ready": false,
        "components": [{ "name": "bus", "ready": false, "detail": "starting" }],
    });
    assert_eq!(body, expected);

    bus.set_ready(true, "connected");
    assert_eq!(fetch(addr, "/readyz").await.0, 200);

    process.shutdown.request();
    assert_eq!(fetch(addr, "/readyz").await.0, 503);
    assert_eq!(fetch(addr, "/healthz").await.0, 200, "alive while it drains");
    process.stop().await.unwrap();
}

#[tokio::test]
async fn liveness_ends_with_the_first_task_that_fails() {
    let process = process();
    let addr = process.serve_admin(free_port(), Router::new()).await.unwrap();
    assert_eq!(fetch(addr, "/healthz").await.0, 200);
    process.tasks.spawn("doomed", async { anyhow::bail!("nothing left to do") });
    process.shutdown.requested().await;
    assert_eq!(fetch(addr, "/healthz").await.0, 503);
    assert!(process.stop().await.is_err());
}

#[tokio::test]
async fn metrics_are_written_in_the_text_format() {
    let process = process();
    let requests = prometheus::IntCounter::new("requests_total", "requests").unwrap();
    process.registry().register(Box::new(requests.clone())).unwrap();
    requests.inc_by(3);
    let addr = process.serve_admin(free_port(), Router::new()).await.unwrap();
    let (status, answer) = fetch(addr, "/metrics").await;
    assert_eq!(status, 200);
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("# TYPE requests_total counter\nrequests_total 3\n"), "{answer}");
}

#[tokio::test]
async fn every_other_path_belongs_to_the_service() {
    let extra = Router::new()
        .route("/api/status", get(|| async { "from the service" }))
        // Also a path of ours; the service's is not reached, and merging the two would panic.
        .route("/healthz", get(|| async { "shadowed" }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "the service's own 404") });
    let process = process();
    let addr = process.serve_admin(free_port(), extra).await.unwrap();
    assert!(fetch(addr, "/api/status").await.1.ends_with("from the service"));
    assert!(fetch(addr, "/healthz").await.1.ends_with("ok\n"));
    let (status, answer) = fetch(addr, "/nowhere").await;
    assert_eq!(status, 404);
    assert!(answer.ends_with("the service's own 404"));
}

#[tokio::test]
async fn a_taken_address_names_the_setting() {
    let process = process();
    let taken = process.serve_admin(free_port(), Router::new()).await.unwrap();
    let error = process.serve_admin(taken, Router::new()).await.unwrap_err();
    assert!(matches!(&error, AdminError::Bind(bind) if bind.key == "test-service.admin_listen"));
    assert!(error.to_string().contains(&taken.to_string()));
}
