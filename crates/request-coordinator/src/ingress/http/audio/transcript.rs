//! Transcripts in OpenAI's format.

use domain::routing::Decision;
use serde_json::{Map, Value, json};
use wire::v1::{DeltaItem, End, TokenUsage, Transcript, TranscriptSegment, TranscriptWord};

use super::{
    super::answer::{Hybrid, answer_fields, broken},
    event,
};
use crate::dispatch::Event;

/// What the caller wants to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Json,
    Plain,
    Verbose,
    Diarized,
}

/// The pieces of a transcript, put together.
#[derive(Debug)]
pub(super) struct Pieces {
    shape: Shape,
    to_english: bool,
    text: String,
}

impl Pieces {
    pub(super) const fn new(shape: Shape, to_english: bool) -> Self {
        Self { shape, to_english, text: String::new() }
    }

    pub(super) fn add(&mut self, items: Vec<DeltaItem>) {
        for item in items {
            self.text.push_str(&item.text);
        }
    }

    /// JSON, or a text.
    pub(super) fn whole(self, id: &str, decision: Option<&Decision>, end: &End) -> Result<Value, String> {
        let Self { shape, to_english, text } = self;
        let mut answer = match shape {
            // a line, as OpenAI sends it
            Shape::Plain => return Err(if text.ends_with('\n') { text } else { text + "\n" }),
            Shape::Json => json!({ "text": text }),
            Shape::Verbose | Shape::Diarized => {
                let transcript = end.transcript.clone().unwrap_or_default();
                let task = if to_english { "translate" } else { "transcribe" };
                let mut answer =
                    json!({ "task": task, "duration": transcript.duration_seconds, "text": text });
                details(&mut answer, transcript, shape);
                answer
            }
        };
        put(&mut answer, "usage", usage(end.usage.unwrap_or_default()));
        put(&mut answer, "hybrid", json!(Hybrid::new(id, decision, end)));
        answer_fields(&mut answer, &end.extra_json);
        Ok(answer)
    }

    /// What one event comes to in a stream; `false` after the last.
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        said: Event,
        id: &str,
        decision: Option<&Decision>,
    ) -> bool {
        match said {
            Event::Delta(delta) => self.pieces(out, delta.items),
            Event::Heartbeat(_) => out.extend_from_slice(b": still at work\n\n"),
            Event::Accepted(_) => {}
            Event::End(mut end) => {
                self.pieces(out, end.last_delta.take().unwrap_or_default().items);
                if self.shape == Shape::Diarized {
                    for (index, segment) in
                        end.transcript.take().unwrap_or_default().segments.into_iter().enumerate()
                    {
                        event(out, &self::segment(segment, index, Shape::Diarized));
                    }
                }
                let mut done = json!({ "type": "transcript.text.done", "text": self.text });
                put(&mut done, "usage", usage(end.usage.unwrap_or_default()));
                put(&mut done, "hybrid", json!(Hybrid::new(id, decision, &end)));
                answer_fields(&mut done, &end.extra_json);
                event(out, &done);
                out.extend_from_slice(b"data: [DONE]\n\n");
                return false;
            }
            Event::Error(fault) => {
                broken(out, &fault);
                return false;
            }
        }
        true
    }

    fn pieces(&mut self, out: &mut Vec<u8>, items: Vec<DeltaItem>) {
        for item in items {
            let mut piece = json!({ "type": "transcript.text.delta", "delta": item.text });
            answer_fields(&mut piece, &item.extra_json);
            event(out, &piece);
            self.text.push_str(&item.text);
        }
    }
}

fn put(answer: &mut Value, name: &str, value: Value) {
    if let Some(fields) = answer.as_object_mut().filter(|_| !value.is_null()) {
        fields.insert(name.to_owned(), value);
    }
}

/// By tokens or by time, as the model is charged; nothing where neither is told.
fn usage(usage: TokenUsage) -> Value {
    let TokenUsage { input, output, audio_input, audio_ms, .. } = usage;
    if input > 0 && !(usage.estimated && audio_ms > 0) {
        return json!({
            "type": "tokens",
            "input_tokens": input,
            "input_token_details": { "text_tokens": input.saturating_sub(audio_input), "audio_tokens": audio_input },
            "output_tokens": output,
            "total_tokens": input.saturating_add(output),
        });
    }
    match audio_ms {
        0 => Value::Null,
        millis => json!({ "type": "duration", "seconds": millis.div_ceil(1_000) }),
    }
}

fn details(answer: &mut Value, transcript: Transcript, shape: Shape) {
    let Transcript { language, segments, words, .. } = transcript;
    if shape == Shape::Verbose {
        put(answer, "language", language.into());
    }
    if !segments.is_empty() || words.is_empty() {
        let segments = segments.into_iter().enumerate().map(|(index, part)| segment(part, index, shape));
        put(answer, "segments", segments.collect());
    }
    if !words.is_empty() {
        put(answer, "words", words.into_iter().map(word).collect());
    }
}

/// The carried fields of a part, which those that are modelled go before.
fn carried(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).unwrap_or_default()
}

fn segment(part: TranscriptSegment, index: usize, shape: Shape) -> Value {
    let mut fields = carried(&part.extra_json);
    if shape == Shape::Diarized {
        fields.entry("id").or_insert_with(|| format!("seg_{index:03}").into());
        fields.insert("type".to_owned(), "transcript.text.segment".into());
        fields.insert("speaker".to_owned(), part.speaker.into());
    } else {
        fields.entry("id").or_insert(index.into());
    }
    fields.insert("start".to_owned(), part.start_seconds.into());
    fields.insert("end".to_owned(), part.end_seconds.into());
    fields.insert("text".to_owned(), part.text.into());
    Value::Object(fields)
}

fn word(part: TranscriptWord) -> Value {
    let mut fields = carried(&part.extra_json);
    fields.insert("word".to_owned(), part.word.into());
    fields.insert("start".to_owned(), part.start_seconds.into());
    fields.insert("end".to_owned(), part.end_seconds.into());
    Value::Object(fields)
}
