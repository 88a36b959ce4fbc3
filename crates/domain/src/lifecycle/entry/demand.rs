//! Whether and how much a model is wanted, and who may go for it.

use std::cmp::Reverse;
use std::time::Duration;

use super::Entry;
use crate::lifecycle::{Leaving, Phase, Policy, Urgency};

/// Likelihood of use that a preloaded model has by that alone: as if it had been asked for once just now.
const PRELOADED_USES: f64 = 1.0;
/// And any other, so that of two that nobody uses the one that loads faster goes.
const UNUSED_USES: f64 = 0.01;

/// A request that waits.
#[derive(Debug, Clone, Copy)]
pub(in crate::lifecycle) struct Waiting {
    pub(super) urgency: Urgency,
    pub(super) came: Duration,
    pub(super) deadline: Duration,
}

impl Waiting {
    /// When its model has to be loaded at the latest: after the longest wait, or half of the request's own time.
    fn latest(&self, wait_max: Duration) -> Duration {
        let own = self.deadline.saturating_sub(self.came) / 2;
        self.came.saturating_add(wait_max.min(own))
    }
}

/// Why a model should be loaded although no request waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lifecycle) enum Want {
    /// Where there is room: at the start, and after a failure.
    IfRoom,
    /// It is preloaded and had to go.
    Home,
    /// A request was served elsewhere at this time.
    Wish(Duration),
    /// Somebody has said so, since; `None` until the next look at the clock.
    Asked(Option<Duration>),
}

/// What may go for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lifecycle) enum Reach {
    Nothing,
    /// What is not preloaded and has been idle for so long.
    IdleFor(Duration),
    Idle,
    /// What works as well, unless it works for somebody urgent.
    LessUrgent,
    /// What works as well.
    Busy,
}

/// A model that should be loaded.
#[derive(Debug, Clone, Copy)]
pub(in crate::lifecycle) struct Demand {
    pub(in crate::lifecycle) reach: Reach,
    /// Requests wait for it.
    pub(in crate::lifecycle) waited_for: bool,
    overdue: Option<Duration>,
    urgency: Urgency,
    since: Duration,
    swapping: bool,
}

impl Demand {
    /// Smallest first: who has room made for it, who is overdue (by age), who is urgent, who is oldest.
    pub(in crate::lifecycle) fn rank(&self) -> (bool, bool, Duration, Reverse<Urgency>, Duration) {
        let overdue = self.overdue.unwrap_or_default();
        (!self.swapping, self.overdue.is_none(), overdue, Reverse(self.urgency), self.since)
    }
}

impl Entry {
    /// Whether it may go for somebody with this reach.
    pub(in crate::lifecycle) fn may_go(&self, reach: Reach, now: Duration) -> bool {
        if self.pinned || !matches!(self.phase, Phase::Warm(_)) {
            return false;
        }
        let has_its_turn = self.queue.values().any(|waiting| waiting.came <= self.turn_until);
        let urgent = self.handed.values().any(|urgency| *urgency == Urgency::Urgent);
        match reach {
            Reach::Nothing => false,
            Reach::IdleFor(long) => {
                !self.spec.preload && self.is_idle() && self.idle_since.saturating_add(long) <= now
            }
            Reach::Idle => self.is_idle(),
            Reach::LessUrgent => !has_its_turn && !urgent,
            Reach::Busy => !has_its_turn,
        }
    }

    /// Whether it may go sometime, whatever it does now.
    pub(in crate::lifecycle) const fn may_ever_go(&self) -> bool {
        !self.pinned && self.phase.is_resident()
    }

    /// Seconds that will be lost by sending it away: those of a reload × the likelihood of use.
    pub(in crate::lifecycle) fn cost(&self, now: Duration, half_life: Duration) -> f64 {
        let floor = if self.spec.preload { PRELOADED_USES } else { UNUSED_USES };
        self.spec.load.as_secs_f64() * (floor + self.uses_now(now, half_life))
    }

