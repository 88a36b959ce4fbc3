//! What an executor says while it works.

use domain::fault::{Code, Fault, Origin};
use tokio::sync::mpsc;
use wire::v1;

/// Pieces that may wait for the bus before the executor has to.
const PIECES_BUFFERED: usize = 256;

/// Boxed, because a channel makes room for 32 at once, for every request.
pub(super) enum Said {
    Delta(Box<v1::DeltaItem>),
    Phase(&'static str, u32),
}

/// The way from an executor to its caller. Pieces that wait together travel together.
#[derive(Debug)]
pub struct Frames(mpsc::Sender<Said>);

impl Frames {
    pub(super) fn new() -> (Self, mpsc::Receiver<Said>) {
        let (sender, receiver) = mpsc::channel(PIECES_BUFFERED);
        (Self(sender), receiver)
    }

    /// A piece of the answer; waits while the bus is behind.
    ///
    /// # Errors
    /// `Cancelled` when nobody wants the rest: stop.
    pub async fn delta(&self, item: v1::DeltaItem) -> Result<(), Fault> {
        self.0.send(Said::Delta(Box::new(item))).await.map_err(|_| gone())
    }

    /// [`Frames::delta`] from a thread that may block.
    ///
    /// # Errors
    /// `Cancelled` when nobody wants the rest: stop.
    pub fn blocking_delta(&self, item: v1::DeltaItem) -> Result<(), Fault> {
        self.0.blocking_send(Said::Delta(Box::new(item))).map_err(|_| gone())
    }

    /// A piece of the answer, unless the way is full: the item comes back then.
    ///
    /// # Errors
    /// The item, when 256 pieces wait already or nobody wants the rest.
    pub fn try_delta(&self, item: v1::DeltaItem) -> Result<(), v1::DeltaItem> {
        self.0.try_send(Said::Delta(Box::new(item))).map_err(|error| match error.into_inner() {
            Said::Delta(item) => *item,
            Said::Phase(..) => v1::DeltaItem::default(),
        })
    }

    /// What the executor is doing, for heartbeats: `queued`, `loading`, `prefill`, `generating`, `waiting-upstream`; with the
    /// progress in percent where known.
    pub fn phase(&self, phase: &'static str, progress_percent: u32) {
        // a phase that does not fit is told by a later one
        drop(self.0.try_send(Said::Phase(phase, progress_percent)));
    }
}

fn gone() -> Fault {
    Fault::new(Code::Cancelled, Origin::Caller, false, "nobody wants the rest of the answer")
}
