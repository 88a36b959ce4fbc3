//! What can stand on the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output::Output;
use crate::target::Target;
use crate::{
    agents, ask, audio, budgets, cost, explain, flags, jobs, keys, mode, models, permissions, plan, schema,
    status, tether, up, usage,
};

/// Start Hybrid LLM, ask it, and see what it decided, has and cost
#[derive(Debug, Parser)]
#[command(name = "hybridctl", version)]
pub(crate) struct Cli {
    /// Configuration file of the machine [default: $HYBRID_CONFIG, else config/hybrid.toml if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start nats-server and all services on this machine; Ctrl-C stops them
    Up(up::Options),
    /// Ask, and see the answer as it comes
    Ask(ask::Options),
    /// Write down what is said in a file of audio
    Transcribe(audio::Transcribe),
    /// Say a text, into a file of audio
    Speak(audio::Speak),
    /// Show where a request would run, and why, without running it
    Plan(plan::Options),
    /// Show why a request was placed where it was
    Explain(explain::Options),
    /// Show or change how the owner's machines are weighed against the cloud
    Mode(mode::Options),
    /// Print the JSON Schema of a configuration file
    Schema(schema::Options),
    /// Show the models that can be asked; load, pin, install, evaluate and switch them
    Models(models::Options),
    /// Show where each agent is placed
    Agents(Listing),
    /// Show services, machines and memory
    Status(Listing),
    /// Show or change what is switched on
    Flags(flags::Options),
    /// Show what was used and what it cost
    Usage(usage::Options),
    /// Show what may be spent, what is, and what is set aside
    Budgets(Listing),
    /// Make, change and revoke virtual keys
    Keys(keys::Options),
    /// Simulate what a workload would cost
    Cost(cost::Options),
    /// Show who may do what on the bus
    Bus(permissions::Options),
    /// Hand in, watch and fetch batches and fine-tuning at providers
    Jobs(jobs::Options),
    #[command(hide = true)]
    Tether(tether::Options),
}

impl Command {
    /// Whether a program reads the answer.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Ask(options) => options.json,
            Self::Transcribe(options) => options.json,
            Self::Plan(options) => options.json,
            Self::Models(options) => options.json,
            Self::Agents(options) | Self::Status(options) | Self::Budgets(options) => options.json,
            Self::Explain(options) => options.json,
            Self::Mode(options) => options.json,
            Self::Flags(options) => options.json,
            Self::Usage(options) => options.json,
            Self::Cost(options) => options.json(),
            Self::Jobs(options) => options.json,
            Self::Keys(options) => options.json,
            Self::Up(_) | Self::Bus(_) | Self::Speak(_) | Self::Schema(_) | Self::Tether(_) => false,
        }
    }
}

/// A command that only shows something.
#[derive(Debug, clap::Args)]
pub(crate) struct Listing {
    /// For programs: everything there is, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

impl Cli {
    /// Carries it out.
    pub(crate) async fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let system = |target: &Target| target.system(self.config.as_ref());
        match self.command {
            Command::Up(options) => up::run(&options, self.config.as_ref(), output).await,
            Command::Ask(options) => ask::run(&options, &system(&options.target)?, output).await,
            Command::Transcribe(options) => {
                audio::transcribe(&options, &system(&options.asker.target)?, output).await
            }
            Command::Speak(options) => audio::speak(&options, &system(&options.asker.target)?, output).await,
            Command::Plan(options) => plan::run(&options, &system(&options.target)?, output).await,
            Command::Explain(options) => explain::run(&options, &system(&options.target)?, output).await,
            Command::Mode(options) => mode::run(&options, &system(&options.target)?, output).await,
            Command::Schema(options) => Ok(schema::run(&options, output)),
            Command::Models(options) => models::run(&options, &system(&options.target)?, output).await,
            Command::Agents(options) => agents::run(options.json, &system(&options.target)?, output).await,
            Command::Status(options) => status::run(options.json, &system(&options.target)?, output).await,
            Command::Flags(options) => flags::run(&options, &system(&options.target)?, output).await,
            Command::Usage(options) => usage::run(&options, &system(&options.target)?, output).await,
            Command::Budgets(options) => budgets::run(options.json, &system(&options.target)?, output).await,
            Command::Cost(options) => cost::run(&options, output),
            Command::Bus(options) => {
                let permissions::Action::Permissions(options) = options.action;
                permissions::run(&system(&options.target)?, output)
            }
            Command::Keys(options) => keys::run(&options, &system(&options.target)?, output).await,
            Command::Jobs(options) => jobs::run(&options, &system(&options.target)?, output).await,
            Command::Tether(options) => Err(tether::exec(&options)),
        }
    }
}
