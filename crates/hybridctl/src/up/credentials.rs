//! The keys of a machine's users on the bus: created where they are missing, and told to the server.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use domain::id::NodeId;
use nkeys::KeyPair;
use wire::permission::{User, accounts, seed_file};
use wire::subject::Prefix;

/// A configuration that includes `shipped` and adds the machine's users, for a file in `folder`; both are absolute. The server
/// looks for what it includes only beside the file that includes it, so the way there leads over the root.
pub(super) fn with_users(shipped: &Path, folder: &Path, accounts: &str) -> anyhow::Result<String> {
    let shown = shipped.to_str().context("the path of nats-server's configuration is not UTF-8")?;
    ensure!(
        !shown.contains(['\'', '\n']),
        "{shown:?} holds a quote or a line break, which nats-server cannot take"
    );
    let up = "../".repeat(folder.components().count());
    Ok(format!("include '{up}{}'\n{accounts}", shown.trim_start_matches('/')))
}

/// The machine's accounts, as statements of nats-server's configuration; creates the seeds that `folder` lacks.
///
/// # Errors
/// A seed cannot be read or written, or is none; the machine's or the prefix's name cannot stand in a subject.
pub(super) fn users(folder: &Path, machine: &str, prefix: &str) -> anyhow::Result<String> {
    let (machine, prefix) = (NodeId::new(machine)?, Prefix::new(prefix)?);
    // the files are as open as scripts/make-secrets.sh makes them: containers read them under another id
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("bus.credentials_dir: cannot make {}", folder.display()))?;
    let mut keys = Vec::with_capacity(User::ALL.len());
    for user in User::ALL {
        let file = folder.join(seed_file(user.name()));
        keys.push((
            user,
            public_key(&file).with_context(|| format!("bus.credentials_dir: {}", file.display()))?,
        ));
    }
    let key = |user| keys.iter().find(|(other, _)| *other == user).map_or("", |(_, key)| key).to_owned();
    Ok(accounts(&machine, &prefix, key))
}

fn public_key(file: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(file) {
        Ok(seed) => Ok(KeyPair::from_seed(seed.trim()).context("holds no nkey seed (SU…)")?.public_key()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::new_user();
            fs::write(file, format!("{}\n", key.seed()?)).context("cannot be written")?;
            Ok(key.public_key())
        }
        Err(error) => Err(error).context("cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_created_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("bus/mainpc");
        let first = users(&folder, "mainpc", "llm").unwrap();
        assert_eq!(users(&folder, "mainpc", "llm").unwrap(), first);
        fs::remove_file(folder.join("caller.seed")).unwrap();
        assert_ne!(users(&folder, "mainpc", "llm").unwrap(), first);
        fs::write(folder.join("caller.seed"), "nothing").unwrap();
        let error = format!("{:#}", users(&folder, "mainpc", "llm").unwrap_err());
        assert!(error.contains("caller.seed") && error.contains("seed"), "{error}");
    }
}
