//! The header of a GGUF file, read and checked before llama.cpp sees the file.
//!
//! llama.cpp trusts a model file more than a downloaded file deserves: some damaged ones end the process. So every count,
//! length and offset is checked here, with checked arithmetic and against the real size of the file, before anything is
//! allocated for it, and a damaged file becomes a typed error instead of a crash. What the checks read on the way
//! ([`Header`]) is also what the memory estimate and the registration need.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little endian.

mod cursor;
mod metadata;
mod tensor;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use domain::units::Bytes;

use cursor::Cursor;
pub use metadata::{Metadata, Value};
pub use tensor::TensorType;

/// The longest string that is accepted, in bytes. Chat templates are some ten kilobytes.
pub const STRING_BYTES_MAX: u64 = 16 << 20;
/// The shortest metadata entry: key length, one byte of key, type, one byte of value.
const ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 1;
/// The shortest tensor entry: name length, one byte of name, number of dimensions, one dimension, type, offset.
const TENSOR_BYTES_MIN: u64 = 8 + 1 + 4 + 8 + 4 + 8;
/// Alignment of tensor data unless `general.alignment` says otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;
/// llama.cpp's `GGML_MAX_NAME`, with the final zero.
const TENSOR_NAME_BYTES_MAX: usize = 63;

/// Why a file is not a usable model.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is some other kind of file.
    #[error("the file starts with {0:02x?}, expected `GGUF`")]
    Magic([u8; 4]),
    /// A version that is not read here.
    #[error("the file has GGUF version {0}, expected 2 or 3")]
    Version(u32),
    /// A count that the rest of the file cannot hold.
    #[error("{what} is {count}, which the {remaining} bytes that follow cannot hold")]
    Count {
        /// What is counted.
        what: &'static str,
        /// The count found.
        count: u64,
        /// Bytes between here and the end of the file.
        remaining: u64,
    },
    /// The header goes on after the end of the file.
    #[error("the file ends at byte {size}, inside {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Size of the file.
        size: u64,
    },
    /// A string or a name that is not acceptable.
    #[error("{what} {problem}")]
    Text {
        /// What was being read.
        what: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A key or a tensor that occurs twice.
    #[error("{0:?} occurs twice")]
    Duplicate(String),
    /// A metadata value that is missing or makes no sense.
    #[error("{key} is {found}, expected {expected}")]
    Metadata {
        /// The metadata key.
        key: String,
        /// What the file holds.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A tensor whose type, shape or place makes no sense.
    #[error("tensor {name:?} {problem}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The tensors reach beyond the end of the file.
    #[error("the tensors end at byte {end}, the file at byte {size}")]
    DataTruncated {
        /// Where the last tensor ends.
        end: u64,
        /// Size of the file.
        size: u64,
    },
}

/// What a checked header says.
#[derive(Debug, Clone)]
pub struct Header {
    /// Format version, 2 or 3.
    pub version: u32,
    /// What the model is.
    pub metadata: Metadata,
    /// Number of tensors.
    pub tensors: usize,
    /// Sum of the tensors' sizes: the memory that the weights take.
    pub weights: Bytes,
    /// Size of the whole file.
    pub file_size: Bytes,
}

impl Header {
    /// Reads and checks the header of a file.
    ///
    /// # Errors
    /// [`GgufError`]: the file cannot be read, or something in it contradicts the format or the file's size.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Self::read(BufReader::with_capacity(1 << 16, file), size)
    }

    /// Reads and checks a header from anything that can be read; `size` is the length of the whole.
    ///
    /// # Errors
    /// As [`Header::open`].
    pub fn read(reader: impl Read, size: u64) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(reader, size);
        let magic: [u8; 4] = cursor.array("the magic")?;
        if &magic != b"GGUF" {
            return Err(GgufError::Magic(magic));
        }
        let version = cursor.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensor_count = cursor.count("the number of tensors", TENSOR_BYTES_MIN)?;
        let entry_count = cursor.count("the number of metadata entries", ENTRY_BYTES_MIN)?;
        let values = read_entries(&mut cursor, entry_count)?;
        let alignment = alignment(&values)?;
        let tensors = read_tensors(&mut cursor, tensor_count)?;
        let weights = check_layout(&tensors, cursor.position(), alignment, size)?;
        Ok(Self {
            version,
            metadata: Metadata::new(&values, &tensors)?,
            tensors: tensors.len(),
            weights: Bytes::new(weights),
            file_size: Bytes::new(size),
        })
    }
}

