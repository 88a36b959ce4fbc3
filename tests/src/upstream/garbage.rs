//! Answers that are not as they should be, each seen in the wild.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::body::{End, Piece, Plan};
use super::chat::Answer;
use super::error::ApiError;

const LONG_LINE_BYTES: usize = 10 << 20;

/// How an answer is malformed. Those that concern events leave an answer in one body as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Garbage {
    /// Half-way, an event that is half a JSON object. In one body: half of it.
    BrokenJson,
    /// A page of HTML with status 200.
    Html,
    /// Half-way, an error object as an event, and the end without `[DONE]`. In one body: the error with status 200.
    ErrorWith200,
    /// Lines end with CR LF. Correct, if rare.
    Crlf,
    /// Comment lines before every event, `event:` fields and no space after `data:`. Correct, if rare.
    Comments,
    /// The stream ends cleanly without `[DONE]`.
    NoDone,
    /// The stream ends after `[DONE]` without a newline.
    NoFinalNewline,
    /// Half-way, a line of 10 MiB.
    LongLine,
    /// An additional text `é`, its two bytes in different writes. Correct.
    SplitUtf8,
    /// Every byte in a write of its own. Correct.
    ByteByByte,
}

impl Garbage {
    pub(super) fn spoil(self, answer: &Answer, plan: Plan) -> Plan {
        match self {
            Self::Html => Plan::whole("<html><body><h1>502 Bad Gateway</h1></body></html>"),
            _ if answer.streamed => self.spoil_stream(answer, plan),
            Self::BrokenJson => {
                let half: Vec<u8> = whole(&plan)
                    .into_iter()
                    .take(plan.pieces.iter().map(Piece::len).sum::<usize>() / 2)
                    .collect();
                Plan::whole(half)
            }
            Self::ErrorWith200 => Plan::whole(scripted_error()),
            _ => plan,
        }
    }

    fn spoil_stream(self, answer: &Answer, plan: Plan) -> Plan {
        let delay = plan.delay;
        let mut pieces = plan.pieces.to_vec();
        let half = pieces.len() / 2;
        match self {
            Self::Html => {}
            Self::BrokenJson => {
                pieces.insert(half, Piece::new("data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"del\n\n"))
            }
            Self::ErrorWith200 => {
                pieces.truncate(half);
                pieces.push(Piece::new(format!("data: {}\n\n", scripted_error())));
            }
            Self::Crlf => pieces = each(&pieces, |text| text.replace('\n', "\r\n")),
            Self::Comments => {
                pieces = each(&pieces, |text| {
                    format!(": keep-alive\n\nevent: message\n{}", text.replace("data: ", "data:"))
                });
            }
            Self::NoDone => drop(pieces.pop()),
            Self::NoFinalNewline => {
                pieces.pop();
                pieces.push(Piece::new("data: [DONE]"));
            }
            Self::LongLine => {
                let line = [b"data: ".as_slice(), &vec![b'x'; LONG_LINE_BYTES], b"\n\n"].concat();
                pieces.insert(half, Piece::new(line));
            }
            Self::SplitUtf8 => {
                let event = answer.text_event("é");
                let inside = event.bytes().iter().position(|byte| !byte.is_ascii()).unwrap_or_default() + 1;
                pieces.insert(half, Piece::new(event.bytes().slice(inside..)));
                pieces.insert(half, Piece::new(event.bytes().slice(..inside)));
            }
            Self::ByteByByte => {
                let bytes = Bytes::from(whole(&plan));
                pieces = (0..bytes.len()).map(|at| Piece::new(bytes.slice(at..=at))).collect();
            }
        }
        Plan { pieces: pieces.into(), end: End::Clean, delay, length: None }
    }
}

fn scripted_error() -> String {
    ApiError::scripted(hyper::StatusCode::INTERNAL_SERVER_ERROR).json().to_string()
}

fn whole(plan: &Plan) -> Vec<u8> {
    plan.pieces.iter().flat_map(|piece| piece.bytes().iter().copied()).collect()
}

fn each(pieces: &[Piece], change: impl Fn(&str) -> String) -> Vec<Piece> {
    pieces.iter().map(|piece| Piece::new(change(&String::from_utf8_lossy(piece.bytes())))).collect()
}
