//! Which models of a machine are loaded, and in which order those that wait get their turn.
//!
//! ```text
//!              wanted, and there is room             ready
//!   cold ────────────────────────────────► loading ────────► warm
//!    ▲ ▲                                      │ │              │ idle, asked, or room is needed: draining
//!    │ │ gone                          failed │ │ failed       ▼
//!    │ └──────────── ending ◄─────────────────┼─┼────────── draining ──► warm (nobody needs the room any more)
//!    │                  ▲      nothing in flight, notice over  │
//!    └── down ◄─────────┼────────────────────┘                 │
//!        (again after a while)                                 │
//!                       └──────────────────────────────────────┘
//! ```
//!
//! One owner feeds a [`Lifecycle`] everything that happens and carries out what it answers, so that no two decisions are
//! made on different views. An engine's word counts only for the run that it was started as: what an earlier process still
//! had to say is not taken for the present one.
//!
//! **Collation.** A warm model's requests go to its engine; requests for a model that is not warm wait here. Another model
//! has to go for it only when that one is idle, or when somebody has waited too long ([`Policy::wait_max`], less the time
//! that the load takes), or is urgent: so A B A B becomes A A B B. A model that goes drains first: what it has is finished,
//! what comes for it waits for its next turn. A model that was loaded answers everybody who waited at that moment before it
//! can be sent away. Turns go to those overdue by age, then by urgency, then by age: nobody is overtaken for ever, and a
//! request waits at most `wait_max` and one turn of each other model whose requests are older.
//!
//! **Eviction** takes idle models before busy ones, then what is cheapest to miss: time of a reload × likelihood of use,
//! which halves with each [`Policy::use_half_life`] without requests (the cost that S2's "swap" section weighs by hand).
//! Pinned models and models that are loading stay.
//!
//! Times are durations since any fixed moment of a monotonic clock.

mod entry;
mod load_time;
mod plan;
#[cfg(test)]
mod properties;
mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use load_time::{LoadTimes, percent};

use crate::id::ModelName;
use crate::units::Bytes;
use entry::Entry;

/// The owner's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Models that are loaded at once; `None` = as many as there is memory for.
    pub resident_max: Option<usize>,
    /// How long a request waits for its model while another one is busy.
    pub wait_max: Duration,
    /// A preloaded model that had to go comes back when the others have been idle for so long. S2: five minutes.
    pub return_after: Duration,
    /// Between saying that a model takes nothing new and ending it, so that requests under way still arrive.
    pub notice: Duration,
    /// Longest drain of a model whose memory was taken away.
    pub lost_drain_max: Duration,
    /// Time without requests after which a model counts as half as likely to be used.
    pub use_half_life: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            resident_max: None,
            wait_max: Duration::from_secs(30),
            return_after: Duration::from_secs(300),
            notice: Duration::from_secs(1),
            lost_drain_max: Duration::from_secs(5),
            use_half_life: Duration::from_secs(600),
        }
    }
}

/// What is known of a model before it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Loaded at the start.
    pub preload: bool,
    /// Never sent away.
    pub pinned: bool,
    /// Takes memory of a GPU; else of the system. Only models of one memory make room for each other.
    pub gpu: bool,
    /// Sent away after so long without a request; `None` = never for idleness.
    pub keep_alive: Option<Duration>,
    /// What it takes while loaded.
    pub memory: Bytes,
    /// What a load takes.
    pub load: Duration,
}

/// A request that waits; numbered by whoever keeps it, in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// How pressing a request is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// Nobody waits for it.
    Background,
    /// As most.
    #[default]
    Normal,
    /// A busy model is drained for it at once.
    Urgent,
}

