//! What is wrong with a file.

use std::path::{Path, PathBuf};

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, a key that nobody knows, or a value of the wrong type; the message names line and column.
    #[error("{}: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The parser's words.
        message: String,
    },
    /// A value that is not allowed.
    #[error("{}: {row}: {field} is {value}, expected {expected}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The table, as in `agent 3 (Responder)` or `[thresholds]`.
        row: String,
        /// The key.
        field: &'static str,
        /// What stands there.
        value: String,
        /// What may stand there.
        expected: String,
    },
}

/// A place in a file, for [`CatalogError::Value`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) file: &'a Path,
    pub(super) row: &'a str,
}

impl Place<'_> {
    pub(super) fn wrong(
        &self,
        field: &'static str,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) -> CatalogError {
        CatalogError::Value {
            file: self.file.to_owned(),
            row: self.row.to_owned(),
            field,
            value: value.into(),
            expected: expected.into(),
        }
    }

    /// A name that its type refuses.
    pub(super) fn bad_name(&self, field: &'static str, error: &domain::id::InvalidName) -> CatalogError {
        self.wrong(field, format!("{:?}", error.value), error.expected)
    }
}

/// Reads TOML into a raw struct.
pub(super) fn parse_toml<T: serde::de::DeserializeOwned>(file: &Path, text: &str) -> Result<T, CatalogError> {
    let failed =
        |error: toml::de::Error| CatalogError::Syntax { file: file.to_owned(), message: error.to_string() };
    toml::from_str(text).map_err(failed)
}
