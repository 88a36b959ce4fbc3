//! What the metadata of a model says about it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use super::cursor::Cursor;
use super::{GgufError, TensorEntry};

/// Longest array of numbers that is kept: per-layer values. Longer ones are counted only.
const NUMBERS_KEPT_MAX: u64 = 4096;
/// Bound on the dimensions that enter memory estimates, far above any real model.
const DIMENSION_MAX: u64 = 1 << 24;

/// A metadata value, as far as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any unsigned integer type.
    Unsigned(u64),
    /// Any signed integer type.
    Signed(i64),
    /// Either float type.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
    /// A short array of non-negative integers.
    Numbers(Vec<u64>),
    /// Any other array: its length.
    Array(u64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(number) => write!(f, "{number}"),
            Self::Signed(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Text(text) => write!(f, "{:?}", text.chars().take(80).collect::<String>()),
            Self::Numbers(numbers) => write!(f, "an array of {}", numbers.len()),
            Self::Array(length) => write!(f, "an array of {length}"),
        }
    }
}

/// Bytes of a scalar type, by its number in the file.
const fn scalar_bytes(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

const STRING: u32 = 8;
const ARRAY: u32 = 9;

impl Value {
    /// Reads type and value of one entry.
    pub(super) fn read<R: Read>(cursor: &mut Cursor<R>, key: &str) -> Result<Self, GgufError> {
        match cursor.u32("a metadata type")? {
            STRING => Ok(Self::Text(cursor.string("a metadata text")?)),
            ARRAY => Self::read_array(cursor, key),
            kind => Self::read_scalar(cursor, kind)?.ok_or_else(|| unknown_type(key, kind)),
        }
    }

    fn read_scalar<R: Read>(cursor: &mut Cursor<R>, kind: u32) -> Result<Option<Self>, GgufError> {
        const WHAT: &str = "a metadata number";
        Ok(Some(match kind {
            0 => Self::Unsigned(u8::from_le_bytes(cursor.array(WHAT)?).into()),
            1 => Self::Signed(i8::from_le_bytes(cursor.array(WHAT)?).into()),
            2 => Self::Unsigned(u16::from_le_bytes(cursor.array(WHAT)?).into()),
            3 => Self::Signed(i16::from_le_bytes(cursor.array(WHAT)?).into()),
            4 => Self::Unsigned(cursor.u32(WHAT)?.into()),
            5 => Self::Signed(i32::from_le_bytes(cursor.array(WHAT)?).into()),
            6 => Self::Float(f32::from_le_bytes(cursor.array(WHAT)?).into()),
            7 => Self::Bool(cursor.array::<1>(WHAT)? != [0]),
            10 => Self::Unsigned(cursor.u64(WHAT)?),
            11 => Self::Signed(i64::from_le_bytes(cursor.array(WHAT)?)),
            12 => Self::Float(f64::from_le_bytes(cursor.array(WHAT)?)),
            _ => return Ok(None),
        }))
    }

    fn read_array<R: Read>(cursor: &mut Cursor<R>, key: &str) -> Result<Self, GgufError> {
        const WHAT: &str = "the length of a metadata array";
        let kind = cursor.u32("a metadata array's type")?;
        if kind == STRING {
            let length = cursor.count(WHAT, 8)?;
            for _ in 0..length {
                cursor.skip_string("a text of a metadata array")?;
            }
            return Ok(Self::Array(length));
        }
        // llama.cpp refuses arrays of arrays too.
        let each = scalar_bytes(kind).ok_or_else(|| unknown_type(key, kind))?;
        let length = cursor.count(WHAT, each)?;
        if length > NUMBERS_KEPT_MAX {
            cursor.skip(length.saturating_mul(each), "a metadata array")?;
            return Ok(Self::Array(length));
        }
        let mut numbers = Some(Vec::new());
        for _ in 0..length {
            let number = match Self::read_scalar(cursor, kind)? {
                Some(Self::Unsigned(number)) => Some(number),
                Some(Self::Signed(number)) => u64::try_from(number).ok(),
                _ => None,
            };
            numbers = numbers.zip(number).map(|(mut numbers, number)| {
                numbers.push(number);
                numbers
            });
        }
        Ok(numbers.map_or(Self::Array(length), Self::Numbers))
    }
}

fn unknown_type(key: &str, kind: u32) -> GgufError {
    GgufError::Metadata {
        key: key.to_owned(),
        found: format!("of type {kind}"),
        expected: "a GGUF value type (0 to 12), in arrays no array",
    }
}

/// What the estimate, the registration and the prompt need to know about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// For example `llama` or `bert`.
    pub architecture: String,
    /// The model's own name; empty when it has none.
    pub name: String,
    /// Tokens it was trained to handle.
    pub context_length: u32,
    /// Layers.
    pub layers: u32,
    /// Width of its vectors.
    pub embedding_length: u32,
    /// Attention heads (the largest of all layers).
    pub heads: u32,
    /// Heads that keep keys and values, for each layer; 0 for a layer without attention.
    pub kv_heads: Vec<u32>,
    /// Numbers in a key, for each head.
    pub key_length: u32,
    /// Numbers in a value, for each head.
    pub value_length: u32,
    /// Tokens it knows.
    pub vocabulary: u32,
    /// Jinja source that turns messages into a prompt.
    pub chat_template: Option<String>,
    /// Whether it says how vectors of tokens become one vector of a text: a sign of an embedding model.
    pub pooling: bool,
}

