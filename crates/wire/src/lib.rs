//! Everything that is said on the bus: messages, subjects, headers.
//!
//! The messages are generated from `proto/` and committed. Other crates name subjects only through [`subject`], and turn
//! messages into domain types only through the conversions here; each conversion checks, and its error names the field.

pub mod convert;
pub mod permission;
pub mod subject;

/// Messages of package `llm.v1`, generated from `proto/llm/v1`.
#[allow(missing_docs, clippy::doc_markdown, clippy::large_enum_variant, rustdoc::all)]
pub mod v1 {
    include!("generated/llm.v1.rs");
}
