//! The `[metrics-forwarder]` section: as it is written, and as it is used once it was checked.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};
use service_runtime::Secret;

use crate::failover;
use crate::remote_write::BatchLimits;
use crate::retry::Backoff;

#[cfg(test)]
mod tests;

/// The section as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// Address of the admin listener.
    pub admin_listen: SocketAddr,
    /// Where samples go: the remote-write address of the hub, `http` or `https`.
    pub hub_url: String,
    /// Where they go while the hub does not answer.
    pub standby_hub_url: Option<String>,
    /// File with the certificates (PEM) that sign the hubs' own; without it, those that the machine trusts.
    pub hub_ca_file: Option<PathBuf>,
    /// Token sent to both hubs as `Authorization: Bearer`; read again for each request.
    pub token: Option<Secret>,
    /// Between two scrapes of a target, milliseconds, 500 to 3,600,000.
    pub scrape_interval_ms: u64,
    /// Time for one scrape, milliseconds, 100 up to the interval.
    pub scrape_timeout_ms: u64,
    /// Longest answer of a target, bytes, 1,024 to 268,435,456.
    pub scrape_bytes_max: usize,
    /// Most samples in an answer of a target, 1 to 1,000,000; more fail the scrape.
    pub scrape_samples_max: usize,
    /// What is scraped.
    pub targets: Vec<RawTarget>,
    /// What waits on disk for the hub.
    pub queue: RawQueue,
    /// Size of one request.
    pub batch: RawBatch,
    /// How requests are sent and repeated.
    pub send: RawSend,
}

/// One target.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTarget {
    /// Value of its `job` label: the service's name.
    pub job: String,
    /// Address of its metrics, `http` or `https`. Host and port become the `instance` label.
    pub url: String,
    /// Further labels for all its series.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// The queue on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawQueue {
    /// Its folder, inside `node.data_dir`.
    pub dir: PathBuf,
    /// Most bytes on disk; beyond it the oldest samples are dropped. At least eight times `batch.bytes_max`, and 16 MiB.
    pub max_bytes: u64,
}

/// Bounds of one remote-write request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawBatch {
    /// Most samples, 1 to 100,000.
    pub samples_max: usize,
    /// Most bytes before compression, 131,072 to 16,777,216.
    pub bytes_max: usize,
}

/// Sending.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawSend {
    /// Time for one request, milliseconds, 100 to 300,000.
    pub timeout_ms: u64,
    /// Wait before the second attempt, milliseconds, 1 to 60,000; it doubles with each further one.
    pub backoff_ms_first: u64,
    /// Longest wait between attempts, milliseconds, from `backoff_ms_first` to 600,000.
    pub backoff_ms_max: u64,
    /// Failures in a row after which the standby is used, 1 to 1,000.
    pub failures_before_standby: u32,
    /// How often the primary is tried while the standby is in use, milliseconds, 100 to 3,600,000.
    pub primary_probe_ms: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 7077)),
            hub_url: "http://127.0.0.1:7076/api/v1/write".to_owned(),
            standby_hub_url: None,
            hub_ca_file: None,
            token: None,
            scrape_interval_ms: 5_000,
            scrape_timeout_ms: 4_000,
            scrape_bytes_max: 16 * 1024 * 1024,
            scrape_samples_max: 50_000,
            targets: Vec::new(),
            queue: RawQueue::default(),
            batch: RawBatch::default(),
            send: RawSend::default(),
        }
    }
}

impl Default for RawQueue {
    fn default() -> Self {
        Self { dir: PathBuf::from("metrics-forwarder"), max_bytes: 256 * 1024 * 1024 }
    }
}

impl Default for RawBatch {
    fn default() -> Self {
        Self { samples_max: 2_000, bytes_max: 1024 * 1024 }
    }
}

impl Default for RawSend {
    fn default() -> Self {
        Self {
            timeout_ms: 10_000,
            backoff_ms_first: 100,
            backoff_ms_max: 10_000,
            failures_before_standby: 5,
            primary_probe_ms: 10_000,
        }
    }
}

/// The section after it was checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the admin listener.
    pub admin_listen: SocketAddr,
    /// The hubs.
    pub hubs: Hubs,
    /// How targets are scraped.
    pub scrape: Scrape,
    /// What is scraped.
    pub targets: Vec<Target>,
    /// The queue on disk.
    pub queue: Queue,
    /// Bounds of one request.
    pub batch: BatchLimits,
}

