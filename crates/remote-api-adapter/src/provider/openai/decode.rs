//! OpenAI JSON as pieces of an answer.
//!
//! Whole answers and the chunks of a stream have the same shape but for one name (`message`, `delta`), so that one set of
//! types reads both. They borrow from the input; what this version does not model is kept as it stands:
//! - of a choice and its delta: in the piece's `extra_json`, fields of the delta first (`logprobs` belongs to the choice);
//! - of the answer as a whole (`system_fingerprint`, `service_tier` …): in the end's `extra_json`, the last value of each.
//!
//! Dropped on purpose: `object`, `created`, `role` (the ingress writes its own) and `obfuscation` (padding).

use domain::{
    fault::{Code, Fault, Origin},
    pricing::TokenUsage,
    units::Tokens,
};
use serde::Deserialize;
use wire::v1;

use super::error::Words;
pub(super) use crate::provider::exchange::malformed;
use crate::provider::{
    Completion,
    json::{self, Object},
};

mod shape;
pub(super) use shape::{Reply, Usage};

/// What an answer has come to so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) finish_reason: Option<v1::FinishReason>,
    pub(super) usage: Option<TokenUsage>,
    id: String,
    model: String,
    /// Key and JSON value.
    extra: Vec<(String, String)>,
}

impl Tally {
    /// What a chunk or a whole answer counts, which is so also where it says an error.
    pub(super) fn count(&mut self, reply: &mut Reply<'_>) {
        if let Some(usage) = reply.usage.take() {
            self.usage = Some(usage.into());
        }
    }

    /// Takes in a chunk or a whole answer; its pieces go to `items`.
    ///
    /// # Errors
    /// The error that the provider sent in its place, or an answer to something that was not asked.
    pub(super) fn absorb(
        &mut self,
        provider: &str,
        reply: Reply<'_>,
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), Fault> {
        if let Some(error) = reply.error {
            return Err(Words::of_error(error.get()).refusal(None).into_failure(provider, None).fault);
        }
        if self.id.is_empty()
            && let Some(id) = reply.id
        {
            self.id = id.into_string();
        }
        if self.model.is_empty()
            && let Some(model) = reply.model
        {
            self.model = model.into_string();
        }
        for (key, value) in reply.extra.iter() {
            if key == "x_groq" {
                self.groq(provider, value.get())?;
            }
            self.keep(key, value.get());
        }
        for choice in reply.choices {
            if choice.index != 0 {
                let message = format!("{provider} sent choice {}, expected the only one, 0", choice.index);
                return Err(Fault::new(Code::Upstream, Origin::Provider, true, message));
            }
            if let Some(reason) = &choice.finish_reason {
                self.finish_reason = Some(self.reason(provider, reason)?);
            }
            items.extend(choice.into_item());
        }
        Ok(())
    }

    /// Groq's own field of a chunk: usage where the dialect's is missing, and why a stream ends early.
    fn groq(&mut self, provider: &str, own: &str) -> Result<(), Fault> {
        let Ok(own) = serde_json::from_str::<Groq<'_>>(own) else { return Ok(()) };
        if let Some(error) = own.error {
            return Err(Words::of_error(error.get()).refusal(None).into_failure(provider, None).fault);
        }
        if let Some(usage) = own.usage.filter(|usage| self.usage.is_none() && usage.counts()) {
            self.usage = Some(usage.into());
        }
        Ok(())
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
            "stop" => v1::FinishReason::Stop,
            "length" => v1::FinishReason::Length,
            "tool_calls" | "function_call" => v1::FinishReason::ToolCalls,
            "content_filter" => v1::FinishReason::ContentFilter,
            "error" => {
                let message = format!("{provider} broke the answer off with an error of its own");
                return Err(Fault::new(Code::Upstream, Origin::Provider, true, message));
            }
            // servers invent their own (`eos`, `end_turn`): the model ended, and the word is carried
            other => {
                let mut value = Vec::new();
                json::string(&mut value, other);
                self.keep("finish_reason", &String::from_utf8_lossy(&value));
                v1::FinishReason::Stop
            }
        })
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
            usage: self.usage,
            model: self.model,
            provider_request_id: self.id,
            embeddings: None,
            transcript: None,
            extra_json: String::from_utf8(extra_json).unwrap_or_default(),
        }
    }
}

