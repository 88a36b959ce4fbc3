//! Transcriptions and translations: a form in, a transcript out.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{
        State,
        multipart::{Multipart, MultipartRejection},
    },
    http::{
        HeaderMap, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use domain::{fault::Fault, routing::Decision};
use futures::stream;
use tokio::{sync::mpsc, time::Instant};
use wire::v1::{
    StoredAudio, TimestampGranularity, TranscribeRequest, TranscriptFormat, execute_request::Method,
    transcribe_request::Audio,
};

use super::{
    super::{
        Hints,
        chat::{first, tell},
        error::Refused,
        model_or_placement,
        request::object,
    },
    form::Form,
    transcript::{Pieces, Shape},
};
use crate::{
    admission::Visitor,
    dispatch::{Asked, Coordinator, Event, Upload},
    ingress::new_request_id,
};

pub(in super::super) async fn transcriptions(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, Refused> {
    Ok(transcribe(&coordinator, visitor, &headers, form, false).await?)
}

pub(in super::super) async fn translations(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, Refused> {
    Ok(transcribe(&coordinator, visitor, &headers, form, true).await?)
}

async fn transcribe(
    coordinator: &Arc<Coordinator>,
    visitor: Visitor,
    headers: &HeaderMap,
    form: Result<Multipart, MultipartRejection>,
    to_english: bool,
) -> Result<Response, Fault> {
    let at = Instant::now();
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    // until the last piece of the answer: a file waits in memory for its executor
    let room = coordinator.audio_room.take(announced)?;
    let hints = Hints::read(headers)?;
    let mut form = Form::read(form).await?;
    let id = new_request_id();
    let (content, file_name, media_type) = form.file()?;
    let (shape, format) = Shape::read(&form.text("response_format")?)?;
    let streams = form.flag("stream")? && !to_english;
    let is_small = content.len() <= bus::audio::INLINE_BYTES_MAX;
    let audio = if is_small {
        Audio::Content(content.to_vec())
    } else {
        let machine = coordinator.bus.machine().to_string();
        Audio::Stored(StoredAudio { name: id.clone(), bytes: content.len() as u64, machine })
    };
    let request = TranscribeRequest {
        request_id: id.clone(),
        model: model_or_placement(form.text("model")?),
        agent: hints.agent,
        audio: Some(audio),
        file_name,
        media_type,
        language: form.text("language")?,
        prompt: form.text("prompt")?,
        format: format.into(),
        temperature: form.number("temperature")?,
        timestamps: granularities(form.list("timestamp_granularities"))?,
        to_english,
        profile: hints.profile,
        deadline_ms: hints.deadline_ms,
        extra_json: object(form.rest()),
        stream: streams,
    };
    let mut asked = Asked::new(Method::Transcribe(request), "http", at, visitor)?;
    asked.upload = (!is_small).then_some(Upload { content, _room: room });
    let mut events = coordinator.submit(asked)?;
    // nothing is sent before the first piece, so that a failure until then is an HTTP status
    let (decision, event) = first(&mut events).await?;
    let answer = Answer { events, waiting: Some(event), id, decision };
    let pieces = Pieces::new(shape, to_english);
    if streams { Ok(answer.streamed(pieces)) } else { answer.gathered(pieces).await }
}

fn granularities(texts: Vec<String>) -> Result<Vec<i32>, Fault> {
    let one = |text: String| match text.as_str() {
        "segment" => Ok(TimestampGranularity::Segment.into()),
        "word" => Ok(TimestampGranularity::Word.into()),
        other => {
            let start: String = other.chars().take(40).collect();
            let message = format!("timestamp_granularities has {start:?}, expected word or segment");
            Err(Fault::invalid("timestamp_granularities", message))
        }
    };
    texts.into_iter().map(one).collect()
}

impl Shape {
    fn read(text: &str) -> Result<(Self, TranscriptFormat), Fault> {
        match text {
            "" | "json" => Ok((Self::Json, TranscriptFormat::Text)),
            "text" => Ok((Self::Plain, TranscriptFormat::Text)),
            "verbose_json" => Ok((Self::Verbose, TranscriptFormat::Verbose)),
            "diarized_json" => Ok((Self::Diarized, TranscriptFormat::Diarized)),
            "srt" => Ok((Self::Plain, TranscriptFormat::Srt)),
            "vtt" => Ok((Self::Plain, TranscriptFormat::Vtt)),
            other => {
                let start: String = other.chars().take(40).collect();
                let expected = "json, text, srt, verbose_json, vtt or diarized_json";
                let message = format!("response_format is {start:?}, expected {expected}");
                Err(Fault::invalid("response_format", message))
            }
        }
    }
}

/// An answer on its way out.
struct Answer {
    events: mpsc::Receiver<Event>,
    waiting: Option<Event>,
    id: String,
    decision: Option<Arc<Decision>>,
}

impl Answer {
    async fn next(&mut self) -> Option<Event> {
        match self.waiting.take() {
            Some(event) => Some(event),
            None => self.events.recv().await,
        }
    }

    async fn gathered(mut self, mut pieces: Pieces) -> Result<Response, Fault> {
        while let Some(event) = self.next().await {
            match event {
                Event::Delta(delta) => pieces.add(delta.items),
                Event::End(mut end) => {
                    pieces.add(end.last_delta.take().unwrap_or_default().items);
                    let mut response = match pieces.whole(&self.id, self.decision.as_deref(), &end) {
                        Ok(json) => axum::Json(json).into_response(),
                        Err(text) => text.into_response(),
                    };
                    tell(&mut response, &self.id, self.decision.as_deref(), Some(&end));
                    return Ok(response);
                }
                Event::Error(fault) => return Err(fault),
                Event::Accepted(_) | Event::Heartbeat(_) => {}
            }
        }
        Err(Fault::internal("the request ended without an end"))
    }

    fn streamed(self, pieces: Pieces) -> Response {
        let (id, told) = (self.id.clone(), self.decision.clone());
        let chunks = stream::unfold((self, pieces, true), |(mut answer, mut pieces, open)| async move {
            if !open {
                return None;
            }
            let mut out = Vec::with_capacity(512);
            let event = answer.next().await;
            let event =
                event.unwrap_or_else(|| Event::Error(Fault::internal("the request ended without an end")));
            let open = pieces.write(&mut out, event, &answer.id, answer.decision.as_deref());
            Some((Ok::<_, Infallible>(Bytes::from(out)), (answer, pieces, open)))
        });
        let mut response = Response::new(Body::from_stream(chunks));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        tell(&mut response, &id, told.as_deref(), None);
        response
    }
}
