//! The server: connections, what tests tell it, and which script a request gets.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::body::{Piece, Plan, Reply};
use super::director::Director;
use super::format::{Call, Content, Format, Refusal, resolve};
use super::problem::Problem;
use super::record::{Counters, InFlight, Log};
use super::world::{World, lock};
use super::{Hang, Options, RetryAfter, Script};

const BODY_BYTES_MAX: usize = 64 << 20;
/// Rendered answers that are kept. The benchmark needs one or two.
const RENDERED_MAX: usize = 64;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Serves `listener` until the future is dropped.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, options: Options) -> std::io::Result<()> {
    let log = Log::new(options.record_max);
    let director = Director::new(options.script.clone());
    let server = Arc::new(Server {
        director: Mutex::new(director),
        log: Mutex::new(log),
        rendered: Mutex::default(),
        counters: Arc::default(),
        world: World::new(options).map_err(std::io::Error::other)?,
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
    world: World,
    director: Mutex<Director>,
    log: Mutex<Log>,
    rendered: Mutex<HashMap<(String, Bytes), Rendered>>,
    counters: Arc<Counters>,
}

/// An answer without its id.
#[derive(Debug, Clone)]
struct Rendered {
    status: StatusCode,
    headers: HeaderMap,
    plan: Plan,
}

impl Rendered {
    fn whole(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: HeaderMap::from_iter([(CONTENT_TYPE, JSON)]), plan: Plan::whole(body) }
    }

    fn stream(status: StatusCode, content_type: &'static str, pieces: Vec<Piece>, delay: Duration) -> Self {
        let content_type = HeaderValue::from_static(content_type);
        Self {
            status,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, content_type)]),
            plan: Plan::stream(pieces, delay),
        }
    }
}

impl From<Refusal> for Rendered {
    fn from(refusal: Refusal) -> Self {
        let mut rendered = Self::whole(refusal.status, refusal.body.to_string());
        if let Some((name, value)) = refusal.header {
            rendered.headers.insert(name, value);
        }
        rendered
    }
}

