//! The server: connections, addresses, the key, and which script a request gets.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::body::{Plan, Reply};
use super::chat::{self, Answer};
use super::error::ApiError;
use super::record::{Counters, InFlight, Log};
use super::script::Director;
use super::{Hang, Options, Script, embeddings};

const BODY_BYTES_MAX: usize = 64 << 20;
/// Rendered answers that are kept. The benchmark needs one or two.
const RENDERED_MAX: usize = 64;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// Serves `listener` until the future is dropped.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, options: Options) -> std::io::Result<()> {
    let server = Arc::new(Server {
        director: Mutex::new(Director::new(options.script.clone())),
        log: Mutex::new(Log::new(options.record_max)),
        rendered: Mutex::default(),
        counters: Arc::default(),
        options,
    });
    let connections = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let server = Arc::clone(&server);
        let open = server.counters.connection();
        connections.spawn(async move {
            let _open = open;
            let service = service_fn(|request| server.handle(request));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A caller that hangs up, and a cut that the script wants, end here.
            let _ = connection.await;
        });
    }
}

struct Server {
    options: Options,
    director: Mutex<Director>,
    log: Mutex<Log>,
    rendered: Mutex<HashMap<(String, Bytes), Rendered>>,
    counters: Arc<Counters>,
}

/// An answer without its id.
#[derive(Debug, Clone)]
struct Rendered {
    status: StatusCode,
    content_type: HeaderValue,
    plan: Plan,
}

impl Rendered {
    fn json(status: StatusCode, value: &Value) -> Self {
        Self { status, content_type: JSON, plan: Plan::whole(value.to_string()) }
    }
}

