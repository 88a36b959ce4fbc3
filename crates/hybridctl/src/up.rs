//! `hybridctl up`: nats-server and the services of one machine as children of this process.
//!
//! ```text
//! read the configuration ─► nats-server ─► services, all at once ─► ready ─► (kept alive) ─► stopped in reverse order
//! ```
//!
//! Invariants: what is started here ends with this process, however it ends (see [`crate::tether`]); a child that dies is
//! started again at most [`keep::DEATHS_MAX`] times a minute; nothing a child writes can hold it up (see [`log`]).

mod children;
mod credentials;
mod hint;
mod keep;
mod log;
mod nats;
mod plan;
mod ready;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::output::Output;
use children::Children;
use log::Log;
use plan::Plan;
pub(crate) use ready::reachable;

/// What a supervisor writes its own lines as.
const OURSELVES: &str = "hybridctl";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Set one key for all services that know it; repeatable
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The nats-server to start [default: .tools/bin/nats-server, else the one on PATH]
    #[arg(long, value_name = "FILE")]
    pub(crate) nats_server: Option<PathBuf>,
    /// What to start it with; the users are added where bus.credentials_dir is set
    #[arg(long, value_name = "FILE", default_value = "docker/nats/local.conf")]
    pub(crate) nats_config: PathBuf,
    /// Folder of the services' programs [default: the folder of this one]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// Services that are not started, with commas between them
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    pub(crate) no_services: Vec<String>,
    /// Longest time until everything is ready, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) wait: u64,
}

/// Starts everything, keeps it alive, stops it on a signal.
///
/// # Errors
/// The configuration is wrong, an address is taken, something did not get ready or died too often. Everything that was
/// started is stopped again.
pub(crate) async fn run(
    options: &Options,
    config: Option<&PathBuf>,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::install()?;
    let plan = tokio::select! {
        plan = Plan::read(options, config) => plan?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    ready::check_free(&plan).await?;
    let (log, writer) = Log::start(output, plan.names());
    let mut children = Children::new(log.clone(), plan.stop_deadline);
    let outcome = tokio::select! {
        outcome = conduct(options, config, &plan, &log, &mut children, output) => outcome,
        () = signals.next() => {
            log.board(Vec::new());
            log.say("stopping");
            Ok(())
        }
    };
    if let Err(error) = &outcome {
        log.board(Vec::new());
        // Whole it stands at the very end, where it is looked for.
        let text = format!("{error:#}");
        log.say(&format!("stopping: {}", text.lines().next().unwrap_or_default()));
    }
    let killed = tokio::select! {
        () = children.stop() => false,
        () = signals.next() => true,
    };
    if killed {
        log.say("second signal, killing what is left");
        children.kill().await;
    }
    log.say("everything is stopped");
    drop((children, log));
    writer.finish();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Ends only with an error; a signal drops it.
async fn conduct(
    options: &Options,
    config: Option<&PathBuf>,
    plan: &Plan,
    log: &Log,
    children: &mut Children,
    output: &Output,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(options.wait);
    nats::start(options, plan, log, children).await?;
    for service in &plan.services {
        children.start(service.program());
    }
    ready::wait(plan, children, log, output, deadline).await?;
    let took = begun.elapsed();
    log.say(&format!("everything is ready after {:.1} s", took.as_secs_f64()));
    for line in hint::lines(plan, options, config) {
        log.plain(&line);
    }
    let failed = children.failed().await;
    let lines = failed.last_lines.join("\n  ");
    Err(anyhow::anyhow!("{failed}; its last lines:\n  {lines}"))
}

struct Signals([Signal; 3]);

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("cannot install a signal handler");
        Ok(Self([
            install(SignalKind::interrupt())?,
            install(SignalKind::terminate())?,
            install(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
