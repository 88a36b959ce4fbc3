//! What there is room for: what others use, and what that means for an ask and for the leases that are there.

use std::time::Duration;

use super::{Change, Lease, Leases};
use crate::{
    units::Bytes,
    vram::{
        Ask, Denial, Gpus, Holder, LEASES_MAX, Memory, Place, Priority, Window,
        fit::{self, Plan},
        others::{self, Share},
        returning::Returning,
    },
};

impl Leases {
    pub(super) fn decide(&self, ask: &Ask, now: Duration) -> Result<Plan, Denial> {
        let own = self.held.iter().find(|lease| lease.holder == ask.holder);
        if own.is_none() && self.held.len() >= LEASES_MAX {
            return Err(Denial::TooMany { held: self.held.len() });
        }
        if let (false, Some((window, minute))) = (ask.anytime, self.closed(ask.priority)) {
            let opens_in = window.opens_in(minute);
            return Err(Denial::OffPeakOnly { priority: ask.priority, window, opens_in });
        }
        let planned = self.plan(ask, now, false)?;
        let settled = own.is_some_and(
            |own| matches!(&planned, Plan::Grant(at) if own.place == *at && own.bytes >= ask.bytes),
        );
        if self.returning.is_empty() || settled {
            return Ok(planned);
        }
        // Nobody gets, or drains for, what others may push out at once.
        match (planned, self.plan(ask, now, true)) {
            (Plan::Grant(place), Ok(Plan::Wait { .. }) | Err(_)) => {
                let (others, retry_after) = self.lately(&place, now);
                Err(Denial::Returning { asked: ask.bytes, place, others, retry_after })
            }
            (_, cautious) => cautious,
        }
    }

    fn plan(&self, ask: &Ask, now: Duration, lately: bool) -> Result<Plan, Denial> {
        let own = self.held.iter().find(|lease| lease.holder == ask.holder);
        let site = |(place, memory): (Place, &Memory)| {
            let others = self.others_for(ask, &place, memory, now);
            let lately = if lately { self.lately(&place, now).0 } else { Bytes::ZERO };
            fit::Site {
                size: self.size(&place, memory),
                others: others.max(lately),
                held: self.held.iter().filter(|it| it.place == place && it.holder != ask.holder).collect(),
                claims: self
                    .claims
                    .iter()
                    .filter(|it| it.place == place && it.holder != ask.holder)
                    .collect(),
                preferred: own.is_some_and(|own| own.place == place),
                exclusive_over: matches!(place, Place::Gpu(_)).then_some(self.policy.exclusive_over),
                place,
            }
        };
        let sites: Vec<fit::Site<'_>> = self.places(ask.wanted)?.into_iter().map(site).collect();
        fit::plan(ask, &sites, self.policy.idle_yields_after, now)
    }

    /// The window, and the minute of the day, while leases of this priority are not granted.
    pub(super) fn closed(&self, priority: Priority) -> Option<(Window, u16)> {
        let window = self.policy.off_peak.filter(|_| priority.is_deferrable())?;
        let minute = self.minute.filter(|minute| !window.contains(*minute))?;
        Some((window, minute))
    }

    /// The most that others used there in the last while, where leases had to leave for them.
    fn lately(&self, place: &Place, now: Duration) -> (Bytes, Duration) {
        let returning = self.returning.get(place);
        returning.map_or_else(Default::default, |it| it.most(now, self.policy.return_after))
    }

