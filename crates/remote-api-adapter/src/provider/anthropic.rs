//! Anthropic's Messages API, and servers that speak it.
//!
//! Reference: <https://platform.claude.com/docs/en/api/messages>, version `2023-06-01`. What a generation of Claude takes and
//! refuses stands in `model`, what the caller's unmodelled fields come to in `encode/options`.
//!
//! Three things are not sent, because no provider would read them: the reasoning of earlier answers in the forms of other
//! providers (Anthropic reads its own signed `thinking_blocks` only), other by-products of an answer (annotations,
//! citations, a signature of Google's), and the label of a JSON schema.

mod client;
mod decode;
mod encode;
mod error;
#[cfg(test)]
mod golden;
mod jobs;
mod model;
mod stream;
mod thinking;

pub(crate) use client::Anthropic;

use domain::fault::{Code, Fault, Origin};

/// What Anthropic, or this model of it, cannot do; somebody else may.
fn unsupported(field: impl Into<String>, value: &str, expected: &str) -> Fault {
    let field = field.into();
    let message = format!("{field} is {value}, expected {expected}");
    Fault::new(Code::Unsupported, Origin::Caller, true, message).in_field(field)
}
