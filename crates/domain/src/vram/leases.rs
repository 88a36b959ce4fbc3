//! The leases of one machine and everything that happens to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Ask, Capacity, Denial, Gpus, Holder, LEASES_MAX, Memory, Place, Policy, Priority, Token, Told, Ttl,
    Wanted, Worth, fit::Plan, returning::Returning,
};
use crate::units::Bytes;

mod reckoning;

/// How long a place stays set aside for the ask that others drain for, after the last of them has ended.
const CLAIM_GRACE: Duration = Duration::from_secs(2);

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Names it and fences it.
    pub token: Token,
    /// Who holds it.
    pub holder: Holder,
    /// How much.
    pub bytes: Bytes,
    /// How strong.
    pub priority: Priority,
    /// Of what.
    pub place: Place,
    /// How long a renewal lasts.
    pub ttl: Ttl,
    /// When its holder first got memory here; kept when the holder replaces the lease.
    pub since: Duration,
    /// When it ends unless renewed.
    pub expires_at: Duration,
    /// Processes that use it, as far as the holder told.
    pub pids: Vec<u32>,
    /// What ending it costs, as its holder told last.
    pub worth: Worth,
    /// When the holder told that.
    pub told_at: Duration,
    /// It may be held outside the off-peak window.
    pub anytime: bool,
    /// To whom it gives way; none while it may be renewed.
    pub gives_way_to: Option<String>,
}

impl Lease {
    /// What ending it costs now: see [`Worth::cost`].
    #[must_use]
    pub fn cost(&self, now: Duration) -> u64 {
        self.worth.cost(self.bytes, now.saturating_sub(self.told_at))
    }
}

/// What happened to a lease, beside the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nobody renewed it.
    Expired(Lease),
    /// It gives way and is no longer renewed.
    Draining(Lease),
    /// It was granted.
    Granted(Lease),
    /// Its holder acquired a newer one in its place.
    Replaced(Lease),
    /// Its holder gave it back.
    Released(Lease),
}

/// An answer and what else happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// To whoever asked.
    pub result: Result<T, Denial>,
    /// In the order in which they happened.
    pub changes: Vec<Change>,
}

/// Totals over the GPUs, or over system memory where there is no GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// What leases and other programs share.
    pub capacity: Bytes,
    /// What is left for leases, over all devices; one lease gets at most what is left on one of them.
    pub free: Bytes,
    /// What leases hold, system memory included.
    pub leased: Bytes,
}

/// Room that is set aside for an ask while weaker leases drain for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) holder: Holder,
    pub(super) bytes: Bytes,
    pub(super) priority: Priority,
    pub(super) place: Place,
    pub(super) exclusive: bool,
    pub(super) until: Duration,
}

/// The leases of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leases {
    policy: Policy,
    capacity: Capacity,
    first_token: Token,
    next_token: Token,
    held: Vec<Lease>,
    claims: Vec<Claim>,
    others: BTreeMap<Place, Bytes>,
    /// GPUs that leases had to leave for other programs a while ago.
    returning: BTreeMap<Place, Returning>,
    /// Of the day, local time; none until it was told.
    minute: Option<u16>,
}

impl Leases {
    /// No leases yet. `first_token` must be above every token that was ever granted on this machine.
    ///
    /// `kept` are leases of an earlier run of the owner whose holders may still be there: each gets its full time to live
    /// from `now` on, since nobody could renew it meanwhile. More than [`LEASES_MAX`] are cut off.
    #[must_use]
    pub fn new(
        policy: Policy,
        capacity: Capacity,
        first_token: Token,
        kept: Vec<Lease>,
        now: Duration,
    ) -> Self {
        let revived =
            |lease: Lease| Lease { since: now, told_at: now, expires_at: now + lease.ttl.get(), ..lease };
        let held = kept.into_iter().take(LEASES_MAX).map(revived).collect();
        let mut leases = Self {
            policy,
            capacity,
            first_token,
            next_token: first_token,
            held,
            claims: Vec::new(),
            others: BTreeMap::new(),
            returning: BTreeMap::new(),
            minute: None,
        };
        leases.reckon(now);
        leases
    }

    /// The machine's memory as it is now. Ends what has expired; where other programs took what leases hold on a GPU, the
    /// cheapest of the weakest leases there drain until the rest fits. (System memory can be paged out, so nobody drains for
    /// it.)
    pub fn observe(&mut self, capacity: Capacity, now: Duration) -> Vec<Change> {
        let mut changes = self.expire(now);
        self.capacity = capacity;
        self.reckon(now);
        changes.extend(self.make_way(now));
        changes
    }

