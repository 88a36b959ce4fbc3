//! What a service is given besides its settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Clock;
use crate::health::Health;
use crate::shutdown::Shutdown;
use crate::tasks::Tasks;

/// The machine this process runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Name of the machine: 1 to 32 letters, digits, `-`, `_`.
    pub machine: String,
    /// Where services keep their files; each takes a folder of its own in it.
    pub data_dir: PathBuf,
}

/// The process as seen by the service in it. Cloneable; the clones are one.
#[derive(Debug, Clone)]
pub struct Process {
    /// The machine.
    pub node: Node,
    /// Unique per start: 32 hexadecimal digits, later starts sort later.
    pub instance: String,
    /// The request to end, and its deadline.
    pub shutdown: Shutdown,
    /// Wall-clock time.
    pub clock: Clock,
    /// What `/readyz` answers.
    pub health: Health,
    /// The tasks the process cannot do without.
    pub tasks: Tasks,
    service: &'static str,
    registry: prometheus::Registry,
}

/// How long tasks that work may take to notice that `run` has ended, within the shutdown's deadline.
const TASK_GRACE: Duration = Duration::from_secs(2);

impl Process {
    pub(crate) fn new(
        service: &'static str,
        node: Node,
        shutdown_allowed: Duration,
        registry: prometheus::Registry,
    ) -> Self {
        let shutdown = Shutdown::new(shutdown_allowed);
        Self {
            node,
            instance: uuid::Uuid::now_v7().simple().to_string(),
            clock: Clock::system(),
            health: Health::new(shutdown.clone()),
            tasks: Tasks::new(shutdown.clone()),
            shutdown,
            service,
            registry,
        }
    }

    /// A process for tests that call a service's `run` themselves: no signals, no global telemetry, system clock (put
    /// another one into `clock`), ten seconds to shut down. `data_dir` is the test's own folder. End it with
    /// [`Self::stop`].
    #[must_use]
    pub fn for_tests(service: &'static str, machine: &str, data_dir: impl AsRef<Path>) -> Self {
        let node = Node { machine: machine.to_owned(), data_dir: data_dir.as_ref().to_owned() };
        Self::new(service, node, Duration::from_secs(10), prometheus::Registry::new())
    }

    /// Name of the service, as in the configuration.
    #[must_use]
    pub const fn service(&self) -> &'static str {
        self.service
    }

    pub(crate) const fn registry(&self) -> &prometheus::Registry {
        &self.registry
    }

    /// Asks for the shutdown and ends all tasks: those that don't end by themselves within two seconds (or the
    /// shutdown's deadline, if that is earlier) are dropped.
    ///
    /// # Errors
    /// The first error or panic of a task.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.shutdown.request();
        let end = self.shutdown.deadline();
        let work = end.min(tokio::time::Instant::now() + TASK_GRACE);
        let dropped = self.tasks.finish(work, end.max(work)).await;
        if !dropped.is_empty() {
            tracing::warn!(tasks = %dropped.join(", "), "tasks dropped because they did not heed the shutdown");
        }
        self.tasks.take_failure().map_or(Ok(()), Err)
    }
}
