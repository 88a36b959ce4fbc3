//! The command line: starts everything on one machine (`up`), asks, and shows what the system decided, has and cost.
//!
//! Answers go to stdout, everything about them to stderr, so that a pipe carries the answer alone. Exit codes: 0 done,
//! 1 it failed, 2 the command line is wrong, 130 interrupted.
//!
//! Everything runs on one thread: the parent's death signal of what `up` starts is tied to the thread that started it.

mod agents;
mod ask;
mod audio;
mod budgets;
mod cli;
mod cost;
mod explain;
mod flags;
mod jobs;
mod keys;
mod mode;
mod models;
mod output;
mod permissions;
mod plan;
mod question;
mod schema;
mod status;
mod table;
mod target;
mod tether;
mod up;
mod usage;
mod view;

use std::process::ExitCode;

use clap::Parser;
use domain::fault::Fault;
use time::UtcOffset;

use crate::cli::{Cli, Command};
use crate::output::Output;
use crate::view::FaultView;

/// Reads the command line, does what it says, and reports how it went.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Asked first: with a second thread the answer would be refused.
    let offset = UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC);
    let output = Output::detect(offset);
    let json = cli.command.json();
    match run(cli, &output) {
        Ok(code) => code,
        Err(error) => {
            report(&error, json, &output);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, output: &Output) -> anyhow::Result<ExitCode> {
    if let Command::Tether(tether) = &cli.command {
        return Err(tether::exec(tether));
    }
    // Two libraries may each bring a provider; this one is meant. A second install is refused, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .finish();
    tracing::subscriber::set_global_default(subscriber)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(cli.run(output));
    // A read of stdin may still hang in its thread.
    runtime.shutdown_background();
    code
}

/// A fault is told as it came; a program gets it as JSON.
fn report(error: &anyhow::Error, json: bool, output: &Output) {
    match error.downcast_ref::<Fault>() {
        Some(fault) if json => {
            let _ = output.json(&serde_json::json!({ "error": FaultView::from(fault.clone()) }));
        }
        Some(fault) => output.error(&view::fault_text(fault)),
        None if json => {
            let _ = output.json(&serde_json::json!({ "error": { "message": format!("{error:#}") } }));
        }
        None => output.error(&format!("{error:#}")),
    }
}
