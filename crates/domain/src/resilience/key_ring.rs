//! Which of a provider's keys a call uses.
//!
//! Free keys with room go first, then the others with room, each group in turn. A key has room while its own limits
//! ([`Limits`]) and what the provider last said of them ([`Seen`]) allow, and while it does not cool for the model. Cooldowns
//! are kept by key and model and apart by [`Cause`], because each ends differently: a rate limit and an outage when the
//! provider says so, a refused key when somebody changes it, an empty account when somebody pays. A mistake of the caller's
//! never comes here. Times are durations since any fixed moment of a monotonic clock.

mod seen;

use std::{collections::HashMap, time::Duration};

use self::seen::Known;
pub use self::seen::{Left, Seen};
use super::rate_limit::{Limits, Meter, Reservation};

/// What is configured of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyRules {
    /// Its calls cost nothing.
    pub free: bool,
    /// What it may be used for.
    pub limits: Limits,
}

/// Why a key is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It was used as much as is allowed.
    RateLimit,
    /// The provider asked for peace because it is down or overloaded.
    Outage,
    /// The account has no credit.
    Credit,
    /// The provider refuses the key.
    Auth,
}

impl Cause {
    const ALL: [Self; 4] = [Self::RateLimit, Self::Outage, Self::Credit, Self::Auth];

    const fn index(self) -> usize {
        match self {
            Self::RateLimit => 0,
            Self::Outage => 1,
            Self::Credit => 2,
            Self::Auth => 3,
        }
    }

    /// Whether it passes by itself within minutes.
    const fn passes(self) -> bool {
        matches!(self, Self::RateLimit | Self::Outage)
    }
}

/// How long each cause lasts where the provider names no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// After the first rate limit; doubled with each further one in a row.
    pub rate_limit: Duration,
    /// Longest after a rate limit.
    pub rate_limit_max: Duration,
    /// After an empty account, like an outage; doubled with each further one in a row.
    pub credit: Duration,
    /// Longest after an empty account.
    pub credit_max: Duration,
    /// After a refused key. Ends early when the key is changed ([`KeyRing::renewed`]).
    pub auth: Duration,
    /// Longest that a provider may ask for.
    pub asked_max: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            rate_limit: Duration::from_millis(500),
            rate_limit_max: Duration::from_secs(60),
            credit: Duration::from_secs(60),
            credit_max: Duration::from_secs(60 * 60),
            auth: Duration::from_secs(10 * 60),
            asked_max: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// The key of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Its place in the ring.
    pub index: usize,
    /// Whether the call costs nothing.
    pub free: bool,
    /// To be settled with what the call used.
    pub reservation: Reservation,
}

/// No key may be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// Why the one that frees first may not; what passes by itself counts before what does not.
    pub cause: Cause,
    /// Until it frees.
    pub wait: Duration,
    /// What the provider said; empty when a limit of our own is reached.
    pub why: String,
}

#[derive(Debug, Clone, Default)]
struct Cooling {
    until: Duration,
    why: String,
    /// In a row.
    times: u32,
}

/// What is known of one key for one model.
#[derive(Debug, Clone, Default)]
struct Model {
    cooling: [Cooling; Cause::ALL.len()],
    known: Known,
}

#[derive(Debug, Clone)]
struct Key {
    rules: KeyRules,
    meter: Meter,
    /// By the provider's name of the model. Bounded by the models that are configured.
    models: HashMap<String, Model>,
}

/// The keys of one provider.
#[derive(Debug, Clone)]
pub struct KeyRing {
    pauses: Pauses,
    keys: Vec<Key>,
    /// Whose turn it is.
    next: usize,
}

impl KeyRing {
    /// Keys in the order of the configuration.
    #[must_use]
    pub fn new(pauses: Pauses, keys: impl IntoIterator<Item = KeyRules>) -> Self {
        let key = |rules: KeyRules| Key { rules, meter: Meter::new(rules.limits), models: HashMap::new() };
        Self { pauses, keys: keys.into_iter().map(key).collect(), next: 0 }
    }

    /// Takes room for a call of so many tokens with a key that is `usable` (it can be read).
    ///
    /// # Errors
    /// [`Exhausted`]: none has room.
    pub fn pick(
        &mut self,
        model: &str,
        tokens: u64,
        usable: impl Fn(usize) -> bool,
        now: Duration,
    ) -> Result<Pick, Exhausted> {
        let count = self.keys.len();
        let turns = (0..count).map(|turn| (self.next + turn) % count.max(1));
        let has_room = |index: &usize| {
            usable(*index)
                && self.keys.get(*index).is_some_and(|key| key.blocked(model, tokens, now).is_none())
        };
        let free = |index: &usize| self.keys.get(*index).is_some_and(|key| key.rules.free);
        let ready: Vec<usize> = turns.filter(has_room).collect();
        let chosen = ready.iter().copied().find(free).or(ready.first().copied());
        let Some((index, key)) = chosen.and_then(|index| Some((index, self.keys.get_mut(index)?))) else {
            return Err(self.exhausted(model, tokens, usable, now));
        };
        self.next = (index + 1) % count.max(1);
        let reservation = key.meter.take(tokens, now);
        if let Some(model) = key.models.get_mut(model) {
            model.known.take(tokens);
        }
        Ok(Pick { index, free: key.rules.free, reservation })
    }

