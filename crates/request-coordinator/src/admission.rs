//! Who may ask, and how much.
//!
//! Two kinds of keys: those of the configuration, which may do everything, and virtual ones (`hk_…`), which stand for somebody
//! and have limits. Virtual keys are watched, not asked for, so that a request waits for nobody.

mod meters;
mod watch;

use std::sync::Arc;

use domain::{
    fault::{Code, Fault, Origin},
    key::{Key, PREFIX},
};
use service_runtime::{
    Clock,
    secret::{ExposeSecret, Secret, SecretString},
};
use subtle::ConstantTimeEq;

pub(crate) use meters::{Meters, Standing, Ticket};
pub(crate) use watch::VirtualKeys;

/// Whoever asks.
#[derive(Debug, Clone)]
pub(crate) enum Visitor {
    /// Nobody has to show a key here.
    Anyone,
    /// With a key of the configuration.
    Master,
    /// With a virtual key.
    Key(Arc<Key>),
}

impl Visitor {
    /// The virtual key.
    pub(crate) fn key(&self) -> Option<&Key> {
        match self {
            Self::Key(key) => Some(key),
            Self::Anyone | Self::Master => None,
        }
    }

    /// The `tenant` of usage events, the `key` of reservations.
    pub(crate) fn tenant(&self) -> String {
        self.key().map(|key| key.id.to_string()).unwrap_or_default()
    }
}

/// The headers in which a key may come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shown<'a> {
    /// `Authorization: Bearer <key>`.
    pub(crate) authorization: Option<&'a str>,
    /// `x-api-key: <key>`, as Anthropic's SDKs send it.
    pub(crate) x_api_key: Option<&'a str>,
}

/// The door.
pub(crate) struct Gate {
    masters: Vec<SecretString>,
    required: bool,
    keys: VirtualKeys,
    clock: Clock,
    pub(crate) meters: Arc<Meters>,
}

impl Gate {
    /// Reads the keys of the configuration. With any of them, or with `required`, everybody has to show a key.
    pub(crate) fn new(
        masters: &[Secret],
        required: bool,
        keys: VirtualKeys,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let masters =
            masters.iter().map(|secret| Ok(secret.resolve()?)).collect::<anyhow::Result<Vec<_>>>()?;
        let required = required || !masters.is_empty();
        Ok(Self { masters, required, keys, clock, meters: Arc::default() })
    }

    /// Who shows this.
    ///
    /// # Errors
    /// `Unauthenticated`: no key where one is needed, one that is not known, or one that is of no use any more.
    pub(crate) fn visitor(&self, shown: Shown<'_>) -> Result<Visitor, Fault> {
        let given = match (shown.authorization.map(bearer), shown.x_api_key) {
            (Some(Some(key)), _) | (_, Some(key)) => key.trim(),
            _ if !self.required => return Ok(Visitor::Anyone),
            (Some(None), None) => {
                return Err(refused(
                    "the header Authorization has another scheme, expected `Authorization: Bearer <key>`",
                ));
            }
            (None, None) => {
                return Err(refused("no key was given, expected the header `Authorization: Bearer <key>`"));
            }
        };
        // every key is compared, so that the time does not tell which one came near
        let master = self.masters.iter().fold(subtle::Choice::from(0), |found, known| {
            found | known.expose_secret().as_bytes().ct_eq(given.as_bytes())
        });
        if bool::from(master) {
            return Ok(Visitor::Master);
        }
        if !self.required && !given.starts_with(PREFIX) {
            // SDKs cannot leave the key out
            return Ok(Visitor::Anyone);
        }
        let key = self.virtual_key(given).ok_or_else(|| refused("the key is not known here"))?;
        key.usable(self.clock.now_unix_ms())?;
        Ok(Visitor::Key(key))
    }

    /// The id finds the key, the hash proves it; the time that comparing takes tells nothing about either hash.
    fn virtual_key(&self, given: &str) -> Option<Arc<Key>> {
        let (id, _) = given.strip_prefix(PREFIX)?.rsplit_once('_')?;
        let key = self.keys.get(id)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, given.as_bytes());
        let known = key.sha256.as_ref().is_some_and(|known| bool::from(known.ct_eq(digest.as_ref())));
        known.then_some(key)
    }

    /// Room for a request of so many tokens. Held until the request has ended.
    ///
    /// # Errors
    /// `RateLimited`: a limit of the key is reached.
    pub(crate) fn admit(&self, visitor: &Visitor, tokens: u64, coordinators: u32) -> Result<Ticket, Fault> {
        match visitor.key() {
            Some(key) => self.meters.admit(key, tokens, coordinators),
            None => Ok(Ticket::unlimited()),
        }
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    authorization.strip_prefix("Bearer ").or_else(|| authorization.strip_prefix("bearer "))
}

fn refused(message: &str) -> Fault {
    Fault::new(Code::Unauthenticated, Origin::Caller, false, message)
}

#[cfg(test)]
mod tests;
