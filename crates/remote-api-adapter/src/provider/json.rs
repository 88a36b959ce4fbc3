//! JSON as providers' messages need it: objects whose unknown fields survive, read without copying and written without a
//! tree in between.

use std::{borrow::Cow, fmt, ops::Deref};

use domain::fault::Fault;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A JSON string, borrowed from the input unless it holds escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    pub(crate) fn into_string(self) -> String {
        self.0.into_owned()
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(Seen)
    }
}

/// Fields of an object in their order, the values as they stand in the text.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a>(Vec<(Text<'a>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The fields of the object in `json`; none when it is blank.
    ///
    /// # Errors
    /// `InvalidArgument` naming `path`: the text is no JSON object.
    pub(crate) fn parse(path: &str, json: &'a str) -> Result<Self, Fault> {
        if json.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(json).map_err(|error| {
            Fault::invalid(path, format!("{path} is no JSON object ({error}), expected one or nothing"))
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (&**key, *value))
    }

    /// The values of the fields of this name, and the other fields.
    pub(crate) fn split(self, name: &str) -> (Vec<&'a RawValue>, Self) {
        let (named, others): (Vec<_>, Vec<_>) = self.0.into_iter().partition(|(key, _)| &**key == name);
        (named.into_iter().map(|(_, value)| value).collect(), Self(others))
    }

    /// Keeps the fields whose name passes.
    pub(crate) fn retain(&mut self, mut pass: impl FnMut(&str) -> bool) {
        self.0.retain(|(key, _)| pass(key));
    }

    /// Gives a field another name, unless one of that name is there.
    pub(crate) fn rename(&mut self, from: &str, to: &'a str) {
        if self.contains(to) {
            return;
        }
        for (key, _) in self.0.iter_mut().filter(|(key, _)| &**key == from) {
            *key = Text::from(to);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| &**key == name)
    }

    pub(crate) fn into_entries(self) -> impl Iterator<Item = (Text<'a>, &'a RawValue)> {
        self.0.into_iter()
    }

    /// Keeps a field for later, unless it says nothing.
    pub(crate) fn keep(&mut self, key: Text<'a>, value: &'a RawValue) {
        if value.get() != "null" && !self.contains(&key) {
            self.0.push((key, value));
        }
    }

    /// The fields as a JSON object; empty when there are none.
    pub(crate) fn into_json(self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut out = Vec::new();
        Object::wrap(&mut out, &self);
        // made of strings only
        String::from_utf8(out).unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Seen)
    }
}

/// Implements `Deserialize` for a type whose unknown fields go to its `extra`: `$key` is the name of a field, `$map` its reader.
macro_rules! fields_kept {
    ($name:ident, $expecting:literal, |$this:ident, $key:ident, $map:ident| { $($arm:tt)* }) => {
        impl<'de> ::serde::Deserialize<'de> for $name<'de> {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Seen;
                impl<'de> ::serde::de::Visitor<'de> for Seen {
                    type Value = $name<'de>;
                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_map<A: ::serde::de::MapAccess<'de>>(
                        self,
                        mut $map: A,
                    ) -> Result<$name<'de>, A::Error> {
                        let mut $this = $name::default();
                        while let Some($key) = $map.next_key::<$crate::provider::json::Text<'de>>()? {
                            match &*$key {
                                $($arm)*
                                _ => {
                                    let value = $map.next_value()?;
                                    $this.extra.keep($key, value);
                                }
                            }
                        }
                        Ok($this)
                    }
                }
                deserializer.deserialize_map(Seen)
            }
        }
    };
}
pub(crate) use fields_kept;

/// Checks that `json` is one JSON object and gives it back as it stands.
///
/// # Errors
/// `InvalidArgument` naming `path`.
pub(crate) fn object<'a>(path: &str, json: &'a str) -> Result<&'a str, Fault> {
    match serde_json::from_str::<&RawValue>(json.trim()) {
        Ok(raw) if raw.get().starts_with('{') => Ok(raw.get()),
        Ok(_) => Err(Fault::invalid(path, format!("{path} is JSON of another kind, expected an object"))),
        Err(error) => Err(Fault::invalid(path, format!("{path} is no JSON ({error}), expected an object"))),
    }
}

/// Writes one JSON object. Remembers its keys, so that carried fields cannot repeat or replace one of ours.
pub(crate) struct Object<'o> {
    out: &'o mut Vec<u8>,
    keys: Vec<&'static str>,
    empty: bool,
}

