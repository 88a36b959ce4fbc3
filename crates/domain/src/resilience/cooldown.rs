//! Which deployments are left alone for a while, as a coordinator sees it.
//!
//! Kept apart by cause, because each cause ends differently: a rate limit when the provider says so, a refused key when
//! somebody changes it, an outage when a request gets through again. A request that is itself wrong never cools anything.
//!
//! A cloud adapter has a circuit breaker and cooldowns of its own, by key and model. What it refuses without calling
//! (`Unavailable`, `RateLimited`, with a time) is left alone for exactly that time and counts as no failure, so that nobody
//! waits twice for the same outage.

use std::{collections::HashMap, time::Duration};

use crate::{
    fault::{Code, Fault, Origin},
    id::DeploymentId,
};

/// When a deployment cools, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Failures in a row before an outage is assumed. Envoy's default for outlier detection is 5.
    pub failures: u32,
    /// Pause after an outage; doubled each time it is followed by another, up to [`Rules::outage_max`].
    pub outage: Duration,
    /// Longest pause after an outage.
    pub outage_max: Duration,
    /// Pause after a rate limit that names no time.
    pub rate_limit: Duration,
    /// Pause after a refused key or an account out of credit that names no time. Short: the adapter itself leaves the key
    /// alone, and registers the deployment as down until it is changed.
    pub auth: Duration,
    /// Pause after an executor that does not answer at all; short, since a restart takes a second.
    pub gone: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            failures: 5,
            outage: Duration::from_secs(5),
            outage_max: Duration::from_secs(120),
            rate_limit: Duration::from_secs(10),
            auth: Duration::from_secs(5),
            gone: Duration::from_secs(2),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Whoever refused named a time, or there is one by rule.
    Asked,
    /// Failures, or nobody there: over as soon as a request gets through.
    Outage,
}

#[derive(Debug, Clone, Default)]
struct Health {
    failures: u32,
    outages: u32,
    asked: Option<Cooling>,
    outage: Option<Cooling>,
}

#[derive(Debug, Clone)]
struct Cooling {
    until: Duration,
    why: String,
}

/// The deployments of one observer. Times are durations since any fixed moment of a monotonic clock.
#[derive(Debug, Clone)]
pub struct Cooldowns {
    rules: Rules,
    health: HashMap<DeploymentId, Health>,
}

