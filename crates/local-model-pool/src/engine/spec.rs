//! How a model is loaded, what came of it, and why it may not work.

use std::path::PathBuf;
use std::time::Duration;

use domain::units::Bytes;

use super::dialogue::Abilities;
use crate::gguf::{GgufError, Header};

/// How a model is loaded. The path must have been checked: see [`crate::models_dir`].
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The GGUF file.
    pub path: PathBuf,
    /// Tokens of prompt and answer, for each slot; 1 up to what the model was trained for.
    pub context_per_slot: u32,
    /// Requests at once, 1 to 64.
    pub slots: u32,
    /// Threads that compute, at least 1.
    pub threads: u32,
    /// Layers on the GPU; 0 = none. More than the model has = all.
    pub gpu_layers: u32,
    /// Whether the file is mapped instead of read: quicker, and the system may drop what is not used for a while.
    pub mmap: bool,
    /// Whether to answer [`Engine::generate`].
    pub generate: bool,
    /// Whether to answer [`Engine::embed`].
    pub embed: bool,
}

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Tokens of prompt and answer, for each slot.
    pub context_per_slot: u32,
    /// Requests at once.
    pub slots: u32,
    /// Length of embedding vectors; 0 = does not embed.
    pub embedding_dimensions: u32,
    /// Bytes of tensors.
    pub weights: Bytes,
    /// Whether prompts come from the model's own chat template.
    pub own_template: bool,
    /// What it can do beside text.
    pub abilities: Abilities,
    /// How long it took.
    pub load: Duration,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// llama.cpp cannot start in this process.
    #[error("llama.cpp does not start")]
    Backend,
    /// The file is no usable model.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: GgufError,
    },
    /// The configuration does not fit the model.
    #[error("{field} is {value}, expected {expected}")]
    Spec {
        /// The configuration key.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// llama.cpp refuses the model; its log says why.
    #[error("llama.cpp does not load the model, its log lines say why: {0}")]
    Load(String),
    /// There is not enough memory for the context, or the model does not allow it.
    #[error("llama.cpp does not make a context of {tokens} tokens, its log lines say why: {reason}")]
    Context {
        /// All slots together.
        tokens: u32,
        /// What llama.cpp answered.
        reason: String,
    },
    /// The thread cannot start or died.
    #[error("the engine's thread ended: {0}")]
    Thread(String),
    /// Computing failed several times in a row.
    #[error("llama.cpp failed to compute {0} times in a row")]
    Compute(u32),
}

/// Whether the model can be loaded like this.
pub(super) fn check(spec: &Spec, header: &Header) -> Result<(), EngineError> {
    let trained = header.metadata.context_length;
    let wrong = |field, value: u32, expected: String| {
        Err(EngineError::Spec { field, value: value.to_string(), expected })
    };
    if !(1..=trained).contains(&spec.context_per_slot) {
        return wrong(
            "context_length",
            spec.context_per_slot,
            format!("1 to {trained}, what the model was trained for"),
        );
    }
    if !(1..=64).contains(&spec.slots) {
        return wrong("slots", spec.slots, "1 to 64".to_owned());
    }
    if spec.generate && header.metadata.is_encoder() {
        let (field, value) = ("generate", "true".to_owned());
        let expected = format!("false: {} models only embed", header.metadata.architecture);
        return Err(EngineError::Spec { field, value, expected });
    }
    if spec.gpu_layers > 0 && !super::model::backend()?.supports_gpu_offload() {
        let expected =
            "0: this build of llama.cpp has no GPU backend (features cuda, vulkan), or found no device";
        return wrong("gpu_layers", spec.gpu_layers, expected.to_owned());
    }
    Ok(())
}
