//! Ollama's native interface.
//!
//! It can do what its OpenAI-compatible one cannot: set the context's length, refuse a prompt that is too long instead of
//! cutting it, keep a model loaded, say which models there are and what they can do, and fetch those that are missing.
//! Reference: <https://docs.ollama.com/api>.

mod client;
mod decode;
mod discover;
mod encode;
#[cfg(test)]
mod golden;
mod messages;
mod pull;
mod server;
mod side;
mod stream;

pub(crate) use client::Ollama;
pub(crate) use discover::FOUND_MAX;
pub(crate) use server::Server;
pub(crate) use side::Side;
