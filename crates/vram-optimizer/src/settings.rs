//! The `[vram-optimizer]` section.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use domain::{
    units::Bytes,
    vram::{Policy, Window},
};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// The configuration as this service sees it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How to reach the machine's NATS server.
    pub bus: bus::Settings,
    /// This service's own section.
    #[serde(rename = "vram-optimizer")]
    pub own: Raw,
}

/// The section as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// Where health and metrics are served.
    pub admin_listen: SocketAddr,
    /// NVML's library; none = `libnvidia-ml.so.1` as the system finds it.
    pub nvml_library: Option<PathBuf>,
    /// Between looks at the memory, milliseconds, 100 to 60,000.
    pub sample_interval_ms: u64,
    /// Kept free on each GPU, MiB; 457 by default, what Ollama keeps.
    pub reserve_mib: u64,
    /// A lease on a GPU for more than this has the GPU to itself, MiB.
    pub exclusive_over_mib: u64,
    /// Share of the system memory that may be filled, by anybody; above 0, up to 1. Where a control group limits this
    /// service to less than the machine has, it is a share of that limit.
    pub system_memory_fraction: f64,
    /// System memory to plan on, MiB, in place of the share. For containers: the limit that this service sees there is its
    /// own, not that of the processes that will use the memory.
    pub system_memory_mib: Option<u64>,
    /// A lease that nobody has used for so long, as its holder tells, gives way to equally strong ones too; seconds.
    pub idle_yields_after_s: u64,
    /// How long other programs must have stayed away from memory that leases had to leave before it is leased again; seconds,
    /// up to 3,600.
    pub return_after_s: u64,
    /// When training and image leases are granted, local time, as in `02:00-08:00`; empty = always.
    pub off_peak: String,
    /// Of `off_peak`, as in `Pacific/Auckland`; none = the machine's.
    pub time_zone: Option<String>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 7075)),
            nvml_library: None,
            sample_interval_ms: 500,
            reserve_mib: 457,
            exclusive_over_mib: 10_240,
            system_memory_fraction: 0.8,
            system_memory_mib: None,
            idle_yields_after_s: 60,
            return_after_s: 20,
            off_peak: "02:00-08:00".to_owned(),
            time_zone: None,
        }
    }
}

/// A value that is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("vram-optimizer.{key} is {value}, expected {expected}")]
pub struct InvalidSetting {
    /// The key in the section.
    pub key: &'static str,
    /// What was written.
    pub value: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

/// How much of the system memory is planned on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum SystemShare {
    /// Of what there is.
    Fraction(f64),
    /// So much, whatever there is.
    Fixed(Bytes),
}

/// The section, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Own {
    pub(crate) admin_listen: SocketAddr,
    pub(crate) nvml_library: Option<PathBuf>,
    pub(crate) sample_interval: Duration,
    pub(crate) system: SystemShare,
    pub(crate) policy: Policy,
    pub(crate) zone: TimeZone,
}

impl TryFrom<Raw> for Own {
    type Error = InvalidSetting;

    fn try_from(raw: Raw) -> Result<Self, InvalidSetting> {
        let invalid = |key, value: String, expected| Err::<Self, _>(InvalidSetting { key, value, expected });
        if !(100..=60_000).contains(&raw.sample_interval_ms) {
            let value = raw.sample_interval_ms.to_string();
            return invalid("sample_interval_ms", value, "100 to 60000");
        }
        // A NaN is in no range.
        if !(raw.system_memory_fraction > 0.0 && raw.system_memory_fraction <= 1.0) {
            let value = raw.system_memory_fraction.to_string();
            return invalid("system_memory_fraction", value, "above 0, up to 1");
        }
        if raw.system_memory_mib == Some(0) {
            return invalid("system_memory_mib", "0".to_owned(), "at least 1, or no such key");
        }
        if raw.nvml_library.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return invalid("nvml_library", "empty".to_owned(), "a path, or no such key");
        }
        if raw.return_after_s > 3_600 {
            return invalid("return_after_s", raw.return_after_s.to_string(), "0 to 3600");
        }
        let Ok(off_peak) = window(&raw.off_peak) else {
            return invalid("off_peak", raw.off_peak, "two different times as in 02:00-08:00, or empty");
        };
        let zone = raw.time_zone.as_deref().map_or_else(|| Ok(TimeZone::system()), TimeZone::get);
        let Ok(zone) = zone else {
            let expected = "a name of the time zone database, as in Pacific/Auckland";
            return invalid("time_zone", raw.time_zone.unwrap_or_default(), expected);
        };
        Ok(Self {
            zone,
            admin_listen: raw.admin_listen,
            nvml_library: raw.nvml_library,
            sample_interval: Duration::from_millis(raw.sample_interval_ms),
            system: raw.system_memory_mib.map_or(SystemShare::Fraction(raw.system_memory_fraction), |mib| {
                SystemShare::Fixed(Bytes::mebibytes(mib))
            }),
            policy: Policy {
                reserve: Bytes::mebibytes(raw.reserve_mib),
                exclusive_over: Bytes::mebibytes(raw.exclusive_over_mib),
                idle_yields_after: Duration::from_secs(raw.idle_yields_after_s),
                return_after: Duration::from_secs(raw.return_after_s),
                off_peak,
                ..Policy::default()
            },
        })
    }
}

/// `02:00-08:00`; none for the empty text.
fn window(text: &str) -> Result<Option<Window>, ()> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let (from, to) = text.split_once('-').ok_or(())?;
    let window = minute(from).zip(minute(to)).and_then(|(from, to)| Window::new(from, to));
    window.map(Some).ok_or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert!(Own::try_from(Raw::default()).is_ok());
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_its_key() {
        let cases = [
            ("sample_interval_ms", Raw { sample_interval_ms: 99, ..Raw::default() }),
            ("sample_interval_ms", Raw { sample_interval_ms: 60_001, ..Raw::default() }),
            ("system_memory_fraction", Raw { system_memory_fraction: 0.0, ..Raw::default() }),
            ("system_memory_fraction", Raw { system_memory_fraction: 1.01, ..Raw::default() }),
            ("system_memory_fraction", Raw { system_memory_fraction: f64::NAN, ..Raw::default() }),
            ("system_memory_mib", Raw { system_memory_mib: Some(0), ..Raw::default() }),
            ("return_after_s", Raw { return_after_s: 3_601, ..Raw::default() }),
            ("off_peak", Raw { off_peak: "2-8".to_owned(), ..Raw::default() }),
            ("off_peak", Raw { off_peak: "02:00-02:00".to_owned(), ..Raw::default() }),
            ("off_peak", Raw { off_peak: "02:00-24:00".to_owned(), ..Raw::default() }),
            ("time_zone", Raw { time_zone: Some("Mars/Olympus".to_owned()), ..Raw::default() }),
            ("nvml_library", Raw { nvml_library: Some(PathBuf::new()), ..Raw::default() }),
        ];
        for (key, raw) in cases {
            assert_eq!(Own::try_from(raw).unwrap_err().key, key);
        }
    }
}
