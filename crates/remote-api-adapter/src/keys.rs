//! A provider's keys: read from their files, and chosen for each call by the rules of [`domain::resilience::key_ring`].
//!
//! A call holds a [`Lease`] of one key, tells it what the provider said, and settles what was used. A provider without keys
//! is one key that is never shown, so that its rate limits are kept to as well. A key that cools because it was refused is
//! read again with each look at it: a changed one is used at once.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{
    fault::{Code, Fault, Origin},
    pricing::TokenUsage,
    resilience::{
        key_ring::{Cause, Exhausted, KeyRing, KeyRules, Pauses, Pick, Seen},
        retry,
    },
};
use service_runtime::Secret;
use tokio::time::Instant;

use crate::{
    config,
    credential::{Credential, Key},
    provider::Failed,
};

/// A shorter wait for room is not worth telling the routing.
const WAIT_TOLD: Duration = Duration::from_secs(5);
/// What an attempt's fault says where another key could serve: the deployment need not be left alone. Zero would mean that
/// nothing is known.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The keys of one provider.
pub(crate) struct Keys(Arc<Shared>);

struct Shared {
    provider: String,
    /// Empty: the server wants no key.
    credentials: Vec<Credential>,
    /// Place of the key that jobs are run with.
    account: usize,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    ring: KeyRing,
    /// The last reading of each.
    read: Vec<Result<Arc<Key>, String>>,
}

impl State {
    /// Whether the key in this place can be shown; without keys there is nothing to show.
    fn usable(&self, index: usize) -> bool {
        self.read.get(index).is_none_or(Result::is_ok)
    }
}

/// One key, for one call.
pub(crate) struct Lease {
    shared: Arc<Shared>,
    model: String,
    tokens: u64,
    pick: Pick,
    /// Absent when it was settled, or the key changed meanwhile.
    unsettled: bool,
    key: Option<Arc<Key>>,
    /// Whether the call costs nothing.
    pub(crate) free: bool,
}

impl Keys {
    /// `credential` says in which form the secrets are.
    pub(crate) fn new(
        provider: &str,
        keys: Vec<config::Key>,
        credential: impl Fn(Secret) -> Credential,
    ) -> Self {
        let rules: Vec<KeyRules> = match keys.as_slice() {
            [] => vec![KeyRules::default()],
            keys => keys.iter().map(|key| key.rules).collect(),
        };
        let account = account(&keys);
        let credentials: Vec<Credential> = keys.into_iter().map(|key| credential(key.secret)).collect();
        let read = credentials.iter().map(Credential::current).collect();
        let state = Mutex::new(State { ring: KeyRing::new(Pauses::default(), rules), read });
        let (provider, began) = (provider.to_owned(), Instant::now());
        Self(Arc::new(Shared { provider, credentials, account, began, state }))
    }

    /// A key with room for a call of so many tokens.
    ///
    /// # Errors
    /// `UpstreamAuth`: no key can be read, or all are refused or without credit. `RateLimited`, with the wait: all are used
    /// up. `Unavailable`, with the wait: the provider asked to be left alone.
    pub(crate) fn lease(&self, model: &str, tokens: u64) -> Result<Lease, Failed> {
        let shared = &self.0;
        let now = shared.now();
        let mut state = shared.lock();
        shared.read(&mut state, now);
        shared.any_usable(&state).map_err(|problem| {
            let message = format!("{} has no key: {problem}", shared.provider);
            Failed::unsent(Fault::new(Code::UpstreamAuth, Origin::Provider, true, message))
        })?;
        let State { ring, read } = &mut *state;
        let picked = ring.pick(model, tokens, |index| read.get(index).is_none_or(Result::is_ok), now);
        let pick = picked.map_err(|exhausted| shared.exhausted(model, exhausted))?;
        let key = read.get(pick.index).and_then(|read| read.clone().ok());
        drop(state);
        Ok(Lease {
            shared: Arc::clone(shared),
            model: model.to_owned(),
            tokens,
            pick,
            unsettled: true,
            key,
            free: pick.free,
        })
    }

