//! Vectors of texts: a second context of the same model, which pools the vectors of all tokens into one.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_batch::LlamaBatch;

use domain::fault::{Code, Fault, Origin};

use super::model::{Model, backend};
use super::scheduler::EmbedJob;
use super::{EngineError, Spec};
use crate::estimate::EMBED_SEQUENCES;

/// The context for vectors.
pub(super) struct Embedder<'m> {
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    /// Tokens of one batch, and so of the longest text.
    tokens: usize,
    dimensions: u32,
}

impl<'m> Embedder<'m> {
    pub(super) fn new(model: &'m Model, spec: &Spec) -> Result<Self, EngineError> {
        let per_text = spec.context_per_slot.next_multiple_of(256);
        let tokens = per_text.saturating_mul(EMBED_SEQUENCES);
        let threads = i32::try_from(spec.threads.max(1)).unwrap_or(1);
        // The model's own way of pooling where it has one; the mean for models that were made to chat.
        let pooling = if model.pools { LlamaPoolingType::Unspecified } else { LlamaPoolingType::Mean };
        let parameters = LlamaContextParams::default()
            .with_embeddings(true)
            .with_pooling_type(pooling)
            .with_n_ctx(NonZeroU32::new(tokens))
            .with_n_seq_max(EMBED_SEQUENCES)
            // A text must be computed in one piece to be pooled.
            .with_n_batch(per_text)
            .with_n_ubatch(per_text)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_no_perf(true);
        let reason = |error: llama_cpp_2::LlamaContextLoadError| EngineError::Context {
            tokens,
            reason: error.to_string(),
        };
        let context = model.llama.new_context(backend()?, parameters).map_err(reason)?;
        Ok(Self {
            context,
            batch: LlamaBatch::new(per_text as usize, 1),
            tokens: per_text as usize,
            dimensions: u32::try_from(model.llama.n_embd_out()).unwrap_or(0),
        })
    }

    /// Length of the vectors.
    pub(super) const fn dimensions(&self) -> u32 {
        self.dimensions
    }

    /// Computes one batch of the first request's texts. Requests take turns.
    pub(super) fn step(&mut self, jobs: &mut VecDeque<EmbedJob>) {
        let Some(mut job) = jobs.pop_front() else { return };
        if job.cancel.is_cancelled() || job.end.is_closed() {
            let text = "cancelled by the caller";
            let _caller_gone = job.end.send(Err(Fault::new(Code::Cancelled, Origin::Caller, false, text)));
            return;
        }
        if let Err(reason) = self.batch(&mut job) {
            tracing::error!(reason, "llama.cpp failed to compute vectors");
            let text = format!("llama.cpp failed to compute vectors: {reason}");
            let _caller_gone = job.end.send(Err(Fault::new(Code::Internal, Origin::Local, true, text)));
            return;
        }
        if job.left.is_empty() {
            let _caller_gone = job.end.send(Ok(job.done));
        } else {
            jobs.push_back(job);
        }
    }

    fn batch(&mut self, job: &mut EmbedJob) -> Result<(), String> {
        self.batch.clear();
        self.context.clear_kv_cache();
        let (mut sequences, mut tokens) = (0_u32, 0_usize);
        while sequences < EMBED_SEQUENCES {
            let Some(text) = job.left.front() else { break };
            if tokens.saturating_add(text.len()) > self.tokens {
                break;
            }
            let sequence = i32::try_from(sequences).unwrap_or(0);
            self.batch.add_sequence(text, sequence, true).map_err(|error| error.to_string())?;
            tokens = tokens.saturating_add(text.len());
            sequences = sequences.saturating_add(1);
            job.left.pop_front();
        }
        if sequences == 0 {
            return Err("a text is longer than a batch".to_owned());
        }
        // Models without a cache compute the same call as an encoder.
        self.context.decode(&mut self.batch).map_err(|error| error.to_string())?;
        for sequence in 0..sequences {
            let sequence = i32::try_from(sequence).unwrap_or(0);
            let vector = self.context.embeddings_seq_ith(sequence).map_err(|error| error.to_string())?;
            job.done.vectors.push(normalised(vector)?);
        }
        Ok(())
    }
}

/// The vector scaled to length one, so that a dot product is a cosine.
fn normalised(vector: &[f32]) -> Result<Vec<f32>, String> {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if !length.is_normal() {
        return Err(format!("a vector has the length {length}"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "a quotient of f32 values that is at most one")]
    Ok(vector.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}
