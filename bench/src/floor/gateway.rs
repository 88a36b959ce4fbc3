//! HTTP in, NATS out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use anyhow::Context as _;
use async_nats::{Client, Message};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{BROKEN, END, STATUS, SUBJECT, report_ready};

/// Messages that wait for a slow client; a client that is slower is cut.
const WAITING_MAX: usize = 4_096;

struct Gateway {
    client: Client,
    inbox: String,
    next: AtomicU64,
    /// Who waits for the answer with this number.
    waiting: Mutex<HashMap<u64, mpsc::Sender<Message>>>,
}

/// Serves until the process is ended.
///
/// # Errors
/// The address is taken, or nats-server is not there.
pub async fn run(listen: SocketAddr, nats: &str) -> anyhow::Result<()> {
    let client = async_nats::connect(nats).await.with_context(|| format!("cannot connect to {nats}"))?;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(format!("{inbox}.*")).await.context("cannot subscribe")?;
    client.flush().await.context("cannot flush")?;
    let gateway =
        Arc::new(Gateway { client, inbox, next: AtomicU64::new(0), waiting: Mutex::new(HashMap::new()) });
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    report_ready(&listener.local_addr()?.to_string())?;

    let tasks = TaskTracker::new();
    let hand_out = Arc::clone(&gateway);
    tasks.spawn(async move {
        while let Some(message) = answers.next().await {
            hand_out.hand_out(message);
        }
    });
    loop {
        let (stream, _) = listener.accept().await.context("the listener broke")?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        let gateway = Arc::clone(&gateway);
        tasks.spawn(async move {
            let service = service_fn(|request| gateway.handle(request));
            let connection = hyper::server::conn::http1::Builder::new();
            // A client that hangs up ends here.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Gateway {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Message>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_out(&self, message: Message) {
        let Some(number) = message.subject.rsplit('.').next().and_then(|token| token.parse().ok()) else {
            return;
        };
        let mut waiting = self.waiting();
        if waiting.get(&number).is_some_and(|sender| sender.try_send(message).is_err()) {
            waiting.remove(&number);
        }
    }

    async fn handle(self: &Arc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Answer>> {
        let body = request.into_body().collect().await.context("the request was cut")?.to_bytes();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        self.waiting().insert(number, sender);
        let mut rest = Rest { receiver, number, gateway: Arc::clone(self) };
        self.client
            .publish_with_reply(SUBJECT, format!("{}.{number}", self.inbox), body)
            .await
            .context("cannot publish")?;
        let first = rest.receiver.recv().await.context("no answer")?;
        let headers = first.headers.unwrap_or_default();
        let text = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
        let status = text(STATUS).and_then(|status| status.parse().ok()).unwrap_or(StatusCode::BAD_GATEWAY);
        let content_type = text("Content-Type").and_then(|value| HeaderValue::from_str(value).ok());
        let rest = if text(END).is_some() { None } else { Some(rest) };
        let mut response = Response::new(Answer { first: Some(first.payload), rest });
        *response.status_mut() = status;
        if let Some(content_type) = content_type {
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        Ok(response)
    }
}

/// The messages after the first.
struct Rest {
    receiver: mpsc::Receiver<Message>,
    number: u64,
    gateway: Arc<Gateway>,
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.gateway.waiting().remove(&self.number);
    }
}

/// The body sent to the client.
struct Answer {
    first: Option<Bytes>,
    /// Absent when the first message was all.
    rest: Option<Rest>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, anyhow::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(rest) = self.rest.as_mut() else {
            return Poll::Ready(None);
        };
        rest.receiver.poll_recv(cx).map(|message| match message {
            None => Some(Err(anyhow::anyhow!("the client is too slow"))),
            Some(message)
                if message.headers.as_ref().is_some_and(|headers| headers.get(BROKEN).is_some()) =>
            {
                Some(Err(anyhow::anyhow!("the upstream broke off")))
            }
            Some(message) if message.payload.is_empty() => None,
            Some(message) => Some(Ok(Frame::data(message.payload))),
        })
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.first, &self.rest) {
            (Some(first), None) => SizeHint::with_exact(first.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