/// Where samples go, and how.
#[derive(Debug, Clone)]
pub struct Hubs {
    /// The hub.
    pub primary: Url,
    /// The one that takes over.
    pub standby: Option<Url>,
    /// Certificates that sign the hubs' own.
    pub ca_file: Option<PathBuf>,
    /// Token for both.
    pub token: Option<Secret>,
    /// Time for one request.
    pub timeout: Duration,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// When to change over.
    pub failover: failover::Policy,
}

/// How targets are scraped.
#[derive(Debug, Clone, Copy)]
pub struct Scrape {
    /// Between two scrapes of a target.
    pub interval: Duration,
    /// Time for one.
    pub timeout: Duration,
    /// Longest answer, bytes.
    pub bytes_max: usize,
    /// Most samples in an answer.
    pub samples_max: usize,
}

/// A target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Address of its metrics.
    pub url: Url,
    /// Its `job`.
    pub job: String,
    /// Labels of all its series, `job`, `instance` and `machine` among them.
    pub labels: Vec<(String, String)>,
}

/// The queue on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its folder.
    pub dir: PathBuf,
    /// Its limits.
    pub log: durable_log::Options,
}

/// A setting that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metrics-forwarder.{key} is {value:?}, expected {expected}")]
pub struct Invalid {
    /// The key inside the section.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What is allowed.
    pub expected: String,
}

fn invalid(key: &str, value: impl ToString, expected: impl Into<String>) -> Invalid {
    Invalid { key: key.to_owned(), value: value.to_string(), expected: expected.into() }
}

fn within<T: PartialOrd + ToString + Copy>(key: &str, value: T, min: T, max: T) -> Result<T, Invalid> {
    if value < min || value > max {
        return Err(invalid(key, value, format!("{} to {}", min.to_string(), max.to_string())));
    }
    Ok(value)
}

fn milliseconds(key: &str, value: u64, min: u64, max: u64) -> Result<Duration, Invalid> {
    within(key, value, min, max).map(Duration::from_millis)
}

/// Smallest segment of the queue: a scrape of a few targets is some 100 KiB.
const SEGMENT_BYTES_MIN: u64 = 4 * 1024 * 1024;

impl Config {
    /// Checks the section. `data_dir` is where the queue's folder lies, `machine` becomes a label of every series,
    /// because `instance` is the same on machines whose services listen on loopback.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn new(raw: Raw, data_dir: &Path, machine: &str) -> Result<Self, Invalid> {
        let interval = milliseconds("scrape_interval_ms", raw.scrape_interval_ms, 500, 3_600_000)?;
        let scrape = Scrape {
            interval,
            timeout: milliseconds("scrape_timeout_ms", raw.scrape_timeout_ms, 100, raw.scrape_interval_ms)?,
            bytes_max: within("scrape_bytes_max", raw.scrape_bytes_max, 1024, 256 * 1024 * 1024)?,
            samples_max: within("scrape_samples_max", raw.scrape_samples_max, 1, 1_000_000)?,
        };
        let batch = BatchLimits {
            samples_max: within("batch.samples_max", raw.batch.samples_max, 1, 100_000)?,
            bytes_max: within("batch.bytes_max", raw.batch.bytes_max, 128 * 1024, 16 * 1024 * 1024)?,
        };
        let queue = queue(&raw.queue, batch, data_dir)?;
        let targets = targets(&raw.targets, machine)?;
        let send = &raw.send;
        let hubs = Hubs {
            primary: url("hub_url", &raw.hub_url)?,
            standby: raw.standby_hub_url.as_deref().map(|text| url("standby_hub_url", text)).transpose()?,
            ca_file: raw.hub_ca_file,
            token: raw.token,
            timeout: milliseconds("send.timeout_ms", send.timeout_ms, 100, 300_000)?,
            backoff: Backoff {
                first: milliseconds("send.backoff_ms_first", send.backoff_ms_first, 1, 60_000)?,
                max: milliseconds(
                    "send.backoff_ms_max",
                    send.backoff_ms_max,
                    send.backoff_ms_first,
                    600_000,
                )?,
            },
            failover: failover::Policy {
                failures_max: within("send.failures_before_standby", send.failures_before_standby, 1, 1_000)?,
                probe_every: milliseconds("send.primary_probe_ms", send.primary_probe_ms, 100, 3_600_000)?,
            },
        };
        Ok(Self { admin_listen: raw.admin_listen, hubs, scrape, targets, queue, batch })
    }
}

