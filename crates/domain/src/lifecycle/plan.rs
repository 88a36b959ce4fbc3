//! What follows from the present state: hand-overs, ends of drains, idle models, loads and the room for them.

use std::time::Duration;

use super::entry::{Demand, Reach};
use super::room::{self, Leaver, Need};
use super::{Action, Leaving, Lifecycle, Phase};
use crate::id::ModelName;
use crate::units::Bytes;

/// Until a model that nobody can make room for is tried again, where nobody has said.
const NO_ROOM_RETRY: Duration = Duration::from_secs(5);

impl Lifecycle {
    /// When to call again at the latest, with [`super::Event::Tick`]; `None` = nothing changes by time alone.
    #[must_use]
    pub fn next_due(&self, now: Duration) -> Option<Duration> {
        let due = self.models.values().flat_map(|entry| entry.due(&self.policy));
        due.filter(|due| *due > now).min()
    }

    pub(super) fn plan(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.models.retain(|_, entry| !entry.is_forgotten());
        self.keep_what_need_not_go(now);
        for (name, entry) in &mut self.models {
            if entry.keeps_until().is_some_and(|until| until <= now) {
                entry.leave(Leaving::Idle, now);
            }
            while let Some(ticket) = entry.hand_over() {
                actions.push(Action::HandOver { model: name.clone(), ticket });
            }
        }
        self.end_what_is_drained(now, actions);
        let mut wanted: Vec<(ModelName, Demand)> = Vec::new();
        for (name, entry) in &mut self.models {
            if entry.shortage.as_ref().is_some_and(|shortage| shortage.retry_at <= now) {
                entry.shortage = None;
            }
            wanted.extend(entry.demand(now, &self.policy).map(|demand| (name.clone(), demand)));
        }
        wanted.sort_by_key(|(_, demand)| demand.rank());
        for (name, demand) in wanted {
            self.admit(&name, &demand, now, actions);
        }
    }

    /// A model that drains for one that nobody wants any more stays.
    fn keep_what_need_not_go(&mut self, now: Duration) {
        let policy = self.policy;
        let wanted: Vec<ModelName> = self
            .models
            .iter_mut()
            .filter_map(|(name, entry)| entry.demand(now, &policy).map(|_| name.clone()))
            .collect();
        for entry in self.models.values_mut() {
            if let Phase::Draining(_, Leaving::Evicted(other)) = &entry.phase
                && !wanted.contains(other)
            {
                entry.stay(now);
            }
        }
        for (name, entry) in &mut self.models {
            entry.swapping &= wanted.contains(name);
        }
    }

    fn end_what_is_drained(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for (name, entry) in &mut self.models {
            let Phase::Draining(since, why) = &entry.phase else { continue };
            let noticed = *since + self.policy.notice <= now;
            let lost = matches!(why, Leaving::MemoryLost(_)) && *since + self.policy.lost_drain_max <= now;
            if lost || (noticed && entry.is_drained()) {
                let why = why.clone();
                entry.phase = Phase::Ending(why.clone());
                actions.push(Action::End { model: name.clone(), run: entry.run, why });
            }
        }
    }

    /// Loads a model that is wanted, or makes room for it, or says that there is none.
    fn admit(&mut self, name: &ModelName, demand: &Demand, now: Duration, actions: &mut Vec<Action>) {
        if self.room_is_made_for_another(name) || self.models.values().any(|entry| entry.leaves_for(name)) {
            return;
        }
        let need = self.need(name);
        if need == Need::default() {
            let Some(entry) = self.models.get_mut(name) else { return };
            let swapped = entry.begin(now);
            actions.push(Action::Load { model: name.clone(), run: entry.run, swapped });
            return;
        }
        // what goes anyway may be enough
        let leaving =
            self.leavers(name, now, |phase, _| matches!(phase, Phase::Draining(..) | Phase::Ending(_)));
        if need.is_met_by(leaving.iter()) {
            return;
        }
        let may_go = self.leavers(name, now, |_, may_go| may_go(demand.reach));
        if let Some(victims) = room::choose(may_go, need) {
            for victim in &victims {
                if let Some(entry) = self.models.get_mut(victim) {
                    entry.leave(Leaving::Evicted(name.clone()), now);
                }
            }
            if let Some(entry) = self.models.get_mut(name) {
                entry.swapping = true;
            }
            // where no notice is given, an idle victim can end at once
            self.end_what_is_drained(now, actions);
            return;
        }
        self.without_room(name, demand, need, now, actions);
    }

