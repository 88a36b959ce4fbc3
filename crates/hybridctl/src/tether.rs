//! A program that ends with the one who started it.
//!
//! `hybridctl tether PARENT SIGNAL PROGRAM …` asks the kernel for SIGNAL when its parent dies, in whatever way, and then becomes
//! PROGRAM, which keeps the wish (prctl(2), PR_SET_PDEATHSIG). The usual place for this is between fork and exec of the
//! parent; a process of its own needs no unsafe code there.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// This program, also after its file was replaced by a newer build.
const OURSELVES: &str = "/proc/self/exe";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Process id of the one who starts it
    parent: i32,
    /// What to get when that one is gone
    signal: i32,
    /// What to become
    program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// The command that runs `program`, and sends it `signal` when this process dies.
pub(crate) fn command(program: &Path, signal: Signal) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(OURSELVES);
    command.arg("tether").args([std::process::id().to_string(), signal.as_raw().to_string()]);
    // Behind this nothing is taken for an option of ours.
    command.arg("--").arg(program);
    command
}

/// Becomes the program; returns only if that fails.
pub(crate) fn exec(options: &Options) -> anyhow::Error {
    let Some(signal) = Signal::from_named_raw(options.signal) else {
        return anyhow::anyhow!("there is no signal {}", options.signal);
    };
    if let Err(error) = set_parent_process_death_signal(Some(signal)) {
        return anyhow::anyhow!(
            "the kernel refuses to tie {} to its parent: {error}",
            options.program.display()
        );
    }
    // The parent may have died before the wish was made.
    if getppid().map(Pid::as_raw_pid) != Some(options.parent) {
        return anyhow::anyhow!("the process that wanted {} is gone", options.program.display());
    }
    let error = Command::new(&options.program).args(&options.arguments).exec();
    anyhow::anyhow!("cannot start {}: {error}", options.program.display())
}
