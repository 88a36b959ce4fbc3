//! What can stand on the command line.

use clap::{Parser, Subcommand};

use crate::target::Target;
use crate::{agents, ask, flags, models, plan, status, tether, up, usage};

/// Start Hybrid LLM, ask it, and see what it decided, has and cost
#[derive(Debug, Parser)]
#[command(name = "hybridctl", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start nats-server and all services on this machine; Ctrl-C stops them
    Up(up::Options),
    /// Ask, and see the answer as it comes
    Ask(ask::Options),
    /// Show where a request would run, and why, without running it
    Plan(plan::Options),
    /// Show the models that can be asked
    Models(Listing),
    /// Show where each agent is placed
    Agents(Listing),
    /// Show services, machines and memory
    Status(Listing),
    /// Show or change what is switched on
    Flags(flags::Options),
    /// Show what was used and what it cost
    Usage(usage::Options),
    #[command(hide = true)]
    Tether(tether::Options),
}

impl Command {
    /// Whether a program reads the answer.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Ask(options) => options.json,
            Self::Plan(options) => options.json,
            Self::Models(options) | Self::Agents(options) | Self::Status(options) => options.json,
            Self::Flags(options) => options.json,
            Self::Usage(options) => options.json,
            Self::Up(_) | Self::Tether(_) => false,
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

/// Carries it out.
pub(crate) async fn run(
    command: Command,
    output: &crate::output::Output,
) -> anyhow::Result<std::process::ExitCode> {
    match command {
        Command::Up(options) => up::run(&options, output).await,
        Command::Ask(options) => ask::run(&options, output).await,
        Command::Plan(options) => plan::run(&options, output).await,
        Command::Models(options) => models::run(&options, output).await,
        Command::Agents(options) => agents::run(&options, output).await,
        Command::Status(options) => status::run(&options, output).await,
        Command::Flags(options) => flags::run(&options, output).await,
        Command::Usage(options) => usage::run(&options, output).await,
        Command::Tether(options) => Err(tether::exec(&options)),
    }
}
