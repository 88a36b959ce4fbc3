//! `make bench`: see `docs/benchmarks.md`.

mod arguments;
mod comparison;

use std::io::Write as _;
use std::net::Ipv4Addr;

use anyhow::Context as _;
use arguments::{Arguments, Part};
use bench::engine;
use bench::floor::{gateway, worker};
use bench::proxy;
use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<std::process::ExitCode> {
    let Arguments { part, comparison } = Arguments::parse();
    // The load generator and the upstream get one thread, as they get one core; floor and proxy run as the services do.
    let runtime = match part {
        None | Some(Part::Upstream { .. }) => Builder::new_current_thread().enable_all().build(),
        Some(_) => Builder::new_multi_thread().enable_all().build(),
    };
    let runtime = runtime.context("cannot start the runtime")?;
    match part {
        None => return runtime.block_on(unless_interrupted(comparison::run(comparison))),
        Some(Part::Upstream { key, model, chunks, chunk_delay_ms }) => {
            runtime.block_on(upstream(key, model, chunks, chunk_delay_ms))?;
        }
        Some(Part::FloorGateway { listen, nats }) => runtime.block_on(gateway::run(listen, &nats))?,
        Some(Part::FloorWorker { nats, upstream, key }) => {
            runtime.block_on(worker::run(&nats, upstream, &key))?
        }
        Some(Part::Engine { llama_server, model, threads, rounds, prompt_words, output_tokens, check }) => {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let threads = threads.or_else(|| u32::try_from(cores).ok()).unwrap_or(1);
            let plan = engine::Plan { llama_server, model, threads, rounds, prompt_words, output_tokens };
            return runtime.block_on(unless_interrupted(compare_engines(plan, check)));
        }
        Some(Part::Proxy { listen, upstream }) => runtime.block_on(proxy::run(listen, &upstream))?,
    }
    Ok(std::process::ExitCode::SUCCESS)
}

/// Ends what was started on Ctrl-C and SIGTERM: the processes are in groups of their own and would not notice.
async fn unless_interrupted<T>(run: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        outcome = run => outcome,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}

async fn compare_engines(plan: engine::Plan, check: bool) -> anyhow::Result<std::process::ExitCode> {
    let mut stderr = std::io::stderr();
    // Progress only: a closed stderr is no reason to stop.
    let report = engine::run(&plan, |step| drop(writeln!(stderr, "{step}"))).await?;
    let (threads, rounds) = (plan.threads, plan.rounds);
    writeln!(
        std::io::stdout(),
        "The local engine beside llama-server: {threads} threads each, medians of {rounds} rounds, {} prompt words, {} tokens\n{report}",
        plan.prompt_words,
        plan.output_tokens
    )?;
    let passed = !check || report.holds();
    Ok(if passed { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE })
}

async fn upstream(key: String, model: String, chunks: usize, chunk_delay_ms: u64) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
    writeln!(std::io::stdout(), "{}", serde_json::json!({"listening": listener.local_addr()?.to_string()}))?;
    let script = e2e::upstream::Script { chunks, chunk_delay_ms, ..Default::default() };
    let options = e2e::upstream::Options {
        key: Some(key),
        models: vec![model],
        record_max: 0,
        script,
        ..Default::default()
    };
    e2e::upstream::serve(listener, options).await.context("the listener broke")
}
