//! Fields that this system does not model, on their way to the client.
//!
//! A provider's fields travel as JSON text beside what is modelled. They come out where OpenAI's format has them: those of a
//! piece in the delta or the message (`logprobs` at the choice), those of a call at the call, those of the end beside
//! `choices`. A field that this ingress writes itself is never replaced.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::{Serialize, Serializer};
use serde_json::{Value, value::RawValue};

/// Written by [`super::ChunkDelta`] and by the message of a whole answer.
pub(super) const OF_MESSAGE: &[&str] = &["role", "content", "reasoning_content", "tool_calls"];
/// Written for each tool call.
pub(super) const OF_CALL: &[&str] = &["index", "id", "type", "function"];
/// Written beside the choices; the carried `finish_reason` is the provider's own word, see [`Carried::take`].
pub(super) const OF_ANSWER: &[&str] = &["id", "object", "created", "model", "choices", "usage", "hybrid"];

/// Fields of one object by name, the values as the provider wrote them.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Carried<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Carried<'a> {
    /// The fields in `json` without those named in `ours`; none where it holds no object, which is the executor's slip.
    pub(super) fn read(json: &'a str, ours: &[&str]) -> Self {
        if json.is_empty() {
            return Self::default();
        }
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap_or_else(|error| {
            tracing::debug!(kind = ?error.classify(), "an executor's unmodelled fields are no JSON object");
            BTreeMap::new()
        });
        fields.retain(|name, _| !ours.contains(&name.as_str()));
        Self(fields)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        self.0.remove(name).filter(|value| value.get() != "null")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Puts the end's fields into an answer that is made as a tree, beside what stands there.
pub(in super::super) fn answer_fields(answer: &mut Value, extra_json: &str) {
    let Some(answer) = answer.as_object_mut() else { return };
    for (name, value) in Carried::read(extra_json, OF_ANSWER).0 {
        if let Ok(value) = serde_json::from_str(value.get()) {
            answer.entry(name).or_insert(value);
        }
    }
}

/// One field of several pieces.
#[derive(Debug)]
pub(super) enum Together {
    /// Of one piece: as the provider wrote it.
    One(Box<RawValue>),
    /// Of several.
    Several(Value),
}

impl Together {
    pub(super) fn add(slot: &mut Option<Self>, name: &str, value: &RawValue) {
        *slot = Some(match slot.take() {
            None => Self::One(value.to_owned()),
            Some(before) => {
                let mut whole = before.into_value();
                merge(name, &mut whole, Self::One(value.to_owned()).into_value());
                Self::Several(whole)
            }
        });
    }

    fn into_value(self) -> Value {
        match self {
            // it was parsed before, when its borders were found
            Self::One(raw) => serde_json::from_str(raw.get()).unwrap_or_default(),
            Self::Several(value) => value,
        }
    }
}

impl Serialize for Together {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(raw) => raw.serialize(serializer),
            Self::Several(value) => value.serialize(serializer),
        }
    }
}

/// The carried fields of all pieces of a message or a call.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Gathered(BTreeMap<String, Option<Together>>);

impl Gathered {
    pub(super) fn add(&mut self, fields: Carried<'_>) {
        for (name, value) in fields.0 {
            match self.0.entry(name) {
                Entry::Vacant(new) => drop(new.insert(Some(Together::One(value.to_owned())))),
                Entry::Occupied(mut old) => {
                    let name = old.key().clone();
                    Together::add(old.get_mut(), &name, value);
                }
            }
        }
    }

    /// `null` for a field that OpenAI's format always has.
    pub(super) fn or_null(&mut self, name: &str) {
        self.0.entry(name.to_owned()).or_default();
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Texts that come in pieces like the answer's own; of all other texts, numbers and flags the last one counts.
fn comes_in_pieces(name: &str) -> bool {
    matches!(name, "refusal" | "transcript" | "data")
}

/// Puts what came later to what came before: lists grow, objects are merged field by field.
fn merge(name: &str, whole: &mut Value, piece: Value) {
    match (whole, piece) {
        (_, Value::Null) => {}
        (Value::Array(whole), Value::Array(piece)) => whole.extend(piece),
        (Value::Object(whole), Value::Object(piece)) => {
            for (name, value) in piece {
                match whole.get_mut(&name) {
                    Some(before) => merge(&name, before, value),
                    None => drop(whole.insert(name, value)),
                }
            }
        }
        (Value::String(whole), Value::String(piece)) if comes_in_pieces(name) => whole.push_str(&piece),
        (whole, piece) => *whole = piece,
    }
}
