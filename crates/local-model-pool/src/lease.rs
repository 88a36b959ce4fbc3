//! Memory leases from vram-optimizer, the owner of this machine's memory.
//!
//! Where it does not answer, a model on the CPU is loaded anyway: the owner's machine must answer without it. A model on the
//! GPU is not, since nobody else knows what a game or a training job has taken.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::Bus;
use domain::fault::Fault;
use domain::units::Bytes;
use wire::subject::LeaseCall;
use wire::v1;
use wire::v1::lease_request::Action;

use crate::settings::ModelConfig;

/// How long a lease lasts without renewal.
const TTL: Duration = Duration::from_secs(10);
/// Between renewals: two may fail.
const RENEW: Duration = Duration::from_secs(3);
/// How long the optimizer may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The way to the optimizer.
#[derive(Debug, Clone)]
pub struct Leases {
    bus: Bus,
    enabled: bool,
    told: Arc<AtomicBool>,
}

/// No memory for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoLease {
    /// In words.
    pub reason: String,
    /// How much has to become free; `None` = not known.
    pub missing: Option<Bytes>,
}

/// Why there is no lease.
enum Refused {
    /// It said no, and how much is missing where that is why; or the lease is not known any more.
    Answered(String, Option<Bytes>),
    /// It does not answer.
    Silent(String),
}

impl Leases {
    /// Leases over this connection; none at all where `enabled` is false.
    #[must_use]
    pub fn new(bus: Bus, enabled: bool) -> Self {
        Self { bus, enabled, told: Arc::default() }
    }

    /// Reserves memory for a model.
    ///
    /// # Errors
    /// There is not enough, or the model is for the GPU and nobody answers.
    pub async fn acquire(&self, model: &ModelConfig, bytes: Bytes) -> Result<Held, NoLease> {
        let gpu = model.gpu_layers > 0;
        let priority =
            if model.generate { v1::LeasePriority::Inference } else { v1::LeasePriority::Embedding };
        let holder: String = format!("{}/{}", self.bus.instance(), model.name).chars().take(128).collect();
        let wanted = v1::LeaseAcquire {
            holder,
            bytes: bytes.get().max(1),
            priority: priority.into(),
            ttl_ms: u64::try_from(TTL.as_millis()).unwrap_or(0),
            gpu,
            pids: vec![],
            ..v1::LeaseAcquire::default()
        };
        let held = Held { leases: self.clone(), wanted, lease: Mutex::new(None), process: AtomicU32::new(0) };
        if !self.enabled {
            return Ok(held);
        }
        match held.take().await {
            Ok(()) => Ok(held),
            Err(Refused::Silent(reason)) if !gpu => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        reason,
                        "vram-optimizer does not answer, models are loaded without leases"
                    );
                }
                Ok(held)
            }
            Err(Refused::Answered(reason, missing)) => Err(NoLease { reason, missing }),
            Err(Refused::Silent(reason)) => Err(NoLease { reason, missing: None }),
        }
    }

    async fn call(&self, action: Action) -> Result<v1::lease_reply::Result, Refused> {
        let subject = LeaseCall(self.bus.machine().clone());
        let request = v1::LeaseRequest { action: Some(action) };
        let reply = self.bus.call_within(&subject, &request, ANSWER).await;
        let reply = reply.map_err(|error| Refused::Silent(format!("no lease of memory: {error}")))?;
        match reply.result {
            Some(v1::lease_reply::Result::Error(error)) => {
                let missing = (reply.missing_bytes > 0).then(|| Bytes::new(reply.missing_bytes));
                Err(Refused::Answered(format!("no lease of memory: {}", Fault::from(error).message), missing))
            }
            Some(result) => Ok(result),
            None => Err(Refused::Answered("no lease of memory: the answer is empty".to_owned(), None)),
        }
    }
}

/// A reservation, or the wish for one where nobody answered.
#[derive(Debug)]
pub struct Held {
    leases: Leases,
    wanted: v1::LeaseAcquire,
    lease: Mutex<Option<(String, u64)>>,
    /// The process that uses the memory; 0 = not started yet.
    process: AtomicU32,
}

impl Held {
    /// Says which process uses the memory, so that the optimizer can tell it from a stranger's.
    pub fn used_by(&self, process: u32) {
        self.process.store(process, Ordering::Relaxed);
    }

    fn pids(&self) -> Vec<u32> {
        Some(self.process.load(Ordering::Relaxed)).filter(|process| *process > 0).into_iter().collect()
    }

    fn lease(&self) -> Option<(String, u64)> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, lease: Option<(String, u64)>) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    async fn take(&self) -> Result<(), Refused> {
        let wanted = v1::LeaseAcquire { pids: self.pids(), ..self.wanted.clone() };
        match self.leases.call(Action::Acquire(wanted)).await? {
            v1::lease_reply::Result::Granted(lease) => {
                self.set(Some((lease.lease_id, lease.fencing_token)));
                Ok(())
            }
            _ => Err(Refused::Answered(
                "no lease of memory: an acquire was answered with a list".to_owned(),
                None,
            )),
        }
    }

    /// Renews until the memory is lost, and says why in words. On the CPU it is never lost: the reservation is only asked for
    /// again.
    pub async fn keep(&self) -> String {
        if !self.leases.enabled {
            return std::future::pending().await;
        }
        // The first one comes at once and names the process.
        let mut pause = tokio::time::interval(RENEW);
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pause.tick().await;
            let renewed = match self.lease() {
                Some((lease_id, fencing_token)) => {
                    let renew = v1::LeaseRenew { lease_id, fencing_token, pids: self.pids(), worth: None };
                    self.leases.call(Action::Renew(renew)).await.map(drop)
                }
                None => self.take().await,
            };
            let Err(Refused::Answered(reason, _)) = renewed else { continue };
            // The optimizer may have been started anew and know nothing of the lease.
            let had_one = self.lease().is_some();
            self.set(None);
            match self.take().await {
                Err(Refused::Answered(again, _)) if self.wanted.gpu => return again,
                Err(Refused::Answered(..)) if had_one => {
                    tracing::warn!(
                        holder = self.wanted.holder,
                        reason,
                        "a model in system memory has lost its lease"
                    );
                }
                _ => {}
            }
        }
    }

    /// Gives the memory back.
    pub async fn release(self) {
        if let Some((lease_id, fencing_token)) = self.lease() {
            let release = v1::LeaseRelease { lease_id, fencing_token };
            if let Err(Refused::Answered(reason, _) | Refused::Silent(reason)) =
                self.leases.call(Action::Release(release)).await
            {
                tracing::debug!(reason, "a lease was not released and will expire");
            }
        }
    }
}
