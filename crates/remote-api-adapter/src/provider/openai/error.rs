//! Error bodies of the dialect, and of servers that only resemble it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::provider::{json::Text, refusal::Refusal};

/// What stands under `error`, or, with some servers, in the place of the whole answer.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Explained<'a> {
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    param: Option<&'a RawValue>,
    /// Azure: why a prompt was filtered.
    #[serde(borrow, default)]
    innererror: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default)]
    content_filter_result: BTreeMap<String, Category>,
}

/// What a filter found of one category; Azure's object has other shapes for other filters.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Category {
    filtered: bool,
    severity: Option<String>,
}

#[derive(Deserialize)]
struct Enclosed<'a> {
    #[serde(borrow)]
    error: &'a RawValue,
}

/// The words of an error, owned because the dialect's types vary (a code may be a number).
#[derive(Debug, Default)]
pub(crate) struct Words {
    message: String,
    kind: String,
    code: String,
    param: String,
}

impl Words {
    /// Reads the value of an `error` field: an object, a string, or anything.
    pub(crate) fn of_error(value: &str) -> Self {
        match serde_json::from_str::<Explained<'_>>(value) {
            Ok(explained) => Self::from(explained),
            Err(_) => Self { message: word(value), ..Self::default() },
        }
    }

    /// Reads a whole body: `{"error": …}`, the explanation itself, or text.
    pub(crate) fn of_body(body: &[u8]) -> Self {
        if let Ok(enclosed) = serde_json::from_slice::<Enclosed<'_>>(body) {
            return Self::of_error(enclosed.error.get());
        }
        match serde_json::from_slice::<Explained<'_>>(body) {
            Ok(explained) => Self::from(explained),
            Err(_) => Self { message: String::from_utf8_lossy(body).into_owned(), ..Self::default() },
        }
    }

    /// The error, with the status of the response, or else the one the provider wrote in its place.
    pub(crate) fn refusal(&self, status: Option<u16>) -> Refusal<'_> {
        let written = self.code.parse().ok().filter(|status| (400..600).contains(status));
        Refusal {
            status: status.or(written),
            message: &self.message,
            kind: &self.kind,
            code: &self.code,
            param: &self.param,
            retry_after: None,
        }
    }
}

impl From<Explained<'_>> for Words {
    fn from(explained: Explained<'_>) -> Self {
        let word = |value: Option<&RawValue>| value.map(|value| word(value.get())).unwrap_or_default();
        let mut words = Self {
            message: word(explained.message.or(explained.detail)),
            kind: word(explained.kind),
            code: word(explained.code),
            param: word(explained.param),
        };
        if words.code == "content_filter" {
            // the caller knows its prompt by this name
            "messages".clone_into(&mut words.param);
            let found = explained.innererror.map(|inner| filtered(inner.get())).unwrap_or_default();
            if !found.is_empty() {
                words.message.push_str(" Filtered: ");
                words.message.push_str(&found);
            }
        }
        words
    }
}

/// The categories that were filtered, as in `jailbreak, violence (high)`.
fn filtered(inner: &str) -> String {
    let inner = serde_json::from_str(inner).unwrap_or(Inner { content_filter_result: BTreeMap::new() });
    let named = |(name, category): (String, Category)| match category.severity {
        _ if !category.filtered => None,
        Some(severity) => Some(format!("{name} ({severity})")),
        None => Some(name),
    };
    inner.content_filter_result.into_iter().filter_map(named).collect::<Vec<_>>().join(", ")
}

/// A string's text, nothing for `null`, and other JSON as it stands.
fn word(json: &str) -> String {
    match serde_json::from_str::<Option<Text<'_>>>(json) {
        Ok(text) => text.map(Text::into_string).unwrap_or_default(),
        Err(_) => json.to_owned(),
    }
}
