//! What can be wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

/// A configuration that cannot be used. Each variant says where to look.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("configuration file {} is not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line and what was expected there.
        message: String,
    },
    /// A section that no service has.
    #[error("{origin}: unknown section `{section}`, expected one of {expected}")]
    UnknownSection {
        /// The file, environment variable or flag.
        origin: String,
        /// The section.
        section: String,
        /// The sections there are.
        expected: String,
    },
    /// A key that its section does not have.
    #[error("{origin}: unknown key `{key}`, expected {expected}")]
    UnknownKey {
        /// The file, environment variable or flag.
        origin: String,
        /// Section and key.
        key: String,
        /// The keys there are.
        expected: String,
    },
    /// A value that the key cannot have.
    #[error("{origin}: `{key}` {message}")]
    InvalidValue {
        /// The file, environment variable or flag.
        origin: String,
        /// Section and key.
        key: String,
        /// The value, unless it may be secret, and what was expected.
        message: String,
    },
    /// An environment variable with the product's prefix that names no key.
    #[error("environment variable {variable} names no setting, expected HYBRID_<SECTION>__<KEY>")]
    MalformedVariable {
        /// The variable.
        variable: String,
    },
    /// An environment variable that is not UTF-8.
    #[error("environment variable {variable} is not UTF-8 text")]
    NotText {
        /// The variable.
        variable: String,
    },
    /// A `--set` that is not `section.key=value`.
    #[error("--set {argument}: expected section.key=value")]
    MalformedFlag {
        /// What stands before the `=`, or everything.
        argument: String,
    },
    /// The settings' own defaults cannot be laid under the other layers; a defect of the service.
    #[error("defaults cannot be used: {message}")]
    Defaults {
        /// Why.
        message: String,
    },
    /// The settings cannot be written as TOML.
    #[error("configuration cannot be written as TOML: {message}")]
    Dump {
        /// Why.
        message: String,
    },
    /// The service has no admin listener to ask.
    #[error("`{key}` is not an address, so there is nobody to ask")]
    NoAdmin {
        /// The setting.
        key: String,
    },
}

/// Section, key, and keys below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(pub(super) Vec<String>);

impl Key {
    pub(super) fn of(section: &str, key: &str) -> Self {
        Self(vec![section.to_owned(), key.to_owned()])
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}
