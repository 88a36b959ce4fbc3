//! Why a lease was not granted or kept, with the numbers.

use std::{fmt, time::Duration};

use super::{Holder, Place, Priority, Token, Window};
use crate::{
    fault::{Code, Fault, Origin},
    units::Bytes,
};

/// A lease that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who holds it.
    pub holder: Holder,
    /// How much.
    pub bytes: Bytes,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Would not fit even if nobody else used anything.
    #[error(
        "acquire.bytes is {asked} ({}), expected at most {largest}, the most that a lease can get on this machine",
        asked.get()
    )]
    TooLarge {
        /// How much was asked for.
        asked: Bytes,
        /// The most that one lease can get.
        largest: Bytes,
    },
    /// Does not fit now.
    #[error(
        "asked for {asked}, free are {free} of {size} on {place}: leases hold {leased}{}, other programs use {others}",
        Holders(held)
    )]
    NoRoom {
        /// How much was asked for.
        asked: Bytes,
        /// Where the most is free.
        place: Place,
        /// What a lease could still get there.
        free: Bytes,
        /// What leases and other programs share there.
        size: Bytes,
        /// What leases hold there.
        leased: Bytes,
        /// What programs without a lease use there.
        others: Bytes,
        /// Who holds them, the largest first.
        held: Vec<Held>,
        /// Whose leases would have to end, or end for this ask: of the sets that make room the cheapest to load again, none
        /// of them stronger than the ask or pinned. Empty where no such set would do.
        cheapest: Box<[Holder]>,
        /// When weaker leases have ended that drain for this ask; none where no lease gives way.
        retry_after: Option<Duration>,
    },
    /// A large lease wants, or has, a GPU to itself.
    #[error(
        "asked for {asked}, {place} would have to be shared{}: a lease over {exclusive_over} has its GPU to itself",
        Holders(held)
    )]
    Exclusive {
        /// How much was asked for.
        asked: Bytes,
        /// Where the most is free.
        place: Place,
        /// From which size on a lease has a GPU to itself.
        exclusive_over: Bytes,
        /// Who is there, the largest first.
        held: Vec<Held>,
        /// As in [`Denial::NoRoom`].
        cheapest: Box<[Holder]>,
        /// As in [`Denial::NoRoom`].
        retry_after: Option<Duration>,
    },
    /// It would fit, but other programs took this room from leases a moment ago and may do so again.
    #[error("asked for {asked}, {place} has room, but other programs used up to {others} there lately: wait {} ms", retry_after.as_millis())]
    Returning {
        /// How much was asked for.
        asked: Bytes,
        /// Where it would fit.
        place: Place,
        /// The most that others used there lately.
        others: Bytes,
        /// When the room is free again if they stay away.
        retry_after: Duration,
    },
    /// A GPU job that nobody waits for, outside the hours for such jobs.
    #[error("{} leases are granted {window} local time, expected that or anytime = true: it opens in {} min", priority.as_str(), opens_in.as_secs() / 60)]
    OffPeakOnly {
        /// Of the ask.
        priority: Priority,
        /// When they are granted.
        window: Window,
        /// Until then.
        opens_in: Duration,
    },
    /// The GPUs can't be seen now.
    #[error("no GPU memory can be leased: {reason}")]
    GpuLost {
        /// What the driver said.
        reason: String,
    },
    /// Too many leases.
    #[error("{held} leases are held, expected fewer than {held} for another one")]
    TooMany {
        /// How many there are.
        held: usize,
    },
    /// The lease has expired, was released, or was replaced.
    #[error("{} has ended: it expired, was released, or its holder acquired a newer one", token.lease_id())]
    Ended {
        /// Its token.
        token: Token,
    },
    /// No such lease was ever granted here.
    #[error("lease_id is {:?}, expected one that was granted here", token.lease_id())]
    Unknown {
        /// The token its name implies.
        token: Token,
    },
    /// The token is not the lease's.
    #[error("fencing_token is {}, expected {}, the token of {}", given.get(), token.get(), token.lease_id())]
    StaleToken {
        /// What was given.
        given: Token,
        /// What the lease has.
        token: Token,
    },
    /// The lease gives way and is not renewed.
    #[error("{} gives way to {to}: release it within {} ms", token.lease_id(), left.as_millis())]
    Draining {
        /// Its token.
        token: Token,
        /// To whom it gives way.
        to: String,
        /// How long it still lasts.
        left: Duration,
    },
}

impl Denial {
    /// The name in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::NoRoom { .. } => "no_room",
            Self::Exclusive { .. } => "exclusive",
            Self::Returning { .. } => "returning",
            Self::OffPeakOnly { .. } => "off_peak_only",
            Self::GpuLost { .. } => "gpu_lost",
            Self::TooMany { .. } => "too_many",
            Self::Ended { .. } => "ended",
            Self::Unknown { .. } => "unknown",
            Self::StaleToken { .. } => "stale_token",
            Self::Draining { .. } => "draining",
        }
    }

    /// Who would have to end for it, the cheapest set; empty where that does not help.
    #[must_use]
    pub fn cheapest(&self) -> &[Holder] {
        match self {
            Self::NoRoom { cheapest, .. } | Self::Exclusive { cheapest, .. } => cheapest,
            _ => &[],
        }
    }

    /// How much more would have to be free for it; none where that is not what is wrong.
    #[must_use]
    pub fn missing(&self) -> Option<Bytes> {
        match self {
            Self::NoRoom { asked, free, .. } => Some(asked.saturating_sub(*free)),
            _ => None,
        }
    }

    /// Whether a look at the memory as it is now might turn it into a grant.
    #[must_use]
    pub const fn depends_on_use(&self) -> bool {
        matches!(self, Self::NoRoom { .. })
    }
}

impl From<Denial> for Fault {
    fn from(denial: Denial) -> Self {
        let message = denial.to_string();
        let local = |code, retryable| Self::new(code, Origin::Local, retryable, message.clone());
        match denial {
            Denial::TooLarge { .. } => local(Code::Unavailable, false).in_field("acquire.bytes"),
            Denial::NoRoom { retry_after, .. } | Denial::Exclusive { retry_after, .. } => {
                Self { retry_after, ..local(Code::Busy, true) }
            }
            Denial::Returning { retry_after: wait, .. } | Denial::OffPeakOnly { opens_in: wait, .. } => {
                Self { retry_after: Some(wait), ..local(Code::Busy, true) }
            }
            Denial::GpuLost { .. } => local(Code::Unavailable, true),
            Denial::TooMany { .. } => local(Code::Busy, true),
            Denial::Ended { .. } | Denial::Unknown { .. } => {
                local(Code::NotFound, false).in_field("lease_id")
            }
            Denial::StaleToken { .. } => {
                Self::new(Code::PermissionDenied, Origin::Caller, false, message).in_field("fencing_token")
            }
            Denial::Draining { .. } => Self::new(Code::Cancelled, Origin::Policy, false, message),
        }
    }
}

/// The first few holders, for a message of bounded length.
struct Holders<'a>(&'a [Held]);

impl fmt::Display for Holders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 4;
        for (nth, held) in self.0.iter().take(NAMED).enumerate() {
            write!(f, "{}{} by {}", if nth == 0 { " (" } else { ", " }, held.bytes, held.holder)?;
        }
        match self.0.len() {
            0 => Ok(()),
            few if few <= NAMED => f.write_str(")"),
            many => write!(f, " and {} more)", many - NAMED),
        }
    }
}
