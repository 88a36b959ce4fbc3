//! Who a process is to its server: an nkey, whose seed lies in a file of the user's own.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use async_nats::{Auth, AuthError};
use wire::permission::seed_file;

use crate::Settings;

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file is not there or not ours to read.
    #[error(
        "{path}: {source}; `hybridctl up` and scripts/make-secrets.sh create what bus.credentials_dir lacks"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} holds no nkey seed (SU…): {reason}")]
    NoSeed {
        /// The file.
        path: String,
        /// What is wrong with it; never what it holds.
        reason: String,
    },
}

/// Where a user's seed is.
#[derive(Debug, Clone)]
pub(crate) struct Credentials(PathBuf);

impl Credentials {
    /// `None` where the configuration names no folder: the server has to let everybody in.
    pub(crate) fn of(settings: &Settings, user: &str) -> Option<Self> {
        settings.credentials_dir.as_ref().map(|folder| Self(folder.join(seed_file(user))))
    }

    /// Reads the seed and throws it away, so that a wrong file is told before anything is connected.
    pub(crate) fn check(&self) -> Result<(), CredentialsError> {
        read(&self.0).map(drop)
    }

    /// Signs the server's nonce. The file is read for each connection: a new seed is taken up when the server closes the old
    /// connection, which it does when it no longer knows the old key.
    pub(crate) fn sign(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let key = read(&self.0).map_err(AuthError::new)?;
        let mut auth = Auth::new();
        auth.signature = Some(key.sign(nonce).map_err(|error| AuthError::new(error.to_string()))?);
        auth.nkey = Some(key.public_key());
        Ok(auth)
    }
}

fn read(path: &Path) -> Result<nkeys::KeyPair, CredentialsError> {
    let shown = || path.display().to_string();
    let text =
        fs::read_to_string(path).map_err(|source| CredentialsError::Unreadable { path: shown(), source })?;
    nkeys::KeyPair::from_seed(text.trim())
        .map_err(|error| CredentialsError::NoSeed { path: shown(), reason: error.to_string() })
}