    /// Nobody can go now. Whoever waits goes on waiting if somebody can go later.
    fn without_room(
        &mut self,
        name: &ModelName,
        demand: &Demand,
        need: Need,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let later = self.leavers_by(name, now, |entry| entry.may_ever_go());
        let hopeless = !need.is_met_by(later.iter());
        let resident_max = self.policy.resident_max;
        let Some(entry) = self.models.get_mut(name) else { return };
        if hopeless {
            entry.give_up_wish();
        }
        let down = match &entry.shortage {
            Some(_) => entry.waits_for_room() || (hopeless && demand.waited_for),
            None => hopeless && demand.waited_for,
        };
        if down {
            let (reason, retry_at) = entry.shortage.as_ref().map_or_else(
                || {
                    let allowed = resident_max.unwrap_or_default();
                    let reason =
                        format!("{allowed} models are loaded, as many as are allowed, and none may go");
                    (reason, now + NO_ROOM_RETRY)
                },
                |shortage| (shortage.reason.clone(), shortage.retry_at),
            );
            entry.down(reason, retry_at, now, actions);
        }
    }

    /// What has to go before the model can be loaded.
    fn need(&self, name: &ModelName) -> Need {
        let residents = self.models.values().filter(|entry| entry.phase.is_resident()).count();
        let models = self.policy.resident_max.map_or(0, |max| (residents + 1).saturating_sub(max));
        let shortage = self.models.get(name).and_then(|entry| entry.shortage.as_ref());
        match shortage {
            None => Need { models, bytes: Bytes::ZERO },
            // how much is missing was not said: one goes, then it is tried again
            Some(shortage) => Need { models: models.max(1), bytes: shortage.missing.unwrap_or(Bytes::ZERO) },
        }
    }

    fn room_is_made_for_another(&self, name: &ModelName) -> bool {
        let gpu = self.models.get(name).map(|entry| entry.spec.gpu);
        self.models.values().any(|entry| match &entry.phase {
            Phase::Draining(_, Leaving::Evicted(other)) | Phase::Ending(Leaving::Evicted(other)) => {
                let shared = self.policy.resident_max.is_some() || Some(entry.spec.gpu) == gpu;
                shared && other != name
            }
            _ => false,
        })
    }

    fn leavers(
        &self,
        name: &ModelName,
        now: Duration,
        goes: impl Fn(&Phase, &dyn Fn(Reach) -> bool) -> bool,
    ) -> Vec<Leaver> {
        self.leavers_by(name, now, |entry| goes(&entry.phase, &|reach| entry.may_go(reach, now)))
    }

    /// Models that could make room for `name`: of the same memory where memory is short.
    fn leavers_by(
        &self,
        name: &ModelName,
        now: Duration,
        goes: impl Fn(&super::Entry) -> bool,
    ) -> Vec<Leaver> {
        let Some(wanted) = self.models.get(name) else { return Vec::new() };
        let by_memory = wanted.shortage.is_some();
        self.models
            .iter()
            .filter(|(other, entry)| {
                *other != name && (!by_memory || entry.spec.gpu == wanted.spec.gpu) && goes(entry)
            })
            .map(|(other, entry)| Leaver {
                name: other.clone(),
                memory: entry.spec.memory,
                busy: entry.is_busy(),
                cost: entry.cost(now, self.policy.use_half_life),
            })
            .collect()
    }
}
