//! Requests over HTTP, in OpenAI's format.
//!
//! What a caller can say beyond it travels in headers, so that any SDK can send it:
//! `x-hybrid-agent`, `x-hybrid-task`, `x-hybrid-privacy: local-only`, `x-hybrid-criticality`, `x-hybrid-latency`,
//! `x-hybrid-budget-sensitivity`, `x-hybrid-complexity`, `x-hybrid-mode`, `x-hybrid-dry-run: true`, `x-hybrid-deadline-ms`. What was decided comes back
//! in `x-hybrid-*` headers and in the object `hybrid` of the body or of the last chunk.

mod answer;
pub(crate) mod audio;
mod chat;
mod embeddings;
mod error;
mod limits;
mod models;
mod request;

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State, rejection::BytesRejection},
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, HeaderName},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use domain::fault::{Code, Fault, Origin};
use service_runtime::{Tasks, http};
use tokio_util::sync::CancellationToken;
use wire::v1;

use crate::{admission::Shown, dispatch::Coordinator, settings::Section};
use error::Refused;

/// Where Anthropic's SDKs put the key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Opens the listener; when this returns requests are taken.
pub(crate) async fn start(
    coordinator: &Arc<Coordinator>,
    settings: &Section,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> Result<(), http::BindError> {
    let listener = http::bind(settings.listen, "request-coordinator.listen").await?;
    tracing::info!(address = ?listener.local_addr().ok(), "the OpenAI-compatible interface listens");
    let router = router(Arc::clone(coordinator), settings.body_bytes_max);
    let limits = http::Limits { connections_max: settings.connections_max, ..http::Limits::default() };
    let serving = http::serve(listener, router, limits, stop.clone());
    tasks.spawn("http-ingress", async move {
        serving.await;
        Ok(())
    });
    Ok(())
}

fn router(coordinator: Arc<Coordinator>, body_bytes_max: usize) -> Router {
    let forms = DefaultBodyLimit::max(audio::FORM_BYTES_MAX);
    Router::new()
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/audio/transcriptions", post(audio::transcriptions).layer(forms))
        .route("/v1/audio/translations", post(audio::translations).layer(forms))
        .route("/v1/audio/speech", post(audio::speech))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(middleware::from_fn_with_state(Arc::clone(&coordinator), authenticate))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(coordinator)
}

/// Finds out who asks, and tells a virtual key on each answer how it stands.
async fn authenticate(
    State(coordinator): State<Arc<Coordinator>>,
    mut request: Request,
    next: Next,
) -> Response {
    let visitor = match coordinator.gate.visitor(shown(request.headers())) {
        Ok(visitor) => visitor,
        Err(fault) => return Refused(fault).into_response(),
    };
    request.extensions_mut().insert(visitor.clone());
    let mut response = next.run(request).await;
    let standing = visitor.key().and_then(|key| coordinator.gate.meters.standing(&key.id));
    if let Some(standing) = standing {
        limits::tell(response.headers_mut(), &standing);
    }
    response
}

fn shown(headers: &HeaderMap) -> Shown<'_> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    Shown { authorization: text(AUTHORIZATION), x_api_key: text(X_API_KEY) }
}

async fn unknown(request: Request) -> Refused {
    let message = format!(
        "{} {} is not served here, expected /v1/chat/completions, /v1/embeddings, /v1/audio/transcriptions, \
         /v1/audio/translations, /v1/audio/speech or /v1/models",
        request.method(),
        request.uri().path().chars().take(80).collect::<String>()
    );
    Refused(Fault::new(Code::NotFound, Origin::Caller, false, message))
}

async fn wrong_method(request: Request) -> Response {
    let message = format!("method {} is not served at {}", request.method(), request.uri().path());
    let fault = Fault::new(Code::InvalidArgument, Origin::Caller, false, message).in_field("method");
    (StatusCode::METHOD_NOT_ALLOWED, Refused(fault)).into_response()
}

/// The body, or why it was not read.
fn whole(body: Result<Bytes, BytesRejection>, max: usize) -> Result<Bytes, Fault> {
    body.map_err(|rejection| {
        if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
            let message = format!("the body is larger than {max} bytes, the most that is taken here");
            return Fault::new(Code::PayloadTooLarge, Origin::Caller, false, message);
        }
        Fault::invalid("body", format!("the body could not be read: {}", rejection.body_text()))
    })
}

/// What headers say of a request.
#[derive(Debug, Default)]
struct Hints {
    agent: String,
    profile: Option<v1::TaskProfile>,
    deadline_ms: u64,
}

impl Hints {
    fn read(headers: &HeaderMap) -> Result<Self, Fault> {
        let text = |name: &'static str| match headers.get(name) {
            None => Ok(String::new()),
            Some(value) => value
                .to_str()
                .map(str::to_owned)
                .map_err(|_| Fault::invalid(name, format!("header {name} is not ASCII text"))),
        };
        let privacy = match text("x-hybrid-privacy")?.as_str() {
            "" => v1::Privacy::Unspecified,
            "public" => v1::Privacy::Public,
            "local-only" => v1::Privacy::LocalOnly,
            other => {
                let message = format!("header x-hybrid-privacy is {other:?}, expected public or local-only");
                return Err(Fault::invalid("x-hybrid-privacy", message));
            }
        };
        let deadline = text("x-hybrid-deadline-ms")?;
        let deadline_ms = if deadline.is_empty() {
            0
        } else {
            deadline.parse().map_err(|_| {
                let message = format!("header x-hybrid-deadline-ms is {deadline:?}, expected milliseconds");
                Fault::invalid("x-hybrid-deadline-ms", message)
            })?
        };
        let profile = v1::TaskProfile {
            task: text("x-hybrid-task")?,
            privacy: privacy.into(),
            criticality: word("x-hybrid-criticality", &text("x-hybrid-criticality")?, &LEVELS)?,
            latency_sensitivity: word("x-hybrid-latency", &text("x-hybrid-latency")?, &LEVELS)?,
            budget_sensitivity: word(
                "x-hybrid-budget-sensitivity",
                &text("x-hybrid-budget-sensitivity")?,
                &LEVELS,
            )?,
            complexity: word("x-hybrid-complexity", &text("x-hybrid-complexity")?, &COMPLEXITIES)?,
            mode: text("x-hybrid-mode")?,
            dry_run: word("x-hybrid-dry-run", &text("x-hybrid-dry-run")?, &[("true", 1), ("false", 0)])? == 1,
            ..v1::TaskProfile::default()
        };
        let profile = (profile != v1::TaskProfile::default()).then_some(profile);
        Ok(Self { agent: text("x-hybrid-agent")?, profile, deadline_ms })
    }
}

const LEVELS: [(&str, i32); 3] =
    [("low", v1::Level::Low as i32), ("medium", v1::Level::Medium as i32), ("high", v1::Level::High as i32)];
const COMPLEXITIES: [(&str, i32); 3] = [
    ("simple", v1::Complexity::Simple as i32),
    ("medium", v1::Complexity::Medium as i32),
    ("complex", v1::Complexity::Complex as i32),
];

/// What a header's word stands for; 0 = nothing was said.
fn word(header: &str, text: &str, known: &[(&str, i32)]) -> Result<i32, Fault> {
    if text.is_empty() {
        return Ok(0);
    }
    known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let expected: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        let message = format!("header {header} is {text:?}, expected {}", expected.join(", "));
        Fault::invalid(header, message)
    })
}

/// `auto` is what SDKs send that cannot leave the model out: placement decides.
fn model_or_placement(model: String) -> String {
    if model == "auto" { String::new() } else { model }
}