    /// The minute of the owner's local day. Leases for the off-peak window drain when it has closed.
    pub fn tell_minute(&mut self, minute: u16, now: Duration) -> Vec<Change> {
        let mut changes = self.expire(now);
        self.minute = Some(minute);
        let ends = |lease: &&Lease| !lease.anytime && self.closed(lease.priority).is_some();
        let tokens: Vec<Token> = self.held.iter().filter(ends).map(|lease| lease.token).collect();
        changes.extend(
            tokens.into_iter().filter_map(|token| self.drain(token, "the end of the off-peak window")),
        );
        changes
    }

    /// Ends what has expired.
    pub fn expire(&mut self, now: Duration) -> Vec<Change> {
        self.claims.retain(|claim| claim.until > now);
        let (live, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held).into_iter().partition(|lease| lease.expires_at > now);
        self.held = live;
        if !ended.is_empty() {
            ended.iter().for_each(|lease| self.left(&lease.place, now));
            self.reckon(now);
        }
        ended.into_iter().map(Change::Expired).collect()
    }

    /// Grants `ask` on the device that it fills best, or says why not. A lease that the holder already has is replaced, and
    /// stays as it is after a denial. Where only weaker leases stand in the way they drain, and the room is set aside for
    /// this holder until a little after the last of them has ended.
    pub fn acquire(&mut self, ask: Ask, now: Duration) -> Answer<Lease> {
        let mut changes = self.expire(now);
        let result = match self.decide(&ask, now) {
            Ok(Plan::Grant(place)) => {
                let lease = self.grant(ask, place, now, &mut changes);
                self.reckon(now);
                Ok(lease)
            }
            Ok(Plan::Wait { place, weaker, denial }) => {
                let until = self.claim(&ask, place, &weaker, now);
                for token in weaker {
                    changes.extend(self.drain(token, ask.holder.as_str()));
                }
                Err(with_wait(denial, until.saturating_sub(now)))
            }
            Err(denial) => Err(denial),
        };
        Answer { result, changes }
    }

    /// Makes a lease last for its time to live from now on.
    pub fn renew(&mut self, token: Token, fence: Token, told: Told, now: Duration) -> Answer<Lease> {
        let changes = self.expire(now);
        let ended = self.absent(token);
        let holder = self.held.iter().find(|lease| lease.token == token).map(|lease| lease.holder.clone());
        let pids = holder.map(|holder| self.pids_of(&holder, told.pids)).unwrap_or_default();
        let result = match self.held.iter_mut().find(|lease| lease.token == token) {
            None => Err(ended),
            Some(_) if fence != token => Err(Denial::StaleToken { given: fence, token }),
            Some(Lease { gives_way_to: Some(to), expires_at, .. }) => {
                Err(Denial::Draining { token, to: to.clone(), left: expires_at.saturating_sub(now) })
            }
            Some(lease) => {
                lease.expires_at = now + lease.ttl.get();
                lease.pids = pids;
                if let Some(worth) = told.worth {
                    (lease.worth, lease.told_at) = (worth, now);
                }
                Ok(lease.clone())
            }
        };
        self.reckon(now);
        Answer { result, changes }
    }

    /// Ends a lease. One that has already ended is no error, so that a release may be repeated.
    pub fn release(&mut self, token: Token, fence: Token, now: Duration) -> Answer<()> {
        let mut changes = self.expire(now);
        let result = match self.held.iter().position(|lease| lease.token == token) {
            _ if fence != token => Err(Denial::StaleToken { given: fence, token }),
            Some(at) => {
                let lease = self.held.remove(at);
                self.left(&lease.place, now);
                changes.push(Change::Released(lease));
                self.reckon(now);
                Ok(())
            }
            None => match self.absent(token) {
                Denial::Ended { .. } => Ok(()),
                unknown => Err(unknown),
            },
        };
        Answer { result, changes }
    }

    /// What is held, in the order of the grants.
    #[must_use]
    pub fn held(&self) -> &[Lease] {
        &self.held
    }

    /// The memory as last observed.
    #[must_use]
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// What programs without a lease use there, as far as is known.
    #[must_use]
    pub fn others_on(&self, place: &Place) -> Bytes {
        self.others.get(place).copied().unwrap_or(Bytes::ZERO)
    }

    /// The driver's number of the GPU that a lease is on; none for system memory and for a GPU that can't be seen.
    #[must_use]
    pub fn gpu_index(&self, lease: &Lease) -> Option<u32> {
        let Gpus::Present(devices) = &self.capacity.gpus else { return None };
        let Place::Gpu(id) = &lease.place else { return None };
        devices.iter().find(|device| device.id == *id).map(|device| device.index)
    }

