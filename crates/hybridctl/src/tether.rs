//! A program that ends with the one who started it.
//!
//! `hybridctl tether PARENT PROGRAM …` asks the kernel for SIGTERM when its parent dies, in whatever way, and then becomes
//! PROGRAM, which keeps the wish (prctl(2), PR_SET_PDEATHSIG). The usual place for this is between fork and exec of the
//! parent; a process of its own needs no unsafe code there.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// This program, also after its file was replaced by a newer build.
const OURSELVES: &str = "/proc/self/exe";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Process id of the one who starts it
    parent: i32,
    /// What to become
    program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// The command that runs `program` for as long as this process lives.
pub(crate) fn command(program: &std::path::Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(OURSELVES);
    command.arg("tether").arg(std::process::id().to_string()).arg(program);
    command
}

/// Becomes the program; returns only if that fails.
pub(crate) fn exec(options: &Options) -> anyhow::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
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
