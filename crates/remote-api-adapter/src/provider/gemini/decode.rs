//! Google's JSON as pieces of an answer.
//!
//! Whole answers and the chunks of a stream have one shape. A part becomes a piece: text, a thought, or a whole call of a tool.
//! What must come back with the next turn goes out as `extra_content.google.thought_signature`, on the call or the piece; parts
//! of kinds that this version does not model go out under `extra_content.google.part`, and the candidate's other fields
//! (`safetyRatings`, `citationMetadata`, `groundingMetadata` …) as they stand. Dropped on purpose: `role` and `createTime`.

use std::fmt::Write as _;

use domain::{
    fault::{Code, Fault, Origin},
    pricing::TokenUsage,
    units::Tokens,
};
use wire::v1;

use super::error::Words;
pub(super) use crate::provider::exchange::malformed;
use crate::provider::{
    Completion,
    json::{self, Object},
};

mod embeddings;
mod logprobs;
mod shape;

pub(super) use embeddings::embeddings;
pub(super) use shape::Reply;
use shape::{Candidate, Part, Usage};

fn broken(message: String) -> Fault {
    Fault::new(Code::Upstream, Origin::Provider, true, message)
}

/// What an answer has come to so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Beginning of the ids of calls that come without one; unique to the request.
    call_prefix: String,
    finish_reason: Option<v1::FinishReason>,
    calls: u32,
    usage: Option<Usage>,
    id: String,
    model: String,
    /// Key and JSON value.
    extra: Vec<(String, String)>,
}

impl Tally {
    /// `request_id` names the calls that come without an id.
    pub(super) fn new(request_id: &str) -> Self {
        let mut call_prefix = String::from("call_");
        // FNV-1a: short enough for the 40 characters that other providers allow an id, and the same for the same request
        let hash = request_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // writing to a string cannot fail
        let _ = write!(call_prefix, "{hash:016x}_");
        Self { call_prefix, ..Self::default() }
    }

    /// Whether the model has said why it ended.
    pub(super) const fn is_whole(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// Takes in a chunk or a whole answer; its pieces go to `items`.
    ///
    /// # Errors
    /// The error that Google sent in its place, an answer to something that was not asked, or an answer that the model broke
    /// off with something that is none.
    pub(super) fn absorb(
        &mut self,
        provider: &str,
        reply: Reply<'_>,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), Fault> {
        // billed also where the answer is an error
        if let Some(usage) = reply.usage {
            self.usage = Some(usage.or(self.usage.take()));
        }
        if let Some(error) = reply.error {
            return Err(Words::of_error(error.get()).refusal(None).into_failure(provider, None).fault);
        }
        if self.id.is_empty()
            && let Some(id) = reply.response_id
        {
            self.id = id.into_string();
        }
        if self.model.is_empty()
            && let Some(model) = reply.model_version
        {
            self.model = model.into_string();
        }
        for (key, value) in reply.extra.iter() {
            self.keep(key, value.get());
        }
        if let Some(feedback) = reply.prompt_feedback {
            self.keep("promptFeedback", feedback.get());
            // the prompt itself was refused: there is no candidate, and none will come
            if shape::is_blocked(feedback) {
                self.finish_reason = Some(v1::FinishReason::ContentFilter);
            }
        }
        for candidate in reply.candidates {
            self.candidate(provider, candidate, items)?;
        }
        Ok(())
    }

    fn candidate(
        &mut self,
        provider: &str,
        candidate: Candidate<'_>,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), Fault> {
        if candidate.index != 0 {
            let message = format!("{provider} sent candidate {}, expected the only one, 0", candidate.index);
            return Err(broken(message));
        }
        let before = items.len();
        for part in candidate.content.parts {
            items.extend(self.part(provider, part)?);
        }
        let logprobs = candidate.logprobs.map(logprobs::openai).transpose();
        let logprobs = logprobs.map_err(|error| malformed(provider, "logprobs", &error))?;
        let mut beside = candidate.extra;
        for (key, value) in candidate.content.extra.into_entries() {
            beside.keep(key, value);
        }
        if let Some(said) = &logprobs {
            beside.keep("logprobs".into(), said);
        }
        let beside = beside.into_json();
        if !beside.is_empty() {
            match items.get_mut(before..).and_then(<[_]>::last_mut).filter(|last| last.extra_json.is_empty())
            {
                Some(last) => last.extra_json = beside,
                None => items.push(v1::DeltaItem { extra_json: beside, ..v1::DeltaItem::default() }),
            }
        }
        if let Some(reason) = &candidate.finish_reason {
            self.finish_reason = Some(self.reason(provider, reason)?);
        }
        Ok(())
    }

    fn part(&mut self, provider: &str, part: Part<'_>) -> Result<Option<v1::DeltaItem>, Fault> {
        let mut item = v1::DeltaItem::default();
        let google = google(part.signature.as_deref(), part.extra.into_json().as_str());
        if let Some(call) = part.function_call {
            if call.is_piece {
                return Err(broken(format!("{provider} sent a tool call in pieces, expected it whole")));
            }
            let Some(name) = call.name else {
                return Err(broken(format!("{provider} sent a tool call without a name")));
            };
            let id = match call.id {
                Some(id) if !id.is_empty() => id.into_string(),
                _ => format!("{}{}", self.call_prefix, self.calls),
            };
            item.tool_calls.push(v1::ToolCallDelta {
                index: self.calls,
                id,
                name: name.into_string(),
                arguments_json: call.args.map_or("{}", serde_json::value::RawValue::get).to_owned(),
                extra_json: google,
            });
            self.calls = self.calls.saturating_add(1);
            return Ok(Some(item));
        }
        let text = part.text.map(json::Text::into_string).unwrap_or_default();
        if part.thought {
            item.reasoning = text;
        } else {
            item.text = text;
        }
        item.extra_json = google;
        let says_something =
            !item.text.is_empty() || !item.reasoning.is_empty() || !item.extra_json.is_empty();
        Ok(says_something.then_some(item))
    }

    fn keep(&mut self, key: &str, value: &str) {
        match self.extra.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) if old == value => {}
            Some((_, old)) => value.clone_into(old),
            None => self.extra.push((key.to_owned(), value.to_owned())),
        }
    }

    fn reason(&mut self, provider: &str, reason: &str) -> Result<v1::FinishReason, Fault> {
        Ok(match reason {
            "STOP" if self.calls > 0 => v1::FinishReason::ToolCalls,
            "STOP" => v1::FinishReason::Stop,
            // CONTINUATION: the most that Google writes in one answer
            "MAX_TOKENS" | "CONTINUATION" => v1::FinishReason::Length,
            "SAFETY"
            | "RECITATION"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "LANGUAGE"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION"
            | "MODEL_ARMOR" => {
                let mut value = Vec::new();
                json::string(&mut value, reason);
                self.keep("finishReason", &String::from_utf8_lossy(&value));
                v1::FinishReason::ContentFilter
            }
            // MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL, OTHER and what may come: the answer is not whole
            other => {
                let name: String =
                    other.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
                let mut fault = broken(format!("{provider} broke the answer off: {name}"));
                fault.provider_code = name;
                return Err(fault);
            }
        })
    }

    /// What Google has counted so far.
    pub(super) fn usage(&self) -> Option<TokenUsage> {
        self.usage.and_then(tokens)
    }

    /// The end of the answer.
    pub(super) fn into_completion(self, items: Vec<v1::DeltaItem>) -> Completion {
        let mut extra_json = Vec::new();
        if !self.extra.is_empty() {
            let mut object = Object::begin(&mut extra_json);
            for (key, value) in &self.extra {
                object.raw_dynamic(key, value);
            }
            object.end();
        }
        Completion {
            items,
            finish_reason: self.finish_reason.unwrap_or(v1::FinishReason::Stop),
            usage: self.usage(),
            model: self.model,
            provider_request_id: self.id,
            embeddings: None,
            transcript: None,
            extra_json: String::from_utf8(extra_json).unwrap_or_default(),
        }
    }
}

