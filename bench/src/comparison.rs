//! A whole run: cores, upstream, rounds, report.

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::cores::Cores;
use bench::load::Length;
use bench::memory::{self, CHUNK_DELAY, Memory};
use bench::report;
use bench::rounds::{self, Plan};
use bench::summary::summarise;
use bench::target::{Surroundings, Target};
use e2e::{Child, FakeUpstream};
use serde_json::json;

use crate::arguments::Comparison;

const KEY: &str = "bench-key";
const MODEL: &str = "gpt-4o-mini";

/// Measures and reports; the exit code says whether what was asked to hold holds.
///
/// # Errors
/// A part does not start, answers wrongly or stops answering; or the report cannot be written.
pub(crate) async fn run(arguments: Comparison) -> anyhow::Result<ExitCode> {
    let available = Cores::available()?;
    let load_cores = arguments.load_cores.clone().unwrap_or_else(|| available.nth(0));
    let measured_cores = arguments.measured_cores.clone().unwrap_or_else(|| available.nth(1));
    load_cores.bind()?;
    let plan = plan(&arguments)?;
    let upstream = start_upstream(&arguments, Duration::from_millis(arguments.chunk_delay_ms)).await?;
    let surroundings = Surroundings {
        upstream: upstream.base_url(),
        key: KEY.to_owned(),
        model: MODEL.to_owned(),
        cores: measured_cores.clone(),
    };

    let mut stderr = std::io::stderr();
    // Progress only: a closed stderr is no reason to stop.
    let measurements = rounds::run(&plan, &surroundings, |step| drop(writeln!(stderr, "{step}"))).await?;

    let memory = open_streams(&arguments, &plan, &surroundings).await?;
    let summary = summarise(&measurements, memory);
    let mut stdout = std::io::stdout();
    writeln!(
        stdout,
        "Cores: load generator and upstream on {load_cores}, everything measured on {measured_cores} ({} available).",
        available.count()
    )?;
    if load_cores.overlaps(&measured_cores) {
        writeln!(
            stdout,
            "WARNING: the load generator takes time from what it measures; these figures mean little."
        )?;
    }
    writeln!(
        stdout,
        "{} rounds of {} after {} ms of warm-up, medians; prompt {} bytes, {} chunks {} ms apart.",
        plan.rounds,
        match plan.length {
            Length::Time(time) => format!("{} ms", time.as_millis()),
            Length::Answers(count) => format!("{count} answers"),
        },
        plan.warm_up.as_millis(),
        arguments.prompt_bytes,
        arguments.chunks,
        arguments.chunk_delay_ms,
    )?;
    if cfg!(debug_assertions) {
        writeln!(
            stdout,
            "WARNING: built without optimisation; use `make bench` for figures that mean something."
        )?;
    }
    writeln!(stdout, "\n{}", report::text(&summary))?;
    if let Some(file) = &arguments.json {
        let settings = json!({
            "cores": {"load": load_cores.to_string(), "measured": measured_cores.to_string()},
            "optimised": !cfg!(debug_assertions),
            "rounds": plan.rounds,
            "warm_up_ms": arguments.warm_up_ms,
            "measure_ms": arguments.answers.is_none().then_some(arguments.measure_ms),
            "measure_answers": arguments.answers,
            "prompt_bytes": arguments.prompt_bytes,
            "chunks": arguments.chunks,
            "chunk_delay_ms": arguments.chunk_delay_ms,
        });
        let out = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        serde_json::to_writer_pretty(out, &json!({"settings": settings, "summary": summary}))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let passed = !arguments.check || summary.holds();
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The adapter's memory, on an upstream that takes its time; not without the adapter.
async fn open_streams(
    arguments: &Comparison,
    plan: &Plan,
    surroundings: &Surroundings,
) -> anyhow::Result<Option<Memory>> {
    if arguments.open_streams == 0 || !plan.targets.contains(&Target::Adapter) {
        return Ok(None);
    }
    // Progress only, as above.
    drop(writeln!(std::io::stderr(), "{} open streams on the adapter", arguments.open_streams));
    let upstream = start_upstream(arguments, CHUNK_DELAY).await?;
    let surroundings = Surroundings { upstream: upstream.base_url(), ..surroundings.clone() };
    memory::run(&surroundings, arguments.open_streams, &plan.prompt).await.map(Some)
}

fn plan(arguments: &Comparison) -> anyhow::Result<Plan> {
    ensure!(arguments.rounds > 0, "--rounds is 0, expected at least 1");
    ensure!(
        arguments.connections.iter().all(|count| (1..=10_000).contains(count)),
        "--connections has {:?}, expected 1 to 10000 each",
        arguments.connections
    );
    let mut targets = arguments.targets.clone();
    targets.sort_unstable();
    targets.dedup();
    // The adapter of the benchmark is configured with 1,024 slots.
    ensure!(
        arguments.open_streams <= 1_024,
        "--open-streams is {}, expected at most 1024",
        arguments.open_streams
    );
    let words = "Summarise what the weather was like on the coast and say whether the boats went out. ";
    Ok(Plan {
        targets,
        connections: arguments.connections.clone(),
        rounds: arguments.rounds,
        warm_up: Duration::from_millis(arguments.warm_up_ms),
        length: arguments
            .answers
            .map_or(Length::Time(Duration::from_millis(arguments.measure_ms)), Length::Answers),
        prompt: words.chars().cycle().take(arguments.prompt_bytes).collect(),
    })
}

async fn start_upstream(arguments: &Comparison, chunk_delay: Duration) -> anyhow::Result<FakeUpstream> {
    let this = std::env::current_exe().context("cannot find the running executable")?;
    let mut command = Command::new(this);
    command.args(["upstream", "--key", KEY, "--model", MODEL]);
    command.args(["--chunks", &arguments.chunks.to_string()]);
    command.args(["--chunk-delay-ms", &chunk_delay.as_millis().to_string()]);
    FakeUpstream::from_child(Child::spawn("upstream", &mut command)?).await
}
