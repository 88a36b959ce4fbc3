//! Which hub the next request goes to.
//!
//! ```text
//!            `failures_max` failures in a row
//!   primary ─────────────────────────────────► standby ──┐ each `probe_every`: one request to the primary first
//!      ▲                                          │   ▲──┘ fails: back to the standby with the same samples
//!      └── a probe succeeds, or the standby fails as often as the primary did
//! ```
//!
//! A probe is the next request of the stream itself, so that the order is kept and nothing is sent twice on purpose.
//! Pure: time is an argument.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// One of the two hubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hub {
    /// The one to use while it answers.
    Primary,
    /// The one that takes over.
    Standby,
}

impl Hub {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
        }
    }
}

/// When to change over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row after which the other hub is used; at least 1.
    pub failures_max: u32,
    /// How often the primary is tried while the standby is in use.
    pub probe_every: Duration,
}

/// Chooses between the hubs.
#[derive(Debug)]
pub struct Failover {
    /// Nothing without a standby.
    policy: Option<Policy>,
    using: Hub,
    /// In a row, on the hub in use.
    failures: u32,
    /// When the primary is tried next, on the monotonic clock.
    probe_at: Duration,
}

impl Failover {
    /// Starts with the primary; without a policy there is no other hub.
    #[must_use]
    pub const fn new(policy: Option<Policy>) -> Self {
        Self { policy, using: Hub::Primary, failures: 0, probe_at: Duration::ZERO }
    }

    /// The hub in use, probes aside.
    #[must_use]
    pub const fn using(&self) -> Hub {
        self.using
    }

    /// Where the request goes that is sent at `now`.
    #[must_use]
    pub fn choose(&self, now: Duration) -> Hub {
        if self.using == Hub::Standby && now >= self.probe_at { Hub::Primary } else { self.using }
    }

    /// The hub answered: whether it liked the request or not, it is there.
    pub fn succeeded(&mut self, hub: Hub) {
        self.using = hub;
        self.failures = 0;
    }

    /// The hub could not take the request. Says whether the next attempt goes to the other hub, for which there is no
    /// reason to wait.
    pub fn failed(&mut self, hub: Hub, now: Duration) -> bool {
        let Some(policy) = self.policy else { return false };
        if hub != self.using {
            self.probe_at = now.saturating_add(policy.probe_every);
            return true;
        }
        self.failures += 1;
        if self.failures < policy.failures_max {
            return false;
        }
        self.failures = 0;
        self.probe_at = now.saturating_add(policy.probe_every);
        self.using = match self.using {
            Hub::Primary => Hub::Standby,
            Hub::Standby => Hub::Primary,
        };
        true
    }
}
