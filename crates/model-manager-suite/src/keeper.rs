//! Feeds the registry and decides when a snapshot is due.
//!
//! One task owns the registry and never waits for anything but its inputs, so that heartbeats are heard in time whatever the
//! bucket does; writing and deleting are other tasks' work.

use std::{future::pending, sync::Arc, time::Duration};

use bus::{Bus, Incoming, control::Change};
use bytes::Bytes;
use domain::id::{FlagName, ModelName};
use futures::{Stream, StreamExt};
use prost::Message;
use service_runtime::Clock;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use wire::{
    subject::{alias_key, flag_keys},
    v1,
};

use crate::{
    catalog::Catalog,
    metrics::Metrics,
    registration,
    registry::{Changes, Event, Registry, check_flag},
    view::View,
};

/// Changes that come together are written together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// How often silence is looked for.
const TICK: Duration = Duration::from_millis(250);

/// What the registry hears of.
pub(crate) struct Inputs<H> {
    /// Of every service of every machine.
    pub(crate) heartbeats: H,
    /// Keys of all registrations.
    pub(crate) registrations: mpsc::Receiver<Change>,
    /// Keys of this machine's flags.
    pub(crate) flags: mpsc::Receiver<Change>,
    /// The key of this machine's switched aliases.
    pub(crate) aliases: mpsc::Receiver<Change>,
    /// The owner's files, read again.
    pub(crate) catalogs: watch::Receiver<Arc<Catalog>>,
    /// How this machine's budgets stand.
    pub(crate) budgets: watch::Receiver<Vec<v1::BudgetLeft>>,
}

/// Owns the registry.
pub(crate) struct Keeper {
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) registry: Registry,
    /// Of the next snapshot.
    pub(crate) revision: u64,
    pub(crate) status_interval: Duration,
    pub(crate) views: watch::Sender<Option<View>>,
    /// Keys of registrations to delete.
    pub(crate) forget: mpsc::Sender<String>,
    pub(crate) metrics: Metrics,
}

impl Keeper {
    /// What was in the bucket at the start.
    pub(crate) fn seed(&mut self, entries: Vec<(String, Bytes)>) {
        for (key, value) in entries {
            let event = if key.starts_with(flag_prefix(&self.bus).as_str()) {
                self.flag(Change { key, value: Some(value) })
            } else if key == alias_key(self.bus.machine()) {
                self.aliases(Change { key, value: Some(value) })
            } else {
                self.registration(Change { key, value: Some(value) })
            };
            self.apply(event);
        }
    }

    /// Runs until `stop` fires or the bus is closed. The first snapshot comes when everybody who is registered was heard,
    /// or when `settle` has passed.
    pub(crate) async fn run<H>(mut self, mut inputs: Inputs<H>, settle: Duration, stop: CancellationToken)
    where
        H: Stream<Item = Incoming> + Unpin,
    {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let settled_by = Instant::now() + settle;
        let mut due = Some(settled_by);
        loop {
            let event = tokio::select! {
                // what was said comes before what silence means
                biased;
                () = stop.cancelled() => return,
                heartbeat = inputs.heartbeats.next() => match heartbeat {
                    Some(heartbeat) => self.heartbeat(&heartbeat),
                    None => return,
                },
                Some(change) = inputs.registrations.recv() => self.registration(change),
                Some(change) = inputs.flags.recv() => self.flag(change),
                Some(change) = inputs.aliases.recv() => self.aliases(change),
                Ok(()) = inputs.catalogs.changed() => {
                    Some(Event::Catalog(Arc::clone(&inputs.catalogs.borrow_and_update())))
                }
                Ok(()) = inputs.budgets.changed() => {
                    Some(Event::Budgets(inputs.budgets.borrow_and_update().clone()))
                }
                () = at(due) => {
                    self.publish();
                    due = None;
                    continue;
                }
                _ = tick.tick() => Some(Event::Tick),
            };
            let changes = self.apply(event);
            let soonest = self.due(&changes, settled_by);
            due = [due, soonest].into_iter().flatten().min();
        }
    }

