//! Model files for tests and benchmarks: any shape with random weights, and real models under another chat template.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, version 3. The weights of a shape are drawn from a
//! seed, so that a file can be made again at any time and need not be kept. Its texts mean nothing.

mod template;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub use template::with_template;

const ALIGNMENT: u64 = 32;
/// Text, number and list types of metadata.
const U32: u32 = 4;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const LIST: u32 = 9;
const I32: u32 = 5;
/// Kinds of tokens.
const NORMAL: u32 = 1;
const CONTROL: u32 = 3;
/// Begins and ends messages in the template; token 2 ends answers.
const CONTROL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// The token that ends an answer.
pub const END_TOKEN: u32 = 2;
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + \
                      '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// 16-bit floats.
    F16,
    /// 8-bit blocks of 32.
    Q8,
    /// 4-bit blocks of 32.
    Q4,
}

/// What a model looks like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Layers.
    pub layers: u32,
    /// Width of its vectors; a multiple of 32 and of `heads`.
    pub width: u32,
    /// Attention heads.
    pub heads: u32,
    /// Heads with keys and values; divides `heads`.
    pub kv_heads: u32,
    /// Width of the feed-forward part; a multiple of 32.
    pub feed_forward: u32,
    /// Tokens; at least 300.
    pub vocabulary: u32,
    /// Longest text.
    pub context: u32,
    /// How weights are stored.
    pub weights: Weights,
    /// An encoder that pools (`bert`) instead of a model that writes (`llama`).
    pub encoder: bool,
}

impl Shape {
    /// Writes the model.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path, seed: u64) -> io::Result<()> {
        let mut out = Output { out: BufWriter::new(File::create(path)?), at: 0 };
        let (metadata, tensors) = (self.metadata(), self.tensors());
        out.put(b"GGUF")?;
        out.put(&3_u32.to_le_bytes())?;
        out.put(&(tensors.len() as u64).to_le_bytes())?;
        out.put(&(metadata.len() as u64).to_le_bytes())?;
        for entry in &metadata {
            out.put(entry)?;
        }
        let mut offset = 0_u64;
        for tensor in &tensors {
            out.put(&text(&tensor.name))?;
            out.put(&u32::try_from(tensor.dimensions.len()).unwrap_or(0).to_le_bytes())?;
            for dimension in &tensor.dimensions {
                out.put(&u64::from(*dimension).to_le_bytes())?;
            }
            out.put(&tensor.kind().to_le_bytes())?;
            out.put(&offset.to_le_bytes())?;
            offset = (offset + tensor.bytes()).next_multiple_of(ALIGNMENT);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        for tensor in &tensors {
            out.align()?;
            tensor.write(&mut out, &mut random)?;
        }
        out.align()?;
        out.out.flush()
    }

    fn metadata(&self) -> Vec<Vec<u8>> {
        let architecture = if self.encoder { "bert" } else { "llama" };
        let key = |name: &str| format!("{architecture}.{name}");
        let mut entries = vec![
            entry("general.architecture", TEXT, &text(architecture)),
            entry("general.name", TEXT, &text("random")),
            entry(&key("context_length"), U32, &self.context.to_le_bytes()),
            entry(&key("embedding_length"), U32, &self.width.to_le_bytes()),
            entry(&key("block_count"), U32, &self.layers.to_le_bytes()),
            entry(&key("feed_forward_length"), U32, &self.feed_forward.to_le_bytes()),
            entry(&key("attention.head_count"), U32, &self.heads.to_le_bytes()),
            entry(&key("attention.head_count_kv"), U32, &self.kv_heads.to_le_bytes()),
            entry(&key("vocab_size"), U32, &self.vocabulary.to_le_bytes()),
        ];
        if self.encoder {
            entries.push(entry(&key("attention.layer_norm_epsilon"), F32, &1e-12_f32.to_le_bytes()));
            entries.push(entry(&key("attention.causal"), BOOL, &[0]));
            // The mean.
            entries.push(entry(&key("pooling_type"), U32, &1_u32.to_le_bytes()));
            entries.push(entry("tokenizer.ggml.token_type_count", U32, &2_u32.to_le_bytes()));
        } else {
            entries.push(entry(&key("attention.layer_norm_rms_epsilon"), F32, &1e-5_f32.to_le_bytes()));
            entries.push(entry(&key("rope.dimension_count"), U32, &(self.width / self.heads).to_le_bytes()));
            entries.push(entry("tokenizer.chat_template", TEXT, &text(CHATML)));
        }
        entries.extend(self.tokenizer());
        entries
    }

