//! The `[observability-hub]` section: as written ([`Raw`]), and checked ([`Config`]).

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use domain::units::Money;
use serde::{Deserialize, Serialize};
use service_runtime::Secret;

use crate::{metric_store, remote_write};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// Whether this hub is the one that acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The main machine's.
    #[default]
    Active,
    /// Takes in the same events and only says that it is the other one.
    Standby,
}

impl Role {
    /// As in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
        }
    }
}

/// The section as written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// Where everything of the hub is served: page, API, remote-write, `/metrics`.
    pub admin_listen: SocketAddr,
    /// `active` or `standby`.
    pub role: Role,
    /// How long metrics are kept on the disk, and how old a sample may be when it comes. Hours, 1 to 8,760.
    pub retention_hours: u32,
    /// How far back metrics can be asked for. Minutes, 5 to 1,440.
    pub metric_memory_minutes: u32,
    /// Series that are kept in memory; samples of further ones are refused. 1 to 1,000,000.
    pub metric_series_max: u32,
    /// Samples of one series that are kept in memory; the oldest go first. 2 to 100,000.
    pub metric_samples_per_series_max: u32,
    /// Size of the metrics on the disk, bytes; the oldest go first. At least 134,217,728.
    pub metric_log_bytes_max: u64,
    /// Names under which the hub may be called, beside `localhost` and plain addresses; without a port.
    pub allowed_hosts: Vec<String>,
    /// Token for reading (`Authorization: Bearer …`); none = open.
    pub read_token: Option<Secret>,
    /// Token for remote-write; none = open.
    pub write_token: Option<Secret>,
    /// Pages that are fed live at once. 1 to 1,000.
    pub live_clients_max: u32,
    /// Price of a kilowatt-hour, dollars, as in `0.30`: what the energy of local requests costs.
    pub electricity_per_kwh: String,
    /// Table of prices with the reference model in it.
    pub prices_file: PathBuf,
    /// `<provider>/<model>` of the price table: what everything would have cost there is what savings are counted against. Empty =
    /// savings are not counted.
    pub reference_model: String,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 7076)),
            role: Role::Active,
            retention_hours: 24,
            metric_memory_minutes: 120,
            metric_series_max: 20_000,
            metric_samples_per_series_max: 720,
            metric_log_bytes_max: 4 << 30,
            allowed_hosts: Vec::new(),
            read_token: None,
            write_token: None,
            live_clients_max: 32,
            electricity_per_kwh: "0.30".to_owned(),
            prices_file: PathBuf::from("config/prices.toml"),
            reference_model: "openai/gpt-4o".to_owned(),
        }
    }
}

/// The section, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// See [`Raw::admin_listen`].
    pub admin_listen: SocketAddr,
    /// See [`Raw::role`].
    pub role: Role,
    /// Limits of the metric store.
    pub metrics: metric_store::local::Options,
    /// Lower case, without ports.
    pub allowed_hosts: BTreeSet<String>,
    /// See [`Raw::read_token`].
    pub read_token: Option<Secret>,
    /// See [`Raw::write_token`].
    pub write_token: Option<Secret>,
    /// See [`Raw::live_clients_max`].
    pub live_clients_max: usize,
    /// See [`Raw::electricity_per_kwh`].
    pub electricity_per_kwh: Money,
    /// See [`Raw::prices_file`].
    pub prices_file: PathBuf,
    /// Provider and model, see [`Raw::reference_model`].
    pub reference_model: Option<(String, String)>,
}

/// A value that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("observability-hub.{field} is {value}, expected {expected}")]
pub struct InvalidConfig {
    field: &'static str,
    value: String,
    expected: &'static str,
}

impl TryFrom<Raw> for Config {
    type Error = InvalidConfig;

