//! Who may use how much of a machine's GPU memory (or, where there is no GPU, of its system memory), and until when.
//!
//! ```text
//!                 acquire                renew                 (a stronger ask, or a foreign program, needs the room)
//!   (nothing) ───────────────► held ──────────────► held ───────────────► draining
//!                               │  release, expiry, or                        │  release or expiry
//!                               ▼  a newer lease of the same holder           ▼
//!                             ended                                         ended
//! ```
//!
//! Invariants:
//! - A grant never takes a device over its size: leases + memory of others + reserve ≤ total at the moment of each grant,
//!   unless it replaces a lease there that is no smaller. Only somebody outside the leases can push a device over, and then
//!   the weakest leases there drain.
//! - Fencing tokens grow with each grant. A lease that ended is never renewed; a draining one is never renewed, so it ends
//!   within its own time to live, whatever its holder does.
//! - Who drains is decided by [`solve`]: the fewest and cheapest to load again of the weakest, none that is pinned.
//! - The outcome depends on the inputs and on `now` alone. `now` is the time since any fixed moment of a monotonic clock.
//!
//! There is no distributed lock: the machine's owner of GPU memory decides alone, and a holder that hears nothing stops
//! before its time to live ends.

mod denial;
mod fit;
mod leases;
mod others;
#[cfg(test)]
mod properties;
mod returning;
pub mod solve;
pub mod step_down;
#[cfg(test)]
mod tests;
mod window;
mod worth;

use std::{fmt, time::Duration};

pub use denial::{Denial, Held};
pub use leases::{Answer, Change, Lease, Leases, Summary};
pub use window::Window;
pub use worth::Worth;

use crate::{id::InvalidName, units::Bytes};

/// Leases at once on one machine; more are refused.
pub const LEASES_MAX: usize = 1024;

/// The owner's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Kept free on each GPU, since a driver and a CUDA context take memory that no model's estimate knows of.
    /// 457 MiB is what Ollama keeps (`OLLAMA_GPU_OVERHEAD`'s built-in minimum for CUDA devices).
    pub reserve: Bytes,
    /// A lease on a GPU for more than this has the GPU to itself.
    pub exclusive_over: Bytes,
    /// A holder that names no process is taken to use its lease in full once it has held it for this long; before, it may
    /// still be loading.
    pub settle_after: Duration,
    /// A lease that nobody has used for so long, as its holder tells, gives way to one of the same priority too.
    pub idle_yields_after: Duration,
    /// After leases had to drain for other programs: how long those must have stayed away before their room is leased again.
    pub return_after: Duration,
    /// When leases that nobody waits for ([`Priority::is_deferrable`]) are granted; none = always.
    pub off_peak: Option<Window>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            reserve: Bytes::mebibytes(457),
            exclusive_over: Bytes::mebibytes(10 * 1024),
            settle_after: Duration::from_secs(60),
            idle_yields_after: Duration::from_secs(60),
            return_after: Duration::from_secs(20),
            off_peak: None,
        }
    }
}

/// A GPU by its UUID: indexes are renumbered when a GPU falls off the bus.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuId(String);

impl GpuId {
    /// The UUID as the driver tells it.
    #[must_use]
    pub fn new(uuid: impl Into<String>) -> Self {
        Self(uuid.into())
    }

    /// The UUID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a lease takes memory of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The machine's own memory.
    System,
    /// One GPU.
    Gpu(GpuId),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system memory"),
            Self::Gpu(id) => f.write_str(&id.0),
        }
    }
}

/// Memory that one process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUse {
    /// Process id, as the one who counted sees it.
    pub pid: u32,
    /// What it uses.
    pub used: Bytes,
}

/// One memory as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that may be planned on; the reserve of [`Policy`] still comes off on GPUs.
    pub total: Bytes,
    /// In use by anybody, lease holders included.
    pub used: Bytes,
    /// Known shares of `used`; empty where the platform does not tell.
    pub processes: Vec<ProcessUse>,
}

