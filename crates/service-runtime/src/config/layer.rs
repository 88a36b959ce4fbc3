//! Layers on top of each other, each with a name, so that a complaint can say which one to correct.

use std::collections::BTreeSet;

use figment::error::Kind;
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

use super::error::{ConfigError, Key};
use super::redact::without_user_info;
use super::source::{nest, parse_value};
use crate::secret;

/// Longest value that a message repeats, in characters.
const SHOWN_MAX: usize = 80;

/// One source of values.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// What an operator calls it.
    origin: String,
    dict: Dict,
    /// For a single value that was not written in TOML: its path and text, should a string be wanted.
    text: Option<(Vec<String>, String)>,
    /// Whether keys are matched without regard to case, and `_` stands for `-` too.
    loose: bool,
}

impl Layer {
    pub(super) fn file(path: String, dict: Dict) -> Self {
        Self { origin: path, dict, text: None, loose: false }
    }

    pub(super) fn variable(name: &str, path: Vec<String>, value: &str) -> Self {
        Self::single(format!("environment variable {name}"), path, value, true)
    }

    pub(super) fn flag(name: &str, path: Vec<String>, value: &str) -> Self {
        Self::single(format!("--set {name}"), path, value, false)
    }

    fn single(origin: String, path: Vec<String>, value: &str, loose: bool) -> Self {
        let dict = nest(&path, parse_value(value));
        Self { origin, dict, text: Some((path, value.to_owned())), loose }
    }

