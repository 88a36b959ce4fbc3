//! Connections to providers: one pooled client for each, deadlines, bounds, and no way to another host.

use std::{sync::Once, time::Duration};

use bytes::Bytes;
use domain::fault::{Code, Fault, Origin};
use futures::FutureExt;
use reqwest::{Request, RequestBuilder, Response, multipart::Form};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Failure;
use crate::network::{Guard, Refused};

/// Largest whole answer: 2,048 vectors of 1,024 numbers come to some 25 MB of text.
const WHOLE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest stream; the longest answers of today's models have a few megabytes.
const STREAM_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What is read of an error.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// Reads that may travel together.
const GATHER_READS_MAX: usize = 32;
/// Bytes that may travel together; well below the bus's limit for a message.
const GATHER_BYTES_MAX: usize = 64 * 1024;
/// How long the end of a finished stream is waited for, so that its connection can serve again.
const DRAIN: Duration = Duration::from_secs(1);
const POOL_IDLE: Duration = Duration::from_secs(90);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How long each phase of a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// TCP and TLS.
    pub(crate) connect: Duration,
    /// From sending the request to the first piece of a stream.
    pub(crate) first_token: Duration,
    /// Silence in the middle of an answer.
    pub(crate) idle: Duration,
    /// The whole call, retries included.
    pub(crate) total: Duration,
}

/// The client of one provider.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    client: reqwest::Client,
    provider: String,
    pub(crate) timeouts: Timeouts,
    drains: TaskTracker,
}

impl Transport {
    /// Builds the client. Redirects are not followed, and the environment's proxies are not used: both would lead to hosts
    /// that nobody configured.
    ///
    /// # Errors
    /// `tls` is wanted and the machine has no root certificates.
    pub(crate) fn new(
        provider: &str,
        timeouts: Timeouts,
        allow_private: bool,
        tls: bool,
    ) -> Result<Self, reqwest::Error> {
        install_tls();
        let builder = reqwest::Client::builder();
        // a server without TLS shall not need the machine's certificates
        let builder = if tls { builder } else { builder.tls_certs_only([]) };
        let client = builder
            .dns_resolver(Guard { allow_private }.resolver())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .https_only(!allow_private)
            .connect_timeout(timeouts.connect)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEP_ALIVE)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .user_agent(concat!("hybrid-llm/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, provider: provider.to_owned(), timeouts, drains: TaskTracker::new() })
    }

    /// Sends a request and waits for the head of the response, whatever its status.
    ///
    /// # Errors
    /// No connection, or none that lasted until the head; transient unless the address is refused.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, Failure> {
        self.client.execute(request).await.map_err(|error| self.failure(error))
    }

    /// [`Transport::send`], but the head has to come in time for a first token.
    ///
    /// # Errors
    /// As [`Transport::send`]; `Timeout` when it does not come in time.
    pub(crate) async fn send_by(&self, request: Request, by: Instant) -> Result<Response, Failure> {
        match tokio::time::timeout_at(by, self.send(request)).await {
            Ok(sent) => sent,
            Err(_) => Err(Failure::permanent(self.late("the first token", self.timeouts.first_token))),
        }
    }

    /// The request with a form as its body.
    ///
    /// # Errors
    /// The form cannot be written; permanent.
    pub(crate) fn with_form(&self, request: Request, form: Form) -> Result<Request, Failure> {
        let built = RequestBuilder::from_parts(self.client.clone(), request).multipart(form).build();
        built.map_err(|error| self.failure(error))
    }

    /// The body of a response, piece by piece. Its headers go now: they lie in the connection's read buffer, which would be
    /// kept for them, and another one made, as long as the answer lasts.
    pub(crate) fn body(&self, mut response: Response) -> Body {
        drop(std::mem::take(response.headers_mut()));
        Body { transport: self.clone(), response, seen: 0, bytes_max: STREAM_BYTES_MAX }
    }