impl Metadata {
    pub(super) fn new(values: &BTreeMap<String, Value>, tensors: &[TensorEntry]) -> Result<Self, GgufError> {
        let source = Source { values, architecture: "" };
        if let Some(parts) = source.number("split.count")?.filter(|parts| *parts > 1) {
            let expected = "1: merge the parts with llama-gguf-split first";
            return Err(GgufError::Metadata {
                key: "split.count".to_owned(),
                found: parts.to_string(),
                expected,
            });
        }
        let architecture = source.text("general.architecture")?.ok_or_else(|| GgufError::Metadata {
            key: "general.architecture".to_owned(),
            found: "missing".to_owned(),
            expected: "the name of an architecture",
        })?;
        let source = Source { values, architecture };
        let layers = source.required("block_count", 1, 4096)?;
        let embedding_length = source.required("embedding_length", 1, DIMENSION_MAX)?;
        let heads = source.per_layer("attention.head_count", layers)?;
        let widest = heads.as_ref().and_then(|heads| heads.iter().copied().max()).unwrap_or(1).max(1);
        let kv_heads = source.per_layer("attention.head_count_kv", layers)?.or(heads);
        let head_length = (embedding_length / widest).max(1);
        let length = |key| Ok::<_, GgufError>(source.optional(key, 1, DIMENSION_MAX)?.unwrap_or(head_length));
        Ok(Self {
            architecture: architecture.to_owned(),
            name: source.text("general.name")?.unwrap_or_default().to_owned(),
            context_length: source.required("context_length", 1, DIMENSION_MAX)?,
            layers,
            embedding_length,
            heads: widest,
            kv_heads: kv_heads.unwrap_or_else(|| vec![0; layers as usize]),
            key_length: length("attention.key_length")?,
            value_length: length("attention.value_length")?,
            vocabulary: vocabulary(values, tensors),
            chat_template: source.text("tokenizer.chat_template")?.map(str::to_owned),
            pooling: source.optional("pooling_type", 0, 16)?.is_some_and(|kind| kind != 0),
        })
    }

    /// Whether the model reads a whole text at once and keeps no keys and values: it cannot generate.
    #[must_use]
    pub fn is_encoder(&self) -> bool {
        self.architecture.contains("bert") || self.architecture == "t5encoder"
    }
}

/// Tokens in the vocabulary: as many as the tokenizer lists, else as wide as the embedding matrix is.
fn vocabulary(values: &BTreeMap<String, Value>, tensors: &[TensorEntry]) -> u32 {
    let listed = match values.get("tokenizer.ggml.tokens") {
        Some(Value::Array(length)) => Some(*length),
        _ => None,
    };
    let matrix = tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
    let rows = matrix.and_then(|tensor| tensor.dimensions.get(1)).copied();
    listed.or(rows).and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

/// Look-ups that name the key when they fail. Keys without a known prefix belong to the architecture.
struct Source<'a> {
    values: &'a BTreeMap<String, Value>,
    architecture: &'a str,
}

impl<'a> Source<'a> {
    fn text(&self, key: &str) -> Result<Option<&'a str>, GgufError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(key, other.to_string(), "a text")),
        }
    }

    fn number(&self, key: &str) -> Result<Option<u64>, GgufError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(number)) => Ok(Some(*number)),
            Some(Value::Signed(number)) if *number >= 0 => Ok(Some(number.unsigned_abs())),
            Some(other) => Err(wrong(key, other.to_string(), "a number that is not negative")),
        }
    }

    fn optional(&self, key: &str, min: u64, max: u64) -> Result<Option<u32>, GgufError> {
        let key = format!("{}.{key}", self.architecture);
        let Some(number) = self.number(&key)? else { return Ok(None) };
        if !(min..=max).contains(&number) {
            return Err(wrong(&key, number.to_string(), "a plausible size"));
        }
        Ok(u32::try_from(number).ok())
    }

    fn required(&self, key: &str, min: u64, max: u64) -> Result<u32, GgufError> {
        let missing = || wrong(&format!("{}.{key}", self.architecture), "missing".to_owned(), "a number");
        self.optional(key, min, max)?.ok_or_else(missing)
    }

    /// A number for each layer: one for all of them, or an array with one for each.
    fn per_layer(&self, key: &str, layers: u32) -> Result<Option<Vec<u32>>, GgufError> {
        let full = format!("{}.{key}", self.architecture);
        if let Some(Value::Numbers(numbers)) = self.values.get(&full) {
            let small = |number: &u64| u32::try_from(*number).ok().filter(|n| u64::from(*n) <= DIMENSION_MAX);
            let numbers: Option<Vec<u32>> = numbers.iter().map(small).collect();
            let fitting = numbers.filter(|numbers| numbers.len() == layers as usize);
            let expected = "one plausible number for each layer";
            return fitting.map(Some).ok_or_else(|| wrong(&full, "an array".to_owned(), expected));
        }
        Ok(self.optional(key, 0, DIMENSION_MAX)?.map(|number| vec![number; layers as usize]))
    }
}

fn wrong(key: &str, found: String, expected: &'static str) -> GgufError {
    GgufError::Metadata { key: key.to_owned(), found, expected }
}
