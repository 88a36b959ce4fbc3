//! Azure OpenAI and AI Foundry: OpenAI's dialect at other addresses and with another key header.
//!
//! Reference: <https://learn.microsoft.com/azure/ai-foundry/openai/reference>.

mod client;
#[cfg(test)]
mod golden;

pub(crate) use client::{Addresses, Azure};
