//! Asking an executor over the bus, as the coordinator does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::bail;
use bus::{Bus, ReplyStream};
use wire::subject::Execute;
use wire::v1::{self, execute_request::Method, reply_frame::Kind};

use super::ANSWER_MAX;

/// The same request each time, under an id of its own.
#[derive(Debug, Clone)]
pub struct Call {
    bus: Bus,
    at: Execute,
    deployment: String,
    request: v1::GenerateRequest,
    next: Arc<AtomicU64>,
}

impl Call {
    /// A request to a deployment of the executor at `at`.
    #[must_use]
    pub fn new(bus: Bus, at: Execute, deployment: &str, request: v1::GenerateRequest) -> Self {
        Self { bus, at, deployment: deployment.to_owned(), request, next: Arc::default() }
    }

    /// Another request to the same deployment; ids go on.
    #[must_use]
    pub fn asking(&self, request: v1::GenerateRequest) -> Self {
        Self { request, ..self.clone() }
    }

    /// Asks, and leaves the answer to be read.
    ///
    /// # Errors
    /// The bus is closed.
    pub async fn open(&self) -> anyhow::Result<ReplyStream> {
        let request_id = format!("bench-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let request = v1::ExecuteRequest {
            request_id: request_id.clone(),
            deployment: self.deployment.clone(),
            attempt: 1,
            method: Some(Method::Generate(v1::GenerateRequest { request_id, ..self.request.clone() })),
            ..Default::default()
        };
        Ok(self.bus.open(&self.at, &request).await?)
    }

    /// Asks and reads the whole answer, and returns its end; `take` is told of pieces as they arrive.
    ///
    /// # Errors
    /// The executor answers with an error, or does not answer.
    pub async fn ask(&self, mut take: impl FnMut(&[v1::DeltaItem])) -> anyhow::Result<v1::End> {
        let mut answer = self.open().await?;
        loop {
            match answer.next(ANSWER_MAX).await?.kind {
                Some(Kind::Delta(delta)) => take(&delta.items),
                Some(Kind::End(mut end)) => {
                    take(&end.last_delta.take().unwrap_or_default().items);
                    return Ok(end);
                }
                Some(Kind::Error(error)) => bail!("{error:?}"),
                _ => {}
            }
        }
    }

    /// [`Call::ask`]; the pieces of a stream count as events.
    pub(super) async fn count(&self, mut count: impl FnMut(u64)) -> anyhow::Result<()> {
        let streams = self.request.stream;
        self.ask(|items| count(if streams { items.len() as u64 } else { 0 })).await.map(drop)
    }

    /// Where it goes, for messages.
    #[must_use]
    pub fn deployment(&self) -> &str {
        &self.deployment
    }
}
