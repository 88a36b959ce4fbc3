//! A provider that runs jobs: files, batches and fine-tuning in OpenAI's wire format, also at Azure's addresses, and batches
//! in Anthropic's, on a socket in the test's own process.
//!
//! A batch answers each of its requests with `echo: ` and the last user text (or a vector of three numbers), one token for
//! four bytes; a text that holds `refuse`, `expire` or `lose` gets an error, no time, or no line at all. A job moves one
//! state with each look at it.

mod answers;
mod anthropic;
mod openai;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use answers::{cancel, find, list};

/// Versions of Anthropic's API that its SDKs ask for.
const ANTHROPIC_VERSIONS: [&str; 2] = ["2023-06-01", "2026-10-21"];

/// What it does beside what a healthy provider does.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Answers to the next calls whose method and path begin so: status and `Retry-After`.
    pub failures: Vec<Failure>,
    /// A created job is not told: the connection hangs instead.
    pub swallow_creations: bool,
    /// Batches are refused by the validation.
    pub invalid: bool,
    /// Jobs do not end, whatever the number of looks.
    pub endless: bool,
    /// Between the pieces of a file that is fetched.
    pub piece_delay: Duration,
    /// Looks at a file until it has been read (Azure).
    pub reading: u32,
}

/// One call that fails.
#[derive(Debug, Clone)]
pub struct Failure {
    /// As in `POST /v1/batches`.
    pub call: String,
    /// HTTP status.
    pub status: u16,
    /// Whole seconds.
    pub retry_after: Option<u64>,
}

/// A call that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// As in `POST /v1/batches`.
    pub what: String,
    /// The body where it is JSON.
    pub body: Value,
}

/// A running provider; it ends with this value.
#[derive(Debug)]
pub struct JobUpstream {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    address: SocketAddr,
    key: String,
    script: Script,
    calls: Vec<Call>,
    files: BTreeMap<String, Upload>,
    batches: Vec<Value>,
    trainings: Vec<Value>,
    /// Batches in Anthropic's format, newest first.
    messages: Vec<Value>,
    next: u64,
}

#[derive(Debug, Clone)]
struct Upload {
    purpose: String,
    name: String,
    bytes: Bytes,
    looks: u32,
}

type Body = Either<Full<Bytes>, http_body_util::combinators::BoxBody<Bytes, Infallible>>;

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl JobUpstream {
    /// Starts one that wants `key`.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(key: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::new(address, key)));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| handle(Arc::clone(&state), request));
                    let http = hyper::server::conn::http1::Builder::new();
                    // A caller that hangs up ends it.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, state, _tasks: tasks })
    }

    /// What a provider's `base_url` is set to.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.root())
    }

    /// The address without a path, as Azure's resources have it.
    #[must_use]
    pub fn root(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it does from now on.
    pub fn play(&self, change: impl FnOnce(&mut Script)) {
        change(&mut lock(&self.state).script);
    }

    /// The calls so far that begin so, as in `POST /v1/batches`.
    #[must_use]
    pub fn calls(&self, what: &str) -> Vec<Call> {
        lock(&self.state).calls.iter().filter(|call| call.what.starts_with(what)).cloned().collect()
    }

    /// Names and contents of the files that were brought, in order.
    #[must_use]
    pub fn uploads(&self) -> Vec<(String, String)> {
        let state = lock(&self.state);
        let ours = state.files.values().filter(|file| file.purpose != "output");
        ours.map(|file| (file.name.clone(), String::from_utf8_lossy(&file.bytes).into_owned())).collect()
    }

    /// Batches that were created.
    #[must_use]
    pub fn batches(&self) -> usize {
        let state = lock(&self.state);
        state.batches.len() + state.messages.len()
    }
}

async fn handle(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path().to_owned();
    let what = format!("{} {path}", head.method);
    let boundary = head.headers.get(CONTENT_TYPE).and_then(|kind| {
        Some(kind.to_str().ok()?.strip_prefix("multipart/form-data; boundary=")?.to_owned())
    });
    let (answer, swallow, delay) = {
        let mut state = lock(&state);
        state
            .calls
            .push(Call { what: what.clone(), body: serde_json::from_slice(&bytes).unwrap_or_default() });
        if !state.knows(&path, &head.headers) {
            return Ok(error(401, "invalid_api_key", "Incorrect API key provided.", None));
        }
        if let Some(at) = state.script.failures.iter().position(|failure| what.starts_with(&failure.call)) {
            let failure = state.script.failures.remove(at);
            return Ok(error(failure.status, "scripted", "The call was refused.", failure.retry_after));
        }
        let creates = head.method == Method::POST
            && (path.ends_with("/batches") || path.ends_with("/fine_tuning/jobs"));
        let answer = match head.uri.query() {
            // an address of Azure's without a version is none
            None if path.starts_with("/openai/") && !path.starts_with("/openai/v1/") => {
                Err((404, "Resource not found".to_owned()))
            }
            _ => state.answer(&head.method, &path, boundary.as_deref(), &bytes),
        };
        (answer, creates && state.script.swallow_creations, state.script.piece_delay)
    };
    if swallow {
        std::future::pending::<()>().await;
    }
    Ok(match answer {
        Ok(Answer::Json(value)) => whole(StatusCode::OK, &value),
        Ok(Answer::File(bytes)) => file(bytes, delay),
        Err((status, message)) => error(status, "invalid_request_error", &message, None),
    })
}