    /// Why no usable key has room for a call of so many tokens; `None` when one has.
    pub fn blocked(
        &self,
        model: &str,
        tokens: u64,
        usable: impl Fn(usize) -> bool,
        now: Duration,
    ) -> Option<Exhausted> {
        let ready = |(index, key): (usize, &Key)| usable(index) && key.blocked(model, tokens, now).is_none();
        let any = self.keys.iter().enumerate().any(ready);
        (!any).then(|| self.exhausted(model, tokens, usable, now))
    }

    fn exhausted(
        &self,
        model: &str,
        tokens: u64,
        usable: impl Fn(usize) -> bool,
        now: Duration,
    ) -> Exhausted {
        let blocked = self.keys.iter().enumerate().filter(|(index, _)| usable(*index));
        let blocked = blocked.filter_map(|(_, key)| key.blocked(model, tokens, now));
        let first = blocked.min_by_key(|exhausted| (!exhausted.cause.passes(), exhausted.wait));
        first.unwrap_or(Exhausted { cause: Cause::Auth, wait: self.pauses.auth, why: String::new() })
    }

    /// A call is over and has used so many tokens.
    pub fn settle(&mut self, pick: Pick, used: u64) {
        if let Some(key) = self.keys.get_mut(pick.index) {
            key.meter.settle(pick.reservation, used);
        }
    }

    /// What the provider said of a key's limits.
    pub fn saw(&mut self, index: usize, model: &str, seen: Seen, now: Duration) {
        if let Some(key) = self.keys.get_mut(index).filter(|_| seen != Seen::default()) {
            key.model(model).known.saw(seen, now);
        }
    }

    /// The provider took a call of this key.
    pub fn accepted(&mut self, index: usize, model: &str, now: Duration) {
        let Some(model) = self.keys.get_mut(index).and_then(|key| key.models.get_mut(model)) else { return };
        for cooling in model.cooling.iter_mut().filter(|cooling| cooling.until <= now) {
            cooling.times = 0;
        }
    }

    /// The provider refused a call of this key, and perhaps said for how long. Leaves it alone for the model; never for a
    /// shorter time than before.
    pub fn refused(
        &mut self,
        index: usize,
        model: &str,
        cause: Cause,
        asked: Option<Duration>,
        why: &str,
        now: Duration,
    ) {
        let pauses = self.pauses;
        // an outage is not the key's: the others meet the same
        let all = cause == Cause::Outage;
        for (_, key) in self.keys.iter_mut().enumerate().filter(|(other, _)| all || *other == index) {
            let Some(cooling) = key.model(model).cooling.get_mut(cause.index()) else { continue };
            // those that were under way together count once
            if cooling.until <= now {
                cooling.times = cooling.times.saturating_add(1);
            }
            let doubled = 2_u32.saturating_pow(cooling.times.saturating_sub(1));
            let own = match cause {
                Cause::RateLimit | Cause::Outage => {
                    pauses.rate_limit.saturating_mul(doubled).min(pauses.rate_limit_max)
                }
                Cause::Credit => pauses.credit.saturating_mul(doubled).min(pauses.credit_max),
                Cause::Auth => pauses.auth,
            };
            let pause = asked.map_or(own, |asked| asked.min(pauses.asked_max));
            cooling.until = cooling.until.max(now.saturating_add(pause));
            why.clone_into(&mut cooling.why);
        }
    }

    /// Whether the key cools for a cause that ends when somebody changes it.
    #[must_use]
    pub fn awaits_change(&self, index: usize, now: Duration) -> bool {
        self.keys.get(index).is_some_and(|key| {
            let causes = [Cause::Auth.index(), Cause::Credit.index()];
            let cools = |model: &Model, at: usize| model.cooling.get(at).is_some_and(|c| c.until > now);
            key.models.values().any(|model| causes.into_iter().any(|at| cools(model, at)))
        })
    }

    /// Another secret stands in this place: nothing that was known of the old one holds.
    pub fn renewed(&mut self, index: usize) {
        if let Some(key) = self.keys.get_mut(index) {
            key.models.clear();
            key.meter = Meter::new(key.rules.limits);
        }
    }
}

impl Key {
    fn model(&mut self, model: &str) -> &mut Model {
        if !self.models.contains_key(model) {
            self.models.insert(model.to_owned(), Model::default());
        }
        self.models.entry(model.to_owned()).or_default()
    }

    /// Why it has no room for a call now; `None` when it has.
    fn blocked(&self, model: &str, tokens: u64, now: Duration) -> Option<Exhausted> {
        let limit =
            Exhausted { cause: Cause::RateLimit, wait: self.meter.wait(tokens, now), why: String::new() };
        let model = self.models.get(model);
        let known = model.map_or(Duration::ZERO, |model| model.known.wait(tokens, now));
        let known = Exhausted { wait: known, ..limit.clone() };
        let cooling = Cause::ALL.into_iter().filter_map(|cause| {
            let cooling = model?.cooling.get(cause.index())?;
            let wait = cooling.until.saturating_sub(now);
            Some(Exhausted { cause, wait, why: cooling.why.clone() })
        });
        // what does not pass by itself tells most
        [limit, known]
            .into_iter()
            .chain(cooling)
            .filter(|blocked| blocked.wait > Duration::ZERO)
            .max_by_key(|blocked| (!blocked.cause.passes(), blocked.wait))
    }
}

#[cfg(test)]
mod tests;
