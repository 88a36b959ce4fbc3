//! Who is there and what they run: a state machine without clock, bus or files.
//!
//! ```text
//!              heartbeat                silent for dead_after         silent for forget_after more
//! registered ───────────► alive ─────────────────────────────► dead ──────────────────────────────► forgotten
//!      │ (a grace of       ▲                                   │  └ its deployments are down
//!      └  dead_after)      └───────────── heartbeat ───────────┘
//! ```
//!
//! Invariants: the same events in the same order at the same instants give the same snapshot; every snapshot converts into
//! `domain::routing::Snapshot`; a deployment of a service that has fallen silent is down, not gone, so that callers hear
//! "unavailable" and not "unknown model".
//!
//! Time counts only while this process listens. Its own heartbeats come back to it through the bus like everybody's: while
//! they don't (server away, process stopped, machine asleep), nobody else is judged by their silence, and afterwards
//! everybody has a full grace again.

mod merge;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use domain::{
    id::FlagName,
    routing::{Alias, Flag, Tier},
};
use tokio::time::Instant;
use wire::v1;

use crate::{
    catalog::Catalog,
    registration::{Beat, Instance as Identity, Registered},
};

/// Process starts that are remembered; further ones are refused until some are forgotten.
pub const INSTANCES_MAX: usize = 4_096;
/// Flags of a machine.
pub const FLAGS_MAX: usize = 1_024;
/// Own heartbeats come every half second; without one for so long nobody is judged.
const LISTENING_GAP: Duration = Duration::from_millis(1_000);

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A registration was written, or told again.
    Registered(Registered),
    /// A registration was deleted: the service has ended in order.
    Withdrawn {
        /// Of the registration.
        key: String,
    },
    /// A service was heard.
    Heartbeat(Beat),
    /// A flag was written.
    FlagSet(v1::Flag),
    /// A flag was deleted.
    FlagRemoved(FlagName),
    /// The aliases that are switched, all of them.
    Aliases(v1::AliasBook),
    /// The owner's files were read again.
    Catalog(Arc<Catalog>),
    /// How the budgets of this machine stand.
    Budgets(Vec<v1::BudgetLeft>),
    /// Time has passed.
    Tick,
}

/// What an event changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Readers of the snapshot should hear of it at once.
    pub routing: bool,
    /// Figures changed that may wait (last seen, in flight, resources).
    pub status: bool,
    /// Services that were found alive or dead.
    pub turned: Vec<Turn>,
    /// Registrations of this machine that nobody stands behind any more: keys to delete.
    pub forget: Vec<String>,
    /// The event was not taken: too many instances or flags.
    pub refused: bool,
}

/// A service that was found alive or dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Which.
    pub instance: Identity,
    /// Found alive; else dead.
    pub alive: bool,
}

/// How long silence lasts until it means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until a service is dead.
    pub dead_after: Duration,
    /// From then until a registration of this machine is deleted.
    pub forget_after: Duration,
}

#[derive(Debug, Clone)]
struct Instance {
    identity: Identity,
    registration: Option<Registered>,
    /// The registration was deleted; what it had is remembered as down for a while.
    withdrawn: bool,
    alive: bool,
    /// Last heartbeat; before the first, when the service became known.
    heard: Instant,
    /// The last heartbeat.
    beat: Option<Beat>,
}

/// Everything the snapshot is made of.
#[derive(Debug, Clone)]
pub struct Registry {
    me: Identity,
    patience: Patience,
    /// By key of the registration.
    instances: BTreeMap<String, Instance>,
    flags: BTreeMap<String, v1::Flag>,
    aliases: v1::AliasBook,
    catalog: Arc<Catalog>,
    budgets: Vec<v1::BudgetLeft>,
    /// Last own heartbeat.
    listened: Instant,
}

impl Registry {
    /// Knows nobody yet. `me` is the service that keeps it.
    #[must_use]
    pub fn new(me: Identity, patience: Patience, catalog: Arc<Catalog>, now: Instant) -> Self {
        Self {
            me,
            patience,
            instances: BTreeMap::new(),
            flags: BTreeMap::new(),
            aliases: v1::AliasBook::default(),
            catalog,
            budgets: Vec::new(),
            listened: now,
        }
    }

    /// Takes an event.
    pub fn apply(&mut self, event: Event, now: Instant) -> Changes {
        match event {
            Event::Registered(registered) => self.registered(registered, now),
            Event::Withdrawn { key } => self.withdrawn(&key, now),
            Event::Heartbeat(beat) => self.heard(beat, now),
            Event::FlagSet(flag) => self.flag_set(flag),
            Event::FlagRemoved(name) => self.flag_removed(&name),
            Event::Aliases(book) => {
                let routing = self.aliases != book;
                self.aliases = book;
                Changes { routing, ..Changes::default() }
            }
            Event::Catalog(catalog) => {
                let routing = self.catalog != catalog;
                self.catalog = catalog;
                Changes { routing, ..Changes::default() }
            }
            Event::Budgets(budgets) => self.budgets(budgets),
            Event::Tick => self.tick(now),
        }
    }

