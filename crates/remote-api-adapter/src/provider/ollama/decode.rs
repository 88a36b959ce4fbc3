//! Ollama's JSON as pieces of an answer.
//!
//! A line of a stream and a whole answer have one shape. What is not modelled is kept as it stands: of a message in its
//! piece, of the last line (`total_duration`, `load_duration` …, nanoseconds) in the end. Dropped on purpose: `created_at`
//! and `role`.

use domain::{
    fault::{Code, Fault, Origin},
    pricing::TokenUsage,
    units::Tokens,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use wire::v1;

use super::client::meaning;
use crate::provider::{
    Completion,
    exchange::malformed,
    json::{Fields, Object, Text},
    openai::error::Words,
};

/// Of the last line: what is told by the end itself.
const MODELLED: [&str; 8] =
    ["model", "created_at", "message", "logprobs", "done", "done_reason", "prompt_eval_count", "eval_count"];

/// What an answer has come to so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    calls: u32,
    model: String,
    /// What the last line said.
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    finish_reason: v1::FinishReason,
    usage: Option<TokenUsage>,
    extra_json: String,
}

#[derive(Deserialize)]
struct CallPiece<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl Tally {
    pub(super) const fn is_done(&self) -> bool {
        self.end.is_some()
    }

    /// Takes in a line or a whole answer; its piece goes to `items`. Nothing counts after the end.
    ///
    /// # Errors
    /// The error that the server sent in its place, or what is no such line.
    pub(super) fn absorb(
        &mut self,
        provider: &str,
        line: &[u8],
        items: &mut Vec<v1::DeltaItem>,
    ) -> Result<(), Fault> {
        if self.is_done() {
            return Ok(());
        }
        let broken = |error: &serde_json::Error| malformed(provider, "a line", error);
        let mut fields: Fields<'_> = serde_json::from_slice(line).map_err(|error| broken(&error))?;
        if let Some(error) = fields.get("error") {
            return Err(meaning(provider, &Words::of_error(error.get()), None, None).fault);
        }
        let mut item = v1::DeltaItem::default();
        if let Some(message) = fields.get("message") {
            let created: Option<String> = field(&fields, "created_at").map_err(|error| broken(&error))?;
            self.say(message.get(), created.as_deref(), &mut item).map_err(|error| broken(&error))?;
        }
        if let Some(logprobs) = fields.get("logprobs").filter(|value| !matches!(value.get(), "null" | "[]")) {
            item.extra_json = with_logprobs(&item.extra_json, logprobs.get());
        }
        if item != v1::DeltaItem::default() {
            items.push(item);
        }
        if let Some(model) = field::<String>(&fields, "model").map_err(|error| broken(&error))? {
            self.model = model;
        }
        if field::<bool>(&fields, "done").map_err(|error| broken(&error))? == Some(true) {
            let reason: Option<String> = field(&fields, "done_reason").map_err(|error| broken(&error))?;
            let count = |name| field::<u64>(&fields, name).map_err(|error| broken(&error));
            let (input, output) = (count("prompt_eval_count")?, count("eval_count")?);
            let (finish_reason, word) = self.reason(reason.as_deref().unwrap_or("stop"));
            fields.retain(|name| !MODELLED.contains(&name));
            self.end = Some(End {
                finish_reason,
                // a prompt that was in the cache whole is not counted by older servers: then the count is ours
                usage: input.zip(output).map(|(input, output)| TokenUsage {
                    input: Tokens::new(input),
                    output: Tokens::new(output),
                    ..TokenUsage::default()
                }),
                extra_json: with_word(fields, word),
            });
        }
        Ok(())
    }

    fn say(
        &mut self,
        message: &str,
        created: Option<&str>,
        item: &mut v1::DeltaItem,
    ) -> Result<(), serde_json::Error> {
        let mut unknown = Fields::default();
        let message: Fields<'_> = serde_json::from_str(message)?;
        for (name, value) in message.into_entries() {
            match &*name {
                "role" => {}
                "content" => item.text = text(value)?,
                "thinking" => item.reasoning = text(value)?,
                "tool_calls" => {
                    let calls: Option<Vec<CallPiece<'_>>> = serde_json::from_str(value.get())?;
                    for call in calls.unwrap_or_default() {
                        item.tool_calls.push(self.call(call, created.unwrap_or_default()));
                    }
                }
                _ => unknown.keep(name, value),
            }
        }
        item.extra_json = unknown.into_json();
        Ok(())
    }