    pub(in crate::lifecycle) fn is_busy(&self) -> bool {
        !self.is_idle()
    }

    fn uses_now(&self, now: Duration, half_life: Duration) -> f64 {
        let since = now.saturating_sub(self.uses_at).as_secs_f64();
        self.uses * (-since / half_life.as_secs_f64().max(1.0)).exp2()
    }

    pub(super) fn used(&mut self, times: u32, now: Duration, half_life: Duration) {
        self.uses = self.uses_now(now, half_life) + f64::from(times);
        self.uses_at = now;
    }

    /// Why and how much it should be loaded now; `None` = it need not, or can't yet.
    pub(in crate::lifecycle) fn demand(&mut self, now: Duration, policy: &Policy) -> Option<Demand> {
        let waits = matches!(self.phase, Phase::Down { retry_at, .. } if retry_at > now);
        if self.withdrawn || waits || self.phase.is_resident() {
            return None;
        }
        let swapping = self.swapping;
        let lead = self.spec.load + policy.notice;
        let latest = self.queue.values().map(|waiting| waiting.latest(policy.wait_max)).min();
        if let Some(latest) = latest {
            let latest = latest.saturating_sub(lead);
            let overdue = (latest <= now).then_some(latest);
            let urgency = self.queue.values().map(|waiting| waiting.urgency).max().unwrap_or_default();
            let since = self.queue.values().map(|waiting| waiting.came).min().unwrap_or(now);
            let reach = match (overdue, urgency) {
                (Some(_), _) => Reach::Busy,
                (None, Urgency::Urgent) => Reach::LessUrgent,
                (None, _) => Reach::Idle,
            };
            return Some(Demand { reach, waited_for: true, overdue, urgency, since, swapping });
        }
        if let Some(Want::Wish(at)) = self.want
            && at.saturating_add(policy.wait_max) <= now
        {
            self.want = None;
        }
        let want = self.want.as_mut()?;
        let (reach, urgency, since) = match want {
            Want::IfRoom => (Reach::Nothing, Urgency::Background, now),
            Want::Home => (Reach::IdleFor(policy.return_after), Urgency::Background, now),
            Want::Wish(at) => (Reach::Idle, Urgency::Background, *at),
            Want::Asked(since) => {
                let since = *since.get_or_insert(now);
                let overdue = since.saturating_add(policy.wait_max) <= now;
                (if overdue { Reach::Busy } else { Reach::Idle }, Urgency::Normal, since)
            }
        };
        Some(Demand { reach, waited_for: false, overdue: None, urgency, since, swapping })
    }

    /// Whether it is wanted only where there is room.
    pub(in crate::lifecycle) fn waits_for_room(&self) -> bool {
        matches!(self.want, Some(Want::IfRoom)) && self.queue.is_empty()
    }

    /// When something may change by time alone.
    pub(in crate::lifecycle) fn due(&self, policy: &Policy) -> Vec<Duration> {
        let mut due: Vec<Duration> = self.keeps_until().into_iter().collect();
        match &self.phase {
            Phase::Draining(since, why) => {
                due.push(*since + policy.notice);
                if matches!(why, Leaving::MemoryLost(_)) {
                    due.push(*since + policy.lost_drain_max);
                }
            }
            Phase::Down { retry_at, .. } => due.push(*retry_at),
            Phase::Warm(_) if self.is_idle() => due.push(self.idle_since.saturating_add(policy.return_after)),
            Phase::Cold => {
                let lead = self.spec.load + policy.notice;
                due.extend(
                    self.queue.values().map(|waiting| waiting.latest(policy.wait_max).saturating_sub(lead)),
                );
                due.extend(self.shortage.as_ref().map(|shortage| shortage.retry_at));
                if let Some(Want::Wish(since) | Want::Asked(Some(since))) = self.want {
                    due.push(since.saturating_add(policy.wait_max));
                }
            }
            _ => {}
        }
        due
    }
}
