//! Subjects of the bus. This is the only place that spells them.
//!
//! A subject is a type that carries what is published to it ([`Subject::Message`]) and, where somebody answers, what comes
//! back ([`Call::Reply`]), so that a wrong pairing does not compile. Values from callers (agent names, request ids) enter
//! a subject only as domain types, whose constructors refuse `.`, `*`, `>` and white space.

use std::fmt;

use domain::id::{AgentName, KeyId, NodeId, RequestId};

use crate::v1;

/// The names of the seven services, as they stand in subjects, configuration sections and the registry.
pub mod service {
    /// Ingress, decision, dispatch.
    pub const REQUEST_COORDINATOR: &str = "request-coordinator";
    /// Registry and routing snapshot.
    pub const MODEL_MANAGER_SUITE: &str = "model-manager-suite";
    /// Cloud providers.
    pub const REMOTE_API_ADAPTER: &str = "remote-api-adapter";
    /// Local models.
    pub const LOCAL_MODEL_POOL: &str = "local-model-pool";
    /// GPU memory.
    pub const VRAM_OPTIMIZER: &str = "vram-optimizer";
    /// Ledger view and metrics.
    pub const OBSERVABILITY_HUB: &str = "observability-hub";
    /// Scrape and ship.
    pub const METRICS_FORWARDER: &str = "metrics-forwarder";
    /// All of them, in start order.
    pub const ALL: [&str; 7] = [
        OBSERVABILITY_HUB,
        MODEL_MANAGER_SUITE,
        VRAM_OPTIMIZER,
        LOCAL_MODEL_POOL,
        REMOTE_API_ADAPTER,
        REQUEST_COORDINATOR,
        METRICS_FORWARDER,
    ];
}

/// Bucket of the control plane; keys are made by [`registration_key`], [`snapshot_key`], [`flag_key`],
/// [`alias_key`], [`budget_key`], [`virtual_key`].
pub const CONTROL_BUCKET: &str = "ctl";
/// Object store for audio that is too large for a message (JetStream stream `OBJ_audio`, subjects `$O.audio.>`).
pub const AUDIO_BUCKET: &str = "audio";
/// Stream that keeps the ledger.
pub const USAGE_STREAM: &str = "USAGE";
/// What [`USAGE_STREAM`] captures.
pub const USAGE_SUBJECTS: &str = "usage.v1.>";

/// Everything that one machine's services publish to the ledger.
#[must_use]
pub fn usage_of(machine: &NodeId) -> String {
    format!("usage.v1.{machine}.>")
}

/// Name of the product's subjects, `llm` unless configured: letters, digits, `-`, `_`; 1 to 32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Checks the characters and the length.
    ///
    /// # Errors
    /// The text is empty, too long, or holds a character that has a meaning in a subject.
    pub fn new(text: &str) -> Result<Self, InvalidPrefix> {
        let token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if text.is_empty() || text.len() > 32 || !text.chars().all(token) {
            return Err(InvalidPrefix(text.chars().take(64).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self("llm".to_owned())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A subject prefix that cannot stand in a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bus.prefix is {0:?}, expected 1 to 32 letters, digits, `-` or `_`")]
pub struct InvalidPrefix(String);

/// What callers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Text from messages.
    Generate,
    /// Vectors from texts.
    Embed,
    /// Text in another language.
    Translate,
    /// Text from speech.
    Transcribe,
    /// Speech from text.
    Speak,
}

impl Method {
    /// All, for subscribing.
    pub const ALL: [Self; 5] = [Self::Generate, Self::Embed, Self::Translate, Self::Transcribe, Self::Speak];

    /// The token in the subject.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Embed => "embed",
            Self::Translate => "translate",
            Self::Transcribe => "transcribe",
            Self::Speak => "speak",
        }
    }

    /// The method of a subject's last token.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.token() == token)
    }
}

/// What can be done with jobs at providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderJobMethod {
    /// A new job, or a part of one.
    Submit,
    /// One job.
    Get,
    /// All jobs.
    List,
    /// An end before the provider's.
    Cancel,
    /// What became of a batch's requests.
    Results,
}

