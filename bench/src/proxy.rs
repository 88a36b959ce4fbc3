//! A bare reverse proxy: what it costs to pass a call on over HTTP/1.1 without looking at it.
//!
//! No checks, no limits, no deadlines; bodies stream through both ways, connections on both sides are kept. It is what the
//! adapter's cost is measured by.

use std::net::SocketAddr;

use anyhow::Context as _;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::{Authority, Scheme};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::floor::report_ready;

#[derive(Clone)]
struct Proxy {
    pool: Pooled<HttpConnector, Incoming>,
    upstream: Authority,
    host: HeaderValue,
}

/// Serves until the process is ended. `upstream` is `host:port`.
///
/// # Errors
/// An address is invalid or taken.
pub async fn run(listen: SocketAddr, upstream: &str) -> anyhow::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Proxy {
        pool: Pooled::builder(TokioExecutor::new()).build(connector),
        upstream: upstream.parse().with_context(|| format!("invalid upstream {upstream}"))?,
        host: upstream.parse().with_context(|| format!("invalid upstream {upstream}"))?,
    };
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    report_ready(&listener.local_addr()?.to_string())?;
    let tasks = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await.context("the listener broke")?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        let proxy = proxy.clone();
        tasks.spawn(async move {
            let service = service_fn(|request| proxy.pass_on(request));
            let connection = hyper::server::conn::http1::Builder::new();
            // A client that hangs up ends here.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Proxy {
    async fn pass_on(&self, mut request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        (uri.scheme, uri.authority) = (Some(Scheme::HTTP), Some(self.upstream.clone()));
        *request.uri_mut() = Uri::from_parts(uri).context("invalid path")?;
        request.headers_mut().insert(HOST, self.host.clone());
        self.pool.request(request).await.context("no answer")
    }
}
