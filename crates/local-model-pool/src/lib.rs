//! Local models: llama.cpp behind the bus.

pub mod engine;
pub mod estimate;
pub mod gguf;
