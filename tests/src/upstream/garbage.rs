//! Answers that are not as they should be, each seen in the wild.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::body::Piece;
use super::event_stream;
use super::stream::{Framing, Streamed};

const LONG_LINE_BYTES: usize = 10 << 20;

/// How an answer is malformed. What does not concern the form that an answer has leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Garbage {
    /// Half-way, a piece that is half a JSON object. In one body: half of it.
    BrokenJson,
    /// A page of HTML with status 200.
    Html,
    /// Half-way, an error as a piece, and the end. In one body: the error with status 200.
    ErrorWith200,
    /// Lines end with CR LF. Correct, if rare.
    Crlf,
    /// Comment lines before every server-sent event, and no space after `data:`. Correct, if rare.
    Comments,
    /// The stream ends cleanly without what says that it is whole (`[DONE]`, `message_stop`, `"done": true` …).
    NoDone,
    /// The stream ends without its last newline.
    NoFinalNewline,
    /// Half-way, a line or a frame of 10 MiB.
    LongLine,
    /// An additional text `é`, its two bytes in different writes. Correct.
    SplitUtf8,
    /// Every byte in a write of its own. Correct.
    ByteByByte,
    /// Half-way, a frame of AWS's with one bit turned.
    DamagedFrame,
    /// Half-way, a frame of AWS's that says that it has 4 GiB.
    HugeFrame,
}

impl Garbage {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::BrokenJson,
        Self::Html,
        Self::ErrorWith200,
        Self::Crlf,
        Self::Comments,
        Self::NoDone,
        Self::NoFinalNewline,
        Self::LongLine,
        Self::SplitUtf8,
        Self::ByteByByte,
        Self::DamagedFrame,
        Self::HugeFrame,
    ];

    /// Spoils an answer in one body; `error` is the format's error.
    pub(super) fn spoil_whole(self, body: Bytes, error: &str) -> Bytes {
        match self {
            Self::Html => html(),
            Self::BrokenJson => body.slice(..body.len() / 2),
            Self::ErrorWith200 => Bytes::from(error.to_owned()),
            _ => body,
        }
    }

    /// Spoils a stream.
    pub(super) fn spoil_stream(self, stream: Streamed) -> Vec<Piece> {
        let Streamed { framing, mut pieces, ending, accent, error } = stream;
        let half = pieces.len() / 2;
        let frames = framing == Framing::EventStream;
        match self {
            Self::Html => pieces = vec![Piece::new(html())],
            Self::BrokenJson => {
                let payload = framing.payload(&accent);
                let cut = payload.get(..payload.len() / 2).unwrap_or_default();
                pieces.insert(half, framing.with_payload(&accent, cut));
            }
            Self::ErrorWith200 => {
                pieces.truncate(half);
                pieces.push(error);
            }
            Self::Crlf if !frames => pieces = each(&pieces, |text| text.replace('\n', "\r\n")),
            Self::Comments if framing == Framing::Sse => {
                pieces = each(&pieces, |text| format!(": keep-alive\n\n{}", text.replace("data: ", "data:")));
            }
            Self::NoDone => pieces.truncate(pieces.len().saturating_sub(ending)),
            Self::NoFinalNewline if !frames => {
                if let Some(last) = pieces.pop() {
                    pieces.push(Piece::new(last.bytes().slice(..last.bytes().trim_ascii_end().len())));
                }
            }
            Self::LongLine => {
                pieces.insert(half, framing.with_payload(&accent, &vec![b'x'; LONG_LINE_BYTES]));
            }
            Self::SplitUtf8 => {
                let inside = accent.bytes().windows(2).position(|two| two == "é".as_bytes());
                let inside = inside.unwrap_or_default() + 1;
                pieces.insert(half, Piece::sealed(accent.bytes().slice(inside..)));
                pieces.insert(half, Piece::sealed(accent.bytes().slice(..inside)));
            }
            Self::ByteByByte => {
                let bytes: Bytes = pieces.iter().flat_map(|piece| piece.bytes().iter().copied()).collect();
                pieces = (0..bytes.len()).map(|at| Piece::sealed(bytes.slice(at..=at))).collect();
            }
            Self::DamagedFrame if frames => {
                let mut bytes = accent.bytes().to_vec();
                // inside the payload, where only the checksum can tell
                if let Some(byte) = bytes.iter_mut().rev().nth(6) {
                    *byte ^= 1;
                }
                pieces.insert(half, Piece::sealed(bytes));
            }
            Self::HugeFrame if frames => {
                pieces.insert(half, Piece::sealed(event_stream::prelude(u32::MAX as usize, 0)));
            }
            _ => {}
        }
        pieces
    }
}

fn html() -> Bytes {
    Bytes::from_static(b"<html><body><h1>502 Bad Gateway</h1></body></html>")
}

fn each(pieces: &[Piece], change: impl Fn(&str) -> String) -> Vec<Piece> {
    pieces.iter().map(|piece| Piece::new(change(&String::from_utf8_lossy(piece.bytes())))).collect()
}
