//! One vocabulary for everything that can go wrong with a request, from ingress to provider.
//!
//! Who has to act ([`Origin`]) and whether trying again makes sense are decided where the fault is raised, since only that
//! place knows.

use std::time::Duration;

use crate::{pricing::TokenUsage, units::Money};

/// What went wrong. HTTP statuses follow from it at the ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A field is missing or out of range.
    InvalidArgument,
    /// The key is missing or unknown.
    Unauthenticated,
    /// The key is known but may not do this.
    PermissionDenied,
    /// Unknown agent, model or deployment.
    NotFound,
    /// Larger than the bus or the HTTP limit.
    PayloadTooLarge,
    /// Prompt and answer do not fit the context.
    ContextLengthExceeded,
    /// Upstream or local rate limit.
    RateLimited,
    /// No budget left.
    BudgetExceeded,
    /// Nothing allowed can serve this now.
    Unavailable,
    /// The executor has no free slot.
    Busy,
    /// The provider answered with an error.
    Upstream,
    /// The provider refused the key or the account is out of credit.
    UpstreamAuth,
    /// A deadline passed.
    Timeout,
    /// Cancelled by the caller.
    Cancelled,
    /// The chosen model or provider cannot do what was asked.
    Unsupported,
    /// A defect.
    Internal,
}

impl Code {
    /// The name in JSON, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::PayloadTooLarge => "payload_too_large",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::RateLimited => "rate_limited",
            Self::BudgetExceeded => "budget_exceeded",
            Self::Unavailable => "unavailable",
            Self::Busy => "busy",
            Self::Upstream => "upstream_error",
            Self::UpstreamAuth => "upstream_auth",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }
}

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The request is wrong.
    Caller,
    /// A rule of the owner forbids it.
    Policy,
    /// The upstream provider failed.
    Provider,
    /// A local executor failed.
    Local,
    /// A defect or outage of this system.
    Internal,
}

/// A typed error of one request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Fault {
    /// What went wrong.
    pub code: Code,
    /// Who has to act.
    pub origin: Origin,
    /// Whether the same request may succeed later or elsewhere.
    pub retryable: bool,
    /// Lowercase sentence with the field, the value and what was expected.
    pub message: String,
    /// Path of the offending field, as in `messages[2].content`; empty when none.
    pub field: String,
    /// How long to wait, where somebody said so.
    pub retry_after: Option<Duration>,
    /// The provider's own code or HTTP status, scrubbed of keys; empty when none.
    pub provider_code: String,
    /// What was used all the same; absent when nothing is known to have been.
    pub spent: Option<Box<Spent>>,
}

/// What a request used before it failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens.
    pub usage: TokenUsage,
    /// What they cost.
    pub cost: Money,
}

impl Fault {
    /// A fault with no field, no wait and no provider code.
    #[must_use]
    pub fn new(code: Code, origin: Origin, retryable: bool, message: impl Into<String>) -> Self {
        Self {
            code,
            origin,
            retryable,
            message: message.into(),
            field: String::new(),
            retry_after: None,
            provider_code: String::new(),
            spent: None,
        }
    }

    /// The caller's request is wrong in `field`.
    #[must_use]
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, Origin::Caller, false, message).in_field(field)
    }

    /// A defect or outage of ours; another executor may do better.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, Origin::Internal, true, message)
    }

    /// Names the field.
    #[must_use]
    pub fn in_field(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }

    /// Says how long to wait.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says what was used all the same.
    #[must_use]
    pub fn having_spent(mut self, spent: Option<Spent>) -> Self {
        self.spent = spent.map(Box::new);
        self
    }
}

impl From<crate::id::InvalidName> for Fault {
    fn from(error: crate::id::InvalidName) -> Self {
        Self::invalid(error.field, error.to_string())
    }
}
