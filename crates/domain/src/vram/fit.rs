//! Where an ask fits, and who gives way when it does not.

use std::collections::BTreeSet;

use super::{Ask, Denial, Held, Lease, Place, Token, leases::Claim};
use crate::units::Bytes;

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

/// The best fit: where the asker already is, else where the least is left over, else the first.
pub(super) fn plan(ask: &Ask, sites: &[Site<'_>]) -> Result<Plan, Denial> {
    let largest = sites.iter().map(|site| site.size).max().unwrap_or(Bytes::ZERO);
    if ask.bytes > largest {
        return Err(Denial::TooLarge { asked: ask.bytes, largest });
    }
    let fitting = sites.iter().filter(|site| site.fits(ask, &site.held));
    let best = fitting.min_by_key(|site| (!site.preferred, site.free(ask, &site.held)));
    if let Some(site) = best {
        return Ok(Plan::Grant(site.place.clone()));
    }

    // The one with the most room explains the denial best.
    let roomiest = sites.iter().max_by_key(|site| site.free(ask, &site.held));
    let Some(denial) = roomiest.map(|site| site.denial(ask)) else {
        return Err(Denial::TooLarge { asked: ask.bytes, largest });
    };
    let ways = sites.iter().filter_map(|site| {
        let weaker = site.weaker(ask)?;
        let strongest = weaker.iter().map(|lease| lease.priority).max()?;
        let bytes: Bytes = weaker.iter().map(|lease| lease.bytes).sum();
        Some((strongest, bytes, site, weaker))
    });
    match ways.min_by_key(|(strongest, bytes, ..)| (*strongest, *bytes)) {
        None => Err(denial),
        Some((.., site, weaker)) => Ok(Plan::Wait {
            place: site.place.clone(),
            weaker: weaker.iter().map(|lease| lease.token).collect(),
            denial: site.denial(ask),
        }),
    }
}

/// Which leases drain when `room` is all that others leave: the weakest and youngest first, and no more than needed.
pub(super) fn relief<'a>(room: Bytes, held: impl Iterator<Item = &'a Lease>) -> Vec<Token> {
    let mut staying: Vec<&Lease> = held.filter(|lease| lease.gives_way_to.is_none()).collect();
    staying.sort_by_key(|lease| (std::cmp::Reverse(lease.priority), lease.token));
    let mut left = room;
    let mut draining = Vec::new();
    for lease in staying {
        if lease.bytes <= left {
            left = left.saturating_sub(lease.bytes);
        } else {
            draining.push(lease.token);
        }
    }
    draining
}

impl Site<'_> {
    fn exclusive(&self, bytes: Bytes) -> bool {
        self.exclusive_over.is_some_and(|threshold| bytes > threshold)
    }

    /// Claims that are stronger or equal: first come, first served.
    fn claims_before(&self, ask: &Ask) -> impl Iterator<Item = &Claim> {
        self.claims.iter().copied().filter(|claim| claim.priority >= ask.priority)
    }

    fn free(&self, ask: &Ask, held: &[&Lease]) -> Bytes {
        let leased: Bytes = held.iter().map(|lease| lease.bytes).sum();
        let claimed: Bytes = self.claims_before(ask).map(|claim| claim.bytes).sum();
        self.size.saturating_sub(self.others + leased + claimed)
    }

    /// Alone where it must be alone.
    fn may_share(&self, ask: &Ask, held: &[&Lease]) -> bool {
        if self.exclusive(ask.bytes) {
            return held.is_empty() && self.claims_before(ask).next().is_none();
        }
        !held.iter().any(|lease| self.exclusive(lease.bytes))
            && !self.claims_before(ask).any(|claim| claim.exclusive)
    }

    fn fits(&self, ask: &Ask, held: &[&Lease]) -> bool {
        ask.bytes <= self.free(ask, held) && self.may_share(ask, held)
    }

    /// Leases to end so that the ask fits: the weakest first, none that is as strong as the ask, none in vain. None when
    /// that is not enough.
    fn weaker(&self, ask: &Ask) -> Option<Vec<&Lease>> {
        let mut candidates: Vec<&Lease> = self.held.clone();
        // What drains already costs nobody anything more.
        candidates.sort_by_key(|lease| (lease.gives_way_to.is_none(), lease.priority, lease.token));
        let mut ending: Vec<&Lease> = Vec::new();
        for lease in candidates {
            if self.fits(ask, &self.without(&ending)) {
                break;
            }
            if lease.priority < ask.priority || lease.gives_way_to.is_some() {
                ending.push(lease);
            }
        }
        if !self.fits(ask, &self.without(&ending)) {
            return None;
        }
        let mut spared = ending.clone();
        spared.reverse();
        for lease in spared {
            let rest: Vec<&Lease> =
                ending.iter().copied().filter(|other| other.token != lease.token).collect();
            if self.fits(ask, &self.without(&rest)) {
                ending = rest;
            }
        }
        Some(ending)
    }

    fn without(&self, ending: &[&Lease]) -> Vec<&Lease> {
        let stays = |lease: &&Lease| !ending.iter().any(|other| other.token == lease.token);
        self.held.iter().copied().filter(stays).collect()
    }

    fn denial(&self, ask: &Ask) -> Denial {
        let mut held: Vec<Held> =
            self.held.iter().map(|lease| Held { holder: lease.holder.clone(), bytes: lease.bytes }).collect();
        held.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.holder.cmp(&b.holder)));
        let (asked, place, free) = (ask.bytes, self.place.clone(), self.free(ask, &self.held));
        match self.exclusive_over {
            Some(exclusive_over) if ask.bytes <= free => {
                Denial::Exclusive { asked, place, exclusive_over, held, retry_after: None }
            }
            _ => Denial::NoRoom {
                asked,
                place,
                free,
                size: self.size,
                leased: self.held.iter().map(|lease| lease.bytes).sum(),
                others: self.others,
                held,
                retry_after: None,
            },
        }
    }
}