    /// Calls come whole. A server that gives them no id gets ones that no other answer has: its time is in nanoseconds.
    fn call(&mut self, call: CallPiece<'_>, created: &str) -> v1::ToolCallDelta {
        let index = self.calls;
        self.calls += 1;
        let id = call.id.map(Text::into_string).filter(|id| !id.is_empty()).unwrap_or_else(|| {
            let stamp: String = created.chars().filter(char::is_ascii_digit).take(23).collect();
            format!("call_{stamp}_{index}")
        });
        let arguments = call.function.arguments.map_or("{}", RawValue::get);
        v1::ToolCallDelta {
            index,
            id,
            name: call.function.name.into_string(),
            arguments_json: arguments.to_owned(),
            extra_json: String::new(),
        }
    }

    /// The reason in our words, and the server's own where ours is only its meaning.
    fn reason(&self, word: &str) -> (v1::FinishReason, Option<String>) {
        match word {
            "stop" if self.calls > 0 => (v1::FinishReason::ToolCalls, None),
            "stop" => (v1::FinishReason::Stop, None),
            "length" => (v1::FinishReason::Length, None),
            other => (v1::FinishReason::Stop, Some(other.to_owned())),
        }
    }

    pub(super) fn into_completion(self, items: Vec<v1::DeltaItem>) -> Completion {
        let end = self.end.unwrap_or(End {
            finish_reason: v1::FinishReason::Stop,
            usage: None,
            extra_json: String::new(),
        });
        Completion {
            items,
            finish_reason: end.finish_reason,
            usage: end.usage,
            model: self.model,
            extra_json: end.extra_json,
            ..Completion::default()
        }
    }
}

fn field<T: DeserializeOwned>(fields: &Fields<'_>, name: &str) -> Result<Option<T>, serde_json::Error> {
    fields.get(name).map_or(Ok(None), |value| serde_json::from_str(value.get()))
}

fn text(value: &RawValue) -> Result<String, serde_json::Error> {
    Ok(serde_json::from_str::<Option<String>>(value.get())?.unwrap_or_default())
}

/// Adds log probabilities in OpenAI's form: the same entries, one level deeper.
fn with_logprobs(extra_json: &str, logprobs: &str) -> String {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    let mut inner = Object::begin(object.nested("logprobs"));
    inner.raw("content", logprobs);
    inner.end();
    // written by us a moment ago
    if let Ok(others) = Fields::parse("message", extra_json) {
        object.complete(&others, &Fields::default());
    }
    object.end();
    String::from_utf8(out).unwrap_or_default()
}

fn with_word(others: Fields<'_>, word: Option<String>) -> String {
    let Some(word) = word else { return others.into_json() };
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("finish_reason", &word);
    object.complete(&others, &Fields::default());
    object.end();
    String::from_utf8(out).unwrap_or_default()
}

#[derive(Deserialize)]
struct Vectors {
    #[serde(default)]
    embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    model: String,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
}

/// A whole embeddings answer to `inputs` texts.
///
/// # Errors
/// `Upstream` for what is no such answer: another count than asked for, or vectors of several lengths.
pub(super) fn embeddings(provider: &str, body: &[u8], inputs: usize) -> Result<Completion, Fault> {
    let reply: Vectors =
        serde_json::from_slice(body).map_err(|error| malformed(provider, "embeddings", &error))?;
    let length = reply.embeddings.first().map_or(0, Vec::len);
    let even = length > 0 && reply.embeddings.iter().all(|vector| vector.len() == length);
    if reply.embeddings.len() != inputs || !even {
        let message = format!(
            "{provider} sent {} embeddings for {inputs} texts, expected one of the same length for each",
            reply.embeddings.len()
        );
        return Err(Fault::new(Code::Upstream, Origin::Provider, true, message));
    }
    let embeddings = reply.embeddings.into_iter().map(|values| v1::Embedding { values }).collect();
    Ok(Completion {
        finish_reason: v1::FinishReason::Stop,
        usage: reply
            .prompt_eval_count
            .map(|input| TokenUsage { input: Tokens::new(input), ..TokenUsage::default() }),
        model: reply.model,
        embeddings: Some(v1::Embeddings { embeddings }),
        ..Completion::default()
    })
}
