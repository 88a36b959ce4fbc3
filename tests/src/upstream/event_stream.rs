//! AWS's event stream: frames with a length, headers and two checksums.
//!
//! Layout (big-endian): total length (4 bytes), length of the headers (4), CRC-32 of these eight (4), headers, payload, CRC-32
//! of all before (4). Source: AWS, "Amazon event stream specification" (`smithy.io/2.0/aws/amazon-eventstream.html`).

use serde_json::Value;

const PRELUDE_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;
/// The type of a header whose value is text.
const TEXT: u8 = 7;

/// An event by name.
pub(super) fn event(name: &str, payload: &Value) -> Vec<u8> {
    let headers =
        headers(&[(":event-type", name), (":content-type", "application/json"), (":message-type", "event")]);
    frame(&headers, payload.to_string().as_bytes())
}

/// An error in the place of an event.
pub(super) fn exception(name: &str, payload: &Value) -> Vec<u8> {
    let headers = headers(&[
        (":exception-type", name),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ]);
    frame(&headers, payload.to_string().as_bytes())
}

fn headers(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in pairs {
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(TEXT);
        bytes.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes
}

/// Seals headers and payload into a frame.
pub(super) fn frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = PRELUDE_BYTES + headers.len() + payload.len() + CHECKSUM_BYTES;
    let mut bytes = prelude(total, headers.len());
    bytes.extend_from_slice(headers);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

/// The first bytes of a frame of this size, their checksum right.
pub(super) fn prelude(total: usize, headers: usize) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = [length(total), length(headers)].concat();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

/// Headers and payload of a frame that [`frame`] has made.
pub(super) fn parts(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let headers = u32::from_be_bytes(frame.get(4..8)?.try_into().ok()?) as usize;
    let payload_end = frame.len().checked_sub(CHECKSUM_BYTES)?;
    Some((
        frame.get(PRELUDE_BYTES..PRELUDE_BYTES + headers)?,
        frame.get(PRELUDE_BYTES + headers..payload_end)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksums are those of zlib's `crc32`; the layout was computed by hand from the specification.
    #[test]
    fn a_frame_without_headers_is_sixteen_bytes_and_its_payload() {
        let expected = [0, 0, 0, 16, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(frame(&[], &[]), expected);
    }

    #[test]
    fn the_parts_of_a_frame_are_what_it_was_made_of() {
        let made = frame(b"head", b"{\"a\":1}");
        assert_eq!(parts(&made), Some((b"head".as_slice(), b"{\"a\":1}".as_slice())));
    }
}
