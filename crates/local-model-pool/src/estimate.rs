//! How much memory a model takes, from its header alone, before it is loaded.
//!
//! The formulas follow llama.cpp's own allocation. Weights and cache are exact (35 of 35 model shapes with 16-bit cache); the
//! compute buffer is an upper bound that was 1 to 14 % above the real one on CPU with flash attention, and never below it.
//! `tests/estimate.rs` holds the sum against llama.cpp's own report. Two things are not in it: where weights are stored anew for
//! the processor's instructions and input and output share one matrix, that matrix exists twice (in that test still within 1 %);
//! and the process itself, some 10 MB.

use domain::units::Bytes;

use crate::gguf::Header;

/// llama.cpp rounds the context of each sequence up to this many tokens.
const CONTEXT_STEP: u64 = 256;
/// What a GPU driver keeps for a process on each device; the figure that Ollama reserves, until measured on the device.
pub const GPU_RESERVE: Bytes = Bytes::mebibytes(457);
/// Tokens that llama.cpp computes at once (`n_ubatch`); the compute buffer grows with it.
pub const COMPUTE_BATCH_TOKENS: u32 = 512;
/// Texts that are embedded at once.
pub const EMBED_SEQUENCES: u32 = 8;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheType {
    /// 16-bit floats, llama.cpp's default.
    #[default]
    F16,
    /// 8-bit blocks of 32 with a 16-bit scale.
    Q8,
}

impl CacheType {
    /// Bytes for so many numbers.
    const fn bytes(self, numbers: u64) -> u64 {
        match self {
            Self::F16 => numbers.saturating_mul(2),
            Self::Q8 => numbers.div_ceil(32).saturating_mul(34),
        }
    }
}

/// How a model would be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Requests at once.
    pub slots: u32,
    /// Tokens of prompt and answer, for each slot.
    pub context_per_slot: u32,
    /// Tokens computed at once, usually [`COMPUTE_BATCH_TOKENS`].
    pub compute_batch: u32,
    /// How keys and values are stored.
    pub cache: CacheType,
    /// Whether there is a context for text.
    pub generate: bool,
    /// Texts that are embedded at once, each of up to `context_per_slot` tokens; 0 = no context for vectors.
    pub embed_sequences: u32,
    /// GPUs that take part; 0 = CPU only.
    pub gpus: u32,
}

/// The parts of an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// The tensors.
    pub weights: Bytes,
    /// Keys and values of all contexts.
    pub cache: Bytes,
    /// Upper bound of the buffers for intermediate results.
    pub compute: Bytes,
    /// What the drivers keep; zero without a GPU.
    pub reserve: Bytes,
}

impl Estimate {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> Bytes {
        self.weights + self.cache + self.compute + self.reserve
    }
}

