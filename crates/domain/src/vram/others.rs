//! How much of a memory is used by programs that hold no lease.
//!
//! The driver tells how much of a device is used in all, and mostly by which process. A holder that named its process is
//! counted exactly. One that did not (or whose process ids are those of another container) may use anything from nothing to
//! its whole lease, so the foreign share is only known to lie in a range; within it the previous estimate stays, because a
//! lease that is being filled must not look like a foreign program that ends. After [`super::Policy::settle_after`] such a
//! holder is taken to use its lease in full.
//!
//! What a holder uses beyond its lease counts as foreign: it is memory that nobody granted.

use super::Memory;
use crate::units::Bytes;

/// What one lease explains of a memory's use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share<'a> {
    pub(super) bytes: Bytes,
    pub(super) pids: &'a [u32],
    pub(super) settled: bool,
}

impl Share<'_> {
    /// What the named processes use; none where none of them is seen.
    pub(super) fn seen(&self, memory: &Memory) -> Option<Bytes> {
        let mine = memory.processes.iter().filter(|process| self.pids.contains(&process.pid));
        Some(mine.map(|process| process.used).sum()).filter(|used| *used > Bytes::ZERO)
    }
}

/// The foreign share of `memory.used`, given what was estimated before.
pub(super) fn estimate<'a>(
    memory: &Memory,
    shares: impl Iterator<Item = Share<'a>>,
    previous: Bytes,
) -> Bytes {
    // Explained for sure, and explained at most.
    let (mut surely, mut at_most) = (Bytes::ZERO, Bytes::ZERO);
    for share in shares {
        let known = share.seen(memory).map(|seen| seen.min(share.bytes));
        surely = surely + known.unwrap_or(if share.settled { share.bytes } else { Bytes::ZERO });
        at_most = at_most + known.unwrap_or(share.bytes);
    }
    previous.max(memory.used.saturating_sub(at_most)).min(memory.used.saturating_sub(surely))
}
