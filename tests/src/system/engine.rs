//! The processes that the local pool starts, one for each model.

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// A process of the local pool that runs one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engine(u32);

impl Engine {
    pub(super) fn new(pid: u32) -> Self {
        Self(pid)
    }

    /// Process id.
    #[must_use]
    pub fn pid(self) -> u32 {
        self.0
    }

    /// Signals it.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.0).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal the engine {}", self.0))
    }

    /// Whether the process is there (and is not a dead one that waits to be collected).
    #[must_use]
    pub fn lives(self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0));
        stat.is_ok_and(|text| !text.contains(") Z "))
    }
}

/// Processes whose parent is `parent`.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // "pid (name) state ppid …"; a name may hold anything, a parenthesis as well.
        let parent_of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        parent_of == Some(parent)
    };
    pids.filter(is_child).collect()
}
