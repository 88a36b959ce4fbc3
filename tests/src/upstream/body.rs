//! Bodies that are sent piece by piece, and that can break off or fall silent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::record::InFlight;

/// Stands in a rendered answer where each reply gets the digits of its own id.
pub(super) const ID_DIGITS: &str = "0000000000000000";

/// Bytes that are flushed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    bytes: Bytes,
    /// Where the sixteen digits of the id stand.
    id_at: Option<usize>,
}

impl Piece {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let id_at = bytes.windows(ID_DIGITS.len()).position(|window| window == ID_DIGITS.as_bytes());
        Self { bytes, id_at }
    }

    /// Bytes that stay as they are, because a checksum covers them.
    pub(super) fn sealed(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), id_at: None }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn with_id(&self, id: u64) -> Bytes {
        let digits = format!("{id:016x}");
        let Some((before, after)) =
            self.id_at.and_then(|at| Some((self.bytes.get(..at)?, self.bytes.get(at + digits.len()..)?)))
        else {
            return self.bytes.clone();
        };
        let mut bytes = BytesMut::with_capacity(self.bytes.len());
        bytes.extend_from_slice(before);
        bytes.extend_from_slice(digits.as_bytes());
        bytes.extend_from_slice(after);
        bytes.freeze()
    }
}

/// What comes after the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The proper end of the body.
    Clean,
    /// The connection breaks.
    Cut,
    /// Nothing, for good.
    Silence,
}

/// What is sent, without its status and headers.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) pieces: Arc<[Piece]>,
    pub(super) end: End,
    /// Silence between two pieces.
    pub(super) delay: Duration,
    /// Length of the body, where it is announced.
    pub(super) length: Option<u64>,
}

impl Plan {
    /// A body in one piece, of announced length.
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        let piece = Piece::new(bytes);
        let length = Some(piece.len() as u64);
        Self { pieces: Arc::from([piece]), end: End::Clean, delay: Duration::ZERO, length }
    }

    /// Pieces of a stream.
    pub(super) fn stream(pieces: Vec<Piece>, delay: Duration) -> Self {
        Self { pieces: pieces.into(), end: End::Clean, delay, length: None }
    }

    /// The same, broken off after `bytes_max` bytes; as it is when it is shorter.
    pub(super) fn cut(mut self, bytes_max: usize) -> Self {
        let mut left = bytes_max;
        let mut pieces = Vec::new();
        for piece in self.pieces.iter() {
            if piece.len() > left {
                pieces.push(Piece::new(piece.bytes.slice(..left)));
                self.end = End::Cut;
                break;
            }
            left -= piece.len();
            pieces.push(piece.clone());
        }
        self.pieces = pieces.into();
        self
    }

    /// The same, silent after half of its pieces.
    pub(super) fn silent_halfway(mut self) -> Self {
        let half = self.pieces.len() / 2;
        self.pieces = self.pieces.iter().take(half).cloned().collect();
        self.end = End::Silence;
        self
    }
}

/// Between two pieces.
enum Pause {
    /// The next piece may go.
    Over,
    /// Give the connection one turn, in which it flushes.
    Turn,
    /// Wait.
    Sleep(Pin<Box<Sleep>>),
}

/// The body of one reply.
pub(super) struct Reply {
    plan: Plan,
    next: usize,
    id: u64,
    pause: Pause,
    request: InFlight,
}

impl Reply {
    pub(super) fn new(plan: Plan, id: u64, request: InFlight) -> Self {
        Self { plan, next: 0, id, pause: Pause::Over, request }
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.pause {
            Pause::Over => return Poll::Ready(()),
            Pause::Turn => {
                self.pause = Pause::Over;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Pause::Sleep(sleep) => ready!(sleep.as_mut().poll(cx)),
        }
        self.pause = Pause::Over;
        Poll::Ready(())
    }
}

/// Tells hyper to break the connection.
#[derive(Debug, thiserror::Error)]
#[error("the script cuts the body here")]
pub(super) struct ScriptedCut;

impl Body for Reply {
    type Data = Bytes;
    type Error = ScriptedCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ScriptedCut>>> {
        ready!(self.poll_pause(cx));
        let Some(piece) = self.plan.pieces.get(self.next) else {
            return match self.plan.end {
                End::Clean => Poll::Ready(None),
                End::Cut => Poll::Ready(Some(Err(ScriptedCut))),
                End::Silence => Poll::Pending,
            };
        };
        let bytes = piece.with_id(self.id);
        self.next += 1;
        let last = self.next == self.plan.pieces.len();
        if last && self.plan.end != End::Silence {
            self.request.answered();
        }
        self.pause = match (last, self.plan.end) {
            // What stands before a cut must have left.
            (true, End::Cut) => Pause::Turn,
            (true, _) => Pause::Over,
            (false, _) if self.plan.delay.is_zero() => Pause::Turn,
            (false, _) => Pause::Sleep(Box::pin(tokio::time::sleep(self.plan.delay))),
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        self.plan.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_gets_an_id_of_its_own() {
        let piece = Piece::new(format!("{{\"id\":\"chatcmpl-{ID_DIGITS}\"}}"));
        assert_eq!(piece.with_id(0x2a), "{\"id\":\"chatcmpl-000000000000002a\"}");
        assert_eq!(Piece::new("data: [DONE]").with_id(7), "data: [DONE]");
    }

    #[test]
    fn a_cut_keeps_exactly_so_many_bytes_whatever_they_are() {
        let pieces = vec![Piece::new("data: one\n\n"), Piece::new("data: [DONE]\n\n")];
        let whole = "data: one\n\ndata: [DONE]\n\n";
        for kept in 0..whole.len() {
            let plan = Plan::stream(pieces.clone(), Duration::ZERO).cut(kept);
            let sent: Vec<u8> = plan.pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
            assert_eq!(sent, whole.as_bytes()[..kept]);
            assert_eq!(plan.end, End::Cut);
        }
        assert_eq!(Plan::stream(pieces, Duration::ZERO).cut(whole.len()).end, End::Clean);
    }
}