    /// A whole body.
    ///
    /// # Errors
    /// It is cut, silent for too long, or too large.
    pub(crate) async fn whole(&self, response: Response) -> Result<Vec<u8>, Fault> {
        let declared = response.content_length().and_then(|length| usize::try_from(length).ok());
        let mut whole = Vec::with_capacity(declared.unwrap_or(0).min(1024 * 1024));
        let mut body = self.body(response);
        while let Some(bytes) = body.read(Instant::now() + self.timeouts.idle, "more of the answer").await? {
            if whole.len() + bytes.len() > WHOLE_BYTES_MAX {
                return Err(self.too_large(WHOLE_BYTES_MAX));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }

    /// The start of an error's body; whatever can be had of it.
    pub(crate) async fn explanation(&self, response: Response) -> Vec<u8> {
        let mut start = Vec::new();
        let mut body = self.body(response);
        // one limit for all of it: an error that drips is not worth waiting for
        let by = Instant::now() + self.timeouts.idle;
        while start.len() < ERROR_BYTES_MAX {
            match body.read(by, "the error").await {
                Ok(Some(bytes)) => start.extend_from_slice(&bytes),
                Ok(None) | Err(_) => break,
            }
        }
        start.truncate(ERROR_BYTES_MAX);
        start
    }

    fn failure(&self, error: reqwest::Error) -> Failure {
        if let Some(refused) = find_refused(&error) {
            let message = format!("{}: {refused}; set allow_private for a server of your own", self.provider);
            return Failure::permanent(Fault::new(Code::Unavailable, Origin::Policy, true, message));
        }
        let (code, what) = match () {
            () if error.is_timeout() => (Code::Timeout, "did not take the connection in time"),
            () if error.is_connect() => (Code::Unavailable, "cannot be connected to"),
            () if error.is_builder() => {
                let message =
                    format!("{}: the request could not be built: {}", self.provider, causes(&error));
                return Failure::permanent(Fault::internal(message));
            }
            () => (Code::Upstream, "closed the connection before its answer"),
        };
        let message = format!("{} {what}: {}", self.provider, causes(&error));
        Failure { fault: Fault::new(code, Origin::Provider, true, message), transient: true }
    }

    fn late(&self, what: &str, limit: Duration) -> Fault {
        let message = format!("{} was silent for {} ms, expected {what}", self.provider, limit.as_millis());
        Fault::new(Code::Timeout, Origin::Provider, true, message)
    }

    fn too_large(&self, limit: usize) -> Fault {
        let message = format!("{} sent more than {limit} bytes", self.provider);
        Fault::new(Code::Upstream, Origin::Provider, false, message)
    }
}

/// A body that is read as it comes. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Body {
    transport: Transport,
    response: Response,
    seen: usize,
    bytes_max: usize,
}

impl Body {
    /// The same, with another bound than a stream's.
    pub(crate) fn up_to(mut self, bytes_max: u64) -> Self {
        self.bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        self
    }

    /// The next bytes, `None` at the proper end.
    ///
    /// # Errors
    /// `Timeout` when nothing comes by `by` (`expected` says what did not), `Upstream` when the connection breaks or the body
    /// is too large.
    pub(crate) async fn read(&mut self, by: Instant, expected: &str) -> Result<Option<Bytes>, Fault> {
        let started = Instant::now();
        match tokio::time::timeout_at(by, self.response.chunk()).await {
            Ok(read) => self.took(read),
            Err(_) => Err(self.transport.late(expected, by.saturating_duration_since(started))),
        }
    }

    /// What has arrived meanwhile, without waiting for more: pieces that come together travel together.
    pub(crate) async fn gather(&mut self, mut take: impl FnMut(Result<Option<Bytes>, Fault>) -> Gather) {
        let mut bytes_left = GATHER_BYTES_MAX;
        for _ in 0..GATHER_READS_MAX {
            // lets the connection's own task hand over the next read, which it does one by one
            tokio::task::yield_now().await;
            let Some(read) = self.response.chunk().now_or_never() else { return };
            let read = self.took(read);
            let length = read.as_ref().map_or(0, |read| read.as_ref().map_or(0, Bytes::len));
            bytes_left = bytes_left.saturating_sub(length);
            if take(read) == Gather::Stop || bytes_left == 0 {
                return;
            }
        }
    }

    fn took(&mut self, read: Result<Option<Bytes>, reqwest::Error>) -> Result<Option<Bytes>, Fault> {
        match read {
            Ok(Some(bytes)) => {
                self.seen = self.seen.saturating_add(bytes.len());
                if self.seen > self.bytes_max {
                    return Err(self.transport.too_large(self.bytes_max));
                }
                Ok(Some(bytes))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                let provider = &self.transport.provider;
                let message = format!("{provider} cut the answer off: {}", causes(&error));
                Err(Fault::new(Code::Upstream, Origin::Provider, true, message))
            }
        }
    }

    /// The answer is whole, but its body may not have ended: reads the rest aside, so that the connection is not lost.
    pub(crate) fn drain(mut self) {
        let drains = self.transport.drains.clone();
        drains.spawn(async move {
            let rest = async { while let Ok(Some(_)) = self.response.chunk().await {} };
            // a server that does not end its stream loses the connection, nothing else
            drop(tokio::time::timeout(DRAIN, rest).await);
        });
    }
}

/// Whether [`Body::gather`] goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gather {
    More,
    Stop,
}

/// The process's TLS implementation, chosen once; another choice made before stands.
fn install_tls() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn find_refused(error: &reqwest::Error) -> Option<&Refused> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

/// The causes of an error without its first line, which names the whole address.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    super::refusal::scrub(&text, None)
}
