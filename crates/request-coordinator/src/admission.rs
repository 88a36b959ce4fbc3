//! Who may ask.

use domain::fault::{Code, Fault, Origin};
use service_runtime::secret::{ExposeSecret, Secret, SecretString};
use subtle::ConstantTimeEq;

/// The keys callers must show; none = everybody may ask.
pub(crate) struct Keys(Vec<SecretString>);

impl Keys {
    /// Reads the keys.
    pub(crate) fn load(secrets: &[Secret]) -> anyhow::Result<Self> {
        secrets.iter().map(|secret| Ok(secret.resolve()?)).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Checks the value of an `Authorization` header.
    pub(crate) fn check(&self, authorization: Option<&str>) -> Result<(), Fault> {
        if self.0.is_empty() {
            return Ok(());
        }
        let refused = |message| Err(Fault::new(Code::Unauthenticated, Origin::Caller, false, message));
        let Some(given) = authorization else {
            return refused("no key was given, expected the header `Authorization: Bearer <key>`");
        };
        let Some(key) = given.strip_prefix("Bearer ").or_else(|| given.strip_prefix("bearer ")) else {
            return refused(
                "the header Authorization has another scheme, expected `Authorization: Bearer <key>`",
            );
        };
        // every key is compared, so that the time does not tell which one came near
        let known = self.0.iter().fold(subtle::Choice::from(0), |found, known| {
            found | known.expose_secret().as_bytes().ct_eq(key.trim().as_bytes())
        });
        if bool::from(known) { Ok(()) } else { refused("the key is not known here") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_key_is_let_in() {
        let keys = Keys(vec![SecretString::from("sk-a"), SecretString::from("sk-b")]);
        assert!(keys.check(Some("Bearer sk-b")).is_ok());
        for wrong in [None, Some("Bearer sk-"), Some("Bearer "), Some("Basic sk-a"), Some("sk-a")] {
            assert_eq!(keys.check(wrong).unwrap_err().code, Code::Unauthenticated, "{wrong:?}");
        }
        assert!(Keys(Vec::new()).check(None).is_ok());
    }
}
