//! The sections that every service has.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[node]`: the machine this process runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSettings {
    /// Name of the machine, unique among the machines that work together: 1 to 32 letters, digits, `-`, `_`.
    pub machine: String,
    /// Folder for everything the services keep; relative to the current directory.
    pub data_dir: PathBuf,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self { machine: "mainpc".to_owned(), data_dir: PathBuf::from("state") }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// `[telemetry]`: logs, traces, and the time they and everything else have to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Which log lines are written, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log_filter: String,
    /// Where traces go over OTLP/gRPC, `http://host:4317`; no traces without it.
    pub otlp_endpoint: Option<String>,
    /// Time for the whole shutdown, in milliseconds, 100 to 600,000.
    pub shutdown_deadline_ms: u64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Text,
            log_filter: "info".to_owned(),
            otlp_endpoint: None,
            shutdown_deadline_ms: 10_000,
        }
    }
}

/// A value that has the right type and is still wrong.
pub(super) struct Problem {
    pub(super) key: &'static str,
    pub(super) message: String,
}

impl NodeSettings {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let length = self.machine.len();
        if length == 0 || length > 32 || !self.machine.chars().all(allowed) {
            let message = format!("is {:?}, expected 1 to 32 letters, digits, `-` or `_`", self.machine);
            return Err(Problem { key: "machine", message });
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err(Problem { key: "data_dir", message: "is \"\", expected a path".to_owned() });
        }
        Ok(())
    }
}

impl TelemetrySettings {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log_filter) {
            let message = format!(
                "is {:?}, expected a log filter such as \"info,bus=debug\": {error}",
                self.log_filter
            );
            return Err(Problem { key: "log_filter", message });
        }
        if let Some(endpoint) = &self.otlp_endpoint
            && endpoint.strip_prefix("http://").is_none_or(str::is_empty)
        {
            let message = format!("is {endpoint:?}, expected http://host:port");
            return Err(Problem { key: "otlp_endpoint", message });
        }
        if !(100..=600_000).contains(&self.shutdown_deadline_ms) {
            let message = format!("is {}, expected 100 to 600000", self.shutdown_deadline_ms);
            return Err(Problem { key: "shutdown_deadline_ms", message });
        }
        Ok(())
    }

    pub(crate) const fn shutdown_deadline(&self) -> Duration {
        Duration::from_millis(self.shutdown_deadline_ms)
    }
}
