//! The models as everybody but the keeper sees them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use domain::id::ModelName;
use domain::lifecycle::{Leaving, Phase, View};
use wire::v1;

use crate::protocol::Ready;
use crate::settings::ModelConfig;
use crate::supervisor::Description;

/// Steps in which the progress of a load is registered: each one is a message to every coordinator.
const REGISTERED_PERCENT: u32 = 10;

/// One model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Status {
    pub(super) config: Arc<ModelConfig>,
    pub(super) view: View,
    /// `None` until its file was readable once.
    pub(super) description: Option<Description>,
    /// What its engine said when it was ready, while it lives.
    pub(super) ready: Option<Ready>,
    /// 0 to 100 while it is loading.
    pub(super) percent: u32,
    /// What a load takes.
    pub(super) estimate: Duration,
    /// Since the start.
    pub(super) loads: u64,
}

/// All of them.
#[derive(Debug, Clone)]
pub(super) struct Statuses {
    /// What the times of the views are counted from.
    pub(super) began: Instant,
    pub(super) models: BTreeMap<ModelName, Status>,
}

impl Status {
    /// What a caller who waits is told: what happens, and how far it is.
    pub(super) const fn phase(&self) -> (&'static str, u32) {
        match self.view.phase {
            Phase::Loading(_) => ("loading", self.percent),
            _ => ("queued", 0),
        }
    }

    /// As coordinators see it: what is leaving is as good as cold.
    pub(super) fn registered(&self) -> (v1::DeploymentState, String) {
        match &self.view.phase {
            Phase::Cold if self.view.makes_room => (v1::DeploymentState::Cold, "waits for room".to_owned()),
            Phase::Cold => (v1::DeploymentState::Cold, "loaded with its next request".to_owned()),
            Phase::Loading(_) => (v1::DeploymentState::Loading, "loading".to_owned()),
            Phase::Warm(_) => (v1::DeploymentState::Warm, String::new()),
            Phase::Draining(_, why) | Phase::Ending(why) => (v1::DeploymentState::Cold, leaving(why)),
            Phase::Down { reason, .. } => (v1::DeploymentState::Down, reason.clone()),
        }
    }

    /// Progress and time left, in steps that are worth telling everybody.
    pub(super) fn load_told(&self) -> (u32, Duration) {
        let percent = match self.view.phase {
            Phase::Warm(_) => return (0, Duration::ZERO),
            Phase::Loading(_) => self.percent / REGISTERED_PERCENT * REGISTERED_PERCENT,
            _ => 0,
        };
        (percent, self.left(percent))
    }

    fn left(&self, percent: u32) -> Duration {
        self.estimate.saturating_mul(100_u32.saturating_sub(percent)) / 100
    }

    /// The answer to whoever asks for it.
    pub(super) fn message(&self, now: Duration) -> v1::ModelStatus {
        let (phase, why) = match &self.view.phase {
            Phase::Cold if self.view.makes_room => (v1::ModelPhase::Cold, "waits for room".to_owned()),
            Phase::Cold => (v1::ModelPhase::Cold, String::new()),
            Phase::Loading(_) => (v1::ModelPhase::Loading, String::new()),
            Phase::Warm(_) => (v1::ModelPhase::Warm, String::new()),
            Phase::Draining(_, why) | Phase::Ending(why) => (v1::ModelPhase::Draining, leaving(why)),
            Phase::Down { reason, .. } => (v1::ModelPhase::Down, reason.clone()),
        };
        let loading = matches!(self.view.phase, Phase::Loading(_));
        let since =
            |since: Option<Duration>| since.map_or(0, |since| milliseconds(now.saturating_sub(since)));
        v1::ModelStatus {
            model: self.config.name.to_string(),
            phase: phase.into(),
            why,
            progress_percent: if loading { self.percent } else { 0 },
            load_estimate_ms: milliseconds(self.estimate),
            load_remaining_ms: if loading { milliseconds(self.left(self.percent)) } else { 0 },
            pinned: self.view.pinned,
            preload: self.config.preload,
            memory_bytes: self.view.spec.memory.get(),
            in_flight: self.view.in_flight,
            waiting: self.view.waiting,
            oldest_wait_ms: since(self.view.oldest),
            idle_ms: since(self.view.idle_since),
            loads: self.loads,
            file: self.config.entry.file.clone(),
            installed: self.config.installed,
        }
    }
}

fn leaving(why: &Leaving) -> String {
    match why {
        Leaving::Idle => "leaves: nobody has asked for it".to_owned(),
        Leaving::Evicted(other) => format!("leaves: {other} needs the room"),
        Leaving::Asked => "leaves: somebody has unloaded it".to_owned(),
        Leaving::MemoryLost(reason) => format!("leaves: {reason}"),
    }
}

/// As the contract counts them.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
