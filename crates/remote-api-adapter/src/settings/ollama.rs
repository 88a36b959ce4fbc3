//! What only Ollama needs to know.

use serde::{Deserialize, Serialize};

/// What only Ollama needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OllamaSettings {
    /// Whether the models that the server has are offered, free of charge, without being listed as deployments.
    pub discover: bool,
    /// Whether a model that the server lacks is fetched when it is asked for; otherwise that is an error.
    pub pull: bool,
    /// Longest context of a found model, tokens; shorter where the model's own is. A server takes memory for all of it.
    pub context_length_max: u32,
    /// Calls at once to each found model, 1 to 64; more are answered with busy.
    pub slots: u32,
}

impl Default for OllamaSettings {
    fn default() -> Self {
        Self { discover: false, pull: false, context_length_max: 16_384, slots: 4 }
    }
}
