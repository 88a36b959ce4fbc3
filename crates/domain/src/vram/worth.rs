//! What it costs to end a lease: its holder must load again if it is needed again.

use std::time::Duration;

use crate::units::Bytes;

/// A holder that does not say how long it would load is taken to read this much a second, a middling SSD. So the larger of
/// two that say nothing is the dearer one.
const RELOAD_BYTES_PER_SECOND: u64 = 1 << 30;
/// Likelihoods are those of a use within this, the time that a model usually stays loaded without work.
const HORIZON: Duration = Duration::from_secs(300);
/// Certain, in thousandths.
const CERTAIN: u64 = 1000;

/// What a holder tells of itself. The default is that of a holder that tells nothing: in use, and as long to load as its
/// size says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Worth {
    /// How long it would load; none where the holder does not know.
    pub reload: Option<Duration>,
    /// Since when nobody has used it, as of when it was told; none while it is in use.
    pub idle: Option<Duration>,
    /// Likelihood of a use within five minutes, in thousandths, up to 1,000; none = estimated from `idle`.
    pub use_permille: Option<u16>,
    /// It stays as long as the memory is there at all.
    pub pinned: bool,
}

impl Worth {
    /// Expected waiting for a reload: reload time × likelihood of use, in milliseconds × thousandths. `bytes` is the size of
    /// the lease, `told_ago` the age of these words.
    #[must_use]
    pub fn cost(&self, bytes: Bytes, told_ago: Duration) -> u64 {
        let by_size = || Duration::from_millis(bytes.get() / (RELOAD_BYTES_PER_SECOND / 1000));
        let reload = self.reload.unwrap_or_else(by_size);
        milliseconds(reload).max(1).saturating_mul(self.likelihood(told_ago).max(1))
    }

    /// Since when nobody has used it; none while it is in use.
    #[must_use]
    pub fn idle_for(&self, told_ago: Duration) -> Option<Duration> {
        self.idle.map(|idle| idle.saturating_add(told_ago))
    }

    /// Uses of a model come in bursts: the longer it was left alone, the longer it will be. With waiting times that are as
    /// likely to double as to end (survival ~ 1/t), a use within `h` after an idle time `t` has the likelihood h / (h + t).
    fn likelihood(&self, told_ago: Duration) -> u64 {
        let estimated = || match self.idle_for(told_ago) {
            None => CERTAIN,
            Some(idle) => {
                let horizon = milliseconds(HORIZON);
                horizon.saturating_mul(CERTAIN) / horizon.saturating_add(milliseconds(idle))
            }
        };
        self.use_permille.map_or_else(estimated, |permille| u64::from(permille).min(CERTAIN))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: Bytes = Bytes::mebibytes(1024);

    #[test]
    fn a_model_costs_less_the_longer_nobody_has_used_it() {
        let idle = |seconds| Worth { idle: Some(Duration::from_secs(seconds)), ..Worth::default() };
        let in_use = Worth::default().cost(GIB, Duration::ZERO);
        assert!(in_use > idle(1).cost(GIB, Duration::ZERO));
        assert_eq!(idle(300).cost(GIB, Duration::ZERO) * 2, in_use);
        assert_eq!(idle(100).cost(GIB, Duration::from_secs(200)), idle(300).cost(GIB, Duration::ZERO));
    }

    #[test]
    fn what_the_holder_says_comes_before_what_its_size_says() {
        let size = Worth::default();
        let said = Worth { reload: Some(Duration::from_secs(60)), ..size };
        assert!(said.cost(GIB, Duration::ZERO) > size.cost(Bytes::mebibytes(20 * 1024), Duration::ZERO));
        let unlikely = Worth { use_permille: Some(10), ..said };
        assert_eq!(unlikely.cost(GIB, Duration::ZERO), 60_000 * 10);
        let absurd = Worth { reload: Some(Duration::MAX), use_permille: Some(u16::MAX), ..size };
        assert_eq!(absurd.cost(GIB, Duration::MAX), u64::MAX);
    }
}
