//! Users of a test's nats-server, with the permissions of production.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use domain::id::NodeId;
use nkeys::KeyPair;
use wire::permission::{User, render, seed_file};
use wire::subject::Prefix;

/// Somebody who may do everything, to look on and to lay what a test needs.
pub(crate) const OBSERVER: &str = "observer";

/// Makes a key for each user of a machine, puts the seeds into `folder`, and returns the server's configuration of them.
pub(crate) fn create(folder: &Path, machine: &str) -> anyhow::Result<String> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let machine = NodeId::new(machine)?;
    let mut keys = Vec::new();
    for name in User::ALL.map(User::name).into_iter().chain([OBSERVER]) {
        let key = KeyPair::new_user();
        fs::write(folder.join(seed_file(name)), key.seed()?)?;
        keys.push((name, key.public_key()));
    }
    let key =
        |name: &str| keys.iter().find(|(other, _)| *other == name).map_or("", |(_, key)| key).to_owned();
    let users = render(&machine, &Prefix::default(), |user| key(user.name()));
    let users = users.trim_end_matches(']');
    let observer = key(OBSERVER);
    Ok(format!(
        "accounts {{ SYS: {{}}, APP: {{ jetstream: enabled, users: {users} {{ nkey: {observer} }} ] }} }}\nsystem_account: SYS\n"
    ))
}

/// A user's seed.
pub(crate) fn seed(folder: &Path, user: &str) -> anyhow::Result<String> {
    let file = folder.join(seed_file(user));
    fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
}
