//! One model: where it is, who waits for it, how much it was used.

mod demand;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{Action, Leaving, Phase, Run, Spec, Ticket, Urgency, View};
use crate::id::ModelName;
use crate::units::Bytes;
pub(super) use demand::{Demand, Reach};
use demand::{Waiting, Want};

/// There was no memory.
#[derive(Debug, Clone)]
pub(super) struct Shortage {
    pub(super) reason: String,
    pub(super) missing: Option<Bytes>,
    pub(super) retry_at: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) spec: Spec,
    pub(super) phase: Phase,
    pub(super) pinned: bool,
    pub(super) run: Run,
    /// The memory was asked for and not there.
    pub(super) shortage: Option<Shortage>,
    /// Others were sent away for it.
    pub(super) swapping: bool,
    withdrawn: bool,
    want: Option<Want>,
    queue: BTreeMap<Ticket, Waiting>,
    handed: BTreeMap<Ticket, Urgency>,
    in_flight: u32,
    slots: u32,
    idle_since: Duration,
    /// Requests that came until then are answered before it can be sent away.
    turn_until: Duration,
    uses: f64,
    uses_at: Duration,
}

impl Entry {
    pub(super) fn new(spec: Spec, now: Duration) -> Self {
        Self {
            spec,
            phase: Phase::Cold,
            pinned: spec.pinned,
            run: Run::default(),
            shortage: None,
            swapping: false,
            withdrawn: false,
            want: (spec.preload || spec.pinned).then_some(Want::IfRoom),
            queue: BTreeMap::new(),
            handed: BTreeMap::new(),
            in_flight: 0,
            slots: 1,
            idle_since: now,
            turn_until: Duration::ZERO,
            uses: 0.0,
            uses_at: now,
        }
    }

    pub(super) fn view(&self) -> View {
        let idle = matches!(self.phase, Phase::Warm(_)) && self.is_idle();
        View {
            phase: self.phase.clone(),
            spec: self.spec,
            pinned: self.pinned,
            run: self.run,
            in_flight: self.in_flight.max(u32::try_from(self.handed.len()).unwrap_or(u32::MAX)),
            waiting: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            oldest: self.queue.values().map(|waiting| waiting.came).min(),
            idle_since: idle.then_some(self.idle_since),
            makes_room: false,
        }
    }

    // What others say.

    pub(super) fn described(&mut self, spec: Spec) {
        self.spec = spec;
        self.withdrawn = false;
    }

    pub(super) fn asked(
        &mut self,
        ticket: Ticket,
        urgency: Urgency,
        (now, deadline): (Duration, Duration),
        half_life: Duration,
        actions: &mut Vec<Action>,
    ) {
        if self.withdrawn {
            let reason = "the model is offered no more".to_owned();
            actions.push(Action::Refuse { ticket, reason, retry_in: Duration::ZERO });
            return;
        }
        if let Phase::Down { reason, retry_at } = &self.phase
            && *retry_at > now
        {
            let retry_in = retry_at.saturating_sub(now);
            actions.push(Action::Refuse { ticket, reason: reason.clone(), retry_in });
            return;
        }
        self.used(1, now, half_life);
        self.queue.insert(ticket, Waiting { urgency, came: now, deadline });
    }

    pub(super) fn over(&mut self, ticket: Ticket, now: Duration) {
        self.queue.remove(&ticket);
        if self.handed.remove(&ticket).is_some() && self.is_idle() {
            self.idle_since = now;
        }
    }

    pub(super) fn load_asked(&mut self) {
        if self.phase.is_resident() {
            return;
        }
        self.retry_now();
        self.want = Some(Want::Asked(None));
    }

    pub(super) fn pin(&mut self) {
        self.pinned = true;
        if let Phase::Draining(since, Leaving::Idle | Leaving::Evicted(_)) = self.phase {
            self.phase = Phase::Warm(since);
        }
        self.load_asked();
    }

    pub(super) fn wished(&mut self, now: Duration, half_life: Duration) {
        self.used(1, now, half_life);
        let weaker = matches!(self.want, None | Some(Want::Wish(_)));
        if weaker && !self.phase.is_resident() {
            self.want = Some(Want::Wish(now));
        }
    }

    pub(super) fn unload_asked(&mut self, now: Duration) {
        self.want = None;
        self.pinned = false;
        match self.phase {
            Phase::Down { .. } => self.phase = Phase::Cold,
            _ => self.leave(Leaving::Asked, now),
        }
    }

    /// Drained and forgotten. What is not loaded can be forgotten at once: see [`Entry::is_forgotten`].
    pub(super) fn withdraw(&mut self, now: Duration) {
        self.withdrawn = true;
        self.unload_asked(now);
    }

    pub(super) const fn is_forgotten(&self) -> bool {
        self.withdrawn && !self.phase.is_resident()
    }

    fn retry_now(&mut self) {
        self.shortage = None;
        if matches!(self.phase, Phase::Down { .. }) {
            self.phase = Phase::Cold;
        }
    }

    // What its engine says.

