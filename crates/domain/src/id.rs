//! Names. Each type accepts only what is safe where the name is used: in a bus subject, a path, a header.

use std::fmt;

/// A name that its type refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value:?}, expected {expected}")]
pub struct InvalidName {
    /// The field as callers know it.
    pub field: &'static str,
    /// The start of what was given, at most 80 characters.
    pub value: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:literal, $expected:literal, |$c:ident| $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Checks length and characters.
            ///
            /// # Errors
            /// [`InvalidName`] with the field, the value and what was expected.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let allowed = |$c: char| $allowed;
                if text.is_empty() || text.len() > $max || !text.chars().all(allowed) {
                    let value = text.chars().take(80).collect();
                    return Err(InvalidName { field: $field, value, expected: $expected });
                }
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, owned.
            #[must_use]
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A machine, for example `mainpc`. Also the name of its JetStream domain.
    NodeId, "machine", 32, "1 to 32 letters, digits, `-` or `_`", |c| c.is_ascii_alphanumeric() || c == '-' || c == '_'
);
name!(
    /// An agent of the owner's matrix, for example `CodeGenerator`.
    AgentName, "agent", 64, "1 to 64 letters, digits, `-` or `_`", |c| c.is_ascii_alphanumeric() || c == '-' || c == '_'
);
name!(
    /// A request. Names the cancel subject and the ledger rows.
    RequestId, "request_id", 64, "1 to 64 letters, digits, `-` or `_`", |c| c.is_ascii_alphanumeric() || c == '-' || c == '_'
);
name!(
    /// A job at a provider. Short enough that a request's number fits behind it into a request id.
    JobId, "job_id", 48, "1 to 48 letters, digits, `-` or `_`", |c| c.is_ascii_alphanumeric() || c == '-' || c == '_'
);
name!(
    /// A virtual key's name, for example `ci`. Stands in the ledger, in budgets and in the key itself.
    KeyId, "key", 32, "1 to 32 letters, digits, `-` or `_`", |c| c.is_ascii_alphanumeric() || c == '-' || c == '_'
);
name!(
    /// A model or a model alias as callers name it, for example `local/fast` or `gpt-4o`.
    ModelName, "model", 128, "1 to 128 letters, digits, `.`, `_`, `:`, `/`, `@`, `+` or `-`",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '@' | '+' | '-')
);
name!(
    /// A deployment: one way to run one model, for example `mainpc/openai/gpt-4o`.
    DeploymentId, "deployment", 192, "1 to 192 letters, digits, `.`, `_`, `:`, `/`, `@`, `+` or `-`",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '@' | '+' | '-')
);
name!(
    /// A run-time flag, for example `tier.remote-api`.
    FlagName, "flag", 64, "1 to 64 letters, digits, `.`, `-` or `_`, no `.` at either end",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
);
name!(
    /// A kind of task, for example `code` or `summarise`.
    TaskName, "profile.task", 64, "1 to 64 letters, digits, `-` or `_`", |c| c.is_ascii_alphanumeric() || c == '-' || c == '_'
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_change_a_subject_is_refused() {
        for bad in ["", "a.b", "a b", "*", ">", "a\r\nb", "ü", &"x".repeat(65)] {
            assert!(RequestId::new(bad).is_err(), "{bad:?} was accepted as a request id");
            assert!(AgentName::new(bad).is_err(), "{bad:?} was accepted as an agent");
        }
    }

    #[test]
    fn an_error_names_field_value_and_expectation() {
        let text = RequestId::new("a.b").unwrap_err().to_string();
        assert!(text.contains("request_id") && text.contains("a.b") && text.contains("letters"), "{text}");
    }

    #[test]
    fn a_long_value_is_cut_in_the_error() {
        assert_eq!(RequestId::new("x".repeat(10_000)).unwrap_err().value.len(), 80);
    }
}
