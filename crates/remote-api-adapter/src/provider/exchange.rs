//! One call to a provider, whatever its dialect: key, request, refusal, and the answer in whichever form it comes.

mod side;

use std::sync::Arc;

use bytes::Bytes;
use domain::fault::{Code, Fault, Origin};
use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Method, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName},
};
use service_runtime::Clock;
use tokio::time::Instant;
use wire::v1;

use super::{
    Answer, Call, Completion, Dialect, Failure, Prepared, Provider, Reader, Refused, Step,
    http::{Body, Gather, Transport},
    jobs::Desk,
    refusal::{retry_after, scrub},
};
use crate::credential::{Credential, Key};

/// Under which providers name a call, the first that is there counts.
const REQUEST_IDS: [HeaderName; 4] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("apim-request-id"),
    HeaderName::from_static("x-amzn-requestid"),
];

/// One configured provider: its dialect and what is needed to call it.
pub(crate) struct Exchange<D> {
    pub(crate) name: String,
    pub(crate) dialect: D,
    /// Sent with each call.
    pub(crate) headers: HeaderMap,
    /// Absent: the server wants no key.
    pub(crate) credential: Option<Credential>,
    pub(crate) transport: Transport,
    pub(crate) clock: Clock,
}

impl<D: Dialect> Exchange<D> {
    async fn call(&self, call: Call<'_>) -> Result<Box<dyn Answer>, Failure> {
        let started = Instant::now();
        let (prepared, mut reader) = self.dialect.prepare(call).map_err(Failure::permanent)?;
        let streams = call.request.streams();
        let first_by = started + self.transport.timeouts.first_token;
        let send = async |key: Option<&Key>| {
            let mut request = self.request(&prepared);
            self.dialect.authorize(&mut request, key).await?;
            if streams {
                self.transport.send_by(request, first_by).await
            } else {
                self.transport.send(request).await
            }
        };
        let mut key = self.key().map_err(Failure::permanent)?;
        let mut response = send(key.as_deref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some((credential, refused)) = self.credential.as_ref().zip(key.as_ref())
            && let Some(new) = credential.reread(refused)
        {
            tracing::info!(provider = %self.name, "the key was refused and another one found, trying again");
            response = send(Some(&new)).await?;
            key = Some(new);
        }
        if !response.status().is_success() {
            return Err(self.refused(response, key.as_deref()).await);
        }
        reader.head(response.headers());
        let request_id = REQUEST_IDS.iter().find_map(|name| header(&response, name)).unwrap_or_default();
        let is_json =
            header(&response, &CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
        // a server without streaming answers whole, also when asked to stream
        if !streams || is_json {
            let transport = self.transport.clone();
            return Ok(Box::new(Whole { transport, response: Some(response), reader, request_id, key }));
        }
        Ok(Box::new(Streamed {
            reader,
            body: Some(self.transport.body(response)),
            transport: self.transport.clone(),
            provider: self.name.clone(),
            request_id,
            key,
            first_by: Some(first_by),
            ended: None,
        }))
    }

    fn key(&self) -> Result<Option<Arc<Key>>, Fault> {
        let read = self.credential.as_ref().map(Credential::current).transpose();
        read.map_err(|problem| {
            let message = format!("{} has no key: {problem}", self.name);
            Fault::new(Code::UpstreamAuth, Origin::Provider, true, message)
        })
    }

    fn request(&self, prepared: &Prepared) -> reqwest::Request {
        let mut request = reqwest::Request::new(Method::POST, prepared.url.clone());
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.extend(prepared.headers.clone());
        headers.insert(CONTENT_TYPE, prepared.content_type.clone());
        headers.insert(ACCEPT, prepared.accept.clone());
        *request.body_mut() = Some(prepared.body.clone().into());
        request
    }

    async fn refused(&self, response: Response, key: Option<&Key>) -> Failure {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = self.transport.explanation(response).await;
        let refused = Refused { status, headers: &headers, body: &body };
        let mut failure = self.dialect.refusal(&self.name, refused, key.map(Key::expose));
        if failure.fault.retry_after.is_none() {
            failure.fault.retry_after = retry_after(refused.headers, self.clock.now_unix_ms());
        }
        failure
    }
}

impl<D: Dialect> Provider for Exchange<D> {
    fn open<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Box<dyn Answer>, Failure>> {
        self.call(call).boxed()
    }

    fn available(&self) -> Result<(), String> {
        self.dialect.available()?;
        self.credential.as_ref().map_or(Ok(()), |credential| credential.current().map(drop))
    }

    fn jobs(&self) -> Option<Desk<'_>> {
        Some(Desk { dialect: &self.dialect, jobs: self.dialect.jobs()?, side: self })
    }
}

fn header(response: &Response, name: &HeaderName) -> Option<String> {
    let text = response.headers().get(name)?.to_str().ok()?;
    Some(text.chars().take(128).collect())
}

/// A provider's error inside an answer may repeat the key it was called with.
fn discreet(mut fault: Fault, key: Option<&Key>) -> Fault {
    fault.message = scrub(&fault.message, key.map(Key::expose));
    fault
}

/// The end of an answer; the header's id stands in where the answer itself has none.
fn done(mut completion: Completion, request_id: &mut String) -> Step {
    if completion.provider_request_id.is_empty() {
        completion.provider_request_id = std::mem::take(request_id);
    }
    Step::Done(Box::new(completion))
}

/// An answer that comes in one piece.
struct Whole {
    transport: Transport,
    response: Option<Response>,
    reader: Box<dyn Reader>,
    request_id: String,
    key: Option<Arc<Key>>,
}

impl Whole {
    async fn read(&mut self) -> Result<Step, Fault> {
        let Some(response) = self.response.take() else {
            return Err(Fault::internal("a whole answer was read twice"));
        };
        let body = self.transport.whole(response).await?;
        Ok(done(self.reader.whole(&body)?, &mut self.request_id))
    }
}

impl Answer for Whole {
    fn next(&mut self) -> BoxFuture<'_, Result<Step, Fault>> {
        async { self.read().await.map_err(|fault| discreet(fault, self.key.as_deref())) }.boxed()
    }
}