    /// When the snapshot has to be written for these changes.
    fn due(&self, changes: &Changes, settled_by: Instant) -> Option<Instant> {
        let now = Instant::now();
        if self.views.borrow().is_none() {
            return Some(if self.registry.is_settled() { now } else { settled_by });
        }
        if changes.routing {
            return Some(now + DEBOUNCE);
        }
        changes.status.then(|| now + self.status_interval)
    }

    fn apply(&mut self, event: Option<Event>) -> Changes {
        let Some(event) = event else { return Changes::default() };
        let changes = self.registry.apply(event, Instant::now());
        for turn in &changes.turned {
            let instance = &turn.instance;
            if turn.alive {
                tracing::info!(%instance, id = instance.instance, "service is heard again");
            } else {
                tracing::warn!(%instance, id = instance.instance, "service has fallen silent");
            }
        }
        if changes.refused {
            self.metrics.refused("full");
            tracing::warn!("the registry is full: a service or flag was not taken");
        }
        for key in &changes.forget {
            if self.forget.try_send(key.clone()).is_err() {
                tracing::warn!(key, "stale registration not deleted");
            }
        }
        changes
    }

    fn publish(&mut self) {
        let wire = self.registry.snapshot(self.revision, self.clock.now_unix_ms());
        match View::new(wire, self.registry.switched()) {
            Ok(view) => {
                tracing::debug!(
                    revision = self.revision,
                    deployments = view.wire.deployments.len(),
                    "snapshot"
                );
                self.revision += 1;
                self.views.send_replace(Some(view));
            }
            Err(error) => tracing::error!(%error, "snapshot does not convert, the last one stays"),
        }
    }

    fn heartbeat(&self, incoming: &Incoming) -> Option<Event> {
        let now = self.clock.now_unix_ms();
        match registration::heartbeat(self.bus.prefix(), &incoming.subject, &incoming.payload, now) {
            Ok(beat) => Some(Event::Heartbeat(beat)),
            Err(error) => {
                self.metrics.refused("heartbeat");
                tracing::warn!(subject = incoming.subject, %error, "heartbeat not used");
                None
            }
        }
    }

    fn registration(&self, Change { key, value }: Change) -> Option<Event> {
        let Some(value) = value else { return Some(Event::Withdrawn { key }) };
        match registration::registration(&key, &value) {
            Ok((registered, faults)) => {
                for fault in faults {
                    self.metrics.refused("deployment");
                    tracing::error!(key, %fault, "deployment left out");
                }
                Some(Event::Registered(registered))
            }
            Err(error) => {
                self.metrics.refused("registration");
                tracing::error!(key, %error, "registration not used");
                None
            }
        }
    }

    fn aliases(&self, Change { key, value }: Change) -> Option<Event> {
        let Some(value) = value else { return Some(Event::Aliases(v1::AliasBook::default())) };
        let checked = |book: &v1::AliasBook| {
            let names = book.overrides.iter().flat_map(|alias| alias.targets.iter().chain([&alias.name]));
            book.overrides.iter().all(|alias| !alias.targets.is_empty())
                && names.into_iter().all(|name| ModelName::new(name).is_ok())
        };
        match v1::AliasBook::decode(value) {
            Ok(book) if checked(&book) => Some(Event::Aliases(book)),
            _ => {
                self.metrics.refused("aliases");
                tracing::error!(key, "switched aliases not used: not the message that belongs there");
                None
            }
        }
    }

    fn flag(&self, Change { key, value }: Change) -> Option<Event> {
        let name = FlagName::new(key.strip_prefix(flag_prefix(&self.bus).as_str())?).ok()?;
        let Some(value) = value else { return Some(Event::FlagRemoved(name)) };
        let flag = v1::Flag::decode(value).ok();
        match flag.filter(|flag| check_flag(flag).is_ok_and(|checked| checked == name)) {
            Some(flag) => Some(Event::FlagSet(flag)),
            None => {
                self.metrics.refused("flag");
                tracing::error!(key, "flag not used: not the message that belongs there");
                None
            }
        }
    }
}

/// What keys of this machine's flags begin with.
pub(crate) fn flag_prefix(bus: &Bus) -> String {
    flag_keys(bus.machine()).trim_end_matches('>').to_owned()
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
