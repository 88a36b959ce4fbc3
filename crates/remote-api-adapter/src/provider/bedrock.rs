//! AWS Bedrock's runtime: Converse and ConverseStream for what generates, InvokeModel for embeddings and for NLLB-200.
//!
//! - `client`: addresses, keys, which operation serves what. `sign` SigV4, `keys` what it signs with.
//! - `encode`, `decode`, `stream`: a conversation, whole and in pieces; `frames` the binary framing of AWS's event streams.
//! - `invoke` and below: bodies that each model defines for itself. `languages` NLLB-200's table.
//!
//! Signatures and frames are the work of AWS's own crates; their HTTP client is not used, so that the address guard, the
//! deadlines and the connections are those of every other provider.
//!
//! Reference: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>.

mod client;
mod decode;
mod encode;
mod error;
mod family;
mod frames;
#[cfg(test)]
pub(crate) mod golden;
mod invoke;
mod keys;
mod languages;
mod sign;
mod stream;

pub(crate) use client::Bedrock;
pub(crate) use invoke::batch::Batched;
pub(crate) use keys::Keys;
