//! Answers that come in pieces, and the three ways to frame them.

use serde_json::Value;

use super::body::Piece;
use super::event_stream;

/// How pieces are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events.
    Sse,
    /// A JSON object on each line.
    Lines,
    /// AWS's frames.
    EventStream,
    /// Nothing: bytes of this type.
    Raw(&'static str),
}

impl Framing {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream; charset=utf-8",
            Self::Lines => "application/x-ndjson",
            Self::EventStream => "application/vnd.amazon.eventstream",
            Self::Raw(content_type) => content_type,
        }
    }
}

/// A streamed answer, and what is needed to spoil it.
#[derive(Debug, Clone)]
pub(super) struct Streamed {
    pub(super) framing: Framing,
    pub(super) pieces: Vec<Piece>,
    /// How many of the last pieces say that the answer is whole.
    pub(super) ending: usize,
    /// A piece with the text `é`.
    pub(super) accent: Piece,
    /// An error in the place of a piece.
    pub(super) error: Piece,
}

/// An event without a name.
pub(super) fn data(value: &Value) -> Piece {
    Piece::new(format!("data: {value}\n\n"))
}

/// An event with a name.
pub(super) fn named(name: &str, value: &Value) -> Piece {
    Piece::new(format!("event: {name}\ndata: {value}\n\n"))
}

/// A line.
pub(super) fn line(value: &Value) -> Piece {
    Piece::new(format!("{value}\n"))
}

impl Framing {
    /// The same piece with a payload of its own.
    pub(super) fn with_payload(self, piece: &Piece, payload: &[u8]) -> Piece {
        match self {
            Self::Sse => {
                let text = String::from_utf8_lossy(piece.bytes()).into_owned();
                let name = text.split_once("data: ").map(|(name, _)| name).unwrap_or_default();
                Piece::new([name.as_bytes(), b"data: ", payload, b"\n\n"].concat())
            }
            Self::Lines => Piece::new([payload, b"\n"].concat()),
            Self::Raw(_) => Piece::sealed(payload.to_vec()),
            Self::EventStream => {
                let headers = event_stream::parts(piece.bytes()).map(|(headers, _)| headers);
                Piece::sealed(event_stream::frame(headers.unwrap_or_default(), payload))
            }
        }
    }

    /// What stands in a piece.
    pub(super) fn payload(self, piece: &Piece) -> Vec<u8> {
        let text = String::from_utf8_lossy(piece.bytes());
        match self {
            Self::Sse => text
                .split_once("data: ")
                .map(|(_, data)| data.trim_end().as_bytes().to_vec())
                .unwrap_or_default(),
            Self::Lines => text.trim_end().as_bytes().to_vec(),
            Self::Raw(_) => piece.bytes().to_vec(),
            Self::EventStream => {
                event_stream::parts(piece.bytes()).map(|(_, payload)| payload.to_vec()).unwrap_or_default()
            }
        }
    }
}
