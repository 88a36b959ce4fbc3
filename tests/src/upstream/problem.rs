//! Answers that are no success, in no provider's words; each format has its own for them.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// Kinds of error that every provider has a way to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The request is wrong.
    Invalid,
    /// The prompt does not fit the model.
    ContextLength,
    /// The content is not allowed.
    ContentFilter,
    /// The key is wrong.
    WrongKey,
    /// The account has no money left.
    OutOfCredit,
    /// The key may not do this.
    Forbidden,
    /// There is no such model or address.
    NotFound,
    /// The body is too large.
    TooLarge,
    /// Too many requests or tokens.
    RateLimited,
    /// The provider has too much to do.
    Overloaded,
    /// The provider took too long.
    Timeout,
    /// The provider is broken.
    Server,
}

impl Trouble {
    /// What a status is usually sent for.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => Self::WrongKey,
            402 => Self::OutOfCredit,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            413 => Self::TooLarge,
            429 => Self::RateLimited,
            503 | 529 => Self::Overloaded,
            500.. => Self::Server,
            _ => Self::Invalid,
        }
    }
}

/// An error, to be told in a format's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) trouble: Trouble,
    /// The field that is wrong; empty when none.
    pub(super) field: String,
    /// Empty: what the provider usually says.
    pub(super) message: String,
    /// Absent: the one that the format has for it.
    pub(super) status: Option<StatusCode>,
}

impl Problem {
    pub(super) fn new(trouble: Trouble, message: impl Into<String>) -> Self {
        Self { trouble, field: String::new(), message: message.into(), status: None }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Trouble::Invalid, message)
    }

    pub(super) fn invalid_field(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), ..Self::invalid(message) }
    }

    pub(super) fn wrong_key() -> Self {
        Self::new(Trouble::WrongKey, "")
    }

    pub(super) fn unknown_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        Self { field: "model".to_owned(), ..Self::new(Trouble::NotFound, message) }
    }

    pub(super) fn unknown_address(method: &str, path: &str) -> Self {
        Self::new(Trouble::NotFound, format!("Invalid URL ({method} {path})"))
    }

    /// What a script wants.
    pub(super) fn scripted(trouble: Option<Trouble>, status: Option<StatusCode>) -> Self {
        let trouble = trouble.or(status.map(Trouble::of_status)).unwrap_or(Trouble::Server);
        Self { status, ..Self::new(trouble, "") }
    }

    /// The message, or else the one that is given.
    pub(super) fn message_or(&self, usual: &str) -> String {
        if self.message.is_empty() { usual.to_owned() } else { self.message.clone() }
    }
}
