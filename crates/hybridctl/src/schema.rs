//! `hybridctl schema`: what may stand in the owner's files, for editors and checkers. The schemas are made from the structs that
//! read the files, in model-manager-suite, whose tests compare them.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which file
    file: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum File {
    /// config/policies.toml
    Policies,
    /// config/agents.toml
    Agents,
}

pub(crate) fn run(options: &Options, output: &Output) -> ExitCode {
    let schema = match options.file {
        File::Policies => include_str!("../../../config/schema/policies.json"),
        File::Agents => include_str!("../../../config/schema/agents.json"),
    };
    output.line(schema.trim_end());
    ExitCode::SUCCESS
}
