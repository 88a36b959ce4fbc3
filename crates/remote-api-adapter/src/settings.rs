//! The `[remote-api-adapter]` section, as it is written. [`crate::config`] checks it.

mod azure;
mod keys;
mod ollama;
mod resilience;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use service_runtime::Secret;

pub use self::{
    azure::{AzureAuth, AzureSettings},
    keys::KeySettings,
    ollama::OllamaSettings,
    resilience::{BreakerSettings, RetrySettings, TimeoutSettings},
};
pub use crate::jobs::JobSettings;
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
    /// Batches and fine-tuning.
    pub jobs: JobSettings,
    /// Who is called.
    pub providers: Vec<ProviderSettings>,
}

impl Default for AdapterSettings {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 7073)),
            prices_file: PathBuf::from("config/prices.toml"),
            jobs: JobSettings::default(),
            providers: Vec::new(),
        }
    }
}

/// The dialect a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// OpenAI's, also of vLLM, llama.cpp's server, LM Studio, OpenRouter and others.
    OpenAi,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's Gemini API (AI Studio).
    Gemini,
    /// Google's Vertex AI.
    Vertex,
    /// AWS Bedrock's runtime.
    Bedrock,
    /// OpenAI's models on Azure: Azure OpenAI and AI Foundry.
    Azure,
    /// OpenAI's dialect as Groq speaks it.
    Groq,
    /// Ollama's own.
    Ollama,
}

impl Kind {
    /// Where the dialect's own provider answers; `None` where there is no such place.
    pub(crate) const fn public_base_url(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com/v1"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com/v1beta"),
            // depends on the location
            Self::Vertex => None,
            // one in each region
            Self::Bedrock => None,
            Self::Groq => Some("https://api.groq.com/openai/v1"),
            // only with allow_private, which the error then says
            Self::Ollama => Some("http://127.0.0.1:11434"),
            Self::Azure => None,
        }
    }

    /// What costs nothing and answers when the server does, below the base URL: the list of models, mostly.
    pub(crate) const fn health_path(self) -> Option<&'static str> {
        match self {
            Self::OpenAi | Self::Groq | Self::Anthropic | Self::Gemini => Some("models"),
            Self::Ollama => Some("api/version"),
            // have no such list below their address
            Self::Vertex | Self::Bedrock | Self::Azure => None,
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
    /// Where and as whom Bedrock is called; for `kind = "bedrock"`, which needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bedrock: Option<BedrockSettings>,
    /// Permits plain HTTP and addresses on this machine and its networks.
    #[serde(default)]
    pub allow_private: bool,
    /// OpenAI organization to charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// OpenAI project to charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Vertex AI: where it runs. For that kind only, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vertex: Option<VertexSettings>,
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
    /// What only Azure needs to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureSettings>,
    /// What only Ollama needs to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ollama: Option<OllamaSettings>,
    /// The models to offer; may be empty only where models are discovered.
    #[serde(default)]
    pub deployments: Vec<DeploymentSettings>,
}

/// Where Vertex AI runs the models of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VertexSettings {
    /// Id of the Google Cloud project that pays.
    pub project: String,
    /// A region such as `europe-west4`, one of the multi-regions `us` and `eu`, or `global`.
    pub location: String,
}

/// AWS's region and access key. Without a key and without `api_key` the environment is asked, by the names that AWS's own tools
/// read: `AWS_BEARER_TOKEN_BEDROCK`, else `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, where set, `AWS_SESSION_TOKEN`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BedrockSettings {
    /// As in `eu-central-1`: signatures are made for it, and the base URL follows from it unless it is given.
    pub region: String,
    /// Id of the access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<Secret>,
    /// Its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// Token of a key that expires; absent for one that does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
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
    /// Text from speech.
    Transcribe,
    /// Speech from text.
    Speak,
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

/// Which of OpenAI's interfaces generates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiSetting {
    /// `chat/completions`.
    #[default]
    Chat,
    /// `responses`: for models that have no other.
    Responses,
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
    /// Which interface generates, for OpenAI and Azure.
    #[serde(default)]
    pub api: ApiSetting,
    /// Fields to send with each call that does not say otherwise, in the provider's words; checked by the provider only.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub defaults: serde_json::Map<String, serde_json::Value>,
    /// Absent: `max_completion_tokens` for OpenAI's own hosts, Azure and Groq, `max_tokens` for every other server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_field: Option<MaxTokens>,
    /// Most tokens of an answer for which the caller sets no bound, 1 to 1,000,000; only for providers that demand one
    /// (Anthropic, 32,000 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
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
