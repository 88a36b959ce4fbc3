//! Providers that speak OpenAI's HTTP dialect: OpenAI itself, and Groq, vLLM, llama.cpp's server, LM Studio, OpenRouter and
//! others. [`flavor`] says where they differ; [`responses`] is OpenAI's second interface.
//!
//! Reference: <https://platform.openai.com/docs/api-reference/chat>; where servers differ, the place says so.

mod audio;
pub(crate) mod chat_fields;
pub(crate) mod client;
mod decode;
pub(crate) mod encode;
pub(crate) mod error;
pub(crate) mod flavor;
#[cfg(test)]
mod golden;
pub(crate) mod jobs;
mod responses;
mod stream;

pub(crate) use client::OpenAi;
pub(crate) use flavor::Flavor;