impl From<ApiError> for Rendered {
    fn from(error: ApiError) -> Self {
        Self::json(error.status, &error.json())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
        let (head, body) = request.into_parts();
        if !head.uri.path().starts_with("/v1/") {
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
            let rendered = match body {
                Ok(body) => self.control(&head, &body.to_bytes()).unwrap_or_else(Rendered::from),
                Err(error) => ApiError::invalid(error.to_string()).into(),
            };
            return Ok(respond(rendered, 0, InFlight::uncounted(), None));
        }
        let (number, in_flight) = self.counters.request();
        let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                return Ok(respond(ApiError::invalid(error.to_string()).into(), number, in_flight, None));
            }
        };
        let (script, healthy) = {
            let mut director = lock(&self.director);
            let (script, healthy) = director.next();
            (script.clone(), healthy)
        };
        let key = (head.uri.path().to_owned(), body.clone());
        let known =
            if healthy && self.admits(&head) { lock(&self.rendered).get(&key).cloned() } else { None };
        let rendered = known.unwrap_or_else(|| {
            let rendered = self.render(&head, &body, &script).unwrap_or_else(Rendered::from);
            if healthy && rendered.status.is_success() {
                let mut kept = lock(&self.rendered);
                if kept.len() >= RENDERED_MAX {
                    kept.clear();
                }
                kept.insert(key, rendered.clone());
            }
            rendered
        });
        lock(&self.log).push(head, body);
        if script.hang == Some(Hang::BeforeHeaders) {
            std::future::pending::<()>().await;
        }
        if script.delay_before_headers_ms > 0 {
            tokio::time::sleep(Duration::from_millis(script.delay_before_headers_ms)).await;
        }
        Ok(respond(rendered, number, in_flight, script.retry_after.map(|after| after.to_string())))
    }

    fn admits(&self, head: &Parts) -> bool {
        let shown =
            head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        self.options.key.as_deref().is_none_or(|key| shown == Some(key))
    }

    fn render(&self, head: &Parts, body: &Bytes, script: &Script) -> Result<Rendered, ApiError> {
        if !self.admits(head) {
            return Err(ApiError::wrong_key());
        }
        let status =
            script.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
        let healthy = || match (&head.method, head.uri.path()) {
            (&Method::GET, "/v1/models") => Ok(Rendered::json(StatusCode::OK, &self.models())),
            (&Method::POST, "/v1/chat/completions") => self.chat(body, script),
            (&Method::POST, "/v1/embeddings") => self.embeddings(body),
            (method, path) => Err(ApiError::unknown_address(method.as_str(), path)),
        };
        let mut rendered = match &script.body {
            Some(Value::String(text)) => {
                Rendered { status, content_type: JSON, plan: Plan::whole(text.clone()) }
            }
            Some(value) => Rendered::json(status, value),
            None if status.is_client_error() || status.is_server_error() => ApiError::scripted(status).into(),
            None => Rendered { status, ..healthy()? },
        };
        if let Some(bytes_max) = script.cut_after_bytes {
            rendered.plan = rendered.plan.cut(bytes_max);
        }
        if script.hang == Some(Hang::MidStream) {
            rendered.plan = rendered.plan.silent_halfway();
        }
        Ok(rendered)
    }

    fn chat(&self, body: &Bytes, script: &Script) -> Result<Rendered, ApiError> {
        let request: chat::Request = parse(body)?;
        self.check_model(&request.model)?;
        let answer = Answer::new(&request, script)?;
        let (plan, content_type) = if answer.streamed {
            (answer.stream(Duration::from_millis(script.chunk_delay_ms)), EVENT_STREAM)
        } else {
            (answer.whole(), JSON)
        };
        let plan =
            script.garbage.map_or_else(|| plan.clone(), |garbage| garbage.spoil(&answer, plan.clone()));
        Ok(Rendered { status: StatusCode::OK, content_type, plan })
    }

    fn embeddings(&self, body: &Bytes) -> Result<Rendered, ApiError> {
        let request: embeddings::Request = parse(body)?;
        self.check_model(&request.model)?;
        Ok(Rendered { status: StatusCode::OK, content_type: JSON, plan: embeddings::answer(&request)? })
    }

    fn check_model(&self, model: &str) -> Result<(), ApiError> {
        let known = self.options.models.iter().any(|offered| offered == model);
        known.then_some(()).ok_or_else(|| ApiError::unknown_model(model))
    }

    fn models(&self) -> Value {
        let model = |id: &String| json!({"id": id, "object": "model", "created": chat::CREATED_UNIX_S, "owned_by": "fake"});
        json!({"object": "list", "data": self.options.models.iter().map(model).collect::<Vec<_>>()})
    }

    /// The side that tests talk to.
    fn control(&self, head: &Parts, body: &Bytes) -> Result<Rendered, ApiError> {
        let done = Rendered::json(StatusCode::OK, &json!({}));
        match (&head.method, head.uri.path()) {
            (&Method::PUT, "/control") => {
                let script: Script = parse(body)?;
                let script = script.validated().map_err(|error| ApiError::invalid(error.to_string()))?;
                lock(&self.director).replace(Some(script));
                Ok(done)
            }
            (&Method::DELETE, "/control") => {
                lock(&self.director).replace(None);
                Ok(done)
            }
            (&Method::GET, "/control/requests") => {
                Ok(Rendered::json(StatusCode::OK, &json!(lock(&self.log).read())))
            }
            (&Method::DELETE, "/control/requests") => {
                lock(&self.log).clear();
                Ok(done)
            }
            (&Method::GET, "/control/stats") => {
                Ok(Rendered::json(StatusCode::OK, &json!(self.counters.read())))
            }
            (method, path) => Err(ApiError::unknown_address(method.as_str(), path)),
        }
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(format!("We could not parse the body: {error}")))
}

fn respond(
    rendered: Rendered,
    number: u64,
    in_flight: InFlight,
    retry_after: Option<String>,
) -> Response<Reply> {
    let Rendered { status, content_type, plan } = rendered;
    let mut response = Response::new(Reply::new(plan, number, in_flight));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    if let Ok(id) = HeaderValue::from_str(&format!("req_{number:016x}")) {
        headers.insert("x-request-id", id);
    }
    if let Some(value) = retry_after.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(RETRY_AFTER, value);
    }
    response
}
