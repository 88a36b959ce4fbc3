//! Where an ask fits, and who gives way when it does not.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Ask, Denial, Held, Holder, Lease, Place, Priority, Token,
    leases::Claim,
    solve::{Demand, RANKS, Room, solve},
};
use crate::units::Bytes;

/// Rank of an ask that something may end for.
const ASKED: u8 = RANKS as u8 - 1;
/// Rank of what is pinned: it gives way to foreign programs, last of all, and to no ask.
const PINNED: u8 = ASKED - 1;

/// A place with everything that takes room there, the asker's own lease and claim left out.
pub(super) struct Site<'a> {
    pub(super) place: Place,
    /// Total less reserve.
    pub(super) size: Bytes,
    pub(super) others: Bytes,
    pub(super) held: Vec<&'a Lease>,
    pub(super) claims: Vec<&'a Claim>,
    /// The asker has its present lease here.
    pub(super) preferred: bool,
    /// From which size on a lease has the place to itself; none where it never does.
    pub(super) exclusive_over: Option<Bytes>,
}

/// What to do about an ask.
pub(super) enum Plan {
    Grant(Place),
    /// Not now; `weaker` end first.
    Wait {
        place: Place,
        weaker: BTreeSet<Token>,
        denial: Denial,
    },
}

/// The best fit: where the asker already is, else where the least is left over, else the first. Where there is none, the
/// solver says whose leases end for it; a lease as strong as the ask does so when it was idle for `idle_yields_after`.
pub(super) fn plan(
    ask: &Ask,
    sites: &[Site<'_>],
    idle_yields_after: Duration,
    now: Duration,
) -> Result<Plan, Denial> {
    let largest = sites.iter().map(|site| site.size).max().unwrap_or(Bytes::ZERO);
    if ask.bytes > largest {
        return Err(Denial::TooLarge { asked: ask.bytes, largest });
    }
    let fitting = sites.iter().filter(|site| site.fits(ask));
    let best = fitting.min_by_key(|site| (!site.preferred, site.free(ask)));
    if let Some(site) = best {
        return Ok(Plan::Grant(site.place.clone()));
    }
    let yields = |lease: &Lease| {
        let idle = lease.worth.idle_for(now.saturating_sub(lease.told_at));
        lease.priority < ask.priority
            || (lease.priority == ask.priority && idle.is_some_and(|idle| idle >= idle_yields_after))
    };
    if let Some((site, ending)) = make_room(ask, sites, now, yields) {
        return Ok(Plan::Wait {
            place: site.place.clone(),
            weaker: ending.iter().map(|lease| lease.token).collect(),
            denial: site.denial(ask, holders(&ending)),
        });
    }
    let equals = |lease: &Lease| lease.priority <= ask.priority;
    let cheapest = make_room(ask, sites, now, equals);
    // The place that would do explains the denial best, else the one with the most room.
    let roomiest = sites.iter().max_by_key(|site| site.free(ask));
    Err(match (cheapest, roomiest) {
        (Some((site, ending)), _) => site.denial(ask, holders(&ending)),
        (None, Some(site)) => site.denial(ask, Box::default()),
        (None, None) => Denial::TooLarge { asked: ask.bytes, largest },
    })
}

/// The place and the cheapest leases that make room there when they end (or go to another place), of those that may.
fn make_room<'s, 'a>(
    ask: &Ask,
    sites: &'s [Site<'a>],
    now: Duration,
    may_end: impl Fn(&Lease) -> bool,
) -> Option<(&'s Site<'a>, Vec<&'a Lease>)> {
    let rooms: Vec<Room> = sites.iter().map(|site| site.room(ask)).collect();
    let mut held: Vec<&Lease> = Vec::new();
    let mut demands: Vec<Demand> = Vec::new();
    for (at, site) in sites.iter().enumerate() {
        for lease in &site.held {
            let draining = lease.gives_way_to.is_some();
            let fixed = !draining && (lease.worth.pinned || !may_end(lease));
            demands.push(Demand { fixed, ..demand(lease, Some(at), site.exclusive(lease.bytes), now) });
            held.push(lease);
        }
    }
    let exclusive = sites.iter().any(|site| site.exclusive(ask.bytes));
    demands.push(Demand { bytes: ask.bytes, rank: ASKED, cost: 1, at: None, fixed: false, exclusive });
    let plan = solve(&rooms, &demands);
    let site = sites.get(plan.at.last().copied().flatten()?)?;
    let ends = held.into_iter().zip(&demands).zip(&plan.at).filter(|((_, demand), at)| demand.at != **at);
    let ending: Vec<&Lease> = ends.map(|((lease, _), _)| lease).collect();
    (!ending.is_empty()).then_some((site, ending))
}