/// Numbers the lives of a model's engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A model is offered from now on, or is described anew.
    Offered(ModelName, Spec),
    /// It is offered no more: drained and forgotten.
    Withdrawn(ModelName),
    /// A request came for a model, and has to be answered before `deadline`.
    Asked {
        /// The model.
        model: ModelName,
        /// The request.
        ticket: Ticket,
        /// How pressing it is.
        urgency: Urgency,
        /// When it is too late.
        deadline: Duration,
    },
    /// A request that waited or was handed over is over: answered, cancelled or overdue.
    Over(Ticket),
    /// The engine answers.
    Ready {
        /// Its model.
        model: ModelName,
        /// Its life.
        run: Run,
        /// Requests it computes at once; at least 1.
        slots: u32,
        /// How long the load took.
        took: Duration,
    },
    /// What the engine is busy with has changed.
    Busy {
        /// Its model.
        model: ModelName,
        /// Its life.
        run: Run,
        /// Requests it has, queued ones as well.
        in_flight: u32,
    },
    /// There was no memory for the load; nothing was started.
    NoRoom {
        /// The model.
        model: ModelName,
        /// The life that did not begin.
        run: Run,
        /// In words.
        reason: String,
        /// How much is missing; `None` = not said.
        missing: Option<Bytes>,
        /// When to try again if nobody can make room.
        retry_in: Duration,
    },
    /// The engine is gone, and its memory with it.
    Gone {
        /// Its model.
        model: ModelName,
        /// Its life.
        run: Run,
        /// Why, in words, where nobody has asked it to end.
        reason: String,
        /// When to try again in that case.
        retry_in: Duration,
    },
    /// The memory under the engine was taken away: it has to go soon.
    MemoryLost {
        /// Its model.
        model: ModelName,
        /// Its life.
        run: Run,
        /// In words.
        reason: String,
    },
    /// Somebody wants it loaded.
    Load(ModelName),
    /// Somebody wants it unloaded.
    Unload(ModelName),
    /// Load it, and keep it whatever comes.
    Pin(ModelName),
    /// Keep it no longer than others.
    Unpin(ModelName),
    /// A request for it was served elsewhere: load it if nothing that works has to go.
    Wish(ModelName),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take memory, start an engine.
    Load {
        /// The model.
        model: ModelName,
        /// The life that begins.
        run: Run,
        /// Another model had to go for it.
        swapped: bool,
    },
    /// End the engine, kindly: it has nothing to do unless its memory was lost.
    End {
        /// The model.
        model: ModelName,
        /// The life that ends.
        run: Run,
        /// Why.
        why: Leaving,
    },
    /// Give the request to the model's engine.
    HandOver {
        /// The model.
        model: ModelName,
        /// The request.
        ticket: Ticket,
    },
    /// The request can't be answered here now.
    Refuse {
        /// The request.
        ticket: Ticket,
        /// In words.
        reason: String,
        /// When it may be worth a try.
        retry_in: Duration,
    },
}

/// Why a model goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    /// Nobody has asked it for its keep-alive time.
    Idle,
    /// Room was needed for this model.
    Evicted(ModelName),
    /// Somebody wanted it.
    Asked,
    /// Its memory was taken away; in words.
    MemoryLost(String),
}

impl Leaving {
    /// The name in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Evicted(_) => "evicted",
            Self::Asked => "asked",
            Self::MemoryLost(_) => "memory-lost",
        }
    }
}

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not loaded.
    Cold,
    /// Being loaded since.
    Loading(Duration),
    /// Answers since.
    Warm(Duration),
    /// Takes nothing new since.
    Draining(Duration, Leaving),
    /// Asked to end, not gone yet.
    Ending(Leaving),
    /// Failed.
    Down {
        /// In words.
        reason: String,
        /// When it is tried again.
        retry_at: Duration,
    },
}

impl Phase {
    /// Whether it takes memory, or is about to.
    #[must_use]
    pub const fn is_resident(&self) -> bool {
        matches!(self, Self::Loading(_) | Self::Warm(_) | Self::Draining(..) | Self::Ending(_))
    }
}

/// One model as others may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Where it is.
    pub phase: Phase,
    /// What was told of it, as learnt since.
    pub spec: Spec,
    /// Never sent away.
    pub pinned: bool,
    /// The life of its engine, or the next one.
    pub run: Run,
    /// Requests that its engine has.
    pub in_flight: u32,
    /// Requests that wait for it.
    pub waiting: u32,
    /// When the oldest of them came.
    pub oldest: Option<Duration>,
    /// Since when it has had no request; `None` = it has some, or is not loaded.
    pub idle_since: Option<Duration>,
    /// Models that are drained so that it can be loaded.
    pub makes_room: bool,
}

