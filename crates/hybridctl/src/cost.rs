//! `hybridctl cost`: what work would cost, without running it.

mod chart;
mod file;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::output::Output;
use file::Plan;

/// Read when no `--workload` is given.
const WORKLOADS: &str = "config/workloads";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Compare ways to run a workload: by the token, on one's own hardware, on rented hardware
    Simulate(Simulate),
}

#[derive(Debug, clap::Args)]
struct Simulate {
    /// Days that are paid for
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_660))]
    days: u32,
    /// Workload to simulate; may be given more than once [default: every file in config/workloads]
    #[arg(long = "workload", value_name = "FILE")]
    workloads: Vec<PathBuf>,
    /// For programs: all figures as JSON, amounts in pico-dollars
    #[arg(long)]
    json: bool,
}

impl Options {
    pub(crate) fn json(&self) -> bool {
        let Command::Simulate(simulate) = &self.command;
        simulate.json
    }
}

pub(crate) fn run(options: &Options, output: &Output) -> anyhow::Result<ExitCode> {
    let Command::Simulate(simulate) = &options.command;
    let files = if simulate.workloads.is_empty() { shipped()? } else { simulate.workloads.clone() };
    let plans = files.iter().map(|file| Plan::read(file)).collect::<anyhow::Result<Vec<_>>>()?;
    if simulate.json {
        let reports: Vec<_> = plans.iter().map(|plan| report::json(plan, simulate.days)).collect();
        output.json(&reports)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (index, plan) in plans.iter().enumerate() {
        if index > 0 {
            output.line("");
        }
        for line in report::lines(plan, simulate.days, output.out) {
            output.line(&line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The files of the repository, by name.
fn shipped() -> anyhow::Result<Vec<PathBuf>> {
    let folder = Path::new(WORKLOADS);
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("no {WORKLOADS} here; name a workload with --workload FILE"))?;
    let mut files = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{WORKLOADS} cannot be listed"))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    anyhow::ensure!(!files.is_empty(), "{WORKLOADS} holds no workload (*.toml)");
    Ok(files)
}