/// Estimates what a model takes when loaded in this shape.
#[must_use]
pub fn estimate(header: &Header, shape: Shape) -> Estimate {
    let model = &header.metadata;
    let context = u64::from(shape.context_per_slot).div_ceil(CONTEXT_STEP).saturating_mul(CONTEXT_STEP);
    let per_head = shape
        .cache
        .bytes(model.key_length.into())
        .saturating_add(shape.cache.bytes(model.value_length.into()));
    let kv_heads: u64 = model.kv_heads.iter().map(|heads| u64::from(*heads)).sum();
    let per_token = if model.is_encoder() { 0 } else { kv_heads.saturating_mul(per_head) };
    let vectors = u64::from(model.embedding_length).saturating_mul(8);
    let vocabulary = u64::from(model.vocabulary);
    // An encoder draws no tokens, and has the attention of a whole text at once.
    let width = match model.is_encoder() {
        true => vectors.saturating_add(context).saturating_add(context / 2),
        false => vectors.saturating_add(vocabulary).saturating_add(context / 2),
    };
    // Vectors are computed a whole text at a time.
    let contexts = [
        (u64::from(shape.slots), u64::from(shape.compute_batch), shape.generate),
        (u64::from(shape.embed_sequences), context, shape.embed_sequences > 0),
    ];
    let (mut cache, mut compute) = (0_u64, 0_u64);
    for (sequences, batch, _) in contexts.into_iter().filter(|(_, _, exists)| *exists) {
        cache = cache.saturating_add(per_token.saturating_mul(context).saturating_mul(sequences));
        let output = sequences.saturating_mul(vocabulary);
        compute =
            compute.saturating_add(batch.saturating_mul(width).saturating_add(output).saturating_mul(4));
    }
    Estimate {
        weights: header.weights,
        cache: Bytes::new(cache),
        compute: Bytes::new(compute),
        reserve: Bytes::new(GPU_RESERVE.get().saturating_mul(shape.gpus.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Metadata;

    /// Llama 3.1 8B in Q4_K_M, from its published metadata.
    fn llama_8b() -> Header {
        let metadata = Metadata {
            architecture: "llama".to_owned(),
            name: String::new(),
            context_length: 131_072,
            layers: 32,
            embedding_length: 4096,
            heads: 32,
            kv_heads: vec![8; 32],
            key_length: 128,
            value_length: 128,
            vocabulary: 128_256,
            chat_template: None,
            pooling: false,
        };
        let weights = Bytes::new(4_912_898_304);
        Header { version: 3, metadata, tensors: 292, weights, file_size: Bytes::new(4_920_734_272) }
    }

    fn shape(slots: u32, context_per_slot: u32) -> Shape {
        let (compute_batch, cache, gpus) = (COMPUTE_BATCH_TOKENS, CacheType::F16, 0);
        Shape { slots, context_per_slot, compute_batch, cache, gpus, generate: true, embed_sequences: 0 }
    }

    #[test]
    fn the_cache_of_a_known_model_is_what_llama_cpp_reports() {
        // llama.cpp: "KV self size = 1024.00 MiB" for 8,192 tokens of this model at 16 bits.
        assert_eq!(estimate(&llama_8b(), shape(1, 8192)).cache, Bytes::mebibytes(1024));
        assert_eq!(estimate(&llama_8b(), shape(4, 2048)).cache, Bytes::mebibytes(1024));
    }

    #[test]
    fn the_context_of_each_slot_is_rounded_up_on_its_own() {
        assert_eq!(estimate(&llama_8b(), shape(3, 300)).cache, estimate(&llama_8b(), shape(3, 512)).cache);
    }

    #[test]
    fn an_eight_bit_cache_takes_seventeen_thirty_seconds() {
        let full = estimate(&llama_8b(), shape(1, 8192)).cache.get();
        let small = estimate(&llama_8b(), Shape { cache: CacheType::Q8, ..shape(1, 8192) }).cache.get();
        assert_eq!(small * 32, full * 17);
    }

    #[test]
    fn layers_without_attention_keep_nothing() {
        let mut hybrid = llama_8b();
        for heads in hybrid.metadata.kv_heads.iter_mut().skip(16) {
            *heads = 0;
        }
        assert_eq!(estimate(&hybrid, shape(1, 8192)).cache, Bytes::mebibytes(512));
    }

    #[test]
    fn an_encoder_keeps_no_cache() {
        let mut encoder = llama_8b();
        encoder.metadata.architecture = "nomic-bert".to_owned();
        assert_eq!(estimate(&encoder, shape(1, 8192)).cache, Bytes::ZERO);
    }

    #[test]
    fn vectors_take_a_context_of_their_own() {
        let text = estimate(&llama_8b(), shape(4, 2048));
        let vectors = Shape { generate: false, embed_sequences: 4, ..shape(4, 2048) };
        let both = estimate(&llama_8b(), Shape { generate: true, ..vectors });
        let vectors = estimate(&llama_8b(), vectors);
        assert_eq!(vectors.cache, text.cache);
        assert!(vectors.compute > text.compute, "a text is computed in one piece");
        assert_eq!(both.cache, text.cache + vectors.cache);
        assert_eq!(both.compute, text.compute + vectors.compute);
    }

    #[test]
    fn every_gpu_adds_what_its_driver_keeps() {
        let on_cpu = estimate(&llama_8b(), shape(1, 8192)).total().get();
        let on_two = estimate(&llama_8b(), Shape { gpus: 2, ..shape(1, 8192) }).total().get();
        assert_eq!(on_two - on_cpu, 2 * GPU_RESERVE.get());
    }

    #[test]
    fn absurd_shapes_saturate_instead_of_wrapping() {
        let mut absurd = llama_8b();
        absurd.metadata.kv_heads = vec![u32::MAX; 4096];
        absurd.metadata.key_length = u32::MAX;
        let total = estimate(&absurd, shape(u32::MAX, u32::MAX)).total();
        assert_eq!(total, Bytes::new(u64::MAX));
    }
}
