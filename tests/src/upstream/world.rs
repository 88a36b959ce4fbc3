//! What the server is, beside what it is told to do: its key, its models, the tokens it has handed out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Options;
use super::format::ServiceAccount;
use super::problem::Problem;

/// Tokens begin as Google's do.
const TOKEN_PREFIX: &str = "ya29.fake-";

/// See the module.
pub(super) struct World {
    options: Options,
    service_account: Option<ServiceAccount>,
    /// Models that were fetched since the start.
    pulled: Mutex<Vec<String>>,
    /// How many tokens were handed out.
    issued: AtomicU64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// # Errors
    /// The service account's file does not make sense.
    pub(super) fn new(options: Options) -> anyhow::Result<Self> {
        let service_account = options.service_account.as_deref().map(ServiceAccount::read).transpose()?;
        Ok(Self { options, service_account, pulled: Mutex::default(), issued: AtomicU64::new(0) })
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.options.key.as_deref()
    }

    pub(super) const fn service_account(&self) -> Option<&ServiceAccount> {
        self.service_account.as_ref()
    }

    /// A new access token.
    pub(super) fn issue(&self) -> String {
        format!("{TOKEN_PREFIX}{}", self.issued.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn has_issued(&self, token: &str) -> bool {
        let number = token.strip_prefix(TOKEN_PREFIX).and_then(|number| number.parse().ok());
        number.is_some_and(|number: u64| (1..=self.issued.load(Ordering::Relaxed)).contains(&number))
    }

    pub(super) fn models(&self) -> Vec<String> {
        self.options.models.iter().chain(lock(&self.pulled).iter()).cloned().collect()
    }

    pub(super) fn pull(&self, model: &str) {
        lock(&self.pulled).push(model.to_owned());
    }

    pub(super) fn check_model(&self, model: &str) -> Result<(), Problem> {
        let known = self.options.models.iter().any(|offered| offered == model)
            || lock(&self.pulled).iter().any(|pulled| pulled == model);
        known.then_some(()).ok_or_else(|| Problem::unknown_model(model))
    }
}