fn read_entries<R: Read>(cursor: &mut Cursor<R>, count: u64) -> Result<BTreeMap<String, Value>, GgufError> {
    let mut values = BTreeMap::new();
    for _ in 0..count {
        let key = cursor.string("a metadata key")?;
        if key.is_empty() {
            return Err(GgufError::Text { what: "a metadata key".to_owned(), problem: "is empty" });
        }
        let value = Value::read(cursor, &key)?;
        if values.insert(key.clone(), value).is_some() {
            return Err(GgufError::Duplicate(key));
        }
    }
    Ok(values)
}

fn alignment(values: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    const KEY: &str = "general.alignment";
    match values.get(KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::Unsigned(bytes)) if bytes.is_power_of_two() && *bytes <= 1 << 20 => Ok(*bytes),
        Some(other) => Err(GgufError::Metadata {
            key: KEY.to_owned(),
            found: other.to_string(),
            expected: "a power of two up to 1,048,576",
        }),
    }
}

/// One tensor's entry in the header.
#[derive(Debug)]
struct TensorEntry {
    name: String,
    dimensions: Vec<u64>,
    bytes: u64,
    offset: u64,
}

fn read_tensors<R: Read>(cursor: &mut Cursor<R>, count: u64) -> Result<Vec<TensorEntry>, GgufError> {
    let mut tensors = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..count {
        let tensor = read_tensor(cursor)?;
        if !names.insert(tensor.name.clone()) {
            return Err(GgufError::Duplicate(tensor.name));
        }
        tensors.push(tensor);
    }
    Ok(tensors)
}

fn read_tensor<R: Read>(cursor: &mut Cursor<R>) -> Result<TensorEntry, GgufError> {
    let name = cursor.string("a tensor's name")?;
    if name.is_empty() || name.len() > TENSOR_NAME_BYTES_MAX {
        let what = format!("the tensor name {:?}", name.chars().take(80).collect::<String>());
        return Err(GgufError::Text { what, problem: "is not 1 to 63 bytes long" });
    }
    let fail = |problem: String| GgufError::Tensor { name: name.clone(), problem };
    let dimension_count = cursor.u32("a tensor's number of dimensions")?;
    if !(1..=4).contains(&dimension_count) {
        return Err(fail(format!("has {dimension_count} dimensions, expected 1 to 4")));
    }
    let mut dimensions = Vec::new();
    for _ in 0..dimension_count {
        dimensions.push(cursor.u64("a tensor's shape")?);
    }
    let kind = cursor.u32("a tensor's type")?;
    let kind = TensorType::new(kind)
        .ok_or_else(|| fail(format!("has type {kind}, which this version of llama.cpp does not know")))?;
    let bytes =
        kind.bytes(&dimensions).ok_or_else(|| fail(format!("has the impossible shape {dimensions:?}")))?;
    let offset = cursor.u64("a tensor's offset")?;
    Ok(TensorEntry { name, dimensions, bytes, offset })
}

/// Checks that the tensors follow each other without gap or overlap and end inside the file, as llama.cpp requires, and
/// sums their sizes.
fn check_layout(
    tensors: &[TensorEntry],
    header_end: u64,
    alignment: u64,
    size: u64,
) -> Result<u64, GgufError> {
    let overflow = || GgufError::DataTruncated { end: u64::MAX, size };
    let data_start = header_end.checked_next_multiple_of(alignment).ok_or_else(overflow)?;
    let (mut expected, mut end, mut weights) = (0_u64, data_start, 0_u64);
    for tensor in tensors {
        if tensor.offset != expected {
            let problem = format!("starts at offset {}, expected {expected}", tensor.offset);
            return Err(GgufError::Tensor { name: tensor.name.clone(), problem });
        }
        let tensor_end = expected.checked_add(tensor.bytes).ok_or_else(overflow)?;
        end = data_start.checked_add(tensor_end).ok_or_else(overflow)?;
        expected = tensor_end.checked_next_multiple_of(alignment).ok_or_else(overflow)?;
        weights = weights.checked_add(tensor.bytes).ok_or_else(overflow)?;
    }
    if end > size {
        return Err(GgufError::DataTruncated { end, size });
    }
    Ok(weights)
}
