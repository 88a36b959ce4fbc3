//! Where values come from: the file, the environment, the flags.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Value};

use super::error::ConfigError;
use super::layer::Layer;
use crate::execute::CONFIG_VARIABLE;

/// What starts the name of every environment variable of the product.
const PREFIX: &str = "HYBRID_";

/// The raw material of the layers above the defaults. Values for tests, or gathered from the process.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) file: Option<(PathBuf, String)>,
    /// Name and value of every variable that starts with the prefix.
    pub(crate) environment: Vec<(String, String)>,
    /// The arguments of `--set`.
    pub(crate) set: Vec<String>,
}

impl Sources {
    pub(crate) fn gather(file: Option<&Path>, set: &[String]) -> Result<Self, ConfigError> {
        let file = match file {
            None => None,
            Some(path) => {
                let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
                Some((path.to_owned(), std::fs::read_to_string(path).map_err(unreadable)?))
            }
        };
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            let value =
                value.into_string().map_err(|_| ConfigError::NotText { variable: name.to_owned() })?;
            environment.push((name.to_owned(), value));
        }
        Ok(Self { file, environment, set: set.to_vec() })
    }

    /// One layer for the file, one for each variable (in the order of their names), one for each flag. `known` are the
    /// sections that may be named at all.
    pub(super) fn layers(&self, known: &BTreeSet<String>) -> Result<Vec<Layer>, ConfigError> {
        let mut layers = Vec::new();
        if let Some((path, text)) = &self.file {
            layers.push(file_layer(path, text)?);
        }
        let mut environment = self.environment.clone();
        environment.sort();
        for (name, value) in &environment {
            if name != CONFIG_VARIABLE {
                layers.push(variable_layer(name, value, known)?);
            }
        }
        for argument in &self.set {
            layers.push(flag_layer(argument)?);
        }
        for layer in &layers {
            layer.check_sections(known)?;
        }
        Ok(layers)
    }
}

fn file_layer(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    let syntax = |message: String| ConfigError::Syntax { path: path.to_owned(), message };
    // The error's own display repeats the line, which may hold what should not be in a log.
    let table: toml::Table = toml::from_str(text)
        .map_err(|error| syntax(format!("line {}: {}", line(text, error.span()), error.message())))?;
    let Ok(Value::Dict(_, dict)) = Value::serialize(table) else {
        return Err(syntax("expected a table of sections".to_owned()));
    };
    Ok(Layer::file(path.display().to_string(), dict))
}

/// The line, counted from 1, that a span starts on.
fn line(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    before.matches('\n').count() + 1
}

/// `HYBRID_REMOTE_API_ADAPTER__RETRY__ATTEMPTS_MAX` is `remote-api-adapter.retry.attempts_max`.
fn variable_layer(name: &str, value: &str, known: &BTreeSet<String>) -> Result<Layer, ConfigError> {
    let malformed = || ConfigError::MalformedVariable { variable: name.to_owned() };
    let path: Vec<String> =
        name.strip_prefix(PREFIX).ok_or_else(malformed)?.split("__").map(str::to_ascii_lowercase).collect();
    let Some((section, keys)) = path.split_first() else { return Err(malformed()) };
    if keys.is_empty() || path.iter().any(String::is_empty) {
        return Err(malformed());
    }
    let section = known.iter().find(|known| &known.replace('-', "_") == section).unwrap_or(section);
    let path = std::iter::once(section.clone()).chain(keys.iter().cloned()).collect();
    Ok(Layer::variable(name, path, value))
}

fn flag_layer(argument: &str) -> Result<Layer, ConfigError> {
    let (path, value) = argument
        .split_once('=')
        .ok_or_else(|| ConfigError::MalformedFlag { argument: argument.to_owned() })?;
    let keys: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
    if keys.len() < 2 || keys.iter().any(String::is_empty) {
        return Err(ConfigError::MalformedFlag { argument: path.to_owned() });
    }
    Ok(Layer::flag(path.trim(), keys, value))
}

/// A value outside a TOML file: TOML where it is, else the text itself.
pub(super) fn parse_value(text: &str) -> Value {
    let table: Result<toml::Table, _> = toml::from_str(&format!("value = {text}"));
    let mut table = match table {
        // More than one key means that the text had a line break and went on.
        Ok(table) if table.len() == 1 => table,
        _ => return Value::from(text),
    };
    table.remove("value").and_then(|value| Value::serialize(value).ok()).unwrap_or_else(|| Value::from(text))
}

/// `{ a = { b = value } }` for the path `a.b`.
pub(super) fn nest(path: &[String], value: Value) -> Dict {
    let mut dict = Dict::new();
    if let Some((first, rest)) = path.split_first() {
        let below = if rest.is_empty() { value } else { Value::from(nest(rest, value)) };
        dict.insert(first.clone(), below);
    }
    dict
}
