//! Sizes of tensors.

/// How a tensor's numbers are stored: so many of them in a block of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorType {
    /// Numbers in a block.
    pub block: u64,
    /// Bytes in a block.
    pub bytes: u64,
}

impl TensorType {
    /// The type with this number in the file, from `enum ggml_type` and the block structs in llama.cpp's `ggml-common.h`;
    /// `None` for numbers that llama.cpp does not know or has given up.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        let (block, bytes) = match number {
            0 | 26 => (1, 4),
            1 | 25 | 30 => (1, 2),
            2 | 20 => (32, 18),
            3 => (32, 20),
            6 => (32, 22),
            7 => (32, 24),
            8 => (32, 34),
            9 => (32, 36),
            10 => (256, 84),
            11 | 21 => (256, 110),
            12 => (256, 144),
            13 => (256, 176),
            14 => (256, 210),
            15 => (256, 292),
            16 | 35 => (256, 66),
            17 => (256, 74),
            18 => (256, 98),
            19 => (256, 50),
            22 => (256, 82),
            23 => (256, 136),
            24 => (1, 1),
            27 | 28 => (1, 8),
            29 => (256, 56),
            34 => (256, 54),
            39 => (32, 17),
            40 => (64, 36),
            41 => (128, 18),
            42 => (64, 18),
            _ => return None,
        };
        Some(Self { block, bytes })
    }

    /// Bytes of a tensor of this shape; `None` where a row is no whole number of blocks, a dimension is zero or the product
    /// does not fit.
    #[must_use]
    pub fn bytes(self, dimensions: &[u64]) -> Option<u64> {
        let (row, rest) = dimensions.split_first()?;
        if *row == 0 || !row.is_multiple_of(self.block) {
            return None;
        }
        let rows =
            rest.iter().try_fold(1_u64, |rows, d| if *d == 0 { None } else { rows.checked_mul(*d) })?;
        let total = (row / self.block).checked_mul(self.bytes)?.checked_mul(rows)?;
        // llama.cpp counts in signed 64-bit numbers.
        (i64::try_from(total).is_ok() && i64::try_from(row.checked_mul(rows)?).is_ok()).then_some(total)
    }
}
