//! NATS in, HTTP to the upstream, and the answer back.

use std::sync::Arc;

use anyhow::Context as _;
use async_nats::{Client, HeaderMap, Message, Subject};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{BROKEN, END, QUEUE, STATUS, SUBJECT, report_ready};

/// Requests at any moment.
const REQUESTS_MAX: usize = 4_096;

struct Worker {
    client: Client,
    pool: Pooled<HttpConnector, Full<Bytes>>,
    /// Address of the upstream's chat completions.
    upstream: String,
    authorization: String,
}

/// Serves until the process is ended.
///
/// # Errors
/// nats-server is not there.
pub async fn run(nats: &str, upstream: String, key: &str) -> anyhow::Result<()> {
    let client = async_nats::connect(nats).await.with_context(|| format!("cannot connect to {nats}"))?;
    let mut requests = client.queue_subscribe(SUBJECT, QUEUE.to_owned()).await.context("cannot subscribe")?;
    client.flush().await.context("cannot flush")?;
    report_ready(SUBJECT)?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pool = Pooled::builder(TokioExecutor::new()).build(connector);
    let worker = Arc::new(Worker { client, pool, upstream, authorization: format!("Bearer {key}") });
    let (tasks, slots) = (TaskTracker::new(), Arc::new(Semaphore::new(REQUESTS_MAX)));
    while let Some(Message { reply: Some(reply), payload, .. }) = requests.next().await {
        let slot = Arc::clone(&slots).acquire_owned().await.context("the slots are closed")?;
        let worker = Arc::clone(&worker);
        tasks.spawn(async move {
            let _slot = slot;
            worker.serve(reply, payload).await
        });
    }
    anyhow::bail!("the subscription ended")
}

impl Worker {
    async fn serve(&self, reply: Subject, payload: Bytes) -> anyhow::Result<()> {
        let outcome = self.relay(&reply, payload).await;
        if outcome.is_err() {
            let mut headers = HeaderMap::new();
            headers.insert(STATUS, StatusCode::BAD_GATEWAY.as_str());
            headers.insert(BROKEN, "1");
            headers.insert(END, "1");
            self.client.publish_with_headers(reply, headers, Bytes::new()).await.context("cannot publish")?;
        }
        outcome
    }

    async fn relay(&self, reply: &Subject, payload: Bytes) -> anyhow::Result<()> {
        let request = Request::post(&self.upstream)
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, &self.authorization)
            .body(Full::new(payload))
            .context("invalid request")?;
        let answer = self.pool.request(request).await.context("no answer")?;
        let (head, mut body) = answer.into_parts();
        let content_type =
            head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(STATUS, head.status.as_str());
        headers.insert("Content-Type", content_type);
        if !content_type.starts_with("text/event-stream") {
            let bytes = body.collect().await.context("the answer was cut")?.to_bytes();
            headers.insert(END, "1");
            return self.publish(reply, Some(headers), bytes).await;
        }
        let mut headers = Some(headers);
        while let Some(frame) = body.frame().await {
            let bytes = frame.context("the stream was cut")?.into_data().unwrap_or_default();
            if !bytes.is_empty() {
                self.publish(reply, headers.take(), bytes).await?;
            }
        }
        self.publish(reply, headers.take(), Bytes::new()).await
    }

    async fn publish(
        &self,
        reply: &Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> anyhow::Result<()> {
        match headers {
            Some(headers) => self.client.publish_with_headers(reply.clone(), headers, payload).await,
            None => self.client.publish(reply.clone(), payload).await,
        }
        .context("cannot publish")
    }
}