    pub(super) fn check_sections(&self, known: &BTreeSet<String>) -> Result<(), ConfigError> {
        match self.dict.keys().find(|section| !known.contains(*section)) {
            None => Ok(()),
            Some(section) => Err(ConfigError::UnknownSection {
                origin: self.origin.clone(),
                section: section.clone(),
                expected: known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// Spells the keys of a variable as the layers below spell them.
    fn respell(&mut self, below: &Dict) {
        let Some((path, text)) = self.text.take() else { return };
        let mut spelled = Vec::with_capacity(path.len());
        let mut level = Some(below);
        for key in path {
            let same = |other: &&String| loosely(other) == loosely(&key);
            let key = level.and_then(|dict| dict.keys().find(same)).cloned().unwrap_or(key);
            level = level.and_then(|dict| dict.get(&key)).and_then(Value::as_dict);
            spelled.push(key);
        }
        self.dict = nest(&spelled, parse_value(&text));
        self.text = Some((spelled, text));
    }

    /// Takes the value as the string it was written as. Says whether that changed anything.
    fn retype(&mut self) -> bool {
        let Some((path, text)) = &self.text else { return false };
        let dict = nest(path, Value::from(text.as_str()));
        let changed = dict != self.dict;
        self.dict = dict;
        changed
    }
}

fn loosely(key: &str) -> String {
    key.to_ascii_lowercase().replace('-', "_")
}

/// The defaults and the layers above them, lowest first.
#[derive(Debug)]
pub(super) struct Stack {
    defaults: Dict,
    layers: Vec<Layer>,
}

impl Stack {
    pub(super) fn new(defaults: Dict, layers: Vec<Layer>) -> Self {
        let mut stack = Self { defaults, layers: Vec::with_capacity(layers.len()) };
        for mut layer in layers {
            if layer.loose {
                layer.respell(&stack.merged());
            }
            stack.layers.push(layer);
        }
        stack
    }

    /// Leaves out the sections of other services.
    pub(super) fn keep_sections(&mut self, own: &BTreeSet<String>) {
        for layer in &mut self.layers {
            layer.dict.retain(|section, _| own.contains(section));
        }
    }

    /// All layers in one.
    pub(super) fn merged(&self) -> Dict {
        let mut merged = self.defaults.clone();
        for layer in &self.layers {
            merge(&mut merged, &layer.dict);
        }
        merged
    }

    /// Reads some of the sections.
    pub(super) fn read<T: DeserializeOwned>(&mut self, sections: &[&str]) -> Result<T, ConfigError> {
        // Each round turns at least one value into a string, so there are at most as many as there are layers.
        loop {
            let mut merged = self.merged();
            merged.retain(|section, _| sections.contains(&section.as_str()));
            let error = match Value::from(merged).deserialize::<T>() {
                Ok(settings) => return Ok(settings),
                Err(error) => error,
            };
            let wants_text =
                matches!(&error.kind, Kind::InvalidType(_, expected) if expected.contains("string"));
            if !(wants_text && self.retype(&error.path)) {
                return Err(self.explain(error));
            }
        }
    }

    fn retype(&mut self, path: &[String]) -> bool {
        match self.topmost(path) {
            Some(at) => self.layers.get_mut(at).is_some_and(Layer::retype),
            None => false,
        }
    }

    /// An error about a value that has the right type.
    pub(super) fn blame(&self, key: &Key, message: String) -> ConfigError {
        ConfigError::InvalidValue { origin: self.origin(&key.0), key: key.to_string(), message }
    }

    fn explain(&self, error: figment::Error) -> ConfigError {
        let mut path = error.path;
        match error.kind {
            Kind::UnknownField(name, expected) => {
                // The path ends with the key unless serde had buffered the table, as it does for tagged enums.
                if path.last() != Some(&name) {
                    path.push(name);
                }
                let origin = self.origin(&path);
                let expected = match expected {
                    [] => "no keys here".to_owned(),
                    names => format!(
                        "one of {}",
                        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                    ),
                };
                ConfigError::UnknownKey { origin, key: Key(path).to_string(), expected }
            }
            Kind::MissingField(name) => {
                let origin = self.origin(&path);
                path.push(name.into_owned());
                let message = "is missing".to_owned();
                ConfigError::InvalidValue { origin, key: Key(path).to_string(), message }
            }
            kind => {
                let shown = self.shown(&path);
                let message = match (shown, kind) {
                    (_, Kind::Message(text)) if text.starts_with(secret::EXPECTED) => {
                        format!("is refused: {text}")
                    }
                    (Some(value), Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected)) => {
                        format!("is {value}, expected {expected}")
                    }
                    (Some(value), Kind::UnknownVariant(_, names)) => {
                        format!("is {value}, expected one of {}", names.join(", "))
                    }
                    (Some(value), kind) => format!("is {value}: {kind}"),
                    (None, Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected)) => {
                        format!("has the wrong kind of value, expected {expected}")
                    }
                    (None, kind) => format!("is refused: {kind}"),
                };
                self.blame(&Key(path), message)
            }
        }
    }

    /// The value in force at `path`, when it is short and simple enough to repeat.
    fn shown(&self, path: &[String]) -> Option<String> {
        let merged = Value::from(self.merged());
        let text = match at(&merged, path)? {
            Value::String(_, text) => {
                format!("{:?}", without_user_info(text).as_ref().unwrap_or(text))
            }
            Value::Char(_, c) => format!("{c:?}"),
            Value::Bool(_, b) => b.to_string(),
            Value::Num(_, number) => match (number.to_u128(), number.to_i128(), number.to_f64()) {
                (Some(n), _, _) => n.to_string(),
                (_, Some(n), _) => n.to_string(),
                (_, _, n) => n?.to_string(),
            },
            Value::Empty(..) | Value::Dict(..) | Value::Array(..) => return None,
        };
        if text.chars().count() <= SHOWN_MAX {
            return Some(text);
        }
        Some(text.chars().take(SHOWN_MAX).chain("…".chars()).collect())
    }

    fn origin(&self, path: &[String]) -> String {
        let found = self.topmost(path).and_then(|at| self.layers.get(at));
        found.map_or_else(|| "defaults".to_owned(), |layer| layer.origin.clone())
    }

    /// The highest layer that says something at `path`, or else at the longest part of it that any layer has.
    fn topmost(&self, path: &[String]) -> Option<usize> {
        (1..=path.len()).rev().find_map(|length| {
            let part = path.get(..length)?;
            self.layers.iter().rposition(|layer| at_dict(&layer.dict, part).is_some())
        })
    }
}

fn at_dict<'a>(dict: &'a Dict, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    at(dict.get(first)?, rest)
}

fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    let Some((first, rest)) = path.split_first() else { return Some(value) };
    let below = match value {
        Value::Dict(_, dict) => dict.get(first)?,
        Value::Array(_, items) => items.get(first.parse::<usize>().ok()?)?,
        _ => return None,
    };
    at(below, rest)
}

/// Tables are joined key by key; everything else, a secret's source included, is replaced.
fn merge(below: &mut Dict, above: &Dict) {
    for (key, value) in above {
        match (below.get_mut(key), value) {
            (Some(Value::Dict(_, lower)), Value::Dict(_, upper))
                if !(is_secret(lower) && is_secret(upper)) =>
            {
                merge(lower, upper);
            }
            _ => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

/// `{ file = "…" }` over `{ env = "…" }` is another source, not both.
fn is_secret(dict: &Dict) -> bool {
    let mut keys = dict.keys();
    matches!((keys.next(), keys.next()), (Some(key), None) if key == "file" || key == "env")
}