    fn try_from(raw: Raw) -> Result<Self, InvalidConfig> {
        let hours = within("retention_hours", raw.retention_hours, 1, 8_760, "1 to 8760 hours")?;
        let minutes =
            within("metric_memory_minutes", raw.metric_memory_minutes, 5, 1_440, "5 to 1440 minutes")?;
        let series = within("metric_series_max", raw.metric_series_max, 1, 1_000_000, "1 to 1000000")?;
        let samples = within(
            "metric_samples_per_series_max",
            raw.metric_samples_per_series_max,
            2,
            100_000,
            "2 to 100000",
        )?;
        let clients = within("live_clients_max", raw.live_clients_max, 1, 1_000, "1 to 1000")?;
        if raw.metric_log_bytes_max < metric_store::local::LOG_BYTES_MIN {
            return Err(InvalidConfig {
                field: "metric_log_bytes_max",
                value: raw.metric_log_bytes_max.to_string(),
                expected: "at least 134217728 bytes",
            });
        }
        let Ok(electricity_per_kwh) = raw.electricity_per_kwh.parse() else {
            return Err(InvalidConfig {
                field: "electricity_per_kwh",
                value: format!("{:?}", raw.electricity_per_kwh),
                expected: "dollars as in 0.30",
            });
        };
        let retention_ms = i64::from(hours) * HOUR_MS;
        Ok(Self {
            admin_listen: raw.admin_listen,
            role: raw.role,
            metrics: metric_store::local::Options {
                heads: metric_store::HeadLimits {
                    series_max: series as usize,
                    samples_per_series_max: samples as usize,
                    age_ms_max: (i64::from(minutes) * MINUTE_MS).min(retention_ms),
                },
                request: remote_write::Limits { age_ms_max: retention_ms },
                retention_ms,
                log_bytes_max: raw.metric_log_bytes_max,
            },
            allowed_hosts: raw.allowed_hosts.iter().map(|host| host_name(host)).collect::<Result<_, _>>()?,
            read_token: raw.read_token,
            write_token: raw.write_token,
            live_clients_max: clients as usize,
            electricity_per_kwh,
            prices_file: raw.prices_file,
            reference_model: reference(&raw.reference_model)?,
        })
    }
}

fn reference(text: &str) -> Result<Option<(String, String)>, InvalidConfig> {
    if text.is_empty() {
        return Ok(None);
    }
    let both = text.split_once('/').filter(|(provider, model)| !provider.is_empty() && !model.is_empty());
    both.map(|(provider, model)| Some((provider.to_owned(), model.to_owned()))).ok_or_else(|| InvalidConfig {
        field: "reference_model",
        value: format!("{text:?}"),
        expected: "a provider and a model of the price table, as in \"openai/gpt-4o\", or nothing",
    })
}

fn within(
    field: &'static str,
    value: u32,
    min: u32,
    max: u32,
    expected: &'static str,
) -> Result<u32, InvalidConfig> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(InvalidConfig { field, value: value.to_string(), expected })
    }
}

fn host_name(host: &str) -> Result<String, InvalidConfig> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || host.len() > 253 || !host.chars().all(allowed) {
        return Err(InvalidConfig {
            field: "allowed_hosts",
            value: format!("{host:?}"),
            expected: "host names without a port",
        });
    }
    Ok(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_bad_values_are_named() {
        Config::try_from(Raw::default()).unwrap();
        for (field, raw) in [
            ("retention_hours", Raw { retention_hours: 0, ..Raw::default() }),
            ("metric_memory_minutes", Raw { metric_memory_minutes: 4, ..Raw::default() }),
            ("metric_series_max", Raw { metric_series_max: 0, ..Raw::default() }),
            ("metric_samples_per_series_max", Raw { metric_samples_per_series_max: 1, ..Raw::default() }),
            ("metric_log_bytes_max", Raw { metric_log_bytes_max: 1, ..Raw::default() }),
            ("allowed_hosts", Raw { allowed_hosts: vec!["hub:7076".to_owned()], ..Raw::default() }),
            ("live_clients_max", Raw { live_clients_max: 0, ..Raw::default() }),
        ] {
            assert_eq!(Config::try_from(raw).unwrap_err().field, field);
        }
    }
}
