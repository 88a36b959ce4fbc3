//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use domain::{
    fault::Fault,
    routing::{Decision, Tier},
};
use futures::stream;
use tokio::{sync::mpsc, time::Instant};
use wire::v1::{End, execute_request::Method};

use super::{
    Hints,
    answer::{self, Gathered, Head, Hybrid},
    error::Refused,
    model_or_placement,
    request::{ChatBody, read},
    whole,
};
use crate::{
    admission::Visitor,
    dispatch::{Asked, Coordinator, Event},
    ingress::{new_request_id, one_agent},
};

pub(super) async fn completions(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let at = Instant::now();
    let body = whole(body, coordinator.bus.max_payload())?;
    let hints = Hints::read(&headers)?;
    let chat: ChatBody = read(&body)?;
    let named = chat.model.clone();
    let stream = chat.stream;
    let include_usage = chat.stream_options.as_ref().is_some_and(|options| options.include_usage);

    let mut request = chat.into_wire()?;
    request.request_id = new_request_id();
    request.model = model_or_placement(named.clone());
    request.agent = one_agent(&hints.agent, "")?;
    request.profile = hints.profile;
    request.deadline_ms = hints.deadline_ms;
    let id = request.request_id.clone();
    let head = Head {
        id: format!("chatcmpl-{id}"),
        created: coordinator.clock.now_unix_ms() / 1_000,
        model: if named.is_empty() { "auto".to_owned() } else { named },
    };
    let events = coordinator.submit(Asked::new(Method::Generate(request), "http", at, visitor)?)?;
    if stream {
        Ok(streamed(events, head, id, include_usage).await?)
    } else {
        Ok(gathered(events, head, &id).await?)
    }
}

/// What comes before the first piece: the decision; heartbeats are passed over.
pub(super) async fn first(
    events: &mut mpsc::Receiver<Event>,
) -> Result<(Option<Arc<Decision>>, Event), Fault> {
    let mut decision = None;
    while let Some(event) = events.recv().await {
        match event {
            Event::Accepted(accepted) => decision = Some(accepted),
            Event::Heartbeat(_) => {}
            Event::Error(fault) => return Err(fault),
            event @ (Event::Delta(_) | Event::End(_)) => return Ok((decision, event)),
        }
    }
    Err(Fault::internal("the request ended without a word"))
}

/// Headers that say what was decided. Only values that can stand in a header do.
pub(super) fn tell(response: &mut Response, id: &str, decision: Option<&Decision>, end: Option<&End>) {
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    set("x-request-id", id);
    if let Some(decision) = decision {
        set("x-hybrid-class", decision.class.as_str());
        set("x-hybrid-decision", &decision.reasons.join("; "));
        // what `hybridctl explain` takes
        set("x-hybrid-decision-id", id);
        set("x-hybrid-mode", &decision.mode);
        set("x-hybrid-rule", &decision.rule);
        set("x-hybrid-complexity", decision.complexity.as_str());
        if decision.dry_run {
            set("x-hybrid-dry-run", "true");
        }
        if let Some(first) = decision.candidates.first() {
            let estimate = &first.estimate;
            set("x-hybrid-estimated-latency-ms", &estimate.latency.whole_ms().to_string());
            set("x-hybrid-estimated-cost-picodollars", &estimate.expected_cost.as_picodollars().to_string());
            set("x-hybrid-cost-max-picodollars", &estimate.worst_case_cost.as_picodollars().to_string());
        }
    }
    // a dry run has an end, and nobody who answered
    let end = end.filter(|end| !end.deployment.is_empty());
    match end {
        Some(end) => {
            set("x-hybrid-tier", wire::convert::tier(end.tier).map_or("unknown", Tier::as_str));
            set("x-hybrid-deployment", &end.deployment);
            set("x-hybrid-cost-picodollars", &end.request_cost_picodollars.to_string());
        }
        // a stream's headers go out before its end: the candidate that is tried first
        None => {
            if let Some(first) = decision.and_then(|decision| decision.candidates.first()) {
                set("x-hybrid-tier", first.deployment.tier.as_str());
                set("x-hybrid-deployment", first.deployment.id.as_str());
            }
        }
    }
}

async fn gathered(mut events: mpsc::Receiver<Event>, mut head: Head, id: &str) -> Result<Response, Fault> {
    let (decision, event) = first(&mut events).await?;
    let mut gathered = Gathered::default();
    let mut next = Some(event);
    while let Some(event) = next {
        match event {
            Event::Delta(delta) => gathered.add(delta.items),
            Event::End(mut end) => {
                gathered.add(end.last_delta.take().unwrap_or_default().items);
                if !end.model.is_empty() {
                    head.model.clone_from(&end.model);
                }
                let hybrid = Hybrid::new(id, decision.as_deref(), &end);
                let mut response = axum::Json(gathered.completion(&head, &end, hybrid)).into_response();
                tell(&mut response, id, decision.as_deref(), Some(&end));
                return Ok(response);
            }
            Event::Error(fault) => return Err(fault),
            Event::Accepted(_) | Event::Heartbeat(_) => {}
        }
        next = events.recv().await;
    }
    Err(Fault::internal("the request ended without an end"))
}

/// A stream on its way out.
struct Streamed {
    events: mpsc::Receiver<Event>,
    head: Head,
    id: String,
    decision: Option<Arc<Decision>>,
    include_usage: bool,
    waiting: Option<Event>,
}

impl Streamed {
    /// The bytes of one event; `None` after the last.
    fn write(&mut self, event: Event, out: &mut Vec<u8>) -> bool {
        match event {
            Event::Delta(delta) => self.head.pieces(out, &delta.items),
            Event::Heartbeat(_) => out.extend_from_slice(b": still at work\n\n"),
            Event::Accepted(_) => {}
            Event::End(end) => {
                let hybrid = Hybrid::new(&self.id, self.decision.as_deref(), &end);
                self.head.finish(out, &end, &hybrid, self.include_usage);
                return false;
            }
            Event::Error(fault) => {
                answer::broken(out, &fault);
                return false;
            }
        }
        true
    }
}

async fn streamed(
    mut events: mpsc::Receiver<Event>,
    head: Head,
    id: String,
    include_usage: bool,
) -> Result<Response, Fault> {
    // nothing is sent before the first piece, so that a failure until then is an HTTP status
    let (decision, event) = first(&mut events).await?;
    let told = decision.clone();
    let answer = Streamed { events, head, id: id.clone(), decision, include_usage, waiting: Some(event) };
    let chunks = stream::unfold((answer, true, true), |(mut answer, begin, open)| async move {
        if !open {
            return None;
        }
        let mut out = Vec::with_capacity(512);
        if begin {
            answer.head.begin(&mut out);
        }
        let mut open = true;
        // what has come together goes out together
        let mut next = match answer.waiting.take() {
            Some(event) => Some(event),
            None => answer.events.recv().await,
        };
        if next.is_none() {
            answer::broken(&mut out, &Fault::internal("the request ended without an end"));
            open = false;
        }
        while let Some(event) = next {
            open = answer.write(event, &mut out);
            next = if open { answer.events.try_recv().ok() } else { None };
        }
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(out)), (answer, false, open)))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    tell(&mut response, &id, told.as_deref(), None);
    Ok(response)
}