fn queue(raw: &RawQueue, batch: BatchLimits, data_dir: &Path) -> Result<Queue, Invalid> {
    let plain = raw.dir.components().all(|part| matches!(part, Component::Normal(_)));
    if raw.dir.as_os_str().is_empty() || !plain {
        return Err(invalid("queue.dir", raw.dir.display(), "a relative path without .."));
    }
    // Twice the largest batch: compression can make bytes that don't compress a sixth longer, and one series can go
    // over the batch's limit by itself.
    let segment_bytes = (batch.bytes_max as u64 * 2).max(SEGMENT_BYTES_MIN);
    let min = segment_bytes * 4;
    let max_bytes = within("queue.max_bytes", raw.max_bytes, min, u64::MAX)?;
    Ok(Queue { dir: data_dir.join(&raw.dir), log: durable_log::Options { segment_bytes, max_bytes } })
}

fn targets(raw: &[RawTarget], machine: &str) -> Result<Vec<Target>, Invalid> {
    let mut targets = Vec::new();
    let mut seen = HashSet::new();
    for (index, raw) in raw.iter().enumerate() {
        let key = |name: &str| format!("targets[{index}].{name}");
        let url = url(&key("url"), &raw.url)?;
        if raw.job.is_empty() || raw.job.len() > LABEL_VALUE_BYTES_MAX {
            return Err(invalid(&key("job"), &raw.job, format!("1 to {LABEL_VALUE_BYTES_MAX} bytes")));
        }
        let instance = format!(
            "{}:{}",
            url.host_str().unwrap_or_default(),
            url.port_or_known_default().unwrap_or_default()
        );
        let mut labels = vec![("job".to_owned(), raw.job.clone()), ("instance".to_owned(), instance)];
        for (name, value) in &raw.labels {
            label(&key(&format!("labels.{name}")), name, value)?;
            labels.push((name.clone(), value.clone()));
        }
        if !raw.labels.contains_key(MACHINE) {
            labels.push((MACHINE.to_owned(), machine.to_owned()));
        }
        let target = Target { url, job: raw.job.clone(), labels };
        if !seen.insert(target.labels.clone()) {
            let expected =
                "targets that differ in job, host and port, or labels: their series would be the same";
            return Err(invalid(&key("url"), &raw.url, expected));
        }
        targets.push(target);
    }
    within("targets (count)", targets.len(), 0, TARGETS_MAX)?;
    Ok(targets)
}

/// Label that tells machines apart.
const MACHINE: &str = "machine";
/// Most targets: each is a task with an answer of its own in memory.
const TARGETS_MAX: usize = 1_000;
const LABEL_VALUE_BYTES_MAX: usize = 256;

fn label(key: &str, name: &str, value: &str) -> Result<(), Invalid> {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let valid = name.chars().all(letter) && !name.starts_with(|c: char| c.is_ascii_digit());
    if name.is_empty() || name.len() > LABEL_VALUE_BYTES_MAX || !valid || name.starts_with("__") {
        return Err(invalid(
            key,
            name,
            "a label name: letters, digits and _, beginning with neither a digit nor __",
        ));
    }
    if name == "job" || name == "instance" {
        return Err(invalid(key, name, "another label: job and instance come from the target's job and url"));
    }
    if value.is_empty() || value.len() > LABEL_VALUE_BYTES_MAX {
        return Err(invalid(key, value, format!("1 to {LABEL_VALUE_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn url(key: &str, text: &str) -> Result<Url, Invalid> {
    const EXPECTED: &str = "an address such as http://host:port/path, without user and password";
    let url = Url::parse(text).map_err(|_| invalid(key, text, EXPECTED))?;
    let web = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    if !url.username().is_empty() || url.password().is_some() {
        // The value may hold a password.
        return Err(invalid(key, "an address with user and password", EXPECTED));
    }
    if web { Ok(url) } else { Err(invalid(key, text, EXPECTED)) }
}
