//! One of several keys, with what it may be used for.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapDeserializer},
};
use service_runtime::Secret;

const FIELDS: [&str; 6] =
    ["file", "env", "requests_per_minute", "tokens_per_minute", "requests_per_day", "free"];

/// A key: `{ file = "path" }` or `{ env = "NAME" }`, and with it its limits. What is absent is not limited on this side; the
/// provider's own limits are kept to in any case, as its answers tell them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeySettings {
    /// Where it is kept.
    #[serde(flatten)]
    pub secret: Secret,
    /// Requests in any minute, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens in any minute, input and output together, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Requests in any 24 hours, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
    /// Its calls cost nothing: used before the keys that are paid for.
    pub free: bool,
}

/// By hand, because what is written in the place of a key must not be repeated: whatever is no table is refused by [`Secret`].
impl<'de> Deserialize<'de> for KeySettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

/// How [`Secret`] refuses a value in its place.
fn refused<E: de::Error>() -> E {
    let value = de::value::StrDeserializer::<E>::new("");
    Secret::deserialize(value).err().unwrap_or_else(|| E::custom("a table is expected"))
}

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = KeySettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with file or env")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<KeySettings, E> {
        Err(refused())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<KeySettings, E> {
        Err(refused())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<KeySettings, E> {
        Err(refused())
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<KeySettings, E> {
        Err(refused())
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<KeySettings, E> {
        Err(refused())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<KeySettings, E> {
        Err(refused())
    }

    fn visit_char<E: de::Error>(self, _: char) -> Result<KeySettings, E> {
        Err(refused())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<KeySettings, E> {
        Err(refused())
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<KeySettings, E> {
        Err(refused())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeySettings, A::Error> {
        let mut places: Vec<(String, String)> = Vec::new();
        let (mut requests_per_minute, mut tokens_per_minute, mut requests_per_day) = (None, None, None);
        let mut free = false;
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "file" | "env" => places.push((field, map.next_value()?)),
                "requests_per_minute" => requests_per_minute = Some(map.next_value()?),
                "tokens_per_minute" => tokens_per_minute = Some(map.next_value()?),
                "requests_per_day" => requests_per_day = Some(map.next_value()?),
                "free" => free = map.next_value()?,
                other => return Err(de::Error::unknown_field(other, &FIELDS)),
            }
        }
        // it knows what one place is, and refuses none or two
        let secret = Secret::deserialize(MapDeserializer::<_, A::Error>::new(places.into_iter()))?;
        Ok(KeySettings { secret, requests_per_minute, tokens_per_minute, requests_per_day, free })
    }
}
