//! From `main` to the exit code.

mod flags;
mod probe;

use std::future::Future;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use anyhow::Context;
use futures::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::config::{self, Loaded, Sources};
use crate::process::Process;
use crate::shutdown::Shutdown;
use crate::tasks::{chain, panic_message};
use crate::telemetry::Telemetry;
pub(crate) use flags::CONFIG_VARIABLE;
use flags::Flags;

/// Exit code after a second signal, as a shell reports a program that was interrupted.
const EXIT_INTERRUPTED: i32 = 130;
/// Longest the runtime waits for blocking calls that nobody awaits any more.
const BLOCKING_GRACE: std::time::Duration = std::time::Duration::from_millis(500);

/// Runs a service: reads the flags and the configuration, sets up telemetry, calls `run`, ends its tasks, and says how it
/// went. A service's `main` is this one call.
///
/// `service` is the name of the service and of its section; `sections` are the sections of all services that may stand in
/// the same file. The fields of `S` are the sections that this service reads; `[node]` and `[telemetry]` are read here.
///
/// Exit codes: 0 the service ended as asked, 1 it failed, 2 the flags are wrong, 130 a second signal.
pub fn execute<S, F, Fut>(service: &'static str, sections: &[&str], run: F) -> ExitCode
where
    S: Serialize + DeserializeOwned + Default + Send,
    F: FnOnce(S, Process) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let flags = Flags::from_command_line(service);
    match dispatch(service, sections, &flags, run) {
        Ok(code) => code,
        Err(error) => {
            // Without a log yet, and with nowhere to report a failure to write.
            let _ = writeln!(std::io::stderr(), "{service}: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn dispatch<S, F, Fut>(
    service: &'static str,
    sections: &[&str],
    flags: &Flags,
    run: F,
) -> anyhow::Result<ExitCode>
where
    S: Serialize + DeserializeOwned + Default + Send,
    F: FnOnce(S, Process) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let sources = Sources::gather(flags.config.as_deref(), &flags.set)?;
    let loaded = config::load::<S>(sections, &sources)?;
    if flags.dump_config {
        let text = loaded.dump()?;
        std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
        return Ok(ExitCode::SUCCESS);
    }
    if flags.health_check {
        probe::ready(loaded.admin_listen(service)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(service)
        .build()
        .context("cannot start the async runtime")?;
    let code = runtime.block_on(start(service, flags, loaded, run));
    runtime.shutdown_timeout(BLOCKING_GRACE);
    code
}

/// Telemetry around the service, so that its last words get out.
async fn start<S, F, Fut>(
    service: &'static str,
    flags: &Flags,
    loaded: Loaded<S>,
    run: F,
) -> anyhow::Result<ExitCode>
where
    F: FnOnce(S, Process) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let node = loaded.node();
    let allowed = loaded.telemetry.shutdown_deadline();
    let registry = prometheus::Registry::new();
    let process = Process::new(service, node, allowed, registry.clone());
    let telemetry =
        Telemetry::start(&loaded.telemetry, &process, registry).context("telemetry cannot start")?;
    log_panics();
    let mut signals = JoinSet::new();
    signals.spawn(watch(Signals::install()?, process.shutdown.clone()));
    tracing::info!(
        service,
        version = crate::VERSION,
        machine = %process.node.machine,
        instance = %process.instance,
        config = flags.config.as_deref().map(|path| path.display().to_string()),
        "service starting"
    );
    let outcome = conduct(run(loaded.settings, process.clone()), &process).await;
    let code = match outcome {
        Ok(()) => {
            tracing::info!(service, "service ended");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(service, error = %chain(&error), "service failed");
            ExitCode::FAILURE
        }
    };
    telemetry.flush(process.shutdown.remaining()).await;
    Ok(code)
}

/// Runs the service to its end or to the shutdown's deadline, then ends its tasks.
async fn conduct<Fut>(run: Fut, process: &Process) -> anyhow::Result<()>
where
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let overrun = async {
        process.shutdown.requested().await;
        tokio::time::sleep_until(process.shutdown.deadline()).await;
    };
    // On a worker, not on the thread that started the runtime: everything that `run` waits for happens on the workers, and each
    // wake-up across threads costs more than most of what it is for.
    let mut service = JoinSet::new();
    service.spawn(AssertUnwindSafe(run).catch_unwind());
    let ran = tokio::select! {
        Some(outcome) = service.join_next() => match outcome {
            Ok(Ok(outcome)) => outcome,
            Err(gone) => Err(anyhow::anyhow!("service was cut off: {gone}")),
            Ok(Err(panic)) => Err(anyhow::anyhow!("service panicked: {}", panic_message(panic.as_ref()))),
        },
        () = overrun => Err(anyhow::anyhow!("shutdown deadline passed before the service had ended")),
    };
    let stopped = process.stop().await;
    match (stopped, ran) {
        (Ok(()), ran) => ran,
        (Err(task), Ok(())) => Err(task),
        (Err(task), Err(run)) => {
            // The task's failure came first; what it did to `run` is a consequence worth a line of its own.
            tracing::error!(error = %chain(&run), "run failed after a task had");
            Err(task)
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("cannot install a signal handler");
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A task of its own, so that the second signal ends a process whose service does not come back to its await points.
async fn watch(mut signals: Signals, shutdown: Shutdown) {
    let signal = signals.next().await;
    tracing::info!(signal, "shutdown requested");
    shutdown.request();
    let signal = signals.next().await;
    tracing::error!(signal, "second signal, exiting at once");
    std::process::exit(EXIT_INTERRUPTED);
}

/// Panics go to the log, in its format, with the place they come from.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = matches!(backtrace.status(), std::backtrace::BacktraceStatus::Captured)
            .then(|| backtrace.to_string());
        tracing::error!(location, message = panic_message(panic.payload()), backtrace, "panic");
    }));
}