impl ProviderJobMethod {
    /// All.
    pub const ALL: [Self; 5] = [Self::Submit, Self::Get, Self::List, Self::Cancel, Self::Results];

    /// The token in the subject.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Get => "get",
            Self::List => "list",
            Self::Cancel => "cancel",
            Self::Results => "results",
        }
    }

    /// The method of a subject's last token.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.token() == token)
    }

    fn name(self, prefix: &Prefix, machine: &NodeId) -> String {
        format!("{prefix}.v1.provider-job.{machine}.{}", self.token())
    }
}

/// What the adapter of a machine subscribes to for jobs: `<prefix>.v1.provider-job.<machine>.*`.
#[must_use]
pub fn provider_jobs(prefix: &Prefix, machine: &NodeId) -> String {
    format!("{prefix}.v1.provider-job.{machine}.*")
}

/// A place to publish to, bound to what is published there.
pub trait Subject {
    /// The payload.
    type Message: prost::Message + Default;
    /// The full subject.
    fn name(&self, prefix: &Prefix) -> String;
}

/// A subject that somebody answers: with one message, or with a stream of them when the reply is [`v1::ReplyFrame`].
pub trait Call: Subject {
    /// The answer's payload.
    type Reply: prost::Message + Default;
}

/// `<prefix>.v1.req.generate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generate;
/// `<prefix>.v1.req.embed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embed;
/// `<prefix>.v1.req.translate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translate;
/// `<prefix>.v1.req.transcribe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcribe;
/// `<prefix>.v1.req.speak`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speak;
/// `<prefix>.v1.req.plan`, answered by model-manager-suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan;
/// `<prefix>.v1.req.flag`, answered by model-manager-suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagCall;

/// `<prefix>.v1.agent.<AgentName>.generate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentGenerate(pub AgentName);
/// `<prefix>.v1.agent.<AgentName>.transcribe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentTranscribe(pub AgentName);
/// `<prefix>.v1.agent.<AgentName>.speak`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSpeak(pub AgentName);

/// `<prefix>.v1.exec.<cloud|local>.<machine>.<executor>`: one executor, or a queue of equal ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execute {
    /// Whether requests leave the owner's machines on this subject.
    pub plane: domain::routing::Plane,
    /// Machine of the executor.
    pub machine: NodeId,
    /// Token of the executor, from its registration.
    pub executor: String,
}

/// `<prefix>.v1.cancel.<request_id>`; the payload is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel(pub RequestId);

/// `<prefix>.v1.hb.<machine>.<service>.<instance>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Machine of the service.
    pub machine: NodeId,
    /// One of [`service::ALL`].
    pub service: &'static str,
    /// Unique for each process start.
    pub instance: String,
}

/// `<prefix>.v1.lease.gpu.<machine>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseCall(pub NodeId);

/// `<prefix>.v1.model.<machine>`, answered by that machine's local-model-pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCall(pub NodeId);

/// `<prefix>.v1.req.alias`, answered by model-manager-suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliasCall;

/// `<prefix>.v1.provider-job.<machine>.submit`, answered by the machine's remote-api-adapter, as the next four are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitProviderJob(pub NodeId);
/// `<prefix>.v1.provider-job.<machine>.get`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetProviderJob(pub NodeId);
/// `<prefix>.v1.provider-job.<machine>.list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListProviderJobs(pub NodeId);
/// `<prefix>.v1.provider-job.<machine>.cancel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelProviderJob(pub NodeId);
/// `<prefix>.v1.provider-job.<machine>.results`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderJobResults(pub NodeId);

/// `<prefix>.v1.budget.<machine>`, answered by that machine's model-manager-suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetCall(pub NodeId);

/// `<prefix>.v1.key.<machine>`, answered by that machine's model-manager-suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCall(pub NodeId);

/// `evt.v1.model-manager-suite.budget-alert`. Not under the prefix, as all events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetAlerts;

