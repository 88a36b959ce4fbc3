//! Whether to ask the same upstream again, and when.
//!
//! Three bounds hold at once: the retries of one request, the time they may take together, and the share of recent requests
//! that may be retries at all ([`Budget`]), so that an outage is not multiplied by everybody's retries. An upstream that says
//! how long to wait is obeyed or left alone, never asked earlier.

use std::time::Duration;

/// Bounds of retrying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Retries of one request; the first try is none.
    pub retries_max: u32,
    /// Wait before the first retry; doubles with each further one.
    pub backoff_base: Duration,
    /// Longest wait of our own choice.
    pub backoff_max: Duration,
    /// Longest wait that an upstream may ask for.
    pub retry_after_max: Duration,
    /// From the start of the first try to the start of the last.
    pub total_max: Duration,
}

impl Default for Policy {
    /// Two retries within two seconds: a caller that has another candidate should not wait long for this one.
    fn default() -> Self {
        Self {
            retries_max: 2,
            backoff_base: Duration::from_millis(200),
            backoff_max: Duration::from_secs(1),
            retry_after_max: Duration::from_secs(10),
            total_max: Duration::from_secs(2),
        }
    }
}

/// Why the same request may succeed here in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Too many requests (429).
    RateLimit,
    /// The upstream failed or is overloaded (5xx, 529).
    Server,
    /// The upstream gave up waiting for something of its own (408, 504).
    Timeout,
    /// No connection.
    Connect,
    /// The connection broke before anything of the answer was used.
    Cut,
    /// The upstream refused the key, and there is another one.
    Key,
}

impl Cause {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Cut => "cut",
            Self::Key => "key",
        }
    }
}

/// A try that failed, as far as another one is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Why another try makes sense; `None` = it does not.
    pub cause: Option<Cause>,
    /// What the upstream asked for.
    pub retry_after: Option<Duration>,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Retries so far.
    pub retries: u32,
    /// Since the start of the first try.
    pub elapsed: Duration,
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ask again after this wait.
    Again(Duration),
    /// Return the failure.
    GiveUp(Reason),
}

/// Why there is no other try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The failure will not pass by itself.
    Permanent,
    /// [`Policy::retries_max`].
    RetriesSpent,
    /// The upstream asked for more than [`Policy::retry_after_max`].
    WaitTooLong,
    /// [`Policy::total_max`].
    TimeSpent,
    /// The [`Budget`].
    BudgetSpent,
}

impl Policy {
    /// Decides about another try, and takes it from the budget when there is one.
    ///
    /// `jitter` spreads the callers of one outage: 0 to 1,000 per mille, drawn evenly. A wait of our own choice lies between
    /// half of the backoff and all of it; one that the upstream asked for grows by up to a tenth of the base backoff. Another
    /// key is tried at once: it has limits of its own.
    #[must_use]
    pub fn decide(&self, failure: Failure, progress: Progress, jitter: u32, budget: &mut Budget) -> Verdict {
        let Some(cause) = failure.cause else { return Verdict::GiveUp(Reason::Permanent) };
        if progress.retries >= self.retries_max {
            return Verdict::GiveUp(Reason::RetriesSpent);
        }
        let jitter = jitter.min(1_000);
        let wait = match failure.retry_after {
            _ if cause == Cause::Key => Duration::ZERO,
            Some(asked) if asked > self.retry_after_max => return Verdict::GiveUp(Reason::WaitTooLong),
            Some(asked) => asked.saturating_add(self.backoff_base / 10 * jitter / 1_000),
            None => {
                let doubled = 2_u32.saturating_pow(progress.retries);
                let half = self.backoff_base.saturating_mul(doubled).min(self.backoff_max) / 2;
                half.saturating_add(half.saturating_mul(jitter) / 1_000)
            }
        };
        if progress.elapsed.saturating_add(wait) > self.total_max {
            return Verdict::GiveUp(Reason::TimeSpent);
        }
        if budget.withdraw() { Verdict::Again(wait) } else { Verdict::GiveUp(Reason::BudgetSpent) }
    }
}

/// The share of recent requests that may be retries: each request puts a part of a retry in, each retry takes a whole one
/// out. What may lie in it is bounded, so that a quiet day does not pay for a storm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    percent: u32,
    held: u32,
    held_max: u32,
}

impl Budget {
    /// Hundredths of a retry in a retry.
    const RETRY: u32 = 100;

    /// Retries for `percent` of the requests, and at most `burst` of them at once; it starts full, so that the first failures
    /// after a start are retried too.
    #[must_use]
    pub const fn new(percent: u32, burst: u32) -> Self {
        let held_max = burst.saturating_mul(Self::RETRY);
        Self { percent, held: held_max, held_max }
    }

    /// A request came.
    pub fn deposit(&mut self) {
        self.held = self.held.saturating_add(self.percent).min(self.held_max);
    }

