//! Which deployments are left alone for a while.
//!
//! Kept apart by cause, because each cause ends differently: a rate limit when the provider says so, a refused key when
//! somebody changes it, an outage when a request gets through again. A request that is itself wrong never cools anything.

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
    /// Pause after a refused key or an account out of credit.
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
            auth: Duration::from_secs(60),
            gone: Duration::from_secs(2),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Health {
    failures: u32,
    outages: u32,
    cooling: Option<Cooling>,
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

    /// A request got through.
    pub fn succeeded(&mut self, deployment: &DeploymentId) {
        self.health.remove(deployment);
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
        let pause = match fault.code {
            Code::RateLimited => fault.retry_after.unwrap_or(rules.rate_limit),
            Code::UpstreamAuth => rules.auth,
            Code::Unavailable => rules.gone,
            _ => {
                health.failures += 1;
                if health.failures < rules.failures {
                    return;
                }
                health.failures = 0;
                health.outages = health.outages.saturating_add(1);
                rules.outage.saturating_mul(1 << (health.outages - 1).min(16)).min(rules.outage_max)
            }
        };
        health.cooling = Some(Cooling { until: now.saturating_add(pause), why: fault.to_string() });
    }

    /// What cools at `now`, and why. After its pause a deployment is a candidate again, and one more failure of an outage's
    /// kind has to come [`Rules::failures`] times before it cools longer.
    #[must_use]
    pub fn cooling(&self, now: Duration) -> HashMap<DeploymentId, String> {
        self.health
            .iter()
            .filter_map(|(id, health)| {
                let cooling = health.cooling.as_ref().filter(|cooling| cooling.until > now)?;
                Some((id.clone(), cooling.why.clone()))
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
}
