//! The two forms of an answer: in one body, and in pieces.

use bytes::Bytes;
use domain::{
    fault::{Code, Fault},
    resilience::retry::Cause,
};
use futures::{FutureExt, future::BoxFuture};
use reqwest::Response;
use tokio::time::Instant;
use wire::v1;

use super::cut;
use crate::{
    credential::Key,
    keys::Lease,
    provider::{
        Answer, Completion, Failed, Reader, Step,
        http::{Body, Gather, Transport},
        refusal::scrub,
    },
};

/// The connection broke or ended too early; silence is not asked for twice.
fn broken(fault: Fault) -> Failed {
    let cause = (fault.code == Code::Upstream && fault.retryable).then_some(Cause::Cut);
    Failed { fault, cause, unsent: false, used: None }
}

/// What was read is no answer. An error that the provider wrote in its place may pass; what does not parse will not.
fn said(fault: Fault) -> Failed {
    let cause = match fault.code {
        Code::RateLimited => Some(Cause::RateLimit),
        Code::Upstream if fault.retryable && !fault.provider_code.is_empty() => Some(Cause::Server),
        _ => None,
    };
    Failed { fault, cause, unsent: false, used: None }
}

/// The end of an answer; the header's id stands in where the answer itself has none.
fn done(mut completion: Completion, request_id: &mut String, lease: &mut Lease) -> Step {
    if completion.provider_request_id.is_empty() {
        completion.provider_request_id = std::mem::take(request_id);
    }
    if let Some(usage) = &completion.usage {
        lease.settle(usage);
    }
    Step::Done(Box::new(completion))
}

/// A provider's error inside an answer may repeat the key it was called with, and may be about the key. What was counted until
/// then is billed.
fn failed(mut failed: Failed, lease: &Lease, reader: &dyn Reader) -> Failed {
    failed.used = reader.used().map(Box::new);
    failed.fault.message = scrub(&failed.fault.message, lease.key().map(Key::expose));
    lease.refused(None, failed)
}

/// An answer that comes in one piece.
pub(super) struct Whole {
    pub(super) transport: Transport,
    pub(super) response: Option<Response>,
    pub(super) reader: Box<dyn Reader>,
    pub(super) request_id: String,
    pub(super) lease: Lease,
}

impl Whole {
    async fn read(&mut self) -> Result<Step, Failed> {
        let Some(response) = self.response.take() else {
            return Err(Failed::for_good(Fault::internal("a whole answer was read twice")));
        };
        let body = self.transport.whole(response).await.map_err(broken)?;
        let completion = self.reader.whole(&body).map_err(said)?;
        Ok(done(completion, &mut self.request_id, &mut self.lease))
    }
}

impl Answer for Whole {
    fn next(&mut self) -> BoxFuture<'_, Result<Step, Failed>> {
        async { self.read().await.map_err(|error| failed(error, &self.lease, &*self.reader)) }.boxed()
    }
}

/// An answer that comes in pieces.
pub(super) struct Streamed {
    transport: Transport,
    provider: String,
    reader: Box<dyn Reader>,
    body: Option<Body>,
    request_id: String,
    lease: Lease,
    /// Until the first piece: when it is too late for it.
    first_by: Option<Instant>,
    /// How it ended, when pieces had to be handed out before saying so.
    ended: Option<Result<(), Failed>>,
}

impl Streamed {
    pub(super) fn new(
        transport: Transport,
        response: Response,
        provider: String,
        reader: Box<dyn Reader>,
        request_id: String,
        lease: Lease,
        first_by: Instant,
    ) -> Self {
        let (body, first_by) = (Some(transport.body(response)), Some(first_by));
        Self { transport, provider, reader, body, request_id, lease, first_by, ended: None }
    }

    async fn step(&mut self) -> Result<Step, Failed> {
        let mut items = Vec::new();
        if self.ended.is_none() {
            self.pieces(&mut items).await;
        }
        match self.ended.take() {
            Some(Err(failed)) if items.is_empty() => Err(failed),
            // what came before the failure is given first
            Some(Err(failed)) => {
                self.ended = Some(Err(failed));
                Ok(Step::Pieces(items))
            }
            Some(Ok(())) => Ok(done(self.reader.completion(items), &mut self.request_id, &mut self.lease)),
            None => {
                self.first_by = None;
                Ok(Step::Pieces(items))
            }
        }
    }

    /// Reads until there is a piece or an end.
    async fn pieces(&mut self, items: &mut Vec<v1::DeltaItem>) {
        let Some(mut body) = self.body.take() else {
            self.ended = Some(Err(Failed::for_good(cut(&self.provider))));
            return;
        };
        let (reader, ended) = (&mut self.reader, &mut self.ended);
        let mut at_end = false;
        let mut take = |read: Result<Option<Bytes>, Fault>, items: &mut Vec<v1::DeltaItem>| {
            let outcome = match read {
                Ok(Some(bytes)) => reader.feed(&bytes, items).map_err(said),
                Ok(None) => {
                    at_end = true;
                    let of_provider = |fault: &Fault| !fault.provider_code.is_empty();
                    reader
                        .end(items)
                        .map_err(|fault| if of_provider(&fault) { said(fault) } else { broken(fault) })
                }
                Err(fault) => Err(broken(fault)),
            };
            match outcome {
                Ok(()) if at_end || reader.is_done() => *ended = Some(Ok(())),
                Ok(()) => return Gather::More,
                Err(failed) => *ended = Some(Err(failed)),
            }
            Gather::Stop
        };
        loop {
            let (by, expected) = match self.first_by {
                Some(by) => (by, "the first token"),
                None => (Instant::now() + self.transport.timeouts.idle, "more of the answer"),
            };
            if take(body.read(by, expected).await, items) == Gather::Stop {
                break;
            }
            if !items.is_empty() {
                body.gather(|read| take(read, items)).await;
                break;
            }
        }
        match &self.ended {
            None => self.body = Some(body),
            Some(Ok(())) if !at_end => body.drain(),
            Some(_) => {}
        }
    }
}

impl Answer for Streamed {
    fn next(&mut self) -> BoxFuture<'_, Result<Step, Failed>> {
        async { self.step().await.map_err(|error| failed(error, &self.lease, &*self.reader)) }.boxed()
    }
}