/// `usage.v1.<machine>.<service>`, kept by [`USAGE_STREAM`]. Not under the prefix: streams are shared by all versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Machine of the publisher.
    pub machine: NodeId,
    /// The publisher.
    pub service: &'static str,
}

macro_rules! bind {
    ($($name:ty => $message:ty $(, $reply:ty)?; |$this:ident, $prefix:ident| $text:expr;)*) => { $(
        impl Subject for $name {
            type Message = $message;
            fn name(&self, $prefix: &Prefix) -> String { let $this = self; $text }
        }
        $(impl Call for $name { type Reply = $reply; })?
    )* };
}

bind! {
    Generate => v1::GenerateRequest, v1::ReplyFrame; |_this, prefix| format!("{prefix}.v1.req.generate");
    Embed => v1::EmbedRequest, v1::ReplyFrame; |_this, prefix| format!("{prefix}.v1.req.embed");
    Translate => v1::TranslateRequest, v1::ReplyFrame; |_this, prefix| format!("{prefix}.v1.req.translate");
    Transcribe => v1::TranscribeRequest, v1::ReplyFrame; |_this, prefix| format!("{prefix}.v1.req.transcribe");
    Speak => v1::SpeakRequest, v1::ReplyFrame; |_this, prefix| format!("{prefix}.v1.req.speak");
    Plan => v1::PlanRequest, v1::PlanReply; |_this, prefix| format!("{prefix}.v1.req.plan");
    FlagCall => v1::FlagRequest, v1::FlagReply; |_this, prefix| format!("{prefix}.v1.req.flag");
    AgentGenerate => v1::GenerateRequest, v1::ReplyFrame; |this, prefix| format!("{prefix}.v1.agent.{}.generate", this.0);
    AgentTranscribe => v1::TranscribeRequest, v1::ReplyFrame;
        |this, prefix| format!("{prefix}.v1.agent.{}.transcribe", this.0);
    AgentSpeak => v1::SpeakRequest, v1::ReplyFrame; |this, prefix| format!("{prefix}.v1.agent.{}.speak", this.0);
    Execute => v1::ExecuteRequest, v1::ReplyFrame;
        |this, prefix| format!("{prefix}.v1.exec.{}.{}.{}", this.plane.token(), this.machine, this.executor);
    Cancel => (); |this, prefix| format!("{prefix}.v1.cancel.{}", this.0);
    Heartbeat => v1::ServiceHeartbeat; |this, prefix| format!("{prefix}.v1.hb.{}.{}.{}", this.machine, this.service, this.instance);
    BudgetCall => v1::BudgetRequest, v1::BudgetReply; |this, prefix| format!("{prefix}.v1.budget.{}", this.0);
    KeyCall => v1::KeyRequest, v1::KeyReply; |this, prefix| format!("{prefix}.v1.key.{}", this.0);
    BudgetAlerts => v1::BudgetAlert; |_this, _prefix| format!("evt.v1.{}.budget-alert", service::MODEL_MANAGER_SUITE);
    LeaseCall => v1::LeaseRequest, v1::LeaseReply; |this, prefix| format!("{prefix}.v1.lease.gpu.{}", this.0);
    ModelCall => v1::ModelRequest, v1::ModelReply; |this, prefix| format!("{prefix}.v1.model.{}", this.0);
    AliasCall => v1::AliasRequest, v1::AliasReply; |_this, prefix| format!("{prefix}.v1.req.alias");
    SubmitProviderJob => v1::SubmitProviderJobRequest, v1::ProviderJobReply;
        |this, prefix| ProviderJobMethod::Submit.name(prefix, &this.0);
    GetProviderJob => v1::ProviderJobRequest, v1::ProviderJobReply;
        |this, prefix| ProviderJobMethod::Get.name(prefix, &this.0);
    ListProviderJobs => v1::ListProviderJobsRequest, v1::ListProviderJobsReply;
        |this, prefix| ProviderJobMethod::List.name(prefix, &this.0);
    CancelProviderJob => v1::ProviderJobRequest, v1::ProviderJobReply;
        |this, prefix| ProviderJobMethod::Cancel.name(prefix, &this.0);
    ProviderJobResults => v1::ProviderJobResultsRequest, v1::ProviderJobResultsReply;
        |this, prefix| ProviderJobMethod::Results.name(prefix, &this.0);
    Usage => v1::UsageBatch; |this, _prefix| format!("usage.v1.{}.{}", this.machine, this.service);
}