/// An answer that comes in pieces.
struct Streamed {
    transport: Transport,
    provider: String,
    reader: Box<dyn Reader>,
    body: Option<Body>,
    request_id: String,
    key: Option<Arc<Key>>,
    /// Until the first piece: when it is too late for it.
    first_by: Option<Instant>,
    /// How it ended, when pieces had to be handed out before saying so.
    ended: Option<Result<(), Fault>>,
}

impl Streamed {
    async fn step(&mut self) -> Result<Step, Fault> {
        let mut items = Vec::new();
        if self.ended.is_none() {
            self.pieces(&mut items).await;
        }
        match self.ended.take() {
            Some(Err(fault)) if items.is_empty() => Err(fault),
            // what came before the fault is given first
            Some(Err(fault)) => {
                self.ended = Some(Err(fault));
                Ok(Step::Pieces(items))
            }
            Some(Ok(())) => Ok(done(self.reader.completion(items), &mut self.request_id)),
            None => {
                self.first_by = None;
                Ok(Step::Pieces(items))
            }
        }
    }

    /// Reads until there is a piece or an end.
    async fn pieces(&mut self, items: &mut Vec<v1::DeltaItem>) {
        let Some(mut body) = self.body.take() else {
            self.ended = Some(Err(cut(&self.provider)));
            return;
        };
        let (reader, ended) = (&mut self.reader, &mut self.ended);
        let mut at_end = false;
        let mut take = |read: Result<Option<Bytes>, Fault>, items: &mut Vec<v1::DeltaItem>| {
            let outcome = match read {
                Ok(Some(bytes)) => reader.feed(&bytes, items),
                Ok(None) => {
                    at_end = true;
                    reader.end(items)
                }
                Err(fault) => Err(fault),
            };
            match outcome {
                Ok(()) if at_end || reader.is_done() => *ended = Some(Ok(())),
                Ok(()) => return Gather::More,
                Err(fault) => *ended = Some(Err(fault)),
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
    fn next(&mut self) -> BoxFuture<'_, Result<Step, Fault>> {
        async { self.step().await.map_err(|fault| discreet(fault, self.key.as_deref())) }.boxed()
    }
}

/// The stream ended before the answer.
pub(crate) fn cut(provider: &str) -> Fault {
    let message = format!("{provider} ended the stream before the end of the answer");
    Fault::new(Code::Upstream, Origin::Provider, true, message)
}

/// The provider's answer is not what the dialect says. Parsers' messages may quote the answer, so only the place is told.
pub(crate) fn malformed(provider: &str, what: &str, error: &serde_json::Error) -> Fault {
    let message = format!(
        "{provider} sent {what} that does not parse ({:?} error in column {})",
        error.classify(),
        error.column()
    );
    Fault::new(Code::Upstream, Origin::Provider, true, message)
}