    pub(super) fn ready(&mut self, slots: u32, took: Duration, now: Duration) {
        if !matches!(self.phase, Phase::Loading(_)) {
            return;
        }
        self.phase = Phase::Warm(now);
        self.want = None;
        self.slots = slots.max(1);
        self.spec.load = took;
        self.idle_since = now;
        self.turn_until = now;
    }

    pub(super) fn busy(&mut self, in_flight: u32, now: Duration, half_life: Duration) {
        self.used(in_flight.saturating_sub(self.in_flight), now, half_life);
        self.in_flight = in_flight;
        if self.is_idle() {
            self.idle_since = now;
        }
    }

    pub(super) fn no_room(
        &mut self,
        reason: String,
        missing: Option<Bytes>,
        (now, retry_in): (Duration, Duration),
    ) {
        if matches!(self.phase, Phase::Loading(_)) {
            self.phase = Phase::Cold;
            self.shortage = Some(Shortage { reason, missing, retry_at: now + retry_in });
        }
    }

    /// The engine is gone.
    pub(super) fn gone(
        &mut self,
        reason: &str,
        (now, retry_in): (Duration, Duration),
        actions: &mut Vec<Action>,
    ) {
        self.in_flight = 0;
        self.handed.clear();
        self.shortage = None;
        let phase = std::mem::replace(&mut self.phase, Phase::Cold);
        match phase {
            Phase::Draining(_, Leaving::MemoryLost(reason)) | Phase::Ending(Leaving::MemoryLost(reason)) => {
                self.down(reason, now + retry_in, now, actions);
            }
            Phase::Draining(_, Leaving::Evicted(_)) | Phase::Ending(Leaving::Evicted(_)) => {
                self.want = self.spec.preload.then_some(Want::Home);
            }
            Phase::Draining(..) | Phase::Ending(_) => {}
            Phase::Loading(_) | Phase::Warm(_) | Phase::Cold | Phase::Down { .. } => {
                self.down(reason.to_owned(), now + retry_in, now, actions);
            }
        }
    }

    /// It does not answer, and is tried again by itself.
    pub(super) fn down(
        &mut self,
        reason: String,
        retry_at: Duration,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        self.refuse_all(&reason, retry_at.saturating_sub(now), actions);
        self.shortage = None;
        self.swapping = false;
        self.want = self.want.or(Some(Want::IfRoom));
        self.phase = Phase::Down { reason, retry_at };
    }

    pub(super) fn refuse_all(&mut self, reason: &str, retry_in: Duration, actions: &mut Vec<Action>) {
        for (ticket, _) in std::mem::take(&mut self.queue) {
            actions.push(Action::Refuse { ticket, reason: reason.to_owned(), retry_in });
        }
    }

    // What is decided.

    pub(super) fn leave(&mut self, why: Leaving, now: Duration) {
        match (&self.phase, &why) {
            (Phase::Warm(_), _) => self.phase = Phase::Draining(now, why),
            // a load can't be drained: it is ended once it is through, unless its memory is gone
            (Phase::Loading(_), Leaving::Asked | Leaving::MemoryLost(_))
            // a drain without bound becomes one with a bound
            | (Phase::Draining(..), Leaving::MemoryLost(_) | Leaving::Asked) => {
                self.phase = Phase::Draining(now, why);
            }
            _ => {}
        }
    }

    pub(super) fn stay(&mut self, now: Duration) {
        self.phase = Phase::Warm(now);
    }

    pub(super) fn begin(&mut self, now: Duration) -> bool {
        self.phase = Phase::Loading(now);
        self.run = Run(self.run.0 + 1);
        self.shortage = None;
        self.in_flight = 0;
        std::mem::take(&mut self.swapping)
    }

    pub(super) fn give_up_wish(&mut self) {
        if matches!(self.want, Some(Want::Wish(_))) {
            self.want = None;
        }
    }

    /// The next request for its engine, if there is a place.
    pub(super) fn hand_over(&mut self) -> Option<Ticket> {
        let places = usize::try_from(self.slots).unwrap_or(usize::MAX);
        if !matches!(self.phase, Phase::Warm(_)) || self.handed.len() >= places {
            return None;
        }
        let next = self.queue.iter().min_by_key(|(ticket, waiting)| (Reverse(waiting.urgency), **ticket));
        let (ticket, urgency) = next.map(|(ticket, waiting)| (*ticket, waiting.urgency))?;
        self.queue.remove(&ticket);
        self.handed.insert(ticket, urgency);
        Some(ticket)
    }

    pub(super) fn leaves_for(&self, model: &ModelName) -> bool {
        match &self.phase {
            Phase::Draining(_, Leaving::Evicted(other)) | Phase::Ending(Leaving::Evicted(other)) => {
                other == model
            }
            _ => false,
        }
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.handed.is_empty() && self.queue.is_empty()
    }

    /// Nothing of it is being computed.
    pub(super) fn is_drained(&self) -> bool {
        self.in_flight == 0 && self.handed.is_empty()
    }

    /// Until when its keep-alive lasts; `None` = without end.
    pub(super) fn keeps_until(&self) -> Option<Duration> {
        let lasts = self.spec.keep_alive.filter(|_| !self.pinned && self.is_idle())?;
        matches!(self.phase, Phase::Warm(_)).then(|| self.idle_since.saturating_add(lasts))
    }
}