    /// Whether a call of this model could be made now, or within moments.
    ///
    /// # Errors
    /// Why not, for people, in words that stay the same while the reason does.
    pub(crate) fn available(&self, model: &str) -> Result<(), String> {
        let shared = &self.0;
        let now = shared.now();
        let mut state = shared.lock();
        shared.read(&mut state, now);
        shared.any_usable(&state)?;
        let Some(Exhausted { cause, wait, why }) =
            state.ring.blocked(model, 1, |index| state.usable(index), now)
        else {
            return Ok(());
        };
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        match cause {
            Cause::RateLimit | Cause::Outage if wait < WAIT_TOLD => Ok(()),
            Cause::RateLimit => Err(format!("cooling down after a rate limit{why}")),
            Cause::Outage => Err(format!("cooling down after an outage{why}")),
            Cause::Credit => Err(format!("out of credit{why}")),
            Cause::Auth => Err(format!("no key is accepted{why}")),
        }
    }

    /// The key for what belongs to one account, always the same; absent where the server wants none.
    pub(crate) fn account(&self) -> Option<&Credential> {
        self.0.credentials.get(self.0.account)
    }

    /// Any key that can be read, for a call that costs nothing.
    pub(crate) fn any(&self) -> Option<Arc<Key>> {
        self.0.credentials.iter().find_map(|credential| credential.current().ok())
    }
}

/// Which key stands for the account: the first that is paid for, else the first.
pub(crate) fn account(keys: &[config::Key]) -> usize {
    keys.iter().position(|key| !key.rules.free).unwrap_or(0)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Looks at the files: a status call each, and a reading of those that changed or were refused.
    fn read(&self, state: &mut State, now: Duration) {
        for (index, (credential, last)) in self.credentials.iter().zip(&mut state.read).enumerate() {
            let mut read = credential.current();
            if let Ok(key) = &read
                && state.ring.awaits_change(index, now)
                && let Some(changed) = credential.reread(key)
            {
                read = Ok(changed);
            }
            let same = match (&*last, &read) {
                (Ok(last), Ok(read)) => last.expose() == read.expose(),
                (_, Ok(_)) => false,
                (_, Err(_)) => true,
            };
            if !same {
                state.ring.renewed(index);
            }
            *last = read;
        }
    }

    fn any_usable(&self, state: &State) -> Result<(), String> {
        match state.read.iter().find_map(|read| read.as_ref().err()) {
            Some(problem) if state.read.iter().all(Result::is_err) => Err(problem.clone()),
            _ => Ok(()),
        }
    }

    fn exhausted(&self, model: &str, exhausted: Exhausted) -> Failed {
        let Exhausted { cause, wait, why } = exhausted;
        let (code, what) = match cause {
            Cause::RateLimit => (Code::RateLimited, "is at its rate limit"),
            Cause::Outage => (Code::Unavailable, "asked to be left alone"),
            Cause::Credit => (Code::UpstreamAuth, "has no credit left"),
            Cause::Auth => (Code::UpstreamAuth, "accepts no key"),
        };
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let message =
            format!("{} {what} for {model}{why}, next try in {} ms", self.provider, wait.as_millis());
        let fault = Fault::new(code, Origin::Provider, true, message);
        Failed::unsent(if code == Code::UpstreamAuth { fault } else { fault.after(wait) })
    }
}

impl Lease {
    pub(crate) fn key(&self) -> Option<&Key> {
        self.key.as_deref()
    }

