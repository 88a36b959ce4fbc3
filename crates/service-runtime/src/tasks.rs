//! The tasks of a process, and what happens when one fails.
//!
//! A task given to [`Tasks::spawn`] is one the process cannot do without: an error or a panic in it is kept as the reason
//! of the end, and asks for a shutdown. A task that returns `Ok` has simply finished. Tasks are expected to watch the
//! shutdown token; those that don't are dropped at their next await point when the process ends.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::shutdown::Shutdown;

/// How long dropped tasks are waited for; long enough for destructors, too short to notice.
const ABORT_GRACE: Duration = Duration::from_millis(500);

/// Cloneable handle on the tasks of one process.
#[derive(Debug, Clone)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shutdown: Shutdown,
    /// What the service does; waited for at the end.
    work: TaskTracker,
    /// What serves to the very end, such as the admin listener; told to stop after the work.
    servers: TaskTracker,
    stop_servers: CancellationToken,
    abort: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    running: BTreeMap<u64, Cow<'static, str>>,
    failure: Option<anyhow::Error>,
    failed: bool,
}

impl Tasks {
    pub(crate) fn new(shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner {
            shutdown,
            work: TaskTracker::new(),
            servers: TaskTracker::new(),
            stop_servers: CancellationToken::new(),
            abort: CancellationToken::new(),
            state: Mutex::default(),
        }))
    }

    /// Runs `task` until it returns or the process ends. An `Err` or a panic shuts the process down with a failure.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let name = name.into();
        let running = self.register(name.clone());
        let supervised = self.supervise(name, task);
        self.0.work.spawn(async move {
            supervised.await;
            drop(running);
        });
    }

    /// As [`Self::spawn`], for what must still answer while the rest drains; `task` ends when the token it is given does.
    pub(crate) fn spawn_server<F, Fut>(&self, name: &'static str, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let task = task(self.0.stop_servers.clone());
        self.0.servers.spawn(self.supervise(Cow::Borrowed(name), task));
    }

    /// Waits until every task given to [`Self::spawn`] has ended, also those spawned meanwhile. For a service that wants
    /// its tasks to end before it takes its own last steps; the shutdown's deadline is the caller's to heed.
    pub async fn drained(&self) {
        self.0.work.close();
        self.0.work.wait().await;
    }

    /// Whether no task has failed: what `/healthz` answers.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.state().failed
    }

    /// Ends all tasks: waits for those that work until `work_deadline`, then stops the servers and gives them until
    /// `end`. Returns the names of the tasks that had to be dropped.
    pub(crate) async fn finish(&self, work_deadline: Instant, end: Instant) -> Vec<String> {
        let drained = tokio::time::timeout_at(work_deadline, self.drained()).await.is_ok();
        let dropped = if drained { Vec::new() } else { self.running() };
        self.0.stop_servers.cancel();
        self.0.servers.close();
        // Whatever has not ended by itself is dropped at its next await point; a task that never reaches one is left to
        // the end of the process.
        let _ = tokio::time::timeout_at(end, self.0.servers.wait()).await;
        self.0.abort.cancel();
        let ended = async { tokio::join!(self.0.work.wait(), self.0.servers.wait()) };
        let _ = tokio::time::timeout(ABORT_GRACE, ended).await;
        dropped
    }

    /// The error of the first task that failed, once.
    pub(crate) fn take_failure(&self) -> Option<anyhow::Error> {
        self.state().failure.take()
    }

    fn running(&self) -> Vec<String> {
        self.state().running.values().map(ToString::to_string).collect()
    }

    fn register(&self, name: Cow<'static, str>) -> Running {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.running.insert(id, name);
        Running { tasks: self.clone(), id }
    }

    fn supervise<F>(&self, name: Cow<'static, str>, task: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let tasks = self.clone();
        async move {
            let outcome = tokio::select! {
                biased;
                () = tasks.0.abort.cancelled() => return,
                outcome = AssertUnwindSafe(task).catch_unwind() => outcome,
            };
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tasks.fail(error.context(format!("task {name} failed"))),
                Err(panic) => {
                    tasks.fail(anyhow::anyhow!("task {name} panicked: {}", panic_message(panic.as_ref())));
                }
            }
        }
    }

    /// Keeps the first error as the reason of the end.
    pub(crate) fn fail(&self, error: anyhow::Error) {
        {
            let mut state = self.state();
            if state.failed {
                drop(state);
                tracing::error!(error = %chain(&error), "another task failed");
                return self.0.shutdown.request();
            }
            state.failed = true;
            state.failure = Some(error);
        }
        self.0.shutdown.request();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a task off the list however it ends.
struct Running {
    tasks: Tasks,
    id: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.state().running.remove(&self.id);
    }
}

/// What a panic said, where it said it with text.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "without a message"
    }
}

/// An error and its causes on one line, outermost first.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

#[cfg(test)]
mod tests;
