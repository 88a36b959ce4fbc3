//! A small HTTP client: one that shows statuses, headers and cut answers as they are, and follows or retries nothing.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// How long a whole answer may take before the test is told.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A client; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pooled<HttpConnector, Full<Bytes>>,
    key: Option<String>,
    headers: HeaderMap,
}

impl Default for Client {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            pool: Pooled::builder(TokioExecutor::new()).build(connector),
            key: None,
            headers: HeaderMap::new(),
        }
    }
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text, damaged characters replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is not JSON; the message shows it.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// The `data:` fields of a server-sent event stream, in order.
    #[must_use]
    pub fn events(&self) -> Vec<String> {
        let fields = |line: &str| line.strip_prefix("data:").map(|data| data.trim_start().to_owned());
        self.text().lines().filter_map(fields).collect()
    }

    /// A header's text; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// An answer whose body is still coming. Dropping it closes the connection, as a client that goes away does.
#[derive(Debug)]
pub struct Streaming {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Streaming {
    /// The next bytes; `None` after a clean end.
    ///
    /// # Errors
    /// The connection was cut, or nothing came for a minute.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(ANSWER_MAX, self.body.frame())
                .await
                .context("the stream fell silent")?;
            match frame.transpose().context("the stream was cut")? {
                None => return Ok(None),
                // Trailers carry no bytes.
                Some(frame) => match frame.into_data() {
                    Ok(bytes) => return Ok(Some(bytes)),
                    Err(_) => continue,
                },
            }
        }
    }

    /// Everything up to a clean end.
    ///
    /// # Errors
    /// The connection was cut, or nothing came for a minute.
    pub async fn rest(mut self) -> anyhow::Result<Answer> {
        let mut body = Vec::new();
        while let Some(bytes) = self.next().await? {
            body.extend_from_slice(&bytes);
        }
        Ok(Answer { status: self.status, headers: self.headers, body: body.into() })
    }
}

impl Client {
    /// The same client with `Authorization: Bearer <key>` on each request.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// The same client with one more header on each request.
    ///
    /// # Errors
    /// No header has such a name or value.
    pub fn with_header(mut self, name: &str, value: &str) -> anyhow::Result<Self> {
        let name = HeaderName::try_from(name).with_context(|| format!("{name:?} is no header's name"))?;
        self.headers.insert(name, HeaderValue::try_from(value).context("a header's value")?);
        Ok(self)
    }

    /// Sends a request and returns when the answer's headers are there.
    ///
    /// # Errors
    /// The address is invalid, nobody listens, or no headers came for a minute.
    pub async fn send(&self, method: Method, url: &str, body: impl Into<Bytes>) -> anyhow::Result<Streaming> {
        let mut request = Request::builder().method(method).uri(url).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let mut request = request.body(Full::new(body.into())).context("invalid request")?;
        request.headers_mut().extend(self.headers.clone());
        let answer = tokio::time::timeout(ANSWER_MAX, self.pool.request(request))
            .await
            .with_context(|| format!("{url} does not answer"))?
            .with_context(|| format!("cannot reach {url}"))?;
        let (head, body) = answer.into_parts();
        Ok(Streaming { status: head.status, headers: head.headers, body })
    }

    /// GET.
    ///
    /// # Errors
    /// See [`Client::send`]; also when the body is cut.
    pub async fn get(&self, url: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, url, Bytes::new()).await?.rest().await
    }

    /// POST of a JSON body.
    ///
    /// # Errors
    /// See [`Client::send`]; also when the body is cut.
    pub async fn post(&self, url: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, url, body.to_string()).await?.rest().await
    }

    /// PUT of a JSON body.
    ///
    /// # Errors
    /// See [`Client::send`]; also when the body is cut.
    pub async fn put(&self, url: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::PUT, url, body.to_string()).await?.rest().await
    }

    /// DELETE.
    ///
    /// # Errors
    /// See [`Client::send`]; also when the body is cut.
    pub async fn delete(&self, url: &str) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, url, Bytes::new()).await?.rest().await
    }
}
