//! Speech: JSON in, audio out as it is made, plain or in events.

use std::sync::Arc;

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{State, rejection::BytesRejection},
    http::{
        HeaderMap, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::Response,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use domain::{fault::Fault, inference::SpeechFormat, routing::Decision};
use futures::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, time::Instant};
use wire::v1::{self, DeltaItem, SpeakRequest, execute_request::Method};

use super::{
    super::{
        Hints,
        answer::{Hybrid, broken},
        chat::{first, tell},
        error::Refused,
        model_or_placement,
        request::{object, read},
        whole,
    },
    event,
};
use crate::{
    admission::Visitor,
    dispatch::{Asked, Coordinator, Event},
    ingress::new_request_id,
};

/// The body; what is not known is carried.
#[derive(Debug, Deserialize)]
struct SpeechBody {
    #[serde(default)]
    model: String,
    #[serde(default)]
    input: String,
    #[serde(default)]
    voice: String,
    response_format: Option<String>,
    speed: Option<f32>,
    instructions: Option<String>,
    stream_format: Option<String>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

pub(in super::super) async fn speech(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let at = Instant::now();
    let body = whole(body, coordinator.bus.max_payload())?;
    let hints = Hints::read(&headers)?;
    let asked: SpeechBody = read(&body)?;
    let format = format(asked.response_format.as_deref())?;
    let in_events = in_events(asked.stream_format.as_deref())?;
    let id = new_request_id();
    let request = SpeakRequest {
        request_id: id.clone(),
        model: model_or_placement(asked.model),
        agent: hints.agent,
        input: asked.input,
        voice: asked.voice,
        format: v1::SpeechFormat::from(format).into(),
        speed: asked.speed,
        instructions: asked.instructions.unwrap_or_default(),
        profile: hints.profile,
        deadline_ms: hints.deadline_ms,
        extra_json: object(asked.extra),
    };
    let mut events = coordinator.submit(Asked::new(Method::Speak(request), "http", at, visitor)?)?;
    // nothing is sent before the first piece, so that a failure until then is an HTTP status
    let (decision, event) = first(&mut events).await?;
    let told = decision.clone();
    let speech = Speech { events, waiting: Some(event), id: id.clone(), decision, in_events };
    let chunks = stream::unfold(Some(speech), |speech| async move {
        let mut speech = speech?;
        let (out, open) = speech.next().await;
        Some((out, open.then_some(speech)))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let kind = if in_events { "text/event-stream; charset=utf-8" } else { format.media_type() };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    tell(&mut response, &id, told.as_deref(), None);
    Ok(response)
}

fn format(name: Option<&str>) -> Result<SpeechFormat, Fault> {
    let name = name.unwrap_or(SpeechFormat::default().as_str());
    SpeechFormat::from_name(name).ok_or_else(|| {
        let start: String = name.chars().take(40).collect();
        let message = format!("response_format is {start:?}, expected mp3, opus, aac, flac, wav or pcm");
        Fault::invalid("response_format", message)
    })
}

fn in_events(name: Option<&str>) -> Result<bool, Fault> {
    match name {
        None | Some("audio") => Ok(false),
        Some("sse") => Ok(true),
        Some(other) => {
            let start: String = other.chars().take(40).collect();
            let message = format!("stream_format is {start:?}, expected audio or sse");
            Err(Fault::invalid("stream_format", message))
        }
    }
}

/// Speech on its way out.
struct Speech {
    events: mpsc::Receiver<Event>,
    waiting: Option<Event>,
    id: String,
    decision: Option<Arc<Decision>>,
    in_events: bool,
}

impl Speech {
    /// The next bytes, and whether more come. Plain audio has no way to tell an error but to break off: the connection is
    /// closed before the body's end.
    async fn next(&mut self) -> (Result<Bytes, Fault>, bool) {
        loop {
            let event = match self.waiting.take() {
                Some(event) => Some(event),
                None => self.events.recv().await,
            };
            let mut out = Vec::new();
            match event {
                Some(Event::Delta(delta)) => {
                    self.pieces(&mut out, delta.items);
                    if out.is_empty() {
                        continue;
                    }
                }
                Some(Event::Heartbeat(_)) if self.in_events => out.extend_from_slice(b": still at work\n\n"),
                Some(Event::Heartbeat(_) | Event::Accepted(_)) => continue,
                Some(Event::End(mut end)) => {
                    self.pieces(&mut out, end.last_delta.take().unwrap_or_default().items);
                    if self.in_events {
                        self.done(&mut out, &end);
                    }
                    return (Ok(out.into()), false);
                }
                Some(Event::Error(fault)) => return self.failed(fault),
                None => return self.failed(Fault::internal("the request ended without an end")),
            }
            return (Ok(out.into()), true);
        }
    }

    fn failed(&self, fault: Fault) -> (Result<Bytes, Fault>, bool) {
        if !self.in_events {
            return (Err(fault), false);
        }
        let mut out = Vec::new();
        broken(&mut out, &fault);
        (Ok(out.into()), false)
    }

    fn pieces(&self, out: &mut Vec<u8>, items: Vec<DeltaItem>) {
        for item in items.into_iter().filter(|item| !item.audio.is_empty()) {
            if self.in_events {
                let audio = BASE64_STANDARD.encode(&item.audio);
                event(out, &json!({ "type": "speech.audio.delta", "audio": audio }));
            } else {
                out.extend_from_slice(&item.audio);
            }
        }
    }

    fn done(&self, out: &mut Vec<u8>, end: &v1::End) {
        let usage = end.usage.unwrap_or_default();
        let done = json!({
            "type": "speech.audio.done",
            "usage": {
                "input_tokens": usage.input,
                "output_tokens": usage.output,
                "total_tokens": usage.input.saturating_add(usage.output),
            },
            "hybrid": Hybrid::new(&self.id, self.decision.as_deref(), end),
        });
        event(out, &done);
    }
}
