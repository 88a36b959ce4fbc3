//! Google's Gemini models: the Gemini API of AI Studio, and Vertex AI.
//!
//! Both speak the same messages (`generateContent`, `streamGenerateContent`); they differ in addresses, in how a key is shown
//! ([`token`]) and in their embeddings. Reference: <https://ai.google.dev/api/generate-content>,
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference>; where they differ, the place says so.

mod client;
mod decode;
mod encode;
mod error;
#[cfg(test)]
mod golden;
mod model;
mod stream;
mod token;

pub(crate) use client::{Gemini, Place};
pub(crate) use token::{KeyFile, Tokens};
