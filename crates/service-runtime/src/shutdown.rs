//! One request to stop, one deadline.
//!
//! Whoever wants the process to end calls [`Shutdown::request`]; everybody else watches [`Shutdown::token`]. The deadline
//! starts with the first request and covers everything: draining, tasks, telemetry.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Cloneable handle on the process's end.
#[derive(Debug, Clone)]
pub struct Shutdown {
    token: CancellationToken,
    allowed: Duration,
    deadline: Arc<OnceLock<Instant>>,
}

impl Shutdown {
    /// A shutdown that may take `allowed` from the first request on.
    #[must_use]
    pub fn new(allowed: Duration) -> Self {
        Self { token: CancellationToken::new(), allowed, deadline: Arc::new(OnceLock::new()) }
    }

    /// Cancelled once the process should end.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Waits until the process should end.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Whether the process should end.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Asks the process to end; later calls change nothing.
    pub fn request(&self) {
        self.deadline.get_or_init(|| Instant::now() + self.allowed);
        self.token.cancel();
    }

    /// When everything must have ended: fixed by the first request; before it, as if it came now.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        if self.is_requested() {
            // A token cancelled by other hands than `request` starts the deadline when it is first noticed.
            *self.deadline.get_or_init(|| Instant::now() + self.allowed)
        } else {
            Instant::now() + self.allowed
        }
    }

    /// Time left until [`Self::deadline`].
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_fixed_by_the_first_request() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(shutdown.remaining(), Duration::from_secs(10));

        shutdown.request();
        tokio::time::advance(Duration::from_secs(4)).await;
        shutdown.request();
        assert_eq!(shutdown.remaining(), Duration::from_secs(6));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(shutdown.remaining(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_cancelled_directly_also_starts_the_deadline() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        shutdown.token().cancel();
        let deadline = shutdown.deadline();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(shutdown.deadline(), deadline);
    }
}
