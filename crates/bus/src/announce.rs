//! How a service makes itself known: a registration in the control bucket, a heartbeat every half second, and the NATS
//! services API, so that `nats micro ls` lists it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::service::ServiceExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{Heartbeat, registration_key},
    v1,
};

use crate::{Bus, control::Control, executor::Load};

/// Between heartbeats; readers call a service dead after three missed.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The registration is written again after so many heartbeats (half a minute): model-manager-suite deletes those of services
/// that it has not heard for a minute, and one that was only held up comes back this way.
const HEARTBEATS_PER_REGISTRATION: u32 = 60;
/// A bucket that takes longer is tried again with the next heartbeat, so that it never holds up the heartbeats for long.
const WRITE_MAX: Duration = HEARTBEAT;

/// What the service says of itself; changed at any time, told with the next heartbeat.
#[derive(Debug, Clone, Default)]
pub struct Announcement {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    deployments: Vec<v1::Deployment>,
    ready: bool,
    resources: Option<v1::NodeResources>,
    revision: u64,
}

impl Announcement {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this process runs; written to the bucket when it differs.
    pub fn set_deployments(&self, deployments: Vec<v1::Deployment>) {
        let mut state = self.lock();
        if state.deployments != deployments {
            state.deployments = deployments;
            state.revision += 1;
            self.changed.notify_one();
        }
    }

    /// Whether this process takes work. A change is told at once.
    pub fn set_ready(&self, ready: bool) {
        let mut state = self.lock();
        if state.ready != ready {
            state.ready = ready;
            self.changed.notify_one();
        }
    }

    /// What the machine has (vram-optimizer only).
    pub fn set_resources(&self, resources: v1::NodeResources) {
        self.lock().resources = Some(resources);
    }
}

/// Tells the bus of this process until stopped; then takes the registration back.
pub struct Announcer {
    /// The bus.
    pub bus: Bus,
    /// The machine's bucket.
    pub control: Control,
    /// Version of the program.
    pub version: &'static str,
    /// Milliseconds since 1970.
    pub now_unix_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Requests in flight.
    pub load: Load,
}

impl Announcer {
    /// Runs until `stop` fires. A bus that is away is waited out: the registration is written again once it is back.
    pub async fn run(self, announcement: Announcement, stop: CancellationToken) {
        let bus = self.bus.clone();
        let _listed = self.list().await;
        let subject = Heartbeat {
            machine: bus.machine().clone(),
            service: bus.service(),
            instance: bus.instance().to_owned(),
        };
        let key = registration_key(bus.machine(), bus.service(), bus.instance());
        let started = (self.now_unix_ms)();
        let mut written = None;
        let mut beats = 0;
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = announcement.changed.notified() => beat.reset_immediately(),
                _ = beat.tick() => {
                    if let Err(error) = bus.publish(&subject, &self.heartbeat(&announcement)).await {
                        tracing::warn!(%error, "heartbeat not sent");
                    }
                    beats += 1;
                    if beats == HEARTBEATS_PER_REGISTRATION {
                        (beats, written) = (0, None);
                    }
                }
            }
            let (revision, registration) = self.registration(&announcement, started);
            if written != Some(revision) {
                match tokio::time::timeout(WRITE_MAX, self.control.put(&key, &registration)).await {
                    Ok(Ok(_)) => written = Some(revision),
                    Ok(Err(error)) => tracing::warn!(%error, "registration not written, trying again"),
                    Err(_) => tracing::warn!("registration not written in time, trying again"),
                }
            }
        }
        match tokio::time::timeout(WRITE_MAX, self.control.delete(&key)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "registration not taken back"),
            Err(_) => tracing::warn!("registration not taken back in time"),
        }
    }

    fn heartbeat(&self, announcement: &Announcement) -> v1::ServiceHeartbeat {
        let state = announcement.lock();
        v1::ServiceHeartbeat {
            service: self.bus.service().to_owned(),
            instance: self.bus.instance().to_owned(),
            machine: self.bus.machine().to_string(),
            sent_unix_ms: (self.now_unix_ms)(),
            in_flight: self.load.in_flight(),
            ready: state.ready,
            resources: state.resources.clone(),
            version: self.version.to_owned(),
        }
    }

    fn registration(&self, announcement: &Announcement, started: u64) -> (u64, v1::Registration) {
        let state = announcement.lock();
        let registration = v1::Registration {
            service: self.bus.service().to_owned(),
            instance: self.bus.instance().to_owned(),
            machine: self.bus.machine().to_string(),
            version: self.version.to_owned(),
            started_unix_ms: started,
            deployments: state.deployments.clone(),
        };
        (state.revision, registration)
    }

    /// Joins the NATS services API; leaving is dropping what comes back.
    async fn list(&self) -> Option<async_nats::service::Service> {
        let metadata = HashMap::from([
            ("machine".to_owned(), self.bus.machine().to_string()),
            ("instance".to_owned(), self.bus.instance().to_owned()),
        ]);
        let builder = self.bus.0.client.service_builder().description("Hybrid LLM").metadata(metadata);
        match builder.start(self.bus.service(), self.version).await {
            Ok(service) => Some(service),
            Err(error) => {
                tracing::warn!(%error, "not listed in the nats services api");
                None
            }
        }
    }
}
