//! Providers that speak OpenAI's HTTP dialect: OpenAI itself, and Groq, vLLM, llama.cpp's server, LM Studio, Ollama and others.
//!
//! Reference: <https://platform.openai.com/docs/api-reference/chat>; where servers differ, the place says so.

mod client;
mod decode;
mod encode;
mod error;
#[cfg(test)]
mod golden;
mod jobs;
mod stream;

pub(crate) use client::OpenAi;