fn whole(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(value.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn error(status: u16, code: &str, message: &str, retry_after: Option<u64>) -> Response<Body> {
    let value = json!({"error": {"message": message, "type": code, "code": code, "param": null}});
    let mut response = whole(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), &value);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    }
    response
}

/// A file in pieces, so that a caller can be caught in the middle of it.
fn file(bytes: Bytes, delay: Duration) -> Response<Body> {
    let pieces: Vec<Bytes> = bytes.chunks(4_096).map(Bytes::copy_from_slice).collect();
    let stream = futures::stream::unfold(pieces.into_iter(), move |mut pieces| async move {
        let piece = pieces.next()?;
        tokio::time::sleep(delay).await;
        Some((Ok(Frame::data(piece)), pieces))
    });
    Response::new(Either::Right(http_body_util::combinators::BoxBody::new(StreamBody::new(stream))))
}

enum Answer {
    Json(Value),
    File(Bytes),
}

type Outcome = Result<Answer, (u16, String)>;

impl State {
    fn new(address: SocketAddr, key: &str) -> Self {
        Self {
            address,
            key: key.to_owned(),
            script: Script::default(),
            calls: Vec::new(),
            files: BTreeMap::new(),
            batches: Vec::new(),
            trainings: Vec::new(),
            messages: Vec::new(),
            next: 0,
        }
    }

    /// Whether the key is shown as whoever's address it is wants it.
    fn knows(&self, path: &str, headers: &HeaderMap) -> bool {
        let shown = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = || shown("authorization").and_then(|shown| shown.strip_prefix("Bearer "));
        match path {
            _ if path.starts_with("/openai/") => shown("api-key") == Some(&self.key),
            _ if path.starts_with("/v1/messages/") => {
                let version =
                    shown("anthropic-version").is_some_and(|version| ANTHROPIC_VERSIONS.contains(&version));
                version && shown("x-api-key").or_else(bearer) == Some(&self.key)
            }
            _ => bearer() == Some(&self.key),
        }
    }

    /// The date as Anthropic writes it.
    fn now(&self) -> String {
        let now = time::OffsetDateTime::now_utc();
        now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
    }

    fn answer(&mut self, method: &Method, path: &str, boundary: Option<&str>, bytes: &Bytes) -> Outcome {
        let unknown = || (404, format!("Invalid URL ({method} {path})"));
        let below = ["/v1/", "/openai/v1/", "/openai/"].into_iter().find_map(|root| path.strip_prefix(root));
        let below: Vec<&str> = below.ok_or_else(unknown)?.split('/').collect();
        let body = || serde_json::from_slice::<Value>(bytes).map_err(|error| (400, error.to_string()));
        match (method.as_str(), below.as_slice()) {
            (_, ["messages", "batches", below @ ..]) => anthropic::answer(self, method, below, bytes),
            ("POST", ["files"]) => self.upload(boundary, bytes),
            ("GET", ["files", id]) => self.file(id),
            ("GET", ["files", id, "content"]) => {
                self.files.get(*id).map(|file| Answer::File(file.bytes.clone())).ok_or_else(unknown)
            }
            ("POST", ["batches"]) => self.new_batch(&body()?),
            ("GET", ["batches"]) => Ok(Answer::Json(list(&self.batches))),
            ("GET", ["batches", id]) => self.look_at_batch(id),
            ("POST", ["batches", id, "cancel"]) => cancel(&mut self.batches, id),
            ("POST", ["fine_tuning", "jobs"]) => self.new_training(&body()?),
            ("GET", ["fine_tuning", "jobs"]) => Ok(Answer::Json(list(&self.trainings))),
            ("GET", ["fine_tuning", "jobs", id]) => self.look_at_training(id),
            ("POST", ["fine_tuning", "jobs", id, "cancel"]) => cancel(&mut self.trainings, id),
            ("GET", ["fine_tuning", "jobs", id, "events"]) => {
                let status = &find(&mut self.trainings, id)?["status"];
                let event =
                    |at: u64, message: Value| json!({"created_at": at, "level": "info", "message": message});
                let data = [event(1_700_000_002, status.clone()), event(1_700_000_001, "Created job".into())];
                Ok(Answer::Json(json!({"object": "list", "data": data, "has_more": false})))
            }
            _ => Err(unknown()),
        }
    }

    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}-{:04}", self.next)
    }
}
