//! `POST /v1/chat/completions`.
//!
//! The reply to a request is `echo: ` and the first 40 characters of the last user message, then ` word1`, ` word2`, … for
//! as many pieces as the script says. A piece counts as one token; the prompt counts a token for each four bytes of text,
//! rounded up.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Script;
use super::body::{ID_PLACEHOLDER, Piece, Plan};
use super::error::ApiError;

/// `created` of every answer: the same request gets the same answer on every day.
pub(super) const CREATED_UNIX_S: u64 = 1_700_000_000;
const ECHO_CHARS: usize = 40;

/// The fields that the answer depends on. Everything else is accepted and ignored, as long as it is JSON.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl Message {
    fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => parts.iter().filter_map(|part| part.text.as_deref()).collect(),
        }
    }
}

/// What the model says.
#[derive(Debug)]
pub(super) struct Answer {
    model: String,
    pieces: Vec<String>,
    finish_reason: &'static str,
    usage: Value,
    include_usage: bool,
    /// Whether the caller wants it as a stream.
    pub(super) streamed: bool,
}

impl Answer {
    pub(super) fn new(request: &Request, script: &Script) -> Result<Self, ApiError> {
        if request.messages.is_empty() {
            return Err(ApiError::invalid_field("messages", "Invalid 'messages': empty array."));
        }
        let asked = request.messages.iter().rev().find(|message| message.role == "user");
        let echo: String = asked.map(Message::text).unwrap_or_default().chars().take(ECHO_CHARS).collect();
        let cap = request.max_completion_tokens.or(request.max_tokens);
        let cap = cap.map_or(usize::MAX, |cap| usize::try_from(cap).unwrap_or(usize::MAX));
        let words = (1..script.chunks).map(|number| format!(" word{number}"));
        let pieces: Vec<String> = std::iter::once(format!("echo: {echo}")).chain(words).take(cap).collect();
        let prompt_bytes: usize = request.messages.iter().map(|message| message.text().len()).sum();
        let input = prompt_bytes.div_ceil(4) as u64;
        let output = pieces.len() as u64;
        Ok(Self {
            model: request.model.clone(),
            finish_reason: if output < script.chunks.max(1) as u64 { "length" } else { "stop" },
            usage: json!({
                "prompt_tokens": input,
                "completion_tokens": output,
                "total_tokens": input + output,
                "prompt_tokens_details": {"cached_tokens": script.cached_tokens.min(input), "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            }),
            pieces,
            include_usage: request.stream_options.as_ref().and_then(|options| options.include_usage)
                == Some(true),
            streamed: request.stream == Some(true),
        })
    }

    /// The whole answer in one body.
    pub(super) fn whole(&self) -> Plan {
        Plan::whole(
            json!({
                "id": ID_PLACEHOLDER,
                "object": "chat.completion",
                "created": CREATED_UNIX_S,
                "model": self.model,
                "choices": [{
                    "index": 0,
                    "message": {
                        "role": "assistant", "content": self.pieces.concat(), "refusal": null, "annotations": []
                    },
                    "logprobs": null,
                    "finish_reason": self.finish_reason,
                }],
                "usage": self.usage,
                "service_tier": "default",
                "system_fingerprint": "fp_fake",
            })
            .to_string(),
        )
    }

    /// The answer as server-sent events: the role, the text, the reason of the end, the usage if asked for, `[DONE]`.
    pub(super) fn stream(&self, delay: Duration) -> Plan {
        let mut events = vec![self.event(json!({"role": "assistant", "content": "", "refusal": null}), None)];
        events.extend(self.pieces.iter().map(|text| self.event(json!({"content": text}), None)));
        events.push(self.event(json!({}), Some(self.finish_reason)));
        if self.include_usage {
            events.push(self.chunk(json!([]), self.usage.clone()));
        }
        events.push(Piece::new("data: [DONE]\n\n"));
        Plan::stream(events, delay)
    }

    /// One event that carries `text`.
    pub(super) fn text_event(&self, text: &str) -> Piece {
        self.event(json!({"content": text}), None)
    }

    fn event(&self, delta: Value, finish_reason: Option<&str>) -> Piece {
        let choices = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}]);
        self.chunk(choices, Value::Null)
    }

    fn chunk(&self, choices: Value, usage: Value) -> Piece {
        let mut chunk = json!({
            "id": ID_PLACEHOLDER,
            "object": "chat.completion.chunk",
            "created": CREATED_UNIX_S,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": "fp_fake",
            "choices": choices,
        });
        if let Some(fields) = chunk.as_object_mut().filter(|_| self.include_usage) {
            fields.insert("usage".to_owned(), usage);
        }
        Piece::new(format!("data: {chunk}\n\n"))
    }
}
