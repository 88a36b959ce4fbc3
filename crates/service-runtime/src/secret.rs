//! Values that must not stand in a configuration file.
//!
//! A setting of type [`Secret`] says where the value is; the value itself is read when it is needed, so that a rotated
//! file takes effect without a restart, and it never passes through the configuration, its dump or its error messages.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
pub use secrecy::{ExposeSecret, SecretString};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Larger than any key or certificate chain; a file beyond it was named by mistake.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// What a refused inline value is told. The loader recognises it and leaves the value out of its message.
pub(crate) const EXPECTED: &str =
    r#"a secret is expected as { file = "path" } or { env = "NAME" }, not as the value itself"#;

/// Where a secret is kept: `{ file = "path" }` or `{ env = "NAME" }`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Env(String),
}

impl Secret {
    /// A secret that is the contents of a file, without its trailing line break.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// A secret that is the value of an environment variable.
    #[must_use]
    pub fn env(name: impl Into<String>) -> Self {
        Self(Source::Env(name.into()))
    }

    /// The file it is kept in, where it is kept in one: who watches it for rotation needs to look at it.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Source::File(path) => Some(path),
            Source::Env(_) => None,
        }
    }

    /// Reads the value now. Each call reads again.
    ///
    /// # Errors
    /// The file cannot be read, the variable is not set, or the value is empty, not UTF-8 or longer than 64 KiB.
    pub fn resolve(&self) -> Result<SecretString, SecretError> {
        let text = match &self.0 {
            Source::File(path) => read(path)?,
            Source::Env(name) => match std::env::var_os(name) {
                None => return Err(SecretError::NotSet { name: name.clone() }),
                Some(value) => Zeroizing::new(value.into_string().map_err(|_| self.not_text())?.into_bytes()),
            },
        };
        let text = std::str::from_utf8(&text).map_err(|_| self.not_text())?.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(SecretError::Empty { origin: self.to_string() });
        }
        Ok(SecretString::from(text))
    }

    fn not_text(&self) -> SecretError {
        SecretError::NotText { origin: self.to_string() }
    }
}

/// The bytes of a file, wiped when dropped.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let failed = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let limit = SECRET_BYTES_MAX + 1;
    // Room for everything at once, because a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(limit as u64).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(SecretError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

/// Why a secret could not be read. No variant holds the value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing or not readable by this process.
    #[error("secret file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The environment variable does not exist.
    #[error("secret environment variable {name} is not set")]
    NotSet {
        /// Its name.
        name: String,
    },
    /// There is nothing but a line break.
    #[error("secret from {origin} is empty")]
    Empty {
        /// Where it was read from.
        origin: String,
    },
    /// The bytes are not UTF-8.
    #[error("secret from {origin} is not UTF-8 text")]
    NotText {
        /// Where it was read from.
        origin: String,
    },
    /// The file is too long to be a secret.
    #[error("secret file {} is longer than {SECRET_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match &self.0 {
            Source::File(path) => map.serialize_entry("file", path)?,
            Source::Env(name) => map.serialize_entry("env", name)?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

/// Every form but the table is refused here, because serde's own message would repeat the value.
impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Secret, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Secret, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_char<E: de::Error>(self, _: char) -> Result<Secret, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Secret, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Secret, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        let mut secret = None;
        while let Some(key) = map.next_key::<String>()? {
            if secret.is_some() {
                return Err(de::Error::custom(EXPECTED));
            }
            secret = Some(match key.as_str() {
                "file" => Secret(Source::File(map.next_value()?)),
                "env" => Secret(Source::Env(map.next_value()?)),
                other => return Err(de::Error::unknown_field(other, &["file", "env"])),
            });
        }
        match secret {
            Some(Secret(Source::Env(name))) if name.is_empty() || name.contains(['=', '\0']) => {
                Err(de::Error::custom("env is expected to be the name of an environment variable"))
            }
            Some(Secret(Source::File(path))) if path.as_os_str().is_empty() => {
                Err(de::Error::custom("file is expected to be a path"))
            }
            Some(secret) => Ok(secret),
            None => Err(de::Error::custom(EXPECTED)),
        }
    }
}

#[cfg(test)]
mod tests;
