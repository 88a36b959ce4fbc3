//! A provider's key, read again when it changes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::header::HeaderValue;
use service_runtime::secret::{ExposeSecret, Secret, SecretString};
use tokio::time::Instant;

/// How long a look at the file is good for. A look with every request took a twentieth of what a request costs.
const LOOK: Duration = Duration::from_secs(1);

/// The key of one provider.
///
/// A file is looked at for the first request of each second and read again when it was written; a provider that refuses the
/// key causes one more reading, so that a rotated key works at once even in between. A key that is missing is looked for by
/// every request.
#[derive(Debug)]
pub(crate) struct Credential {
    secret: Secret,
    form: Form,
    state: Mutex<State>,
}

/// Whether a text is a key file: `None` when it is a key, else whether it is sound.
type Check = Box<dyn Fn(&str) -> Option<Result<(), String>> + Send + Sync>;

/// What a secret may hold.
enum Form {
    /// A key that is sent as it stands.
    Plain,
    /// That, or a file with a key to sign with.
    KeyFile(Check),
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::KeyFile(_) => "KeyFile",
        })
    }
}

#[derive(Debug)]
struct State {
    looked: Instant,
    written: Option<Written>,
    /// The last reading.
    key: Result<Arc<Key>, String>,
}

/// What tells one writing of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    modified: std::time::SystemTime,
    length: u64,
}

/// A key that was read.
pub(crate) struct Key {
    text: SecretString,
    /// `Bearer …`, marked as not to be shown. Empty for a key file, which is never sent itself.
    pub(crate) bearer: HeaderValue,
}

impl Key {
    /// For removing it from a provider's texts.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key([redacted])")
    }
}

impl Credential {
    pub(crate) fn new(secret: Secret) -> Self {
        Self::of(secret, Form::Plain)
    }

    /// A key file, from which tokens are made, or a token. `check` says of a text whether it is a file, and what is wrong with it.
    pub(crate) fn key_file(
        secret: Secret,
        check: impl Fn(&str) -> Option<Result<(), String>> + Send + Sync + 'static,
    ) -> Self {
        Self::of(secret, Form::KeyFile(Box::new(check)))
    }

    fn of(secret: Secret, form: Form) -> Self {
        let written = written(&secret);
        let key = read(&secret, &form);
        Self { secret, form, state: Mutex::new(State { looked: Instant::now(), written, key }) }
    }

    /// The key as it is now.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(crate) fn current(&self) -> Result<Arc<Key>, String> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Result<Arc<Key>, String> {
        let mut state = self.lock();
        let is_missing = state.key.is_err();
        if is_missing || now.saturating_duration_since(state.looked) >= LOOK {
            state.looked = now;
            // the status is taken first: a writing in between is seen with the next look
            let written = written(&self.secret);
            if is_missing || written != state.written {
                state.written = written;
                state.key = read(&self.secret, &self.form);
            }
        }
        state.key.clone()
    }

    /// Reads again although nothing shows that it changed; `Some` when it is another key than `refused`.
    pub(crate) fn reread(&self, refused: &Key) -> Option<Arc<Key>> {
        let key = read(&self.secret, &self.form);
        let mut state = self.lock();
        state.key = key;
        state.key.clone().ok().filter(|key| key.expose() != refused.expose())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn written(secret: &Secret) -> Option<Written> {
    let metadata = std::fs::metadata(secret.path()?).ok()?;
    Some(Written { modified: metadata.modified().ok()?, length: metadata.len() })
}

fn read(secret: &Secret, form: &Form) -> Result<Arc<Key>, String> {
    let text = secret.resolve().map_err(|error| error.to_string())?;
    if let Form::KeyFile(check) = form
        && let Some(checked) = check(text.expose_secret())
    {
        checked.map_err(|problem| format!("secret from {secret} is no usable key file: {problem}"))?;
        return Ok(Arc::new(Key { text, bearer: HeaderValue::from_static("") }));
    }
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", text.expose_secret()))
        .map_err(|_| format!("secret from {secret} holds characters that no header can carry"))?;
    bearer.set_sensitive(true);
    Ok(Arc::new(Key { text, bearer }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> (tempfile::TempDir, std::path::PathBuf, Credential) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let credential = Credential::new(Secret::file(&path));
        (folder, path, credential)
    }

    #[test]
    fn a_missing_file_is_explained_and_found_once_it_is_there() {
        let (_folder, path, credential) = secret();
        let problem = credential.current().unwrap_err();
        assert!(problem.contains(path.to_str().unwrap()), "{problem}");
        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(credential.current().unwrap().expose(), "first");
    }

    #[test]
    fn a_rotated_key_is_used_within_a_second_and_an_emptied_file_is_an_error() {
        let (_folder, path, credential) = secret();
        std::fs::write(&path, "first").unwrap();
        let start = Instant::now();
        assert_eq!(credential.at(start).unwrap().expose(), "first", "a missing key is looked for each time");
        std::fs::write(&path, "the second").unwrap();
        assert_eq!(credential.at(start + LOOK / 2).unwrap().expose(), "first");
        assert_eq!(credential.at(start + LOOK).unwrap().expose(), "the second");
        std::fs::write(&path, "\n").unwrap();
        assert!(credential.at(start + 2 * LOOK).is_err());
    }

    #[test]
    fn a_refused_key_is_read_again_even_if_nothing_shows() {
        let (_folder, path, credential) = secret();
        std::fs::write(&path, "key-a").unwrap();
        let old = credential.current().unwrap();
        assert!(credential.reread(&old).is_none(), "the same key is no news");
        let when = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, "key-b").unwrap();
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(when).unwrap();
        assert_eq!(credential.reread(&old).unwrap().expose(), "key-b");
    }

    #[test]
    fn a_key_that_would_break_a_header_is_refused() {
        let (_folder, path, credential) = secret();
        std::fs::write(&path, "a\r\nX-Admin: 1").unwrap();
        assert!(credential.current().unwrap_err().contains("no header"));
    }

    #[test]
    fn a_key_is_never_shown() {
        let (_folder, path, credential) = secret();
        std::fs::write(&path, "canary-4711").unwrap();
        credential.current().unwrap();
        let key = credential.current().unwrap();
        let shown = format!("{credential:?} {key:?} {:?}", key.bearer);
        assert!(!shown.contains("canary"), "{shown}");
    }
}