    /// Drains what no longer fits beside other programs.
    pub(super) fn make_way(&mut self, now: Duration) -> Vec<Change> {
        let rooms: Vec<(Place, Bytes)> = match &self.capacity.gpus {
            Gpus::Present(devices) => {
                let place = |id: &crate::vram::GpuId| Place::Gpu(id.clone());
                devices.iter().map(|it| (place(&it.id), self.room(&place(&it.id), &it.memory))).collect()
            }
            Gpus::Absent | Gpus::Lost { .. } => return Vec::new(),
        };
        let draining = fit::relief(&rooms, self.held.iter(), self.policy.exclusive_over, now);
        let mut changes = Vec::new();
        for token in draining {
            let Some(change) = self.drain(token, "other programs") else { continue };
            if let Change::Draining(lease) = &change {
                let returning = self.returning.entry(lease.place.clone());
                returning.and_modify(|it| it.begin_anew(now)).or_insert_with(|| Returning::new(now));
            }
            changes.push(change);
        }
        let (others, window) = (&self.others, self.policy.return_after);
        self.returning
            .retain(|place, it| it.look(others.get(place).copied().unwrap_or(Bytes::ZERO), now, window));
        changes
    }

    /// What others leave to the leases that are there. They may use half of the reserve, so that a small growth of others ends
    /// nobody's lease; the other half stays free, since a program that finds no memory does not grow and would never be seen
    /// to want more. What comes new gets nothing of the reserve.
    fn room(&self, place: &Place, memory: &Memory) -> Bytes {
        let others = self.others_on(place);
        let held: Bytes =
            self.on(place).filter(|lease| lease.gives_way_to.is_none()).map(|lease| lease.bytes).sum();
        let kept_free = Bytes::new(self.policy.reserve.get() / 2);
        let whole = memory.total.saturating_sub(others + kept_free);
        self.size(place, memory).saturating_sub(others).max(held.min(whole))
    }

    fn share<'a>(&self, lease: &'a Lease, now: Duration) -> Share<'a> {
        let settled = now.saturating_sub(lease.since) >= self.policy.settle_after;
        Share { bytes: lease.bytes, pids: &lease.pids, settled }
    }

    /// What others use, from the last observation and the leases as they are now. Called after each change: a lease that
    /// ends leaves its memory with the others until an observation shows it free.
    pub(super) fn reckon(&mut self, now: Duration) {
        let mut memories = vec![(Place::System, self.capacity.system.clone())];
        if let Gpus::Present(devices) = &self.capacity.gpus {
            memories.extend(devices.iter().map(|d| (Place::Gpu(d.id.clone()), d.memory.clone())));
        }
        for (place, memory) in memories {
            let shares = self.on(&place).map(|lease| self.share(lease, now));
            let others = others::estimate(&memory, shares, self.others_on(&place));
            self.others.insert(place, others);
        }
    }

    /// What [`Self::reckon`] would find after a grant of `ask`: a holder whose lease was lost acquires anew for memory that
    /// it has been using all along, and one that outgrew its lease asks for what it has. A lease that shrinks is taken as
    /// large as it is: what its holder has not given back yet is no reason to refuse.
    fn others_for(&self, ask: &Ask, place: &Place, memory: &Memory, now: Duration) -> Bytes {
        let (own, rest): (Vec<&Lease>, Vec<&Lease>) =
            self.on(place).partition(|lease| lease.holder == ask.holder);
        let own = own.first().map(|lease| self.share(lease, now));
        let pids = self.pids_of(&ask.holder, ask.pids.clone());
        let granted = Share {
            bytes: own.map_or(ask.bytes, |own| own.bytes.max(ask.bytes)),
            pids: &pids,
            settled: own.is_some_and(|own| own.settled),
        };
        let shares = rest.into_iter().map(|lease| self.share(lease, now)).chain([granted]);
        others::estimate(memory, shares, self.others_on(place))
    }

    /// The processes to count for a holder: those it names, else those it named before. One that another holder has named
    /// stays that holder's, so that nothing is counted twice.
    pub(super) fn pids_of(&self, holder: &Holder, named: Vec<u32>) -> Vec<u32> {
        if named.is_empty() {
            let own = self.held.iter().find(|lease| lease.holder == *holder);
            return own.map(|lease| lease.pids.clone()).unwrap_or_default();
        }
        let foreign =
            |pid: &u32| self.held.iter().any(|lease| lease.holder != *holder && lease.pids.contains(pid));
        named.into_iter().filter(|pid| !foreign(pid)).collect()
    }
}