/// What a coordinator subscribes to for one method: callers that name no agent.
#[must_use]
pub fn ingress(prefix: &Prefix, method: Method) -> String {
    format!("{prefix}.v1.req.{}", method.token())
}

/// What a coordinator subscribes to for agents: `<prefix>.v1.agent.*.*`.
#[must_use]
pub fn agent_ingress(prefix: &Prefix) -> String {
    format!("{prefix}.v1.agent.*.*")
}

/// Agent and method of a subject that [`agent_ingress`] matched. The agent's name is as the caller wrote it.
#[must_use]
pub fn parse_agent_ingress<'a>(prefix: &Prefix, subject: &'a str) -> Option<(&'a str, &'a str)> {
    let rest = subject.strip_prefix(prefix.0.as_str())?.strip_prefix(".v1.agent.")?;
    let (agent, method) = rest.split_once('.')?;
    (!agent.is_empty() && !method.is_empty() && !method.contains('.')).then_some((agent, method))
}

/// What an executor subscribes to for cancels.
#[must_use]
pub fn cancels(prefix: &Prefix) -> String {
    format!("{prefix}.v1.cancel.*")
}

/// Request id of a subject that [`cancels`] matched.
#[must_use]
pub fn parse_cancel<'a>(prefix: &Prefix, subject: &'a str) -> Option<&'a str> {
    let id = subject.strip_prefix(prefix.0.as_str())?.strip_prefix(".v1.cancel.")?;
    (!id.is_empty() && !id.contains('.')).then_some(id)
}

/// Every heartbeat of every machine.
#[must_use]
pub fn heartbeats(prefix: &Prefix) -> String {
    format!("{prefix}.v1.hb.>")
}

/// The heartbeats of one service of one machine, all its instances.
#[must_use]
pub fn heartbeats_of(prefix: &Prefix, machine: &NodeId, service: &str) -> String {
    format!("{prefix}.v1.hb.{machine}.{service}.*")
}

/// Key of a registration in [`CONTROL_BUCKET`].
#[must_use]
pub fn registration_key(machine: &NodeId, service: &str, instance: &str) -> String {
    format!("{machine}.reg.{service}.{instance}")
}

/// Keys of all registrations of all machines.
pub const REGISTRATION_KEYS: &str = "*.reg.>";

/// Key of a machine's routing snapshot in [`CONTROL_BUCKET`].
#[must_use]
pub fn snapshot_key(machine: &NodeId) -> String {
    format!("{machine}.route.snapshot")
}

/// Key of a flag of a machine in [`CONTROL_BUCKET`].
#[must_use]
pub fn flag_key(machine: &NodeId, flag: &str) -> String {
    format!("{machine}.flag.{flag}")
}

/// Keys of all flags of a machine.
#[must_use]
pub fn flag_keys(machine: &NodeId) -> String {
    format!("{machine}.flag.>")
}

/// Key of the aliases of a machine that were switched, in [`CONTROL_BUCKET`].
#[must_use]
pub fn alias_key(machine: &NodeId) -> String {
    format!("{machine}.alias.book")
}

/// Key of a machine's budgets in [`CONTROL_BUCKET`].
#[must_use]
pub fn budget_key(machine: &NodeId) -> String {
    format!("{machine}.budget.book")
}

/// Key of a virtual key in [`CONTROL_BUCKET`].
#[must_use]
pub fn virtual_key(machine: &NodeId, id: &KeyId) -> String {
    format!("{machine}.key.{id}")
}

/// Keys of all virtual keys of all machines.
pub const VIRTUAL_KEYS: &str = "*.key.>";

#[cfg(test)]
mod tests;
