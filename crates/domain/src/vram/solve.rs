//! Which of several demands are resident, and where: the plan that all decisions on room follow.
//!
//! `solve(rooms, demands)` is pure; each demand carries where it is now (the previous plan). The best plan is the one that
//!
//! 1. leaves out the least of the strongest rank, then of the next one, and so on, by the cost of leaving it out;
//! 2. changes the fewest demands (moved, begun or ended); then
//! 3. changes the fewest bytes; then
//! 4. fills rooms best, so that a later large demand still finds a whole one.
//!
//! Invariants: no room is filled beyond its size (but for what is fixed there by others' doing), an exclusive demand shares
//! its room with nobody, what is fixed stays, and solving again with the result as the previous plan changes nothing.
//!
//! Small instances ([`EXACT_PLANS_MAX`] assignments) are searched whole, branch and bound; placing with minimal cost is
//! a multiple-knapsack problem and NP-hard. Larger ones are filled in order of rank, staying ones first.

use crate::units::Bytes;

/// Assignments up to which every one is considered: 18 demands on one GPU, 11 on two, 7 on four.
const EXACT_PLANS_MAX: u64 = 1 << 18;
/// Ranks of demands, 0 the weakest.
pub const RANKS: usize = 8;

/// One memory that demands may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What may be filled, by demands that are fixed there too.
    pub size: Bytes,
    /// Nothing may be added.
    pub closed: bool,
}

/// Something that wants to be resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// How much it takes.
    pub bytes: Bytes,
    /// Who is served before whom; at most [`RANKS`] - 1, larger counts as that.
    pub rank: u8,
    /// Of leaving it out: see [`super::Worth::cost`].
    pub cost: u64,
    /// The room it is in now.
    pub at: Option<usize>,
    /// It stays there, whatever else.
    pub fixed: bool,
    /// It shares its room with nobody.
    pub exclusive: bool,
}

/// Where each demand goes, in the order of the demands; none = left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Room of each demand.
    pub at: Vec<Option<usize>>,
    /// Every assignment was considered.
    pub exact: bool,
}

/// Of a plan; smaller is better, compared from the first field on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// Cost of what is left out, the strongest rank first.
    left_out: [u64; RANKS],
    changes: usize,
    changed_bytes: u64,
    /// Sum of what is left in the rooms that something new goes to.
    loose: u64,
}

/// Finds the best plan.
#[must_use]
pub fn solve(rooms: &[Room], demands: &[Demand]) -> Placement {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    let key = |index: &usize| {
        let demand = demands.get(*index);
        demand.map(|it| {
            let rank = std::cmp::Reverse(it.rank);
            (!it.fixed, rank, it.at.is_none(), std::cmp::Reverse(it.cost), it.bytes, *index)
        })
    };
    order.sort_by_key(key);
    let mut fill = Fill::new(rooms, demands);
    let free = order.iter().filter(|index| demands.get(**index).is_some_and(|demand| !demand.fixed)).count();
    let exact = assignments(rooms.len(), free) <= EXACT_PLANS_MAX;
    for index in &order {
        fill.settle(*index);
    }
    let greedy = fill.at.clone();
    if !exact {
        return Placement { at: greedy, exact };
    }
    let mut search = Search { best: (fill.score(), greedy), order: &order };
    search.descend(&mut Fill::new(rooms, demands), 0);
    Placement { at: search.best.1, exact }
}

fn assignments(rooms: usize, demands: usize) -> u64 {
    let choices = u64::try_from(rooms).unwrap_or(u64::MAX).saturating_add(1);
    choices.saturating_pow(u32::try_from(demands).unwrap_or(u32::MAX))
}

/// Rooms being filled.
struct Fill<'a> {
    rooms: &'a [Room],
    demands: &'a [Demand],
    /// Bytes, demands, and whether one of them is exclusive, of each room.
    taken: Vec<(Bytes, usize, bool)>,
    at: Vec<Option<usize>>,
    score: Score,
}

impl<'a> Fill<'a> {
    /// With what is fixed in its place, and all else left out.
    fn new(rooms: &'a [Room], demands: &'a [Demand]) -> Self {
        let taken = vec![(Bytes::ZERO, 0, false); rooms.len()];
        let mut fill = Self { rooms, demands, taken, at: vec![None; demands.len()], score: Score::default() };
        for (index, demand) in demands.iter().enumerate() {
            if let (true, Some(room)) = (demand.fixed, demand.at) {
                fill.put(index, demand, room);
            }
        }
        fill
    }

