//! The access key that requests are signed with, read again when its files change.

use aws_credential_types::Credentials;
use service_runtime::Secret;

use crate::credential::Credential;

/// Where the parts of an access key are kept.
#[derive(Debug)]
pub(crate) struct Keys {
    id: Credential,
    secret: Credential,
    /// Of keys that expire.
    session_token: Option<Credential>,
}

impl Keys {
    pub(crate) fn new(id: Secret, secret: Secret, session_token: Option<Secret>) -> Self {
        Self {
            id: Credential::new(id),
            secret: Credential::new(secret),
            session_token: session_token.map(Credential::new),
        }
    }

    /// The names that AWS's own tools read.
    pub(crate) fn of_environment() -> Self {
        let session_token = Secret::env("AWS_SESSION_TOKEN");
        // a process's environment does not change: what is not there now never will be
        let is_set = session_token.resolve().is_ok();
        Self::new(
            Secret::env("AWS_ACCESS_KEY_ID"),
            Secret::env("AWS_SECRET_ACCESS_KEY"),
            is_set.then_some(session_token),
        )
    }

    /// The key as it is now.
    ///
    /// # Errors
    /// Which part is missing, for people.
    pub(super) fn current(&self) -> Result<Credentials, String> {
        let read = |part: &Credential| part.current().map(|key| key.expose().to_owned());
        let session_token = self.session_token.as_ref().map(read).transpose()?;
        Ok(Credentials::new(read(&self.id)?, read(&self.secret)?, session_token, None, "hybrid-llm"))
    }

    /// What a provider's text must not repeat.
    pub(super) fn words(&self) -> Vec<String> {
        let Ok(key) = self.current() else { return Vec::new() };
        let words = [Some(key.access_key_id()), Some(key.secret_access_key()), key.session_token()];
        words.into_iter().flatten().map(str::to_owned).collect()
    }
}
