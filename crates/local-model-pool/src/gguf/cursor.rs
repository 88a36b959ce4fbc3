//! Reading that knows how much is left.

use std::io::Read;

use super::{GgufError, STRING_BYTES_MAX};

/// A reader of `size` bytes that never asks for, or allocates, more than is left.
pub(super) struct Cursor<R> {
    reader: R,
    position: u64,
    size: u64,
}

impl<R: Read> Cursor<R> {
    pub(super) const fn new(reader: R, size: u64) -> Self {
        Self { reader, position: 0, size }
    }

    /// Bytes read so far.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    const fn remaining(&self) -> u64 {
        self.size.saturating_sub(self.position)
    }

    fn claim(&mut self, bytes: u64, what: &'static str) -> Result<(), GgufError> {
        if bytes > self.remaining() {
            return Err(GgufError::Truncated { what, size: self.size });
        }
        self.position = self.position.saturating_add(bytes);
        Ok(())
    }

    /// Exactly `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        self.claim(N as u64, what)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things of at least `each` bytes, which what is left can hold.
    pub(super) fn count(&mut self, what: &'static str, each: u64) -> Result<u64, GgufError> {
        let count = self.u64(what)?;
        let remaining = self.remaining();
        match count.checked_mul(each) {
            Some(bytes) if bytes <= remaining => Ok(count),
            _ => Err(GgufError::Count { what, count, remaining }),
        }
    }

    /// A string with its length before it.
    pub(super) fn string(&mut self, what: &'static str) -> Result<String, GgufError> {
        let length = self.count(what, 1)?;
        let unusable = |problem| GgufError::Text { what: what.to_owned(), problem };
        if length > STRING_BYTES_MAX {
            return Err(unusable("is longer than 16 MiB"));
        }
        self.claim(length, what)?;
        let mut bytes = Vec::new();
        self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(GgufError::Truncated { what, size: self.size });
        }
        String::from_utf8(bytes).map_err(|_not_utf8| unusable("is not UTF-8"))
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, bytes: u64, what: &'static str) -> Result<(), GgufError> {
        self.claim(bytes, what)?;
        let skipped = std::io::copy(&mut self.reader.by_ref().take(bytes), &mut std::io::sink())?;
        if skipped != bytes {
            return Err(GgufError::Truncated { what, size: self.size });
        }
        Ok(())
    }

    /// Passes over a string without keeping it, whatever its bytes (vocabularies hold pieces of characters).
    pub(super) fn skip_string(&mut self, what: &'static str) -> Result<(), GgufError> {
        let length = self.count(what, 1)?;
        if length > STRING_BYTES_MAX {
            return Err(GgufError::Text { what: what.to_owned(), problem: "is longer than 16 MiB" });
        }
        self.skip(length, what)
    }
}