    fn fits(&self, demand: &Demand, room: usize) -> bool {
        let (Some(it), Some((bytes, count, exclusive))) = (self.rooms.get(room), self.taken.get(room)) else {
            return false;
        };
        let alone = if demand.exclusive { *count == 0 } else { !exclusive };
        (!it.closed || demand.at == Some(room)) && alone && *bytes + demand.bytes <= it.size
    }

    fn put(&mut self, index: usize, demand: &Demand, room: usize) {
        if let Some((bytes, count, exclusive)) = self.taken.get_mut(room) {
            *bytes = *bytes + demand.bytes;
            *count = count.saturating_add(1);
            *exclusive |= demand.exclusive;
        }
        if let Some(at) = self.at.get_mut(index) {
            *at = Some(room);
        }
    }

    fn take(&mut self, index: usize, demand: &Demand, room: usize) {
        if let Some((bytes, count, exclusive)) = self.taken.get_mut(room) {
            *bytes = bytes.saturating_sub(demand.bytes);
            *count = count.saturating_sub(1);
            // An exclusive demand was alone.
            *exclusive &= *count > 0;
        }
        if let Some(at) = self.at.get_mut(index) {
            *at = None;
        }
    }

    /// Rooms that a demand fits into: its own, then the fullest first.
    fn choices(&self, demand: &Demand) -> Vec<usize> {
        let mut rooms: Vec<usize> = (0..self.rooms.len()).filter(|room| self.fits(demand, *room)).collect();
        rooms.sort_by_key(|room| (demand.at != Some(*room), self.left(*room), *room));
        rooms
    }

    fn left(&self, room: usize) -> Bytes {
        match (self.rooms.get(room), self.taken.get(room)) {
            (Some(room), Some((bytes, ..))) => room.size.saturating_sub(*bytes),
            _ => Bytes::ZERO,
        }
    }

    /// Puts a demand into the first room that takes it.
    fn settle(&mut self, index: usize) {
        let Some(demand) = self.demands.get(index).filter(|demand| !demand.fixed) else { return };
        match self.choices(demand).first() {
            Some(room) => {
                self.count(demand, Some(*room));
                self.put(index, demand, *room);
            }
            None => self.count(demand, None),
        }
    }

    fn count(&mut self, demand: &Demand, room: Option<usize>) {
        self.score = self.after(demand, room);
    }

    /// The score with this demand there.
    fn after(&self, demand: &Demand, room: Option<usize>) -> Score {
        let mut score = self.score;
        let rank = usize::from(demand.rank).min(RANKS - 1);
        match (room, score.left_out.get_mut(RANKS - 1 - rank)) {
            (None, Some(left_out)) => *left_out = left_out.saturating_add(demand.cost.max(1)),
            _ if room != demand.at => {
                let loose = room.map_or(Bytes::ZERO, |room| self.left(room).saturating_sub(demand.bytes));
                score.loose = score.loose.saturating_add(loose.get());
            }
            _ => {}
        }
        if room != demand.at {
            score.changes = score.changes.saturating_add(1);
            score.changed_bytes = score.changed_bytes.saturating_add(demand.bytes.get());
        }
        score
    }

    const fn score(&self) -> Score {
        self.score
    }
}

struct Search<'a> {
    best: (Score, Vec<Option<usize>>),
    order: &'a [usize],
}

impl Search<'_> {
    /// Tries every place of the `depth`th demand. A score only grows on the way down, so a branch that is no better than the
    /// best plan is left.
    fn descend(&mut self, fill: &mut Fill<'_>, depth: usize) {
        if fill.score() >= self.best.0 {
            return;
        }
        let Some(index) = self.order.get(depth).copied() else {
            self.best = (fill.score(), fill.at.clone());
            return;
        };
        let Some(demand) = fill.demands.get(index).copied() else { return };
        let before = fill.score();
        if demand.fixed {
            return self.descend(fill, depth + 1);
        }
        for room in fill.choices(&demand) {
            fill.count(&demand, Some(room));
            fill.put(index, &demand, room);
            self.descend(fill, depth + 1);
            fill.take(index, &demand, room);
            fill.score = before;
        }
        fill.count(&demand, None);
        self.descend(fill, depth + 1);
        fill.score = before;
    }
}

#[cfg(test)]
mod tests;