/// Which leases drain when other programs leave only so much: the cheapest of the weakest, and no more than needed. One that
/// would fit on another GPU drains too, and finds its room there.
pub(super) fn relief<'a>(
    rooms: &[(Place, Bytes)],
    held: impl Iterator<Item = &'a Lease>,
    exclusive_over: Bytes,
    now: Duration,
) -> Vec<Token> {
    let mut staying: Vec<Token> = Vec::new();
    let mut demands: Vec<Demand> = Vec::new();
    for lease in held.filter(|lease| lease.gives_way_to.is_none()) {
        if let Some(at) = rooms.iter().position(|(place, _)| *place == lease.place) {
            staying.push(lease.token);
            demands.push(demand(lease, Some(at), lease.bytes > exclusive_over, now));
        }
    }
    let rooms: Vec<Room> = rooms.iter().map(|(_, size)| Room { size: *size, closed: false }).collect();
    let plan = solve(&rooms, &demands);
    let moves = staying.into_iter().zip(&demands).zip(plan.at).filter(|((_, demand), at)| demand.at != *at);
    moves.map(|((token, _), _)| token).collect()
}

fn demand(lease: &Lease, at: Option<usize>, exclusive: bool, now: Duration) -> Demand {
    let (rank, cost) = match (&lease.gives_way_to, lease.worth.pinned) {
        // What drains already costs nobody anything more.
        (Some(_), _) => (0, 1),
        (None, true) => (PINNED, lease.cost(now)),
        (None, false) => (1 + strength(lease.priority), lease.cost(now)),
    };
    Demand { bytes: lease.bytes, rank, cost, at, fixed: false, exclusive }
}

/// 0 for the weakest.
fn strength(priority: Priority) -> u8 {
    let weaker = Priority::ALL.iter().filter(|other| **other < priority);
    u8::try_from(weaker.count()).unwrap_or(u8::MAX)
}

fn holders(leases: &[&Lease]) -> Box<[Holder]> {
    leases.iter().map(|lease| lease.holder.clone()).collect()
}

impl Site<'_> {
    fn exclusive(&self, bytes: Bytes) -> bool {
        self.exclusive_over.is_some_and(|threshold| bytes > threshold)
    }

    /// Claims that are stronger or equal: first come, first served.
    fn claims_before(&self, ask: &Ask) -> impl Iterator<Item = &Claim> {
        self.claims.iter().copied().filter(|claim| claim.priority >= ask.priority)
    }

    /// What leases could fill if there were none.
    fn room(&self, ask: &Ask) -> Room {
        let claimed: Bytes = self.claims_before(ask).map(|claim| claim.bytes).sum();
        let alone = self.exclusive(ask.bytes) && self.claims_before(ask).next().is_some();
        Room {
            size: self.size.saturating_sub(self.others + claimed),
            closed: alone || self.claims_before(ask).any(|claim| claim.exclusive),
        }
    }

    fn free(&self, ask: &Ask) -> Bytes {
        let leased: Bytes = self.held.iter().map(|lease| lease.bytes).sum();
        self.room(ask).size.saturating_sub(leased)
    }

    fn fits(&self, ask: &Ask) -> bool {
        let mut held = self.held.iter();
        let alone = if self.exclusive(ask.bytes) {
            held.next().is_none()
        } else {
            !held.any(|lease| self.exclusive(lease.bytes))
        };
        alone && !self.room(ask).closed && ask.bytes <= self.free(ask)
    }

    fn denial(&self, ask: &Ask, cheapest: Box<[Holder]>) -> Denial {
        let mut held: Vec<Held> =
            self.held.iter().map(|lease| Held { holder: lease.holder.clone(), bytes: lease.bytes }).collect();
        held.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.holder.cmp(&b.holder)));
        let (asked, place, free) = (ask.bytes, self.place.clone(), self.free(ask));
        match self.exclusive_over {
            Some(exclusive_over) if ask.bytes <= free => {
                Denial::Exclusive { asked, place, exclusive_over, held, cheapest, retry_after: None }
            }
            _ => Denial::NoRoom {
                asked,
                place,
                free,
                size: self.size,
                leased: self.held.iter().map(|lease| lease.bytes).sum(),
                others: self.others,
                held,
                cheapest,
                retry_after: None,
            },
        }
    }
}
