//! Frames of AWS's binary event streams, out of bytes that are cut anywhere.
//!
//! ```text
//! total length (4) | headers' length (4) | CRC of both (4) | headers | payload | CRC of all before (4)
//! ```
//! A length is believed only after its checksum and within a bound, since it says how much is kept until the frame is whole.
//! Reference: <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html>.

use aws_smithy_eventstream::frame::read_message_from;
use aws_smithy_types::event_stream::Message;
use bytes::BytesMut;

use crate::provider::sse::EVENT_BYTES_MAX;

/// Lengths and their checksum.
const PRELUDE: usize = 12;
/// Prelude and the frame's checksum: the shortest frame.
const FRAME_MIN: usize = PRELUDE + 4;

/// What arrived is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damaged {
    /// The lengths do not have their checksum.
    #[error("the stream holds a frame whose lengths are damaged")]
    Lengths,
    /// The frame says that it is shorter than any or longer than what is accepted.
    #[error("the stream holds a frame of {0} bytes, expected {FRAME_MIN} to {EVENT_BYTES_MAX}")]
    Length(usize),
    /// Its content does not have its checksum, or its headers cannot be read.
    #[error("the stream holds a damaged frame")]
    Content,
}

/// Puts frames together.
#[derive(Debug, Default)]
pub(super) struct Frames {
    held: BytesMut,
}

impl Frames {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Whether nothing of a frame is held.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// It is damaged or too long; nothing after it can be read.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Damaged> {
        let Some((lengths, checksum)) = self.prelude() else { return Ok(None) };
        if crc32fast::hash(&lengths) != checksum {
            return Err(Damaged::Lengths);
        }
        let [a, b, c, d, ..] = lengths;
        let total = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if !(FRAME_MIN..=EVENT_BYTES_MAX).contains(&total) {
            return Err(Damaged::Length(total));
        }
        if self.held.len() < total {
            return Ok(None);
        }
        let mut frame = self.held.split_to(total).freeze();
        read_message_from(&mut frame).map(Some).map_err(|_| Damaged::Content)
    }

    /// The first lengths that are held, and their checksum.
    fn prelude(&self) -> Option<([u8; 8], u32)> {
        let (lengths, rest) = self.held.split_first_chunk::<8>()?;
        let checksum = rest.first_chunk::<4>()?;
        Some((*lengths, u32::from_be_bytes(*checksum)))
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::write_message_to;

    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_message_to(&Message::new(bytes::Bytes::copy_from_slice(payload)), &mut out).unwrap();
        out
    }

    #[test]
    fn the_published_empty_frame_is_read() {
        // https://smithy.io/2.0/aws/amazon-eventstream.html gives its lengths and checksums
        let empty = [0, 0, 0, 16, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        let mut frames = Frames::default();
        frames.feed(&empty);
        assert!(frames.next().unwrap().unwrap().payload().is_empty());
        assert!(frames.is_empty());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = frame(b"{\"text\":\"hello\"}");
        for at in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            let mut frames = Frames::default();
            frames.feed(&damaged);
            assert!(frames.next().is_err(), "bit {at}");
        }
    }

    #[test]
    fn a_length_that_nothing_may_have_is_refused_before_anything_is_kept() {
        for total in [0_u32, 15, 9 * 1024 * 1024, u32::MAX] {
            let mut bytes = [total.to_be_bytes(), [0; 4]].concat();
            bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
            let mut frames = Frames::default();
            frames.feed(&bytes);
            assert_eq!(frames.next().unwrap_err(), Damaged::Length(total as usize));
        }
    }

    #[test]
    fn headers_longer_than_their_frame_are_refused() {
        let mut bytes = [20_u32.to_be_bytes(), 200_u32.to_be_bytes()].concat();
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        let mut frames = Frames::default();
        frames.feed(&bytes);
        assert_eq!(frames.next().unwrap_err(), Damaged::Content);
    }
}