    /// Takes a retry, if there is one.
    fn withdraw(&mut self) -> bool {
        match self.held.checked_sub(Self::RETRY) {
            Some(left) => {
                self.held = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSIENT: Failure = Failure { cause: Some(Cause::Server), retry_after: None };
    const START: Progress = Progress { retries: 0, elapsed: Duration::ZERO };

    fn plenty() -> Budget {
        Budget::new(20, 1_000)
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        let policy = Policy { retries_max: 9, total_max: Duration::from_secs(60), ..Policy::default() };
        let waits: Vec<u128> = (0..5)
            .map(|retries| {
                match policy.decide(TRANSIENT, Progress { retries, ..START }, 1_000, &mut plenty()) {
                    Verdict::Again(wait) => wait.as_millis(),
                    Verdict::GiveUp(reason) => panic!("gave up: {reason:?}"),
                }
            })
            .collect();
        assert_eq!(waits, [200, 400, 800, 1_000, 1_000]);
    }

    #[test]
    fn an_upstream_is_never_asked_before_the_time_it_named() {
        let asked = Duration::from_millis(900);
        let failure = Failure { cause: Some(Cause::RateLimit), retry_after: Some(asked) };
        for jitter in [0, 500, 1_000, u32::MAX] {
            let verdict = Policy::default().decide(failure, START, jitter, &mut plenty());
            assert!(matches!(verdict, Verdict::Again(wait) if wait >= asked), "{verdict:?}");
        }
    }

    #[test]
    fn another_key_is_tried_at_once_but_still_counts() {
        let failure = Failure { cause: Some(Cause::Key), retry_after: Some(Duration::from_secs(3_600)) };
        let mut budget = Budget::new(20, 1);
        let policy = Policy::default();
        assert_eq!(policy.decide(failure, START, 1_000, &mut budget), Verdict::Again(Duration::ZERO));
        assert_eq!(policy.decide(failure, START, 0, &mut budget), Verdict::GiveUp(Reason::BudgetSpent));
    }

    #[test]
    fn each_bound_ends_it_with_its_own_reason() {
        let policy = Policy::default();
        let asks =
            |secs| Failure { cause: Some(Cause::RateLimit), retry_after: Some(Duration::from_secs(secs)) };
        let cases = [
            (Failure { cause: None, retry_after: None }, START, Reason::Permanent),
            (TRANSIENT, Progress { retries: 2, ..START }, Reason::RetriesSpent),
            (asks(11), START, Reason::WaitTooLong),
            (asks(3), START, Reason::TimeSpent),
            (TRANSIENT, Progress { retries: 1, elapsed: Duration::from_secs(2) }, Reason::TimeSpent),
        ];
        for (failure, progress, reason) in cases {
            let verdict = policy.decide(failure, progress, 0, &mut plenty());
            assert_eq!(verdict, Verdict::GiveUp(reason), "{failure:?} {progress:?}");
        }
    }

    #[test]
    fn a_long_outage_gets_retries_for_a_fifth_of_its_requests() {
        let (policy, mut budget) = (Policy::default(), Budget::new(20, 10));
        let mut retries = 0;
        for _ in 0..1_000 {
            budget.deposit();
            if let Verdict::Again(_) = policy.decide(TRANSIENT, START, 500, &mut budget) {
                retries += 1;
            }
        }
        // a fifth, and the ten that lay in it at the start
        assert!((200..=210).contains(&retries), "{retries} retries");
        assert_eq!(
            policy.decide(TRANSIENT, START, 0, &mut Budget::new(20, 0)),
            Verdict::GiveUp(Reason::BudgetSpent)
        );
    }

    #[test]
    fn a_refused_retry_takes_nothing_from_the_budget() {
        let mut budget = Budget::new(20, 1);
        let spent = Progress { retries: 2, ..START };
        assert_eq!(
            Policy::default().decide(TRANSIENT, spent, 0, &mut budget),
            Verdict::GiveUp(Reason::RetriesSpent)
        );
        assert_eq!(budget, Budget::new(20, 1));
    }

    proptest::proptest! {
        #[test]
        fn a_wait_keeps_within_every_bound(
            retries in 0u32..40, elapsed_ms in 0u64..5_000, jitter in 0u32..2_000,
            asked_ms in proptest::option::of(0u64..20_000),
        ) {
            let policy = Policy { retries_max: 40, ..Policy::default() };
            let retry_after = asked_ms.map(Duration::from_millis);
            let failure = Failure { cause: Some(Cause::Server), retry_after };
            let progress = Progress { retries, elapsed: Duration::from_millis(elapsed_ms) };
            if let Verdict::Again(wait) = policy.decide(failure, progress, jitter, &mut plenty()) {
                proptest::prop_assert!(progress.elapsed + wait <= policy.total_max);
                proptest::prop_assert!(failure.retry_after.is_none_or(|asked| wait >= asked));
                proptest::prop_assert!(failure.retry_after.is_some() || wait <= policy.backoff_max);
            }
        }
    }
}
