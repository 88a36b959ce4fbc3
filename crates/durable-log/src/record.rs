//! One record on disk: `length: u32 LE | crc32: u32 LE over length and payload | payload`.
//!
//! The length is under the checksum, so a run of zeros (what file systems leave behind after a crash) is no record:
//! the CRC-32 of four zero bytes is not zero.

use std::io::{self, Read};

/// Bytes before the payload.
pub(crate) const OVERHEAD: u64 = 8;

/// Bytes of a record with this payload on disk.
pub(crate) const fn size(payload: usize) -> u64 {
    OVERHEAD.saturating_add(payload as u64)
}

/// Appends one record to `out`. The caller has checked that the payload fits a segment and so a `u32`.
pub(crate) fn encode(payload: &[u8], out: &mut Vec<u8>) {
    let length = (payload.len() as u32).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// What stands at a place in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole record; its payload is in the buffer.
    Record,
    /// Nothing: the segment ends here.
    End,
    /// Bytes that are no record: a torn write, or damage.
    Damaged,
}

/// Reads the record at the reader's place into `payload`; `remaining` is what the file holds from there on, and bounds
/// the memory that is taken.
pub(crate) fn decode(input: &mut impl Read, remaining: u64, payload: &mut Vec<u8>) -> io::Result<Found> {
    payload.clear();
    if remaining == 0 {
        return Ok(Found::End);
    }
    if remaining < OVERHEAD {
        return Ok(Found::Damaged);
    }
    let (mut length, mut stored) = ([0; 4], [0; 4]);
    if !filled(input.read_exact(&mut length))? || !filled(input.read_exact(&mut stored))? {
        return Ok(Found::Damaged);
    }
    let expected = u64::from(u32::from_le_bytes(length));
    if expected > remaining - OVERHEAD {
        return Ok(Found::Damaged);
    }
    let read = input.take(expected).read_to_end(payload)?;
    let whole = read as u64 == expected && checksum(length, payload) == u32::from_le_bytes(stored);
    Ok(if whole { Found::Record } else { Found::Damaged })
}

fn filled(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_not_an_empty_record() {
        let mut payload = Vec::new();
        assert_eq!(decode(&mut [0_u8; 64].as_slice(), 64, &mut payload).unwrap(), Found::Damaged);
    }

    #[test]
    fn an_empty_payload_is_a_record() {
        let mut bytes = Vec::new();
        encode(&[], &mut bytes);
        let mut payload = vec![1];
        assert_eq!(decode(&mut bytes.as_slice(), bytes.len() as u64, &mut payload).unwrap(), Found::Record);
        assert!(payload.is_empty());
    }

    #[test]
    fn a_length_beyond_the_file_takes_no_memory() {
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 60]);
        let mut payload = Vec::new();
        assert_eq!(decode(&mut bytes.as_slice(), 64, &mut payload).unwrap(), Found::Damaged);
        assert_eq!(payload.capacity(), 0);
    }
}