    /// One token for each byte, and words; byte-level BPE for both kinds of model.
    fn tokenizer(&self) -> Vec<Vec<u8>> {
        let mut tokens: Vec<String> = CONTROL_TOKENS.map(str::to_owned).to_vec();
        tokens.extend(byte_alphabet());
        tokens.extend(["Ġt", "he"].map(str::to_owned));
        let rest = self.vocabulary.saturating_sub(u32::try_from(tokens.len()).unwrap_or(u32::MAX));
        tokens.extend((0..rest).map(|index| format!("Ġw{index}")));
        let kinds = tokens
            .iter()
            .enumerate()
            .map(|(index, _)| if index < CONTROL_TOKENS.len() { CONTROL } else { NORMAL });
        let kinds: Vec<u8> = kinds.flat_map(u32::to_le_bytes).collect();
        let texts: Vec<u8> = tokens.iter().flat_map(|token| text(token)).collect();
        let merges: Vec<u8> = ["Ġ t", "h e"].iter().flat_map(|merge| text(merge)).collect();
        vec![
            entry("tokenizer.ggml.model", TEXT, &text("gpt2")),
            entry("tokenizer.ggml.pre", TEXT, &text("smollm")),
            list("tokenizer.ggml.tokens", TEXT, tokens.len(), &texts),
            list("tokenizer.ggml.token_type", I32, tokens.len(), &kinds),
            list("tokenizer.ggml.merges", TEXT, 2, &merges),
            entry("tokenizer.ggml.bos_token_id", U32, &1_u32.to_le_bytes()),
            entry("tokenizer.ggml.eos_token_id", U32, &END_TOKEN.to_le_bytes()),
            entry("tokenizer.ggml.padding_token_id", U32, &0_u32.to_le_bytes()),
            entry("tokenizer.ggml.add_bos_token", BOOL, &[0]),
        ]
    }

    fn tensors(&self) -> Vec<Tensor> {
        let (width, forward) = (self.width, self.feed_forward);
        let kv = self.width / self.heads * self.kv_heads;
        let matrix = |name: String, columns, rows| Tensor {
            name,
            dimensions: vec![columns, rows],
            weights: Some(self.weights),
        };
        let vector = |name: String, length| Tensor { name, dimensions: vec![length], weights: None };
        let mut tensors = vec![matrix("token_embd.weight".to_owned(), width, self.vocabulary)];
        if self.encoder {
            tensors.push(Tensor {
                name: "token_types.weight".to_owned(),
                dimensions: vec![width, 2],
                weights: None,
            });
            tensors.push(Tensor {
                name: "position_embd.weight".to_owned(),
                dimensions: vec![width, self.context],
                weights: None,
            });
            tensors.push(vector("token_embd_norm.weight".to_owned(), width));
            tensors.push(vector("token_embd_norm.bias".to_owned(), width));
        } else {
            tensors.push(vector("output_norm.weight".to_owned(), width));
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            tensors.push(matrix(name("attn_q.weight"), width, width));
            tensors.push(matrix(name("attn_k.weight"), width, kv));
            tensors.push(matrix(name("attn_v.weight"), width, kv));
            tensors.push(matrix(name("attn_output.weight"), width, width));
            tensors.push(matrix(name("ffn_up.weight"), width, forward));
            tensors.push(matrix(name("ffn_down.weight"), forward, width));
            if self.encoder {
                for part in ["attn_q.bias", "attn_output.bias", "ffn_down.bias"] {
                    tensors.push(vector(name(part), width));
                }
                tensors.push(vector(name("attn_k.bias"), kv));
                tensors.push(vector(name("attn_v.bias"), kv));
                tensors.push(vector(name("ffn_up.bias"), forward));
                for part in ["attn_output_norm", "layer_output_norm"] {
                    tensors.push(vector(name(&format!("{part}.weight")), width));
                    tensors.push(vector(name(&format!("{part}.bias")), width));
                }
            } else {
                tensors.push(matrix(name("ffn_gate.weight"), width, forward));
                tensors.push(vector(name("attn_norm.weight"), width));
                tensors.push(vector(name("ffn_norm.weight"), width));
            }
        }
        tensors
    }
}

