//! Calls over HTTP: address, headers, key, and the answer in whichever form it comes.

use std::sync::Arc;

use domain::{
    fault::{Code, Fault, Origin},
    inference::Request,
};
use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use service_runtime::Clock;
use tokio::time::Instant;
use wire::v1;

use super::{
    decode,
    encode::{self, Encoded, Endpoint},
    error::Words,
    stream::{self, Decoder},
};
use crate::{
    config::Invalid,
    credential::{Credential, Key},
    provider::{
        Answer, Call, Completion, Failure, Provider, Step,
        http::{Body, Gather, Transport},
        refusal::{retry_after, scrub},
    },
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// One configured server of the dialect.
pub(crate) struct OpenAi {
    name: String,
    chat_completions: Url,
    embeddings: Url,
    /// Sent with each call.
    headers: HeaderMap,
    /// Absent: the server wants no key.
    credential: Option<Credential>,
    transport: Transport,
    clock: Clock,
}

impl OpenAi {
    /// # Errors
    /// The base URL cannot have a path below it.
    pub(crate) fn new(
        name: String,
        base_url: &Url,
        headers: HeaderMap,
        credential: Option<Credential>,
        transport: Transport,
        clock: Clock,
    ) -> Result<Self, Invalid> {
        let below = |endpoint: Endpoint| {
            let url = format!("{}/{}", base_url.as_str().trim_end_matches('/'), endpoint.path());
            Url::parse(&url).map_err(|error| Invalid::new("base_url", format!("gives {url:?}: {error}")))
        };
        let (chat_completions, embeddings) =
            (below(Endpoint::ChatCompletions)?, below(Endpoint::Embeddings)?);
        Ok(Self { name, chat_completions, embeddings, headers, credential, transport, clock })
    }

    async fn call(&self, call: Call<'_>) -> Result<Box<dyn Answer>, Failure> {
        let started = Instant::now();
        let Encoded { endpoint, body } = encode::encode(call).map_err(Failure::permanent)?;
        let body = bytes::Bytes::from(body);
        let streams = call.request.streams();
        let first_by = started + self.transport.timeouts.first_token;
        let send = async |key: Option<&Key>| {
            let request = self.request(endpoint, body.clone(), streams, key);
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
        let request_id = header(&response, &REQUEST_ID);
        let is_json = header(&response, &CONTENT_TYPE).starts_with("application/json");
        Ok(match call.request {
            Request::Embed(request) => {
                let inputs = request.inputs.len();
                Box::new(self.whole(response, request_id, key, Reading::Embeddings { inputs }))
            }
            // a server without streaming answers whole, also when asked to stream
            _ if !streams || is_json => Box::new(self.whole(response, request_id, key, Reading::Chat)),
            _ => Box::new(Streamed {
                decoder: Some(Decoder::new(&self.name)),
                body: Some(self.transport.body(response)),
                transport: self.transport.clone(),
                provider: self.name.clone(),
                request_id,
                key,
                first_by: Some(first_by),
                ended: None,
            }),
        })
    }

    fn key(&self) -> Result<Option<Arc<Key>>, Fault> {
        let read = self.credential.as_ref().map(Credential::current).transpose();
        read.map_err(|problem| {
            let message = format!("{} has no key: {problem}", self.name);
            Fault::new(Code::UpstreamAuth, Origin::Provider, true, message)
        })
    }

    fn request(
        &self,
        endpoint: Endpoint,
        body: bytes::Bytes,
        streams: bool,
        key: Option<&Key>,
    ) -> reqwest::Request {
        let url = match endpoint {
            Endpoint::ChatCompletions => &self.chat_completions,
            Endpoint::Embeddings => &self.embeddings,
        };
        let mut request = reqwest::Request::new(Method::POST, url.clone());
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, if streams { EVENT_STREAM } else { JSON });
        if let Some(key) = key {
            headers.insert(AUTHORIZATION, key.bearer.clone());
        }
        *request.body_mut() = Some(body.into());
        request
    }

    fn whole(
        &self,
        response: Response,
        request_id: String,
        key: Option<Arc<Key>>,
        reading: Reading,
    ) -> Whole {
        let (transport, provider) = (self.transport.clone(), self.name.clone());
        Whole { transport, provider, response: Some(response), request_id, key, reading }
    }

    async fn refused(&self, response: Response, key: Option<&Key>) -> Failure {
        let status = response.status().as_u16();
        let wait = retry_after(response.headers(), self.clock.now_unix_ms());
        let words = Words::of_body(&self.transport.explanation(response).await);
        let mut refusal = words.refusal(Some(status));
        refusal.retry_after = wait;
        refusal.into_failure(&self.name, key.map(Key::expose))
    }
}

impl Provider for OpenAi {
    fn open<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Box<dyn Answer>, Failure>> {
        self.call(call).boxed()
    }

    fn available(&self) -> Result<(), String> {
        self.credential.as_ref().map_or(Ok(()), |credential| credential.current().map(drop))
    }
}

fn header(response: &Response, name: &HeaderName) -> String {
    let text = response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.chars().take(128).collect()
}

/// A provider's error inside an answer may repeat the key it was called with.
fn discreet(mut fault: Fault, key: Option<&Key>) -> Fault {
    fault.message = scrub(&fault.message, key.map(Key::expose));
    fault
}

/// How a whole answer is read.
#[derive(Debug, Clone, Copy)]
enum Reading {
    Chat,
    Embeddings { inputs: usize },
}

/// An answer that comes in one piece.
struct Whole {
    transport: Transport,
    provider: String,
    response: Option<Response>,
    request_id: String,
    key: Option<Arc<Key>>,
    reading: Reading,
}

impl Whole {
    async fn read(&mut self) -> Result<Step, Fault> {
        let Some(response) = self.response.take() else {
            return Err(Fault::internal("a whole answer was read twice"));
        };
        let body = self.transport.whole(response).await?;
        let completion = match self.reading {
            Reading::Chat => decode::chat(&self.provider, &body)?,
            Reading::Embeddings { inputs } => decode::embeddings(&self.provider, &body, inputs)?,
        };
        Ok(done(completion, &mut self.request_id))
    }
}

impl Answer for Whole {
    fn next(&mut self) -> BoxFuture<'_, Result<Step, Fault>> {
        async { self.read().await.map_err(|fault| discreet(fault, self.key.as_deref())) }.boxed()
    }
}

