//! The `[model-manager-suite]` section: as written ([`Section`]), and checked ([`Config`]).

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use service_runtime::secret::Secret;

use crate::registry::Patience;

/// The configuration as this service sees it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How to reach the bus.
    pub bus: bus::Settings,
    /// This service's own section.
    #[serde(rename = "model-manager-suite")]
    pub own: Section,
}

/// This service's own section.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    /// Health and metrics.
    pub admin_listen: SocketAddr,
    /// The agent matrix.
    pub agents_file: PathBuf,
    /// Aliases, tier defaults, thresholds.
    pub policies_file: PathBuf,
    /// A service that was not heard for so long is dead, milliseconds, 1,100 to 60,000. Heartbeats come each 500.
    pub dead_after_ms: u64,
    /// A registration of this machine is deleted when its service has been dead for so long, milliseconds, 1,000 to
    /// 86,400,000.
    pub forget_after_ms: u64,
    /// How long the first snapshot after a start waits for those who are registered to be heard, milliseconds, 0 to 10,000.
    pub settle_ms: u64,
    /// The snapshot is written at most so often for figures alone (last seen, in flight, resources), milliseconds, 100 to
    /// 600,000. What routing depends on is written at once.
    pub status_interval_ms: u64,
    /// How often the two files are looked at for changes, milliseconds, 10 to 600,000.
    pub reload_interval_ms: u64,
    /// Who shows it may make, change and revoke virtual keys; none = everybody who reaches the bus may.
    pub master_key: Option<Secret>,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7072)),
            agents_file: PathBuf::from("config/agents.toml"),
            policies_file: PathBuf::from("config/policies.toml"),
            dead_after_ms: 1_600,
            forget_after_ms: 60_000,
            settle_ms: 1_000,
            status_interval_ms: 5_000,
            reload_interval_ms: 2_000,
            master_key: None,
        }
    }
}

/// The section, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// See [`Section::admin_listen`].
    pub admin_listen: SocketAddr,
    /// See [`Section::agents_file`].
    pub agents_file: PathBuf,
    /// See [`Section::policies_file`].
    pub policies_file: PathBuf,
    /// See [`Section::dead_after_ms`] and [`Section::forget_after_ms`].
    pub patience: Patience,
    /// See [`Section::settle_ms`].
    pub settle: Duration,
    /// See [`Section::status_interval_ms`].
    pub status_interval: Duration,
    /// See [`Section::reload_interval_ms`].
    pub reload_interval: Duration,
    /// See [`Section::master_key`].
    pub master_key: Option<Secret>,
}

/// A value out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model-manager-suite.{field} is {value}, expected {expected}")]
pub struct OutOfRange {
    field: &'static str,
    value: String,
    expected: String,
}

impl TryFrom<Section> for Config {
    type Error = OutOfRange;

    fn try_from(raw: Section) -> Result<Self, OutOfRange> {
        for (field, path) in [("agents_file", &raw.agents_file), ("policies_file", &raw.policies_file)] {
            if path.as_os_str().is_empty() {
                return Err(OutOfRange { field, value: "\"\"".to_owned(), expected: "a path".to_owned() });
            }
        }
        Ok(Self {
            admin_listen: raw.admin_listen,
            agents_file: raw.agents_file,
            policies_file: raw.policies_file,
            patience: Patience {
                dead_after: millis("dead_after_ms", raw.dead_after_ms, 1_100, 60_000)?,
                forget_after: millis("forget_after_ms", raw.forget_after_ms, 1_000, 86_400_000)?,
            },
            settle: millis("settle_ms", raw.settle_ms, 0, 10_000)?,
            status_interval: millis("status_interval_ms", raw.status_interval_ms, 100, 600_000)?,
            reload_interval: millis("reload_interval_ms", raw.reload_interval_ms, 10, 600_000)?,
            master_key: raw.master_key,
        })
    }
}

fn millis(field: &'static str, value: u64, min: u64, max: u64) -> Result<Duration, OutOfRange> {
    if (min..=max).contains(&value) {
        return Ok(Duration::from_millis(value));
    }
    Err(OutOfRange { field, value: value.to_string(), expected: format!("{min} to {max} milliseconds") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_bad_values_are_named() {
        Config::try_from(Section::default()).unwrap();
        let section = Section::default;
        for (field, raw) in [
            ("agents_file", Section { agents_file: PathBuf::new(), ..section() }),
            ("policies_file", Section { policies_file: PathBuf::new(), ..section() }),
            ("dead_after_ms", Section { dead_after_ms: 1_099, ..section() }),
            ("forget_after_ms", Section { forget_after_ms: 0, ..section() }),
            ("settle_ms", Section { settle_ms: 10_001, ..section() }),
            ("status_interval_ms", Section { status_interval_ms: 99, ..section() }),
            ("reload_interval_ms", Section { reload_interval_ms: 0, ..section() }),
        ] {
            assert_eq!(Config::try_from(raw).unwrap_err().field, field);
        }
    }
}