    fn registered(&mut self, registered: Registered, now: Instant) -> Changes {
        let key = registered.instance.key();
        let full = self.instances.len() >= INSTANCES_MAX;
        let Some(instance) = self.instances.get_mut(&key) else {
            if full {
                return Changes { refused: true, ..Changes::default() };
            }
            self.instances.insert(key, Instance::known(registered.instance.clone(), Some(registered), now));
            return Changes { routing: true, ..Changes::default() };
        };
        if instance.withdrawn {
            (instance.withdrawn, instance.alive, instance.heard) = (false, true, now);
        } else if instance.registration.as_ref() == Some(&registered) {
            return Changes::default();
        }
        instance.registration = Some(registered);
        Changes { routing: true, ..Changes::default() }
    }

    fn withdrawn(&mut self, key: &str, now: Instant) -> Changes {
        let Some(instance) = self.instances.get_mut(key).filter(|instance| !instance.withdrawn) else {
            return Changes::default();
        };
        let runs = instance.registration.as_ref().is_some_and(|known| !known.deployments.is_empty());
        if runs {
            (instance.withdrawn, instance.alive, instance.heard) = (true, false, now);
        } else {
            self.instances.remove(key);
        }
        Changes { routing: true, ..Changes::default() }
    }

    fn heard(&mut self, beat: Beat, now: Instant) -> Changes {
        if beat.instance == self.me {
            self.listening(now);
        }
        let key = beat.instance.key();
        let full = self.instances.len() >= INSTANCES_MAX;
        let Some(instance) = self.instances.get_mut(&key) else {
            if full {
                return Changes { refused: true, ..Changes::default() };
            }
            let mut instance = Instance::known(beat.instance.clone(), None, now);
            instance.beat = Some(beat);
            self.instances.insert(key, instance);
            return Changes { routing: true, ..Changes::default() };
        };
        if instance.withdrawn {
            // sent before it ended
            return Changes::default();
        }
        let mut changes = Changes { status: true, ..Changes::default() };
        let busy_over = self.catalog.policy.gpu_busy_over;
        changes.routing = instance.beat.as_ref().is_none_or(|last| {
            last.ready != beat.ready || gpu_busy(last, busy_over) != gpu_busy(&beat, busy_over)
        });
        if !instance.alive {
            instance.alive = true;
            changes.routing = true;
            changes.turned.push(Turn { instance: instance.identity.clone(), alive: true });
        }
        (instance.heard, instance.beat) = (now, Some(beat));
        changes
    }

