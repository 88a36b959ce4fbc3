//! Reading JSON requests: what is missing, of the wrong type or unknown is named, as the providers do.

use serde_json::{Map, Value};

use super::problem::Problem;

/// A JSON object and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

fn is(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The body as JSON.
pub(super) fn body(bytes: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::invalid(format!("We could not parse the JSON body: {error}")))
}

impl<'a> Fields<'a> {
    /// A value that has to be an object; `path` is empty for the body itself.
    pub(super) fn of(value: &'a Value, path: &str) -> Result<Self, Problem> {
        match value {
            Value::Object(map) => Ok(Self { map, path: path.to_owned() }),
            other => {
                let what = if path.is_empty() { "the body" } else { path };
                Err(Problem::invalid_field(path, format!("{what}: expected an object, got {}", is(other))))
            }
        }
    }

    /// Refuses fields of other names.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.map.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let path = self.path_of(name);
                Err(Problem::invalid_field(&path, format!("{path}: Extra inputs are not permitted")))
            }
        }
    }

    /// The names of the fields.
    pub(super) fn names(&self) -> Vec<&'a str> {
        self.map.keys().map(String::as_str).collect()
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A field; `null` counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// The first of several names that is there.
    pub(super) fn any(&self, names: &[&str]) -> Option<&'a Value> {
        names.iter().find_map(|name| self.get(name))
    }

    pub(super) fn wrong(&self, name: &str, expected: &str) -> Problem {
        let path = self.path_of(name);
        let got = self.get(name).map_or("nothing", is);
        Problem::invalid_field(&path, format!("{path}: expected {expected}, got {got}"))
    }

    fn as_type<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        self.get(name).map(|value| read(value).ok_or_else(|| self.wrong(name, expected))).transpose()
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        self.as_type(name, "a string", Value::as_str)
    }

    pub(super) fn must_text(&self, name: &str) -> Result<&'a str, Problem> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "a string"))
    }

    pub(super) fn whole(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.as_type(name, "a whole number", Value::as_u64)
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, Problem> {
        self.as_type(name, "a number", Value::as_f64)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        self.as_type(name, "a boolean", Value::as_bool)
    }

    pub(super) fn list(&self, name: &str) -> Result<&'a [Value], Problem> {
        Ok(self.as_type(name, "an array", |value| value.as_array().map(Vec::as_slice))?.unwrap_or_default())
    }

    /// The elements of a list, each an object.
    pub(super) fn objects(&self, name: &str) -> Result<Vec<Self>, Problem> {
        let path = |index| format!("{}[{index}]", self.path_of(name));
        self.list(name)?.iter().enumerate().map(|(index, value)| Self::of(value, &path(index))).collect()
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, Problem> {
        self.get(name).map(|value| Self::of(value, &self.path_of(name))).transpose()
    }

    pub(super) fn must_object(&self, name: &str) -> Result<Self, Problem> {
        self.object(name)?.ok_or_else(|| self.wrong(name, "an object"))
    }

    /// A list of strings, or one.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Problem> {
        match self.get(name) {
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            _ => {
                let text = |value: &Value| {
                    value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(name, "an array of strings"))
                };
                self.list(name)?.iter().map(text).collect()
            }
        }
    }
}
