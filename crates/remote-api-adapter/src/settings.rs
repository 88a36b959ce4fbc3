//! The `[remote-api-adapter]` section, as it is written. [`crate::config`] checks it.

mod keys;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use service_runtime::Secret;

pub use self::keys::KeySettings;
use crate::price::PriceSettings;

/// The sections that this service reads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Connection to the machine's NATS server.
    pub bus: bus::Settings,
    /// This service.
    #[serde(rename = "remote-api-adapter")]
    pub adapter: AdapterSettings,
}

/// This service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterSettings {
    /// Where `/healthz`, `/readyz` and `/metrics` answer.
    pub admin_listen: SocketAddr,
    /// Table of prices; read when a deployment has none of its own.
    pub prices_file: PathBuf,
    /// Who is called.
    pub providers: Vec<ProviderSettings>,
}

impl Default for AdapterSettings {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 7073)),
            prices_file: PathBuf::from("config/prices.toml"),
            providers: Vec::new(),
        }
    }
}

/// The dialect a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// OpenAI's, also of Groq, vLLM, llama.cpp's server, LM Studio, Ollama and others.
    OpenAi,
}

impl Kind {
    /// Where the dialect's own provider answers; `None` where there is no such place.
    pub(crate) const fn public_base_url(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com/v1"),
        }
    }

    /// The list of models, below the base URL: costs nothing, and answers when the server does.
    pub(crate) const fn health_path(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("models"),
        }
    }
}

/// One server to call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// 1 to 32 letters, digits, `-`, `_`; part of the deployments' ids, and the provider's name in the price table.
    pub name: String,
    /// Its dialect.
    pub kind: Kind,
    /// Address up to and including the version, as in `https://api.openai.com/v1`. The only host that is called. Absent: the
    /// dialect's own public one, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Its key; absent = none is sent, or [`ProviderSettings::api_keys`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// Several keys in place of one, each with its limits: free ones with room first, then the others in turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_keys: Vec<KeySettings>,
    /// Permits plain HTTP and addresses on this machine and its networks.
    #[serde(default)]
    pub allow_private: bool,
    /// OpenAI organization to charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// OpenAI project to charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Sent with each call; the values are never shown.
    #[serde(default)]
    pub extra_headers: BTreeMap<String, Hidden>,
    /// How long a call may take.
    #[serde(default)]
    pub timeouts: TimeoutSettings,
    /// When a failed call is tried again.
    #[serde(default)]
    pub retry: RetrySettings,
    /// When a deployment that fails is left alone.
    #[serde(default)]
    pub breaker: BreakerSettings,
    /// Between probes, seconds, 0 to 86,400; 0 = none. A probe is a GET that costs nothing. Absent: 30 with `allow_private`,
    /// none for the providers outside, which are judged by their traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_interval_s: Option<u64>,
    /// What a probe asks for, below `base_url`. Absent: the dialect's list of models, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
    /// The models to offer.
    pub deployments: Vec<DeploymentSettings>,
}

/// How long each phase of a call may take, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutSettings {
    /// TCP and TLS.
    pub connect_ms: u64,
    /// To the first piece of a stream. Models that reason in silence take minutes.
    pub first_token_ms: u64,
    /// Silence in the middle of an answer.
    pub idle_ms: u64,
    /// The whole call, retries included. Below the coordinator's own limit (300,000), so that another candidate can still be tried
    /// when a provider hangs and nothing streams.
    pub total_ms: u64,
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        Self { connect_ms: 5_000, first_token_ms: 120_000, idle_ms: 30_000, total_ms: 240_000 }
    }
}

/// When a failed call is tried again: 429, 5xx, no connection, a cut, another key, and nothing of the answer used yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Tries after the first, 0 to 10.
    pub retries_max: u32,
    /// Wait before the first retry, doubling with each, milliseconds.
    pub backoff_base_ms: u64,
    /// Longest wait of our own choice, milliseconds.
    pub backoff_max_ms: u64,
    /// Longest `Retry-After` that is obeyed by waiting, milliseconds; with a longer one the fault is returned at once.
    pub retry_after_max_ms: u64,
    /// From the start of the first try to the start of the last, milliseconds.
    pub total_max_ms: u64,
    /// Share of recent calls that may be retries, percent.
    pub budget_percent: u32,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            retries_max: 2,
            backoff_base_ms: 200,
            backoff_max_ms: 1_000,
            retry_after_max_ms: 10_000,
            total_max_ms: 2_000,
            budget_percent: 20,
        }
    }
}

/// When a deployment that fails is left alone: its circuit breaker opens, and later lets one request through to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Failures in a row that open it; 0 = not by this rule.
    pub failures: u32,
    /// Share of the calls in the window that failed, percent, that opens it; 0 = not by this rule.
    pub failure_percent: u32,
    /// Calls in the window below which their share says nothing.
    pub calls_min: u32,
    /// The window, milliseconds.
    pub window_ms: u64,
    /// How long it stays open, milliseconds, times the number of times it opened lately.
    pub open_ms: u64,
    /// Longest time to stay open, milliseconds.
    pub open_max_ms: u64,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_percent: 50,
            calls_min: 30,
            window_ms: 60_000,
            open_ms: 30_000,
            open_max_ms: 300_000,
        }
    }
}

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Text from messages.
    Generate,
    /// Vectors from texts.
    Embed,
    /// Text in another language, by a model made for it; every model that generates translates too.
    Translate,
    /// Calls tools.
    Tools,
    /// Reads pictures.
    Vision,
    /// Keeps to a JSON schema.
    JsonSchema,
    /// Shows its reasoning.
    Reasoning,
}

/// Name of the field that bounds the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokens {
    /// Most compatible servers.
    MaxTokens,
    /// OpenAI itself.
    MaxCompletionTokens,
}

/// One model of a provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentSettings {
    /// The name callers use.
    pub model: String,
    /// The provider's name of it; absent = the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_model: Option<String>,
    /// Tokens, prompt and answer together.
    pub context_length: u32,
    /// Calls at once, 1 to 10,000; more are answered with busy.
    #[serde(default = "slots")]
    pub slots: u32,
    /// What it can do, at least one.
    pub capabilities: Vec<Capability>,
    /// Length of its vectors; 0 = unknown, or it does not embed.
    #[serde(default)]
    pub embedding_dimensions: u32,
    /// Costs nothing: a server of one's own, a free tier.
    #[serde(default)]
    pub free: bool,
    /// Its prices, before those of the price table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceSettings>,
    /// Absent: `max_completion_tokens` for `api.openai.com`, `max_tokens` for every other host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_field: Option<MaxTokens>,
}

const fn slots() -> u32 {
    32
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Hidden(String);

impl Hidden {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[redacted]")
    }
}
