//! The owner's files, read again when they change or on SIGHUP. A wrong file is reported and changes nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use service_runtime::Component;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::{Catalog, CatalogError},
    metrics::Metrics,
};

/// How a change of a file shows.
type Mark = Option<(SystemTime, u64)>;

/// Who hears how it went: a refused file leaves the service ready, and shows.
pub(crate) struct Told {
    pub(crate) metrics: Metrics,
    pub(crate) health: Component,
}

impl Told {
    fn reloaded(&self, error: Option<&CatalogError>) {
        self.metrics.reloaded(error.is_none());
        let detail = error.map(|error| format!("refused, what was in force stays: {error}"));
        self.health.set_ready(true, detail.unwrap_or_default());
    }
}

/// Where the catalog comes from.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) agents: PathBuf,
    pub(crate) policies: PathBuf,
}

impl Files {
    /// How the files look now; taken before they are read, so that no change is missed.
    pub(crate) async fn marks(&self) -> [Mark; 2] {
        [mark(&self.agents).await, mark(&self.policies).await]
    }

    /// Looks at the files each `interval` until `stop` fires. `seen` is how they looked when they were last read.
    ///
    /// # Errors
    /// The signal handler cannot be installed.
    pub(crate) async fn watch(
        self,
        mut seen: [Mark; 2],
        every: Duration,
        catalogs: watch::Sender<Arc<Catalog>>,
        told: Told,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot install a handler for SIGHUP")?;
        let mut look = interval(every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = hangup.recv() => true,
                _ = look.tick() => false,
            };
            let marks = self.marks().await;
            if !asked && marks == seen {
                continue;
            }
            seen = marks;
            match Catalog::load(&self.agents, &self.policies).await {
                Ok(catalog) => {
                    tracing::info!(
                        agents = catalog.agents.len(),
                        aliases = catalog.aliases.len(),
                        "files read again"
                    );
                    told.reloaded(None);
                    catalogs.send_replace(Arc::new(catalog));
                }
                Err(error) => {
                    told.reloaded(Some(&error));
                    tracing::error!(%error, "file refused, what was in force stays");
                }
            }
        }
    }
}

async fn mark(path: &Path) -> Mark {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