impl Server {
    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
        let (head, body) = request.into_parts();
        if head.uri.path().starts_with("/control") {
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
            let rendered = match body {
                Ok(body) => self.control(&head, &body.to_bytes()).unwrap_or_else(|problem| untold(&problem)),
                Err(error) => untold(&Problem::invalid(error.to_string())),
            };
            return Ok(respond(rendered, 0, InFlight::uncounted()));
        }
        let (number, in_flight) = self.counters.request();
        let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                return Ok(respond(untold(&Problem::invalid(error.to_string())), number, in_flight));
            }
        };
        let (format, call) = called(&head, &body);
        if format.is_aside(&call) {
            let rendered = self.render(format, &call, &Script::default());
            lock(&self.log).push(head, body);
            return Ok(respond(rendered, number, in_flight));
        }
        let (script, healthy) = {
            let mut director = lock(&self.director);
            let (script, healthy) = director.next();
            (script.clone(), healthy)
        };
        // a model that is fetched changes what there is
        let keeps = healthy && !head.uri.path().ends_with("/api/pull");
        let known = if keeps && format.admits(&call, &self.world) {
            let key = (head.uri.to_string(), body.clone());
            lock(&self.rendered).get(&key).cloned()
        } else {
            None
        };
        let rendered = known.unwrap_or_else(|| {
            let rendered = self.render(format, &call, &script);
            if keeps && rendered.status.is_success() {
                let mut kept = lock(&self.rendered);
                if kept.len() >= RENDERED_MAX {
                    kept.clear();
                }
                kept.insert((head.uri.to_string(), body.clone()), rendered.clone());
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
        Ok(respond(rendered, number, in_flight))
    }

    fn render(&self, format: &dyn Format, call: &Call<'_>, script: &Script) -> Rendered {
        let wait = match &script.retry_after {
            Some(RetryAfter::Seconds(seconds)) => Some(*seconds),
            _ => None,
        };
        let refused = |problem: &Problem| Rendered::from(format.refusal(problem, wait));
        if !format.admits(call, &self.world) {
            return refused(&Problem::wrong_key());
        }
        let mut rendered = self.scripted(format, call, script).unwrap_or_else(|problem| refused(&problem));
        if let Some(bytes_max) = script.cut_after_bytes {
            rendered.plan = rendered.plan.cut(bytes_max);
        }
        if script.hang == Some(Hang::MidStream) {
            rendered.plan = rendered.plan.silent_halfway();
        }
        let in_header = format.tells_retry_after_in_header() || wait.is_none();
        if let Some(after) = script.retry_after.as_ref().filter(|_| in_header)
            && let Ok(value) = HeaderValue::from_str(&after.to_string())
        {
            rendered.headers.insert(RETRY_AFTER, value);
        }
        rendered.headers.extend(headers(&script.headers));
        rendered
    }

    fn scripted(&self, format: &dyn Format, call: &Call<'_>, script: &Script) -> Result<Rendered, Problem> {
        let status = script.status.and_then(|status| StatusCode::from_u16(status).ok());
        let is_error = status.is_some_and(|status| status.is_client_error() || status.is_server_error());
        let shown = status.unwrap_or(StatusCode::OK);
        match &script.body {
            Some(Value::String(text)) => return Ok(Rendered::whole(shown, text.clone())),
            Some(value) => return Ok(Rendered::whole(shown, value.to_string())),
            None if is_error || script.error.is_some() => {
                return Err(Problem::scripted(script.error, status));
            }
            None => {}
        }
        let delay = Duration::from_millis(script.chunk_delay_ms);
        Ok(match format.answer(call, &self.world, script)? {
            Content::Whole(value) => {
                let body = Bytes::from(value.to_string());
                let error = || format.refusal(&Problem::scripted(None, None), None).body.to_string();
                let body = match script.garbage {
                    Some(garbage) => garbage.spoil_whole(body, &error()),
                    None => body,
                };
                Rendered::whole(shown, body)
            }
            Content::Text(text) => {
                let mut rendered = Rendered::whole(shown, text);
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                rendered.headers.insert(CONTENT_TYPE, plain);
                rendered
            }
            Content::Stream(stream) => {
                let content_type = stream.framing.content_type();
                let pieces = match script.garbage {
                    Some(garbage) => garbage.spoil_stream(stream),
                    None => stream.pieces,
                };
                Rendered::stream(shown, content_type, pieces, delay)
            }
        })
    }

    /// The side that tests talk to.
    fn control(&self, head: &Parts, body: &Bytes) -> Result<Rendered, Problem> {
        let answer = |value: Value| Ok(Rendered::whole(StatusCode::OK, value.to_string()));
        match (&head.method, head.uri.path()) {
            (&Method::PUT, "/control") => {
                let script: Script = parse(body)?;
                let script = script.validated().map_err(|error| Problem::invalid(error.to_string()))?;
                lock(&self.director).replace(Some(script));
                answer(json!({}))
            }
            (&Method::DELETE, "/control") => {
                lock(&self.director).replace(None);
                answer(json!({}))
            }
            (&Method::GET, "/control/requests") => answer(json!(lock(&self.log).read())),
            (&Method::DELETE, "/control/requests") => {
                lock(&self.log).clear();
                answer(json!({}))
            }
            (&Method::GET, "/control/stats") => answer(json!(self.counters.read())),
            (method, path) => Err(Problem::unknown_address(method.as_str(), path)),
        }
    }
}

/// The format that a request is in, and the request as that format sees it.
pub(super) fn called<'a>(head: &'a Parts, body: &'a [u8]) -> (&'static dyn Format, Call<'a>) {
    let (format, _, path) = resolve(head.uri.path());
    let call = Call {
        method: &head.method,
        path,
        query: head.uri.query().unwrap_or_default(),
        whole_path: head.uri.path(),
        headers: &head.headers,
        body,
    };
    (format, call)
}

/// An error to somebody who speaks no provider's format.
fn untold(problem: &Problem) -> Rendered {
    let (format, ..) = resolve("/");
    format.refusal(problem, None).into()
}

fn headers(written: &BTreeMap<String, String>) -> HeaderMap {
    let header = |(name, value): (&String, &String)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    };
    written.iter().filter_map(header).collect()
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::invalid(format!("We could not parse the body: {error}")))
}

fn respond(rendered: Rendered, number: u64, in_flight: InFlight) -> Response<Reply> {
    let Rendered { status, headers, plan } = rendered;
    let mut response = Response::new(Reply::new(plan, number, in_flight));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let Ok(id) = HeaderValue::from_str(&format!("req_{number:016x}")) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}