/// One GPU as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Which.
    pub id: GpuId,
    /// The driver's number for it at present.
    pub index: u32,
    /// Its memory.
    pub memory: Memory,
}

/// The GPUs of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    /// The machine has none: whoever asks for a GPU gets system memory.
    Absent,
    /// The machine has some, and they can't be seen now: whoever asks for one is denied.
    Lost {
        /// What the driver said.
        reason: String,
    },
    /// Seen. A GPU that can't be read is left out.
    Present(Vec<Device>),
}

/// What the machine has, as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// Its GPUs.
    pub gpus: Gpus,
    /// Its own memory.
    pub system: Memory,
}

/// Who gives way to whom, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Fine-tuning.
    Training,
    /// Image generation.
    Image,
    /// Embeddings.
    Embedding,
    /// Speech in and out.
    Speech,
    /// Language models.
    Inference,
}

impl Priority {
    /// All, the weakest first.
    pub const ALL: [Self; 5] = [Self::Training, Self::Image, Self::Embedding, Self::Speech, Self::Inference];

    /// Whether nobody waits for it, so that it may be kept to the off-peak window.
    #[must_use]
    pub const fn is_deferrable(self) -> bool {
        matches!(self, Self::Training | Self::Image)
    }

    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Image => "image",
            Self::Embedding => "embedding",
            Self::Speech => "speech",
            Self::Inference => "inference",
        }
    }
}

/// Who holds a lease. A holder has at most one: its next acquire replaces the lease it has, which is how one grows or shrinks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(String);

impl Holder {
    /// Checks length and characters.
    ///
    /// # Errors
    /// [`InvalidName`] when the text is empty, longer than 128 characters, or holds a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let length = text.chars().count();
        if length == 0 || length > 128 || text.chars().any(char::is_control) {
            return Err(InvalidName {
                field: "acquire.holder",
                value: text.chars().take(80).collect(),
                expected: "1 to 128 characters, none of them a control character",
            });
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long a lease lasts without a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(Duration);

impl Ttl {
    /// The shortest, half a second: less would end leases on an ordinary pause of a busy machine.
    pub const MIN: Duration = Duration::from_millis(500);
    /// The longest, a minute: memory of a dead holder is not kept longer.
    pub const MAX: Duration = Duration::from_secs(60);

    /// Checks the range.
    #[must_use]
    pub fn new(ttl: Duration) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&ttl).then_some(Self(ttl))
    }

    /// The duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Default for Ttl {
    /// Three seconds.
    fn default() -> Self {
        Self(Duration::from_secs(3))
    }
}

/// Fencing token of a lease: grows with each grant, and names the lease, since it is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// A token by its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The token of a lease id, when the text is one.
    #[must_use]
    pub fn from_lease_id(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("lease-")?;
        let number = digits.parse().ok()?;
        // One spelling only: no sign, no leading zero.
        (Self(number).lease_id() == text).then_some(Self(number))
    }

    /// The id of the lease that was granted with this token.
    #[must_use]
    pub fn lease_id(self) -> String {
        format!("lease-{}", self.0)
    }
}

/// Which memory is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A GPU's; system memory where the machine has no GPU.
    Gpu,
    /// System memory, also where there is a GPU.
    System,
}

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Who.
    pub holder: Holder,
    /// How much; more than none.
    pub bytes: Bytes,
    /// How strong.
    pub priority: Priority,
    /// For how long without a renewal.
    pub ttl: Ttl,
    /// Of what.
    pub wanted: Wanted,
    /// Processes that use, or will use, the memory; empty where the holder can't tell yet.
    pub pids: Vec<u32>,
    /// What ending it would cost.
    pub worth: Worth,
    /// It may be granted and held outside the off-peak window.
    pub anytime: bool,
}

/// What a holder tells with a renewal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Processes that use the memory; empty = as before.
    pub pids: Vec<u32>,
    /// What ending the lease would cost; none = as before.
    pub worth: Option<Worth>,
}