/// `{"extra_content":{"google":{…}}}`, or nothing. `part` is a JSON object or empty.
fn google(signature: Option<&str>, part: &str) -> String {
    if signature.is_none() && part.is_empty() {
        return String::new();
    }
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    let mut content = Object::begin(object.nested("extra_content"));
    let mut google = Object::begin(content.nested("google"));
    if let Some(signature) = signature {
        google.text("thought_signature", signature);
    }
    if !part.is_empty() {
        google.raw("part", part);
    }
    google.end();
    content.end();
    object.end();
    String::from_utf8(out).unwrap_or_default()
}

/// Google counts thoughts beside the candidates, and what its own tools put into the prompt beside the prompt. `None` when it
/// counted nothing.
fn tokens(usage: Usage) -> Option<TokenUsage> {
    let prompt = usage.prompt?.saturating_add(usage.tool_use_prompt.unwrap_or(0));
    let candidates = usage.candidates.unwrap_or(0);
    let thoughts = usage.thoughts.unwrap_or(0);
    // some models count the thoughts in; the total tells
    let within =
        thoughts > 0 && thoughts <= candidates && usage.total == Some(prompt.saturating_add(candidates));
    Some(TokenUsage {
        input: Tokens::new(prompt),
        output: Tokens::new(if within { candidates } else { candidates.saturating_add(thoughts) }),
        cached_input: Tokens::new(usage.cached.unwrap_or(0)),
        reasoning: Tokens::new(thoughts),
        ..TokenUsage::default()
    })
}

/// A whole answer, or the chunks of one in a list, as a server sends them that was not understood to be asked for events.
///
/// # Errors
/// `Upstream` for what is no such answer; the provider's error where it sent one with status 200.
pub(super) fn whole(provider: &str, tally: &mut Tally, body: &[u8]) -> Result<Completion, Fault> {
    let listed = body.trim_ascii_start().starts_with(b"[");
    let replies: Vec<Reply<'_>> =
        if listed { serde_json::from_slice(body) } else { serde_json::from_slice(body).map(|one| vec![one]) }
            .map_err(|error| malformed(provider, "an answer", &error))?;
    let mut items = Vec::new();
    for reply in replies {
        tally.absorb(provider, reply, &mut items)?;
    }
    if !tally.is_whole() {
        let message = format!("{provider} sent an answer without a finish reason, expected one");
        return Err(broken(message));
    }
    Ok(std::mem::take(tally).into_completion(items))
}
