//! What each key has taken of its limits at this coordinator.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    fault::{Code, Fault, Origin},
    id::KeyId,
    key::{Key, Limits},
    resilience::rate_limit::{Left, Meter, Reservation},
};
use tokio::time::Instant;

/// When all slots of a key are taken, nobody knows when one is free.
const SLOT_WAIT: Duration = Duration::from_secs(1);

/// The meters of all keys. There are as many as keys in the control bucket, which bounds those.
#[derive(Debug)]
pub(crate) struct Meters {
    began: Instant,
    keys: Mutex<HashMap<KeyId, Used>>,
}

#[derive(Debug)]
struct Used {
    meter: Meter,
    at_once: u32,
}

/// How a key stands, for the headers of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) requests: Option<Left>,
    pub(crate) tokens: Option<Left>,
}

impl Default for Meters {
    fn default() -> Self {
        Self { began: Instant::now(), keys: Mutex::default() }
    }
}

impl Meters {
    /// This coordinator's part of the limits, and whether there is room in it. What is refused takes nothing.
    pub(super) fn admit(
        self: &Arc<Self>,
        key: &Key,
        tokens: u64,
        coordinators: u32,
    ) -> Result<Ticket, Fault> {
        let limits = key.limits.share(coordinators);
        let now = self.began.elapsed();
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let used = keys
            .entry(key.id.clone())
            .or_insert_with(|| Used { meter: Meter::new(limits.rates()), at_once: 0 });
        used.meter.limit(limits.rates());
        if let Some(limit) = limits.concurrency.filter(|limit| used.at_once >= *limit) {
            let message = format!("key {} may have {limit} requests at once here, and has them", key.id);
            return Err(limited(message, SLOT_WAIT));
        }
        let wait = used.meter.wait(tokens, now);
        if wait > Duration::ZERO {
            return Err(limited(reached(key, &limits, &used.meter, now), wait));
        }
        used.at_once += 1;
        let reservation = used.meter.take(tokens, now);
        let held = Held { meters: Arc::downgrade(self), key: key.id.clone(), reservation };
        Ok(Ticket { held: Some(held), used: AtomicU64::new(0) })
    }

    /// How a key stands here.
    pub(crate) fn standing(&self, key: &KeyId) -> Option<Standing> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (requests, tokens) = keys.get(key)?.meter.left(self.began.elapsed());
        Some(Standing { requests, tokens })
    }

    fn give_back(&self, held: &Held, used_tokens: u64) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = keys.get_mut(&held.key) {
            used.at_once = used.at_once.saturating_sub(1);
            used.meter.settle(held.reservation, used_tokens);
        }
    }
}

fn reached(key: &Key, limits: &Limits, meter: &Meter, now: Duration) -> String {
    let (requests, _) = meter.left(now);
    match (requests.filter(|left| left.left == 0), limits.tokens_per_minute) {
        (None, Some(tokens)) => {
            format!("key {} may use {tokens} tokens a minute here, and has no room for this request", key.id)
        }
        _ => {
            let limit = limits.requests_per_minute.unwrap_or_default();
            format!("key {} may make {limit} requests a minute here, and has made them", key.id)
        }
    }
}

fn limited(message: String, wait: Duration) -> Fault {
    Fault::new(Code::RateLimited, Origin::Policy, true, message).after(wait)
}

#[derive(Debug)]
struct Held {
    meters: Weak<Meters>,
    key: KeyId,
    reservation: Reservation,
}

/// Room that a request has in its key's limits, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    held: Option<Held>,
    used: AtomicU64,
}

impl Ticket {
    /// Of a request whose caller has no limits.
    pub(crate) const fn unlimited() -> Self {
        Self { held: None, used: AtomicU64::new(0) }
    }

    /// An attempt has used so many tokens.
    pub(crate) fn used(&self, tokens: u64) {
        self.used.fetch_add(tokens, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(held) = &self.held else { return };
        if let Some(meters) = held.meters.upgrade() {
            meters.give_back(held, self.used.load(Ordering::Relaxed));
        }
    }
}
