//! `hybridctl bus permissions`: what each user of a machine's bus may do, as a nats-server reads it.

use std::process::ExitCode;

use domain::id::NodeId;
use wire::permission::accounts_file;
use wire::subject::Prefix;

use crate::output::Output;
use crate::target::{System, Target};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Print the machine's accounts, for docker/nats/accounts-<machine>.conf
    Permissions(Permissions),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Permissions {
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Prints it; asks nobody.
///
/// # Errors
/// The machine's name or the prefix cannot stand in a subject.
pub(crate) fn run(system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let (machine, prefix) = system.names();
    output.line(accounts_file(&NodeId::new(machine)?, &Prefix::new(prefix)?).trim_end());
    Ok(ExitCode::SUCCESS)
}