    /// Gives everybody a full grace when this process could not listen for a while.
    fn listening(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.listened);
        if gap > LISTENING_GAP {
            for instance in self.instances.values_mut() {
                instance.heard = if instance.alive { now } else { instance.heard + gap };
            }
        }
        self.listened = now;
    }

    /// That a budget is spent, or is no longer, is told at once; how much is left may wait.
    fn budgets(&mut self, budgets: Vec<v1::BudgetLeft>) -> Changes {
        let spent = |budgets: &[v1::BudgetLeft]| -> Vec<bool> {
            budgets.iter().map(|budget| budget.left_picodollars <= 0).collect()
        };
        let names = |budgets: &[v1::BudgetLeft]| -> Vec<String> {
            budgets.iter().map(|budget| budget.name.clone()).collect()
        };
        let routing = spent(&budgets) != spent(&self.budgets) || names(&budgets) != names(&self.budgets);
        let status = budgets != self.budgets;
        self.budgets = budgets;
        Changes { routing, status, ..Changes::default() }
    }

    fn tick(&mut self, now: Instant) -> Changes {
        let mut changes = Changes::default();
        if now.saturating_duration_since(self.listened) > LISTENING_GAP {
            return changes;
        }
        let Patience { dead_after, forget_after } = self.patience;
        let own_machine = &self.me.machine;
        self.instances.retain(|key, instance| {
            let silent = now.saturating_duration_since(instance.heard);
            if instance.alive && silent > dead_after {
                instance.alive = false;
                changes.routing = true;
                changes.turned.push(Turn { instance: instance.identity.clone(), alive: false });
            }
            if instance.alive || silent <= dead_after + forget_after {
                return true;
            }
            // another machine's registration is that machine's to delete: until then its models are known and down
            let written = instance.registration.is_some() && !instance.withdrawn;
            let own = instance.identity.machine == *own_machine;
            if written && own {
                changes.forget.push(key.clone());
            }
            let keep = written && !own;
            changes.routing |= !keep;
            keep
        });
        changes
    }

    fn flag_set(&mut self, flag: v1::Flag) -> Changes {
        if !self.flags.contains_key(&flag.name) && self.flags.len() >= FLAGS_MAX {
            return Changes { refused: true, ..Changes::default() };
        }
        let before = self.flags.insert(flag.name.clone(), flag.clone());
        Changes { routing: before != Some(flag), ..Changes::default() }
    }

    fn flag_removed(&mut self, name: &FlagName) -> Changes {
        Changes { routing: self.flags.remove(name.as_str()).is_some(), ..Changes::default() }
    }

    /// Whether everybody who is registered was heard at least once.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.instances.values().all(|instance| !instance.alive || instance.beat.is_some())
    }

    /// The snapshot as of now.
    #[must_use]
    pub fn snapshot(&self, revision: u64, generated_unix_ms: u64) -> v1::RoutingSnapshot {
        let Catalog { agents, aliases, tier_defaults, thresholds, budgets, policy } = &*self.catalog;
        v1::RoutingSnapshot {
            machine: self.me.machine.to_string(),
            revision,
            generated_unix_ms,
            deployments: merge::deployments(self.instances.values()),
            aliases: self.aliases_with(aliases),
            agents: agents.iter().map(Into::into).collect(),
            thresholds: Some(v1::Thresholds {
                heavy_tokens: thresholds.heavy.get(),
                compute_heavy_vram_bytes: thresholds.compute_heavy_vram.get(),
                expected_output_tokens: thresholds.expected_output.get(),
            }),
            flags: self.flags.values().cloned().collect(),
            services: self.instances.values().map(Instance::status).collect(),
            nodes: self.nodes(),
            tier_defaults: tier_defaults.iter().map(tier_default).collect(),
            has_budgets: !budgets.is_empty(),
            policy: Some(policy.into()),
            budgets: self.budgets.clone(),
        }
    }

    /// The aliases of the policies, and over them those that were switched.
    fn aliases_with(&self, policies: &[Alias]) -> Vec<v1::ModelAlias> {
        let named = |alias: v1::ModelAlias| (alias.name.clone(), alias);
        let mut aliases: BTreeMap<String, v1::ModelAlias> =
            policies.iter().map(|alias| named(alias.into())).collect();
        let switched = self.aliases.overrides.iter().map(|alias| v1::ModelAlias {
            name: alias.name.clone(),
            targets: alias.targets.clone(),
            ..v1::ModelAlias::default()
        });
        aliases.extend(switched.map(named));
        aliases.into_values().collect()
    }

    /// Names of the aliases that are switched.
    #[must_use]
    pub fn switched(&self) -> Vec<String> {
        self.aliases.overrides.iter().map(|alias| alias.name.clone()).collect()
    }

    fn nodes(&self) -> Vec<v1::NodeStatus> {
        let mut nodes = BTreeMap::new();
        for instance in self.instances.values() {
            let resources = nodes.entry(instance.identity.machine.to_string()).or_insert(None);
            let told = instance.beat.as_ref().and_then(|beat| beat.resources.as_ref());
            if let (true, Some(told)) = (instance.alive, told) {
                *resources = Some(told.clone());
            }
        }
        nodes.into_iter().map(|(machine, resources)| v1::NodeStatus { machine, resources }).collect()
    }
}

impl Instance {
    fn known(identity: Identity, registration: Option<Registered>, now: Instant) -> Self {
        Self { identity, registration, withdrawn: false, alive: true, heard: now, beat: None }
    }

    fn status(&self) -> v1::ServiceStatus {
        let beat = self.beat.as_ref();
        let registered = self.registration.as_ref().map(|registered| &registered.version);
        v1::ServiceStatus {
            service: self.identity.service.clone(),
            instance: self.identity.instance.clone(),
            machine: self.identity.machine.to_string(),
            version: beat.map(|beat| &beat.version).or(registered).cloned().unwrap_or_default(),
            alive: self.alive,
            ready: self.alive && beat.is_some_and(|beat| beat.ready),
            last_seen_unix_ms: beat.map_or(0, |beat| beat.heard_unix_ms),
            in_flight: beat.filter(|_| self.alive).map_or(0, |beat| beat.in_flight),
        }
    }
}

/// Whether a GPU of the machine is busy: routing depends on it.
fn gpu_busy(beat: &Beat, over_percent: u32) -> bool {
    let gpus = beat.resources.iter().flat_map(|resources| &resources.gpus);
    gpus.map(|gpu| gpu.utilization_percent).any(|percent| percent > over_percent)
}

fn tier_default((tier, model): &(Tier, domain::id::ModelName)) -> v1::TierDefault {
    v1::TierDefault { tier: v1::Tier::from(*tier).into(), model: model.to_string() }
}

/// The flag of a message of the bus, if it is one: checked as everywhere.
///
/// # Errors
/// The fault names the field.
pub fn check_flag(flag: &v1::Flag) -> Result<FlagName, domain::fault::Fault> {
    Flag::try_from(flag.clone()).map(|flag| flag.name)
}