impl<'o> Object<'o> {
    pub(crate) fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, keys: Vec::new(), empty: true }
    }

    /// An object of carried fields only.
    pub(crate) fn wrap(out: &mut Vec<u8>, fields: &Fields<'_>) {
        let mut object = Object::begin(out);
        for (key, value) in fields.iter() {
            object.raw_dynamic(key, value.get());
        }
        object.end();
    }

    pub(crate) fn end(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        string(self.out, key);
        self.out.push(b':');
    }

    /// Whether a field of this name was written or reserved.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    /// Refuses carried fields of this name without writing one.
    pub(crate) fn reserve(&mut self, key: &'static str) {
        self.keys.push(key);
    }

    pub(crate) fn text(&mut self, key: &'static str, value: &str) {
        self.keys.push(key);
        self.key(key);
        string(self.out, value);
    }

    /// A number, a flag, or a list of such or of strings.
    pub(crate) fn value<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) {
        self.keys.push(key);
        self.key(key);
        self::value(self.out, value);
    }

    pub(crate) fn optional<T: Serialize>(&mut self, key: &'static str, value: Option<T>) {
        if let Some(present) = value {
            self.value(key, &present);
        }
    }

    /// JSON that was checked before.
    pub(crate) fn raw(&mut self, key: &'static str, json: &str) {
        self.keys.push(key);
        self.raw_dynamic(key, json);
    }

    /// As [`Object::raw`], under a name that is not ours.
    pub(crate) fn raw_dynamic(&mut self, key: &str, json: &str) {
        self.key(key);
        self.out.extend_from_slice(json.as_bytes());
    }

    /// The caller writes the value.
    pub(crate) fn nested(&mut self, key: &'static str) -> &mut Vec<u8> {
        self.keys.push(key);
        self.key(key);
        self.out
    }

    /// Writes carried fields as they stand.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field under `path`: it is one of ours.
    pub(crate) fn carry(&mut self, path: &str, fields: &Fields<'_>) -> Result<(), Fault> {
        for (key, value) in fields.iter() {
            if self.keys.contains(&key) {
                let field = format!("{path}.{key}");
                let message =
                    format!("{field} is given beside the modelled field, expected only one of them");
                return Err(Fault::invalid(field, message));
            }
            self.raw_dynamic(key, value.get());
        }
        Ok(())
    }

    /// Writes the fields whose names are neither written nor reserved yet, nor among `others`.
    pub(crate) fn complete(&mut self, defaults: &Fields<'_>, others: &Fields<'_>) {
        for (key, value) in defaults.iter() {
            if !self.keys.contains(&key) && !others.contains(key) {
                self.raw_dynamic(key, value.get());
            }
        }
    }

    /// As [`Object::carry`], from text.
    ///
    /// # Errors
    /// `InvalidArgument`: the text is no object, or a field is one of ours.
    pub(crate) fn carry_text(&mut self, path: &str, json: &str) -> Result<(), Fault> {
        if json.is_empty() {
            return Ok(());
        }
        self.carry(path, &Fields::parse(path, json)?)
    }
}

/// Writes the elements of an array, separated.
pub(crate) fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T) -> Result<(), Fault>,
) -> Result<(), Fault> {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item)?;
    }
    out.push(b']');
    Ok(())
}

pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    value(out, text);
}

fn value<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Strings, numbers and flags cannot fail to serialise, and a Vec takes every write; should a caller pass something
    // else, the field says nothing instead of breaking the document.
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_as_they_were_written() {
        let json = r#"{ "big": 123456789012345678901234567890, "text": "a\u0041\n", "nested": {"b": [1.50, null]} }"#;
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.text("ours", "1");
        object.carry_text("extra_json", json).unwrap();
        object.end();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"ours":"1","big":123456789012345678901234567890,"text":"a\u0041\n","nested":{"b": [1.50, null]}}"#
        );
    }

    #[test]
    fn a_carried_field_cannot_replace_one_of_ours() {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.text("model", "m");
        let fault = object.carry_text("extra_json", r#"{"mo\u0064el": "dearer"}"#).unwrap_err();
        assert_eq!(fault.field, "extra_json.model");
    }

    #[test]
    fn what_is_no_object_is_refused_by_name() {
        for bad in ["[1]", "{", "1", r#"{"a":1} x"#, "{]}"] {
            assert_eq!(Fields::parse("messages[2]", bad).unwrap_err().field, "messages[2]", "{bad}");
            assert!(self::object("schema", bad).is_err(), "{bad}");
        }
        assert_eq!(self::object("schema", " {\"a\": 1}\n").unwrap(), "{\"a\": 1}");
    }
}