struct Tensor {
    name: String,
    dimensions: Vec<u32>,
    /// `None` = 32-bit floats, all of them one.
    weights: Option<Weights>,
}

impl Tensor {
    fn kind(&self) -> u32 {
        match self.weights {
            None => 0,
            Some(Weights::F16) => 1,
            Some(Weights::Q4) => 2,
            Some(Weights::Q8) => 8,
        }
    }

    fn numbers(&self) -> u64 {
        self.dimensions.iter().map(|dimension| u64::from(*dimension)).product()
    }

    fn bytes(&self) -> u64 {
        match self.weights {
            None => self.numbers() * 4,
            Some(Weights::F16) => self.numbers() * 2,
            Some(Weights::Q4) => self.numbers() / 32 * 18,
            Some(Weights::Q8) => self.numbers() / 32 * 34,
        }
    }

    fn write(&self, out: &mut Output, random: &mut fastrand::Rng) -> io::Result<()> {
        // 1.0, 0.0043 and 0.00027 as 16-bit floats: weights of about 0.02.
        const ONE: [u8; 4] = 1.0_f32.to_le_bytes();
        let (q4, q8) = (0x1c68_u16.to_le_bytes(), 0x0c6d_u16.to_le_bytes());
        match self.weights {
            None => (0..self.numbers()).try_for_each(|_| out.put(&ONE)),
            Some(Weights::F16) => (0..self.numbers()).try_for_each(|_| {
                // A sign, an exponent of 2^-7 or 2^-6, and any fraction.
                let bits = (random.u16(..) & 0x83ff) | if random.bool() { 0x2000 } else { 0x2400 };
                out.put(&bits.to_le_bytes())
            }),
            Some(Weights::Q4) => (0..self.numbers() / 32).try_for_each(|_| {
                let mut block = [0; 16];
                random.fill(&mut block);
                out.put(&q4)?;
                out.put(&block)
            }),
            Some(Weights::Q8) => (0..self.numbers() / 32).try_for_each(|_| {
                let mut block = [0; 32];
                random.fill(&mut block);
                out.put(&q8)?;
                out.put(&block)
            }),
        }
    }
}

struct Output {
    out: BufWriter<File>,
    at: u64,
}

impl Output {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn align(&mut self) -> io::Result<()> {
        while !self.at.is_multiple_of(ALIGNMENT) {
            self.put(&[0])?;
        }
        Ok(())
    }
}

/// GPT-2's printable stand-ins for the 256 bytes.
fn byte_alphabet() -> Vec<String> {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut spare = 256_u32..;
    let stand_in = |byte: u32| if printable(byte) { Some(byte) } else { spare.next() };
    (0..256).filter_map(stand_in).filter_map(char::from_u32).map(String::from).collect()
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = text(key);
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

fn list(key: &str, kind: u32, length: usize, values: &[u8]) -> Vec<u8> {
    let mut value = kind.to_le_bytes().to_vec();
    value.extend_from_slice(&(length as u64).to_le_bytes());
    value.extend_from_slice(values);
    entry(key, LIST, &value)
}