/// A whole chat answer.
///
/// # Errors
/// `Upstream` for what is no chat completion; the provider's error where it sent one with status 200.
pub(super) fn chat(provider: &str, tally: &mut Tally, body: &[u8]) -> Result<Completion, Fault> {
    let mut reply: Reply<'_> =
        serde_json::from_slice(body).map_err(|error| malformed(provider, "an answer", &error))?;
    tally.count(&mut reply);
    if reply.is_error() {
        return Err(Words::of_body(body).refusal(None).into_failure(provider, None).fault);
    }
    if reply.choices.is_empty() && reply.error.is_none() {
        let message = format!("{provider} sent an answer without choices, expected one");
        return Err(Fault::new(Code::Upstream, Origin::Provider, true, message));
    }
    let mut items = Vec::new();
    tally.absorb(provider, reply, &mut items)?;
    Ok(std::mem::take(tally).into_completion(items))
}

#[derive(Deserialize)]
struct Groq<'a> {
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct Vectors<'a> {
    #[serde(default)]
    data: Vec<Vector>,
    #[serde(borrow, default)]
    model: Option<json::Text<'a>>,
    #[serde(borrow, default)]
    id: Option<json::Text<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct Vector {
    #[serde(default)]
    index: usize,
    embedding: Vec<f32>,
}

/// A whole embeddings answer to `inputs` texts.
///
/// # Errors
/// `Upstream` for what is no such answer: another count than asked for, or vectors of several lengths.
pub(super) fn embeddings(provider: &str, body: &[u8], inputs: usize) -> Result<Completion, Fault> {
    let mut reply: Vectors<'_> =
        serde_json::from_slice(body).map_err(|error| malformed(provider, "embeddings", &error))?;
    if let Some(error) = reply.error {
        return Err(Words::of_error(error.get()).refusal(None).into_failure(provider, None).fault);
    }
    reply.data.sort_by_key(|vector| vector.index);
    let in_order = reply.data.iter().enumerate().all(|(at, vector)| vector.index == at);
    let lengths = |vector: &Vector| vector.embedding.len();
    let even = reply.data.windows(2).all(|pair| matches!(pair, [a, b] if lengths(a) == lengths(b)));
    if reply.data.len() != inputs || !in_order || !even || reply.data.iter().any(|v| v.embedding.is_empty()) {
        let message = format!(
            "{provider} sent {} embeddings for {inputs} texts, expected one of the same length for each",
            reply.data.len()
        );
        return Err(Fault::new(Code::Upstream, Origin::Provider, true, message));
    }
    let embeddings =
        reply.data.into_iter().map(|vector| v1::Embedding { values: vector.embedding }).collect();
    Ok(Completion {
        finish_reason: v1::FinishReason::Stop,
        usage: reply.usage.map(TokenUsage::from),
        model: reply.model.map(json::Text::into_string).unwrap_or_default(),
        provider_request_id: reply.id.map(json::Text::into_string).unwrap_or_default(),
        embeddings: Some(v1::Embeddings { embeddings }),
        ..Completion::default()
    })
}

impl Usage {
    /// Whether it counts tokens; some servers only tell times.
    const fn counts(&self) -> bool {
        self.prompt_tokens.is_some()
    }
}

impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        let input = usage.prompt_tokens.unwrap_or(0);
        let said = usage.completion_tokens.unwrap_or(0);
        let details = usage.completion_tokens_details.unwrap_or_default();
        let reasoning = details.reasoning_tokens.unwrap_or(0);
        // xAI counts reasoning beside the completion, not in it; the total tells
        let beside = reasoning > 0 && usage.total_tokens == Some(input + said + reasoning);
        let prompt = usage.prompt_tokens_details.unwrap_or_default();
        Self {
            input: Tokens::new(input),
            output: Tokens::new(if beside { said + reasoning } else { said }),
            cached_input: Tokens::new(prompt.cached_tokens.or(usage.prompt_cache_hit_tokens).unwrap_or(0)),
            cache_write: Tokens::new(prompt.cache_write_tokens.unwrap_or(0)),
            cache_write_hour: Tokens::ZERO,
            reasoning: Tokens::new(reasoning),
            ..TokenUsage::default()
        }
    }
}
