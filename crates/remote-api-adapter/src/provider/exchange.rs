//! One call to a provider, whatever its dialect: key, request, refusal, and the answer in whichever form it comes.

mod answer;
mod side;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use domain::{
    fault::{Code, Fault, Origin},
    inference::Request,
};
use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName},
};
use service_runtime::Clock;
use tokio::time::Instant;

use self::answer::{Streamed, Whole};
use super::{
    Answer, Call, Dialect, Failed, Failure, Prepared, Provider, Refused, http::Transport, jobs::Desk, limits,
    refusal::retry_after,
};
use crate::{
    credential::Key,
    keys::{Keys, Lease},
};

/// Under which providers name a call, the first that is there counts.
const REQUEST_IDS: [HeaderName; 4] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("apim-request-id"),
    HeaderName::from_static("x-amzn-requestid"),
];
/// Tokens that an answer is taken to need when the caller's own bound is larger or absent, as rule R1 takes it.
const EXPECTED_OUTPUT: u64 = 512;
/// How long a probe may take beyond the connection.
const PROBE: Duration = Duration::from_secs(5);

/// One configured provider: its dialect and what is needed to call it.
pub(crate) struct Exchange<D> {
    pub(crate) name: String,
    pub(crate) dialect: D,
    /// Sent with each call.
    pub(crate) headers: HeaderMap,
    pub(crate) keys: Keys,
    pub(crate) transport: Transport,
    pub(crate) clock: Clock,
    /// What a probe asks for, with GET.
    pub(crate) health: Option<Url>,
}

impl<D: Dialect> Exchange<D> {
    async fn call(&self, call: Call<'_>, free: &AtomicBool) -> Result<Box<dyn Answer>, Failed> {
        let started = Instant::now();
        let (prepared, mut reader) = self.dialect.prepare(call).map_err(Failed::unsent)?;
        let mut lease = self.keys.lease(&call.target.upstream_model, tokens(call.request))?;
        free.store(lease.free, Ordering::Relaxed);
        let streams = call.request.streams();
        let first_by = started + self.transport.timeouts.first_token;
        let by = streams.then_some(first_by);
        let mut response = self.send(&prepared, &lease, by).await?;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && lease.reread() {
            tracing::info!(provider = %self.name, "the key was refused and another one found, trying again");
            response = self.send(&prepared, &lease, by).await?;
        }
        lease.saw(limits::seen(response.headers(), self.clock.now_unix_ms()));
        if !response.status().is_success() {
            return Err(self.refused(response, &lease).await);
        }
        lease.accepted();
        reader.head(response.headers());
        let request_id = REQUEST_IDS.iter().find_map(|name| header(&response, name)).unwrap_or_default();
        let is_json =
            header(&response, &CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
        let transport = self.transport.clone();
        // a server without streaming answers whole, also when asked to stream
        Ok(if !streams || is_json {
            Box::new(Whole { transport, response: Some(response), reader, request_id, lease })
        } else {
            let provider = self.name.clone();
            Box::new(Streamed::new(transport, response, provider, reader, request_id, lease, first_by))
        })
    }

    async fn send(
        &self,
        prepared: &Prepared,
        lease: &Lease,
        by: Option<Instant>,
    ) -> Result<Response, Failed> {
        let mut request = reqwest::Request::new(Method::POST, prepared.url.clone());
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.extend(prepared.headers.clone());
        headers.insert(CONTENT_TYPE, prepared.content_type.clone());
        headers.insert(ACCEPT, prepared.accept.clone());
        *request.body_mut() = Some(prepared.body.clone().into());
        let authorized = self.dialect.authorize(&mut request, lease.key()).await;
        authorized.map_err(|failure| self.blamed(None, failure, lease))?;
        let sent = match by {
            Some(by) => self.transport.send_by(request, by).await,
            None => self.transport.send(request).await,
        };
        sent.map_err(Failed::from)
    }

    async fn refused(&self, response: Response, lease: &Lease) -> Failed {
        let status = response.status().as_u16();
        let failure = self.explained(response, lease.key().map(Key::expose)).await;
        self.blamed(Some(status), failure, lease)
    }

    /// The failure of a call with this key, which rests where that is the reason.
    fn blamed(&self, status: Option<u16>, failure: Failure, lease: &Lease) -> Failed {
        if self.dialect.blames_key(status, lease.key().map(Key::expose)) {
            lease.refused(status, failure.into())
        } else {
            failure.into()
        }
    }

    /// What a response without success means.
    async fn explained(&self, response: Response, key: Option<&str>) -> Failure {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = self.transport.explanation(response).await;
        let refused = Refused { status, headers: &headers, body: &body };
        let mut failure = self.dialect.refusal(&self.name, refused, key);
        if failure.fault.retry_after.is_none() {
            failure.fault.retry_after = retry_after(refused.headers, self.clock.now_unix_ms());
        }
        failure
    }

    /// One probe.
    async fn look(&self, url: &Url) -> Result<(), String> {
        let mut request = reqwest::Request::new(Method::GET, url.clone());
        request.headers_mut().extend(self.headers.clone());
        let key = self.keys.any();
        let authorized = self.dialect.authorize(&mut request, key.as_deref()).await;
        authorized.map_err(|failure| failure.fault.message)?;
        let asked = async {
            let response = self.transport.send(request).await.map_err(|failure| failure.fault.message)?;
            let status = response.status();
            // read to its end, so that the connection serves again
            self.transport.explanation(response).await;
            // who refuses is there all the same
            if status.is_server_error() {
                Err(format!("{} answered a probe with {status}", self.name))
            } else {
                Ok(())
            }
        };
        let limit = self.transport.timeouts.connect + PROBE;
        tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| {
            Err(format!("{} did not answer a probe in {} ms", self.name, limit.as_millis()))
        })
    }
}

impl<D: Dialect> Provider for Exchange<D> {
    fn open<'a>(
        &'a self,
        call: Call<'a>,
        free: &'a AtomicBool,
    ) -> BoxFuture<'a, Result<Box<dyn Answer>, Failed>> {
        self.call(call, free).boxed()
    }

    fn available(&self, upstream_model: &str) -> Result<(), String> {
        self.dialect.available()?;
        self.keys.available(upstream_model)
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), String>> {
        match &self.health {
            Some(url) => self.look(url).boxed(),
            None => futures::future::ready(Ok(())).boxed(),
        }
    }

    fn jobs(&self) -> Result<Desk<'_>, &'static str> {
        Ok(Desk { dialect: &self.dialect, jobs: self.dialect.jobs()?, side: self })
    }
}

/// What a call is taken to need of a limit of tokens.
fn tokens(request: &Request) -> u64 {
    let output = request.max_output().map_or(EXPECTED_OUTPUT, |most| most.get().min(EXPECTED_OUTPUT));
    request.input_tokens().get().saturating_add(output)
}

fn header(response: &Response, name: &HeaderName) -> Option<String> {
    let text = response.headers().get(name)?.to_str().ok()?;
    Some(text.chars().take(128).collect())
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
