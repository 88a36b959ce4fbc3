//! What the process says about itself to whoever routes work to it.
//!
//! A component registers unready, becomes ready when it can do its work, and may change its mind at any time. The process
//! is ready while all its components are and no shutdown was asked for. Liveness is another question: it is answered by
//! the tasks (see [`crate::tasks`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::shutdown::Shutdown;

/// The readiness of all components. Cloneable; the clones are one.
#[derive(Debug, Clone)]
pub struct Health {
    components: Arc<watch::Sender<BTreeMap<String, State>>>,
    shutdown: Shutdown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    ready: bool,
    detail: String,
}

impl Health {
    pub(crate) fn new(shutdown: Shutdown) -> Self {
        Self { components: Arc::new(watch::Sender::new(BTreeMap::new())), shutdown }
    }

    /// Registers a component as not ready yet, or finds it again under its name.
    #[must_use]
    pub fn component(&self, name: &str) -> Component {
        self.components.send_modify(|all| {
            all.entry(name.to_owned())
                .or_insert_with(|| State { ready: false, detail: "starting".to_owned() });
        });
        Component { name: name.to_owned(), components: Arc::clone(&self.components) }
    }

    /// Whether every component is ready and no shutdown was asked for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.shutdown.is_requested() && self.components.borrow().values().all(|state| state.ready)
    }

    /// Waits until every registered component is ready. A component that registers later can undo it.
    pub async fn ready(&self) {
        let mut watched = self.components.subscribe();
        // The sender lives in `self`, so the wait cannot end for want of one.
        let _ = watched.wait_for(|all| all.values().all(|state| state.ready)).await;
    }

    /// The state of everything, in the order of the names.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut components: Vec<_> = self
            .components
            .borrow()
            .iter()
            .map(|(name, state)| ComponentReport {
                name: name.clone(),
                ready: state.ready,
                detail: state.detail.clone(),
            })
            .collect();
        if self.shutdown.is_requested() {
            let detail = "shutting down".to_owned();
            components.push(ComponentReport { name: "process".to_owned(), ready: false, detail });
        }
        Report { ready: components.iter().all(|component| component.ready), components }
    }
}

/// One component's entry in [`Health`]. Cloneable, so that several tasks may report for it.
#[derive(Debug, Clone)]
pub struct Component {
    name: String,
    components: Arc<watch::Sender<BTreeMap<String, State>>>,
}

impl Component {
    /// Says whether the component can do its work, and why (not), in words for an operator.
    pub fn set_ready(&self, ready: bool, detail: impl Into<String>) {
        let state = State { ready, detail: detail.into() };
        let mut turned = false;
        self.components.send_if_modified(|all| {
            let before = all.insert(self.name.clone(), state.clone());
            turned = before.as_ref().is_none_or(|before| before.ready != state.ready);
            before.as_ref() != Some(&state)
        });
        if turned {
            tracing::info!(component = %self.name, ready, detail = %state.detail, "component readiness changed");
        }
    }

    /// Removes the component, when what it stood for is no longer part of the process.
    pub fn remove(self) {
        self.components.send_modify(|all| {
            all.remove(&self.name);
        });
    }
}

/// Body of `/readyz`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether the process takes work.
    pub ready: bool,
    /// The components it depends on.
    pub components: Vec<ComponentReport>,
}

/// One component in a [`Report`].
#[derive(Debug, Clone, Serialize)]
pub struct ComponentReport {
    /// Its name.
    pub name: String,
    /// Whether it can do its work.
    pub ready: bool,
    /// Why (not), in words.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn health() -> Health {
        Health::new(Shutdown::new(Duration::from_secs(1)))
    }

    #[test]
    fn a_process_is_ready_when_all_its_components_are() {
        let health = health();
        let bus = health.component("bus");
        let disk = health.component("disk");
        assert!(!health.is_ready());
        bus.set_ready(true, "connected");
        assert!(!health.is_ready());
        disk.set_ready(true, "");
        assert!(health.is_ready());
        bus.set_ready(false, "reconnecting");
        assert!(!health.is_ready());
        bus.remove();
        assert!(health.is_ready());
    }

    #[test]
    fn finding_a_component_again_keeps_its_state() {
        let health = health();
        health.component("bus").set_ready(true, "connected");
        let _again = health.component("bus");
        assert!(health.is_ready());
    }

    #[test]
    fn a_shutdown_makes_the_process_unready_and_says_so() {
        let health = health();
        health.component("bus").set_ready(true, "connected");
        health.shutdown.request();
        assert!(!health.is_ready());
        let report = health.report();
        assert!(!report.ready);
        assert!(report.components.iter().any(|c| c.detail == "shutting down"));
    }

    #[tokio::test]
    async fn waiting_for_readiness_ends_when_the_last_component_is_ready() {
        let health = health();
        let bus = health.component("bus");
        let waiting = health.ready();
        let reporting = async { bus.set_ready(true, "connected") };
        tokio::join!(waiting, reporting);
        assert!(health.is_ready());
    }
}
