//! Asking over HTTP/1.1 with keep-alive: one hyper connection each, no pool in between.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::events::Events;

/// The same request each time.
#[derive(Debug, Clone)]
pub struct Post {
    /// `http://host:port/path`.
    pub url: Uri,
    /// Bearer key; none when absent.
    pub key: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// One connection to the server. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<hyper::Result<()>>,
}

impl Post {
    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let host = self.url.authority().context("the URL has no host")?.as_str();
        let mut request = Request::post(path).header(HOST, host).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        request.body(Full::new(self.body.clone())).context("invalid request")
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        let address = self.url.authority().context("the URL has no host")?.as_str();
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await.context("no HTTP connection")?;
        let mut drivers = JoinSet::new();
        drivers.spawn(driver);
        Ok(Connection { sender, _driver: drivers })
    }
}

impl Post {
    /// Asks once on a connection of its own; `take` is given the answer's bytes as they arrive.
    ///
    /// # Errors
    /// The server cannot be reached, cuts the answer, or refuses.
    pub async fn read(&self, take: impl FnMut(&[u8])) -> anyhow::Result<()> {
        self.connect().await?.read(self, take).await
    }
}

impl Connection {
    /// Asks once; `count` is told of events as they arrive.
    pub(super) async fn ask(&mut self, post: &Post, mut count: impl FnMut(u64)) -> anyhow::Result<()> {
        let mut events = Events::default();
        self.read(post, |bytes| count(events.count(bytes))).await
    }

    async fn read(&mut self, post: &Post, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
        self.sender.ready().await.context("the connection is closed")?;
        let answer = self.sender.send_request(post.request()?).await.context("no answer")?;
        let status = answer.status();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the answer was cut")?;
            if let Some(bytes) = frame.data_ref() {
                take(bytes);
            }
        }
        ensure!(status.is_success(), "status {status}");
        Ok(())
    }
}