    /// Reads the key again after it was refused; whether it is another one now.
    pub(crate) fn reread(&mut self) -> bool {
        let credential = self.shared.credentials.get(self.pick.index);
        let changed = credential.zip(self.key.as_ref()).and_then(|(credential, key)| credential.reread(key));
        let Some(changed) = changed else { return false };
        let mut state = self.shared.lock();
        if let Some(last) = state.read.get_mut(self.pick.index) {
            *last = Ok(Arc::clone(&changed));
        }
        state.ring.renewed(self.pick.index);
        drop(state);
        self.unsettled = false;
        self.key = Some(changed);
        true
    }

    /// What an answer said of the key's limits.
    pub(crate) fn saw(&self, seen: Seen) {
        self.shared.lock().ring.saw(self.pick.index, &self.model, seen, self.shared.now());
    }

    /// The provider took the call.
    pub(crate) fn accepted(&self) {
        self.shared.lock().ring.accepted(self.pick.index, &self.model, self.shared.now());
    }

    /// The call used so many tokens.
    pub(crate) fn settle(&mut self, usage: &TokenUsage) {
        if std::mem::take(&mut self.unsettled) {
            let used = usage.input.get().saturating_add(usage.output.get());
            self.shared.lock().ring.settle(self.pick, used);
        }
    }

    /// The call failed: leaves the key alone where that is the reason, and says whether another one could serve.
    pub(crate) fn refused(&self, status: Option<u16>, mut failed: Failed) -> Failed {
        let Some(cause) = cause(status, &failed.fault) else { return failed };
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let Fault { retry_after, message, .. } = &failed.fault;
        state.ring.refused(self.pick.index, &self.model, cause, *retry_after, message, now);
        if cause == Cause::Outage {
            return failed;
        }
        let other = |index: usize| index != self.pick.index && state.usable(index);
        let has_other = state.ring.blocked(&self.model, self.tokens, other, now).is_none();
        let blocked = state.ring.blocked(&self.model, self.tokens, |index| state.usable(index), now);
        if has_other {
            failed.cause = Some(retry::Cause::Key);
            failed.fault.retry_after = Some(AT_ONCE);
        } else if cause == Cause::RateLimit {
            failed.fault.retry_after = blocked.map(|exhausted| exhausted.wait);
        }
        failed
    }
}

/// What of a failure is about the key.
fn cause(status: Option<u16>, fault: &Fault) -> Option<Cause> {
    match fault.code {
        // one request that is larger than the limit: smaller ones may pass
        Code::RateLimited if status == Some(413) => None,
        Code::RateLimited => Some(Cause::RateLimit),
        Code::UpstreamAuth if is_credit(status, fault) => Some(Cause::Credit),
        Code::UpstreamAuth => Some(Cause::Auth),
        Code::Upstream if status.is_some_and(|status| status >= 500) && fault.retry_after.is_some() => {
            Some(Cause::Outage)
        }
        _ => None,
    }
}

/// Whether an account without credit is meant, and not a wrong key: both have one code, since both are the owner's to mend.
fn is_credit(status: Option<u16>, fault: &Fault) -> bool {
    let says = |word: &str| {
        fault.provider_code.to_ascii_lowercase().contains(word)
            || fault.message.to_ascii_lowercase().contains(word)
    };
    matches!(status, Some(402 | 429))
        || ["quota", "billing", "credit balance", "out of credit"].into_iter().any(says)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(free: bool) -> config::Key {
        config::Key { secret: Secret::env("KEY"), rules: KeyRules { free, ..KeyRules::default() } }
    }

    #[test]
    fn jobs_run_with_the_first_paid_key_else_the_first() {
        assert_eq!(account(&[key(true), key(false), key(false)]), 1);
        assert_eq!(account(&[key(true), key(true)]), 0);
    }

    #[test]
    fn a_request_that_is_too_large_for_a_limit_rests_no_key() {
        let fault = Fault::new(Code::RateLimited, Origin::Provider, true, "");
        assert_eq!((cause(Some(413), &fault), cause(Some(429), &fault)), (None, Some(Cause::RateLimit)));
    }
}