/// The models of a machine.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    policy: Policy,
    models: BTreeMap<ModelName, Entry>,
}

impl Lifecycle {
    /// No model is offered yet.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self { policy, models: BTreeMap::new() }
    }

    /// The rules.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// All models, by name.
    pub fn views(&self) -> impl Iterator<Item = (&ModelName, View)> {
        self.models.iter().map(|(name, entry)| (name, self.describe(name, entry)))
    }

    /// One model.
    #[must_use]
    pub fn view(&self, model: &ModelName) -> Option<View> {
        self.models.get(model).map(|entry| self.describe(model, entry))
    }

    fn describe(&self, name: &ModelName, entry: &Entry) -> View {
        let makes_room = self.models.values().any(|other| other.leaves_for(name));
        View { makes_room, ..entry.view() }
    }

    /// Takes what happened, and says what is to be done now, in this order.
    #[must_use]
    pub fn apply(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        self.take(event, now, &mut actions);
        self.plan(now, &mut actions);
        actions
    }

    fn take(&mut self, event: Event, now: Duration, actions: &mut Vec<Action>) {
        let half_life = self.policy.use_half_life;
        match event {
            Event::Offered(model, spec) => match self.models.get_mut(&model) {
                Some(entry) => entry.described(spec),
                None => drop(self.models.insert(model, Entry::new(spec, now))),
            },
            Event::Withdrawn(model) => {
                let Some(entry) = self.models.get_mut(&model) else { return };
                entry.refuse_all(&format!("{model} is offered no more"), Duration::ZERO, actions);
                entry.withdraw(now);
            }
            Event::Asked { model, ticket, urgency, deadline } => {
                let Some(entry) = self.models.get_mut(&model) else {
                    let reason = format!("{model} is not offered here");
                    actions.push(Action::Refuse { ticket, reason, retry_in: Duration::ZERO });
                    return;
                };
                entry.asked(ticket, urgency, (now, deadline), half_life, actions);
            }
            Event::Over(ticket) => {
                for entry in self.models.values_mut() {
                    entry.over(ticket, now);
                }
            }
            Event::Tick => {}
            Event::Load(model) | Event::Pin(model) | Event::Unpin(model) | Event::Unload(model)
                if !self.models.contains_key(&model) => {}
            Event::Load(model) => self.with(&model, Entry::load_asked),
            Event::Pin(model) => self.with(&model, Entry::pin),
            Event::Unpin(model) => self.with(&model, |entry| entry.pinned = false),
            Event::Unload(model) => self.with(&model, |entry| entry.unload_asked(now)),
            Event::Wish(model) => self.with(&model, |entry| entry.wished(now, half_life)),
            event => self.heard(event, now, actions),
        }
    }

    fn with(&mut self, model: &ModelName, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.models.get_mut(model) {
            change(entry);
        }
    }

    /// What an engine said, if it is the present one.
    fn heard(&mut self, event: Event, now: Duration, actions: &mut Vec<Action>) {
        let (model, run) = match &event {
            Event::Ready { model, run, .. }
            | Event::Busy { model, run, .. }
            | Event::NoRoom { model, run, .. }
            | Event::Gone { model, run, .. }
            | Event::MemoryLost { model, run, .. } => (model.clone(), *run),
            _ => return,
        };
        let half_life = self.policy.use_half_life;
        let Some(entry) = self.models.get_mut(&model).filter(|entry| entry.run == run) else { return };
        let mut freed = false;
        match event {
            Event::Ready { slots, took, .. } => entry.ready(slots, took, now),
            Event::Busy { in_flight, .. } => entry.busy(in_flight, now, half_life),
            Event::NoRoom { reason, missing, retry_in, .. } => {
                entry.no_room(reason, missing, (now, retry_in));
            }
            Event::Gone { reason, retry_in, .. } => {
                freed = true;
                entry.gone(&reason, (now, retry_in), actions);
            }
            Event::MemoryLost { reason, .. } => entry.leave(Leaving::MemoryLost(reason), now),
            _ => {}
        }
        if freed {
            for entry in self.models.values_mut() {
                entry.shortage = None;
            }
        }
    }
}