/// The end of an answer; the header's id stands in where the answer itself has none.
fn done(mut completion: Completion, request_id: &mut String) -> Step {
    if completion.provider_request_id.is_empty() {
        completion.provider_request_id = std::mem::take(request_id);
    }
    Step::Done(Box::new(completion))
}

/// An answer that comes as events.
struct Streamed {
    transport: Transport,
    provider: String,
    decoder: Option<Decoder>,
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
            Some(Ok(())) => {
                let decoder = self.decoder.take().ok_or_else(|| Fault::internal("a stream was read on"))?;
                Ok(done(decoder.into_completion(items), &mut self.request_id))
            }
            None => {
                self.first_by = None;
                Ok(Step::Pieces(items))
            }
        }
    }

    /// Reads until there is a piece or an end.
    async fn pieces(&mut self, items: &mut Vec<v1::DeltaItem>) {
        let (Some(decoder), Some(mut body)) = (self.decoder.as_mut(), self.body.take()) else {
            self.ended = Some(Err(stream::cut(&self.provider)));
            return;
        };
        let ended = &mut self.ended;
        let mut at_end = false;
        let mut take = |read: Result<Option<bytes::Bytes>, Fault>, items: &mut Vec<v1::DeltaItem>| {
            let outcome = match read {
                Ok(Some(bytes)) => decoder.feed(&bytes, items),
                Ok(None) => {
                    at_end = true;
                    decoder.end(items)
                }
                Err(fault) => Err(fault),
            };
            match outcome {
                Ok(()) if decoder.is_done() => *ended = Some(Ok(())),
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