impl Cooldowns {
    /// Nothing cools.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, health: HashMap::new() }
    }

    /// A request got through: an outage is over. A time that the provider named still holds, since the request may have
    /// begun before.
    pub fn succeeded(&mut self, deployment: &DeploymentId) {
        let Some(health) = self.health.get_mut(deployment) else { return };
        let asked = health.asked.take();
        if asked.is_none() {
            self.health.remove(deployment);
        } else {
            *health = Health { asked, ..Health::default() };
        }
    }

    /// A request failed.
    pub fn failed(&mut self, deployment: &DeploymentId, fault: &Fault, now: Duration) {
        let rules = self.rules;
        // a busy executor is healthy, a caller's mistake says nothing about it
        if matches!(fault.origin, Origin::Caller | Origin::Policy)
            || matches!(fault.code, Code::Busy | Code::Cancelled)
        {
            return;
        }
        let health = self.health.entry(deployment.clone()).or_default();
        let (cause, pause) = match (fault.code, fault.retry_after) {
            (Code::RateLimited, asked) => (Cause::Asked, asked.unwrap_or(rules.rate_limit)),
            (Code::UpstreamAuth, asked) => (Cause::Asked, asked.unwrap_or(rules.auth)),
            (Code::Unavailable, Some(asked)) => (Cause::Asked, asked),
            (Code::Unavailable, None) => (Cause::Outage, rules.gone),
            _ => {
                health.failures += 1;
                if health.failures < rules.failures {
                    return;
                }
                health.failures = 0;
                health.outages = health.outages.saturating_add(1);
                let doubled = 1 << (health.outages - 1).min(16);
                (Cause::Outage, rules.outage.saturating_mul(doubled).min(rules.outage_max))
            }
        };
        let until = now.saturating_add(pause);
        let cooling = match cause {
            Cause::Asked => &mut health.asked,
            Cause::Outage => &mut health.outage,
        };
        // one that came late does not shorten what was said before
        if cooling.as_ref().is_none_or(|cooling| cooling.until < until) {
            *cooling = Some(Cooling { until, why: fault.to_string() });
        }
    }

    /// What cools at `now`, and why. After its pause a deployment is a candidate again, and one more failure of an outage's
    /// kind has to come [`Rules::failures`] times before it cools longer.
    #[must_use]
    pub fn cooling(&self, now: Duration) -> HashMap<DeploymentId, String> {
        self.health
            .iter()
            .filter_map(|(id, health)| {
                let coolings = [&health.asked, &health.outage].into_iter().flatten();
                let longest = coolings.filter(|cooling| cooling.until > now).max_by_key(|c| c.until)?;
                Some((id.clone(), longest.why.clone()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> DeploymentId {
        DeploymentId::new("mainpc/openai/gpt-4").unwrap()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fault(code: Code) -> Fault {
        Fault::new(code, Origin::Provider, true, "failed")
    }

    #[test]
    fn an_outage_is_five_failures_in_a_row_and_pauses_longer_each_time() {
        let mut cooldowns = Cooldowns::new(Rules::default());
        for _ in 0..4 {
            cooldowns.failed(&id(), &fault(Code::Upstream), at(0));
        }
        assert!(cooldowns.cooling(at(0)).is_empty());
        cooldowns.failed(&id(), &fault(Code::Upstream), at(0));
        assert!(cooldowns.cooling(at(4)).contains_key(&id()));
        assert!(cooldowns.cooling(at(5)).is_empty());
        for _ in 0..5 {
            cooldowns.failed(&id(), &fault(Code::Upstream), at(10));
        }
        assert!(cooldowns.cooling(at(19)).contains_key(&id()), "the second outage pauses ten seconds");
        cooldowns.succeeded(&id());
        assert!(cooldowns.cooling(at(11)).is_empty());
    }

    #[test]
    fn a_rate_limit_pauses_as_long_as_the_provider_says() {
        let mut cooldowns = Cooldowns::new(Rules::default());
        cooldowns.failed(&id(), &fault(Code::RateLimited).after(at(42)), at(0));
        assert!(cooldowns.cooling(at(41)).contains_key(&id()));
        assert!(cooldowns.cooling(at(42)).is_empty());
    }

    #[test]
    fn the_callers_own_mistakes_and_a_busy_executor_cool_nothing() {
        let mut cooldowns = Cooldowns::new(Rules::default());
        for _ in 0..20 {
            cooldowns.failed(&id(), &Fault::invalid("temperature", "too hot"), at(0));
            cooldowns.failed(&id(), &fault(Code::Busy), at(0));
        }
        assert!(cooldowns.cooling(at(0)).is_empty());
    }

    #[test]
    fn what_an_adapter_refuses_is_left_alone_for_its_time_and_counts_as_no_failure() {
        let mut cooldowns = Cooldowns::new(Rules::default());
        for _ in 0..20 {
            cooldowns.failed(&id(), &fault(Code::Unavailable).after(at(30)), at(0));
        }
        assert!(cooldowns.cooling(at(29)).contains_key(&id()));
        assert!(cooldowns.cooling(at(30)).is_empty(), "no longer than the breaker is open");
        for _ in 0..4 {
            cooldowns.failed(&id(), &fault(Code::Upstream), at(31));
        }
        assert!(cooldowns.cooling(at(31)).is_empty(), "four failures are no outage");
    }

    #[test]
    fn an_answer_that_began_before_does_not_end_a_rate_limit_nor_shorten_it() {
        let mut cooldowns = Cooldowns::new(Rules::default());
        cooldowns.failed(&id(), &fault(Code::RateLimited).after(at(600)), at(0));
        cooldowns.failed(&id(), &fault(Code::RateLimited).after(at(1)), at(1));
        cooldowns.succeeded(&id());
        assert!(cooldowns.cooling(at(599)).contains_key(&id()));
        assert!(cooldowns.cooling(at(600)).is_empty());
    }

    #[test]
    fn a_refused_key_with_another_one_beside_it_cools_nothing() {
        let mut cooldowns = Cooldowns::new(Rules::default());
        cooldowns.failed(&id(), &fault(Code::UpstreamAuth).after(Duration::from_millis(1)), at(0));
        assert!(cooldowns.cooling(at(1)).is_empty());
        cooldowns.failed(&id(), &fault(Code::UpstreamAuth), at(1));
        assert!(cooldowns.cooling(at(5)).contains_key(&id()));
    }
}
