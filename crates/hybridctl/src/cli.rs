//! What can stand on the command line.

use clap::{Parser, Subcommand};

use crate::{tether, up};

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
    #[command(hide = true)]
    Tether(tether::Options),
}
