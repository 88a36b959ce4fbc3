//! Keys, retries, circuit breaker and probes.

use std::time::Duration;

use domain::resilience::{breaker, key_ring::KeyRules, rate_limit::Limits, retry::Policy};
use reqwest::Url;
use service_runtime::Secret;

use super::{Invalid, limit};
use crate::settings::{BreakerSettings, ProviderSettings, RetrySettings};

const RETRIES_MAX: u32 = 10;
/// More keys are a slip.
const KEYS_MAX: usize = 64;
const INTERVAL_S_MAX: u64 = 24 * 60 * 60;
/// Between probes of a server of one's own.
const OWN_SERVER_INTERVAL_S: u64 = 30;

/// One key of a provider.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) secret: Secret,
    pub(crate) rules: KeyRules,
}

/// How a provider is probed.
#[derive(Debug)]
pub(crate) struct HealthCheck {
    pub(crate) url: Url,
    pub(crate) every: Duration,
}

pub(super) fn keys(written: &ProviderSettings) -> Result<Vec<Key>, Invalid> {
    if let Some(secret) = &written.api_key {
        if written.api_keys.is_empty() {
            return Ok(vec![Key { secret: secret.clone(), rules: KeyRules::default() }]);
        }
        return Err(Invalid::new("api_keys", "is given beside api_key, expected only one of them"));
    }
    if written.api_keys.len() > KEYS_MAX {
        let problem = format!("has {} keys, expected at most {KEYS_MAX}", written.api_keys.len());
        return Err(Invalid::new("api_keys", problem));
    }
    let mut keys: Vec<Key> = Vec::new();
    for (index, key) in written.api_keys.iter().enumerate() {
        let field = format!("api_keys[{index}]");
        if keys.iter().any(|earlier| earlier.secret == key.secret) {
            let problem = format!("is kept in {}, as an earlier key is", key.secret);
            return Err(Invalid::new(field, problem));
        }
        let at_least_one = |name: &str, limit: Option<u64>| match limit {
            Some(0) => Err(Invalid::new(format!("{field}.{name}"), "is 0, expected at least 1, or none")),
            limit => Ok(limit),
        };
        let limits = Limits {
            requests_per_minute: at_least_one("requests_per_minute", key.requests_per_minute)?,
            tokens_per_minute: at_least_one("tokens_per_minute", key.tokens_per_minute)?,
            requests_per_day: at_least_one("requests_per_day", key.requests_per_day)?,
        };
        keys.push(Key { secret: key.secret.clone(), rules: KeyRules { free: key.free, limits } });
    }
    Ok(keys)
}

pub(super) fn retry(written: &RetrySettings) -> Result<Policy, Invalid> {
    if written.retries_max > RETRIES_MAX {
        let problem = format!("is {}, expected 0 to {RETRIES_MAX}", written.retries_max);
        return Err(Invalid::new("retry.retries_max", problem));
    }
    if written.budget_percent > 100 {
        let problem = format!("is {}, expected 0 to 100", written.budget_percent);
        return Err(Invalid::new("retry.budget_percent", problem));
    }
    Ok(Policy {
        retries_max: written.retries_max,
        backoff_base: limit("retry.backoff_base_ms", written.backoff_base_ms)?,
        backoff_max: limit("retry.backoff_max_ms", written.backoff_max_ms)?,
        retry_after_max: limit("retry.retry_after_max_ms", written.retry_after_max_ms)?,
        total_max: limit("retry.total_max_ms", written.total_max_ms)?,
    })
}

pub(super) fn breaker(written: &BreakerSettings) -> Result<breaker::Rules, Invalid> {
    if written.failure_percent > 100 {
        let problem = format!("is {}, expected 0 to 100", written.failure_percent);
        return Err(Invalid::new("breaker.failure_percent", problem));
    }
    let open = limit("breaker.open_ms", written.open_ms)?;
    let open_max = limit("breaker.open_max_ms", written.open_max_ms)?;
    if open_max < open {
        let problem = format!("is {}, expected at least open_ms ({})", written.open_max_ms, written.open_ms);
        return Err(Invalid::new("breaker.open_max_ms", problem));
    }
    Ok(breaker::Rules {
        failures: written.failures,
        failure_percent: written.failure_percent,
        calls_min: written.calls_min,
        window: limit("breaker.window_ms", written.window_ms)?,
        open,
        open_max,
    })
}

pub(super) fn health(written: &ProviderSettings, base_url: &Url) -> Result<Option<HealthCheck>, Invalid> {
    let path = written.health_path.as_deref().or(written.kind.health_path());
    let own = if written.allow_private { OWN_SERVER_INTERVAL_S } else { 0 };
    let seconds = written.health_interval_s.unwrap_or(own);
    if seconds > INTERVAL_S_MAX {
        let problem = format!("is {seconds}, expected 0 to {INTERVAL_S_MAX}");
        return Err(Invalid::new("health_interval_s", problem));
    }
    let Some(path) = path.filter(|_| seconds > 0) else { return Ok(None) };
    let refused = || {
        let start: String = path.chars().take(80).collect();
        Invalid::new("health_path", format!("is {start:?}, expected a path below base_url, such as models"))
    };
    // nothing that would lead to another host
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
    if path.is_empty() || path.len() > 256 || !path.chars().all(plain) || path.contains("..") {
        return Err(refused());
    }
    let url = format!("{}/{}", base_url.as_str().trim_end_matches('/'), path.trim_start_matches('/'));
    let url = Url::parse(&url).map_err(|_| refused())?;
    Ok(Some(HealthCheck { url, every: Duration::from_secs(seconds) }))
}
