//! A process that never outlives its owner.
//!
//! It gets a process group of its own, so that whatever it starts goes with it, and its output is kept, so that a failed
//! test can show what the process had to say.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait;

/// Lines kept of each output; older ones go first.
const LINES_MAX: usize = 2_000;
/// How long the end of a process waits for what it wrote last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A running process. Dropping it kills its whole process group.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    pid: Pid,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<VecDeque<String>>>);

impl Lines {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }

    fn find<T>(&self, select: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).find_map(select)
    }
}

fn read_lines(source: impl Read + Send + 'static, lines: Lines) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while source.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    })
}

impl Child {
    /// Starts `command` in a process group of its own, its input closed, its outputs collected.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        let pid = Pid::from_child(&process);
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let mut readers = Vec::new();
        readers.extend(process.stdout.take().map(|pipe| read_lines(pipe, stdout.clone())));
        readers.extend(process.stderr.take().map(|pipe| read_lines(pipe, stderr.clone())));
        Ok(Self { name: name.to_owned(), process, pid, stdout, stderr, readers, ended: None })
    }

    /// What it was called at the start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process id, which is also the id of its group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The last lines it wrote to standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// The last lines it wrote to standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Waits for the first line of standard output that `select` accepts.
    ///
    /// # Errors
    /// The process ended or the deadline passed first; the message carries its standard error.
    pub async fn line<T>(
        &mut self,
        deadline: Duration,
        mut select: impl FnMut(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let outcome = wait::until("a line of standard output", deadline, async || {
            if let Some(value) = self.stdout.find(&mut select) {
                return Some(Some(value));
            }
            // Its last words may still be in the pipe: the readers end when the pipe does.
            let over = self.ended().is_ok_and(|ended| ended.is_some())
                && self.readers.iter().all(JoinHandle::is_finished);
            over.then(|| self.stdout.find(&mut select))
        })
        .await;
        match outcome {
            Ok(Some(value)) => Ok(value),
            Ok(None) => {
                bail!("{} ended ({:?}) before it wrote the line:\n{}", self.name, self.ended, self.stderr())
            }
            Err(error) => {
                Err(error.context(format!("{} has written:\n{}{}", self.name, self.stdout(), self.stderr())))
            }
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The deadline passed first; the message carries its standard error.
    pub async fn end(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let ended = wait::until(&what, deadline, async || self.ended().transpose()).await;
        let status = ended.with_context(|| format!("{} has written:\n{}", self.name, self.stderr()))?;
        // Its last words may still be in the pipe; a child that it left behind may hold the pipe open.
        let read = async || self.readers.iter().all(JoinHandle::is_finished).then_some(());
        wait::until("the rest of its output", LAST_WORDS, read).await.ok();
        status
    }

    /// Signals the process alone, as an operator would.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Asks it to stop (SIGTERM) and waits for the end.
    ///
    /// # Errors
    /// It is gone, or still there when the deadline passes.
    pub async fn stop(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.end(deadline).await
    }

    /// Kills the whole process group (SIGKILL) and waits until the process is gone.
    ///
    /// # Errors
    /// The operating system refuses to wait.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        // The group is empty when everybody has ended by themselves.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let status = self.process.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        self.ended = Some(status);
        Ok(status)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Child {
        Child::spawn("sh", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[tokio::test]
    async fn dropping_a_process_takes_what_it_started_with_it() {
        let mut child = shell("sleep 600 & echo $!; wait");
        let grandchild: u32 = child.line(DEADLINE, |line| line.parse().ok()).await.unwrap();
        let stat = format!("/proc/{grandchild}/stat");
        assert!(std::fs::exists(&stat).unwrap());
        drop(child);
        let gone = async || match std::fs::read_to_string(&stat) {
            // The one who adopts it may take its time to collect it.
            Ok(text) => text.contains(") Z ").then_some(()),
            Err(_) => Some(()),
        };
        wait::until("the grandchild's end", DEADLINE, gone).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_ends_too_early_says_why() {
        let mut child = shell("echo 'no such thing' >&2; exit 3");
        let error = child.line(DEADLINE, |line| Some(line.to_owned())).await.unwrap_err();
        assert!(error.to_string().contains("no such thing"), "{error:#}");
        assert_eq!(child.end(DEADLINE).await.unwrap().code(), Some(3));
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = Child::spawn("ghost", &mut Command::new("/nowhere/ghost")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/ghost"), "{error:#}");
    }
}