    /// Totals.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let leased = self.held.iter().map(|lease| lease.bytes).sum();
        let mut summary = Summary { leased, ..Summary::default() };
        let places = self.places(Wanted::Gpu).unwrap_or_default();
        for (place, memory) in places {
            let size = self.size(&place, memory);
            let taken = self.others_on(&place) + self.on(&place).map(|lease| lease.bytes).sum();
            summary.capacity = summary.capacity + size;
            summary.free = summary.free + size.saturating_sub(taken);
        }
        summary
    }

    fn grant(&mut self, ask: Ask, place: Place, now: Duration, changes: &mut Vec<Change>) -> Lease {
        let token = self.next_token;
        self.next_token = Token::new(token.get().saturating_add(1));
        self.claims.retain(|claim| claim.holder != ask.holder);
        let pids = self.pids_of(&ask.holder, ask.pids);
        let mut since = now;
        if let Some(at) = self.held.iter().position(|lease| lease.holder == ask.holder) {
            let former = self.held.remove(at);
            if former.place == place {
                since = former.since;
            }
            changes.push(Change::Replaced(former));
        }
        let expires_at = now + ask.ttl.get();
        let Ask { holder, bytes, priority, ttl, worth, anytime, .. } = ask;
        let (told_at, gives_way_to) = (now, None);
        let lease = Lease {
            token,
            holder,
            bytes,
            priority,
            place,
            ttl,
            since,
            expires_at,
            pids,
            worth,
            told_at,
            anytime,
            gives_way_to,
        };
        self.held.push(lease.clone());
        changes.push(Change::Granted(lease.clone()));
        lease
    }

    /// Sets the room aside; when the last of `weaker` ends.
    fn claim(&mut self, ask: &Ask, place: Place, weaker: &BTreeSet<Token>, now: Duration) -> Duration {
        let ends = self.held.iter().filter(|lease| weaker.contains(&lease.token));
        let last = ends.map(|lease| lease.expires_at).max().unwrap_or(now);
        self.claims.retain(|claim| claim.holder != ask.holder);
        if self.claims.len() < LEASES_MAX {
            self.claims.push(Claim {
                holder: ask.holder.clone(),
                bytes: ask.bytes,
                priority: ask.priority,
                exclusive: matches!(place, Place::Gpu(_)) && ask.bytes > self.policy.exclusive_over,
                place,
                until: last + CLAIM_GRACE,
            });
        }
        last
    }

    fn drain(&mut self, token: Token, to: &str) -> Option<Change> {
        let lease =
            self.held.iter_mut().find(|lease| lease.token == token && lease.gives_way_to.is_none())?;
        lease.gives_way_to = Some(to.to_owned());
        Some(Change::Draining(lease.clone()))
    }

    fn left(&mut self, place: &Place, now: Duration) {
        if let Some(returning) = self.returning.get_mut(place) {
            returning.lease_ended(now);
        }
    }

    fn absent(&self, token: Token) -> Denial {
        // Tokens below the first belong to earlier runs of the owner, whose leases have ended with them.
        if token < self.next_token { Denial::Ended { token } } else { Denial::Unknown { token } }
    }

    fn on<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a Lease> + Clone {
        self.held.iter().filter(move |lease| lease.place == *place)
    }

    fn places(&self, wanted: Wanted) -> Result<Vec<(Place, &Memory)>, Denial> {
        match (&self.capacity.gpus, wanted) {
            (Gpus::Lost { reason }, Wanted::Gpu) => Err(Denial::GpuLost { reason: reason.clone() }),
            (Gpus::Present(devices), Wanted::Gpu) => {
                Ok(devices.iter().map(|device| (Place::Gpu(device.id.clone()), &device.memory)).collect())
            }
            (Gpus::Absent, Wanted::Gpu) | (_, Wanted::System) => {
                Ok(vec![(Place::System, &self.capacity.system)])
            }
        }
    }

    fn size(&self, place: &Place, memory: &Memory) -> Bytes {
        match place {
            Place::System => memory.total,
            Place::Gpu(_) => memory.total.saturating_sub(self.policy.reserve),
        }
    }
}

fn with_wait(denial: Denial, wait: Duration) -> Denial {
    match denial {
        Denial::NoRoom { asked, place, free, size, leased, others, held, cheapest, .. } => {
            let retry_after = Some(wait);
            Denial::NoRoom { asked, place, free, size, leased, others, held, cheapest, retry_after }
        }
        Denial::Exclusive { asked, place, exclusive_over, held, cheapest, .. } => {
            Denial::Exclusive { asked, place, exclusive_over, held, cheapest, retry_after: Some(wait) }
        }
        other => other,
    }
}
