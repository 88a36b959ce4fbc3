//! What `ask` and `plan` are asked about.

use std::io::{IsTerminal as _, Read as _};

use anyhow::Context as _;
use clap::CommandFactory as _;
use domain::fault::Fault;
use domain::id::AgentName;
use wire::v1;

/// More than any model reads; the bus refuses less with an error of its own.
const STDIN_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Question {
    /// What to ask; `-` or nothing reads it from stdin
    text: Option<String>,
    /// Agent that asks: decides where it may run
    #[arg(short, long, value_name = "NAME")]
    agent: Option<String>,
    /// Kind of task, for example chat, code, classify, summarise
    #[arg(short, long, value_name = "NAME")]
    task: Option<String>,
    /// Model, alias or deployment; without it placement decides
    #[arg(short, long, value_name = "NAME")]
    model: Option<String>,
    /// Instructions that stand before the question
    #[arg(short, long, value_name = "TEXT")]
    system: Option<String>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u32>,
    /// 0 is always the same answer, up to 2
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Never leave the owner's machines
    #[arg(long)]
    private: bool,
    /// Mode to place it by, in place of the owner's
    #[arg(long, value_name = "NAME")]
    mode: Option<String>,
    /// How much depends on the answer
    #[arg(long, value_enum)]
    criticality: Option<Level>,
    /// How soon the answer is wanted
    #[arg(long, value_enum)]
    latency: Option<Level>,
    /// Decide, show the plan, and call nobody
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    Low,
    Medium,
    High,
}

impl Level {
    fn code(level: Option<Self>) -> i32 {
        let level = match level {
            None => v1::Level::Unspecified,
            Some(Self::Low) => v1::Level::Low,
            Some(Self::Medium) => v1::Level::Medium,
            Some(Self::High) => v1::Level::High,
        };
        level.into()
    }
}

impl Question {
    /// The request, its question read.
    pub(crate) fn request(&self) -> anyhow::Result<v1::GenerateRequest> {
        let mut messages = Vec::new();
        if let Some(system) = &self.system {
            messages.push(message(v1::Role::System, system.clone()));
        }
        messages.push(message(v1::Role::User, self.read()?));
        let privacy = if self.private { v1::Privacy::LocalOnly } else { v1::Privacy::Unspecified };
        Ok(v1::GenerateRequest {
            request_id: uuid::Uuid::now_v7().to_string(),
            model: self.model.clone().unwrap_or_default(),
            agent: self.agent.clone().unwrap_or_default(),
            messages,
            sampling: Some(v1::Sampling {
                max_tokens: self.max_tokens,
                temperature: self.temperature,
                ..v1::Sampling::default()
            }),
            profile: Some(v1::TaskProfile {
                task: self.task.clone().unwrap_or_default(),
                privacy: privacy.into(),
                mode: self.mode.clone().unwrap_or_default(),
                criticality: Level::code(self.criticality),
                latency_sensitivity: Level::code(self.latency),
                dry_run: self.dry_run,
                ..v1::TaskProfile::default()
            }),
            ..v1::GenerateRequest::default()
        })
    }

    /// The agent, if one was named.
    pub(crate) fn agent(&self) -> anyhow::Result<Option<AgentName>> {
        Ok(self.agent.as_deref().map(AgentName::new).transpose().map_err(Fault::from)?)
    }

    fn read(&self) -> anyhow::Result<String> {
        match self.text.as_deref() {
            Some(text) if text != "-" => Ok(text.to_owned()),
            None if std::io::stdin().is_terminal() => crate::cli::Cli::command()
                .error(clap::error::ErrorKind::MissingRequiredArgument, "there is no question")
                .exit(),
            Some(_) | None => {
                let mut text = String::new();
                let mut stdin = std::io::stdin().take(STDIN_BYTES_MAX);
                stdin.read_to_string(&mut text).context("the question cannot be read from stdin")?;
                Ok(text)
            }
        }
    }
}

pub(crate) fn message(role: v1::Role, text: String) -> v1::Message {
    let part = v1::content_part::Part::Text(text);
    v1::Message {
        role: role.into(),
        content: vec![v1::ContentPart { part: Some(part), ..v1::ContentPart::default() }],
        ..v1::Message::default()
    }
}
