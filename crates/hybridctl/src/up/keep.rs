//! One child: started, listened to, started again when it dies, stopped when told.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::log::Log;
use crate::tether;

/// Deaths within [`WINDOW`] that are answered with a new start.
pub(super) const DEATHS_MAX: usize = 5;
/// Over which deaths are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Pause before the first new start; doubled with each further death.
const PAUSE: Duration = Duration::from_millis(250);
/// Lines kept of each child for the report of a failure.
const LINES_KEPT: usize = 12;
/// Longer lines are cut.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Time for the last words of a child that has ended; a grandchild may hold its output open.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) executable: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(&'static str, String)>,
    /// What it gets when this process is gone.
    pub(super) when_orphaned: Signal,
}

/// A child died too often.
#[derive(Debug, thiserror::Error)]
#[error("{name} ended {DEATHS_MAX} times within a minute, at last with {last}")]
pub(super) struct GaveUp {
    pub(super) name: &'static str,
    pub(super) last: String,
    pub(super) last_lines: Vec<String>,
}

/// The last lines of a child.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent(Arc<Mutex<VecDeque<String>>>);

impl Recent {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Looks after one child.
pub(super) struct Keeper {
    pub(super) program: Program,
    pub(super) log: Log,
    pub(super) recent: Recent,
    pub(super) stop: CancellationToken,
    pub(super) halt: CancellationToken,
    pub(super) deadline: Duration,
}

impl Keeper {
    /// Ends when told to, or when the child dies too often.
    pub(super) async fn run(self) -> Result<(), GaveUp> {
        let mut deaths = Deaths::default();
        loop {
            let end = self.once().await;
            let Some(end) = end else { return Ok(()) };
            let Some(pause) = deaths.again_after(Instant::now()) else {
                let last_lines = self.recent.lines();
                return Err(GaveUp { name: self.program.name, last: end, last_lines });
            };
            self.log.say(&format!("{} ended ({end}), again in {} ms", self.program.name, pause.as_millis()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return Ok(()),
                () = self.halt.cancelled() => return Ok(()),
            }
        }
    }

    /// Runs it once. How it ended, or `None` when that was wanted.
    async fn once(&self) -> Option<String> {
        let mut command = tether::command(&self.program.executable, self.program.when_orphaned);
        clean_environment(&mut command);
        command
            .args(&self.program.arguments)
            .envs(self.program.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C of the terminal is for us: children are stopped in their order.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Some(error.to_string()),
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let mut readers = JoinSet::new();
        if let Some(out) = child.stdout.take() {
            readers.spawn(self.listen(out));
        }
        if let Some(err) = child.stderr.take() {
            readers.spawn(self.listen(err));
        }
        let ended = tokio::select! {
            status = child.wait() => Some(describe(status)),
            () = self.stop.cancelled() => { self.end(&mut child, group).await; None }
            () = self.halt.cancelled() => { self.kill(&mut child, group).await; None }
        };
        // What it started must not stay behind either.
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ =
            tokio::time::timeout(LAST_WORDS, async { while readers.join_next().await.is_some() {} }).await;
        ended
    }

    /// Asks it to stop, then makes it.
    async fn end(&self, child: &mut Child, pid: Option<Pid>) {
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let stopped = tokio::select! {
            stopped = tokio::time::timeout(self.deadline, child.wait()) => stopped.is_ok(),
            () = self.halt.cancelled() => false,
        };
        if !stopped {
            self.log.say(&format!("{} did not stop, killing it", self.program.name));
            self.kill(child, pid).await;
        }
    }

    async fn kill(&self, child: &mut Child, group: Option<Pid>) {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.kill().await;
    }

    fn listen<S>(&self, source: S) -> impl Future<Output = ()> + use<S>
    where
        S: AsyncRead + Unpin + Send + 'static,
    {
        let (name, log, recent) = (self.program.name, self.log.clone(), self.recent.clone());
        read_lines(source, move |line| {
            let line = super::log::without_time(line);
            recent.push(line);
            log.line(name, line);
        })
    }
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Lines of `source`, cut at [`LINE_BYTES_MAX`], until it is closed.
async fn read_lines(source: impl AsyncRead + Unpin, mut each: impl FnMut(&str)) {
    let mut source = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        let chunk = match source.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(chunk) => chunk,
        };
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        let room = LINE_BYTES_MAX.saturating_sub(line.len()).min(part.len());
        line.extend_from_slice(part.get(..room).unwrap_or_default());
        let used = end.map_or(chunk.len(), |end| end + 1);
        source.consume(used);
        if end.is_some() {
            each(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    if !line.is_empty() {
        each(&String::from_utf8_lossy(&line));
    }
}

/// Takes the variables out that no service knows: its loader refuses what starts with `HYBRID_` and names no setting, and
/// the compose files and nats-server have such.
pub(super) fn clean_environment(command: &mut tokio::process::Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("HYBRID_") && !name.contains("__")) {
            command.env_remove(name);
        }
    }
}

/// When a child died, as far as it still counts.
#[derive(Debug, Default)]
struct Deaths(VecDeque<Instant>);

impl Deaths {
    /// The pause before the next start after a death at `now`; `None` when it is to be given up.
    fn again_after(&mut self, now: Instant) -> Option<Duration> {
        self.0.retain(|death| now.saturating_duration_since(*death) < WINDOW);
        self.0.push_back(now);
        let before = u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX);
        (self.0.len() <= DEATHS_MAX).then(|| PAUSE.saturating_mul(2_u32.saturating_pow(before)))
    }
}

#[cfg(test)]
mod tests;
