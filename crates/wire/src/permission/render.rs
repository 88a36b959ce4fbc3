//! The table as a nats-server reads it.

use std::fmt::Write as _;

use domain::id::NodeId;

use super::{Rights, User, rights};
use crate::subject::Prefix;

/// Name of the file with a user's seed, in the folder of its machine.
#[must_use]
pub fn seed_file(user: &str) -> String {
    format!("{user}.seed")
}

/// The users of a machine as a value of nats-server's configuration: an array, to stand behind `users:`. `public_key` gives
/// each user's public nkey (`U…`), or the name of a variable of the configuration that holds it (`$…`).
#[must_use]
pub fn render(machine: &NodeId, prefix: &Prefix, public_key: impl Fn(User) -> String) -> String {
    let mut text = "[\n".to_owned();
    for user in User::ALL {
        let Rights { publish, subscribe } = rights(user, machine, prefix);
        // writing to a text cannot fail
        let _ = writeln!(text, "  # {}", user.name());
        let _ = writeln!(text, "  {{ nkey: {}, permissions: {{", public_key(user));
        let _ = writeln!(text, "    publish: [{}]", list(&publish));
        let _ = writeln!(text, "    subscribe: [{}]", list(&subscribe));
        text.push_str("  } }\n");
    }
    text.push(']');
    text
}

/// Name of the variable that holds a user's public key in a configuration that is written before there are keys.
#[must_use]
pub fn key_variable(user: User) -> String {
    format!("NKEY_{}", user.name().replace('-', "_").to_uppercase())
}

/// The accounts of a machine's nats-server, as statements of its configuration; `public_key` as for [`render`].
#[must_use]
pub fn accounts(machine: &NodeId, prefix: &Prefix, public_key: impl Fn(User) -> String) -> String {
    let users = render(machine, prefix, public_key);
    format!(
        "accounts {{\n  SYS: {{}}\n  APP: {{ jetstream: enabled, users: {users} }}\n}}\nsystem_account: SYS\n"
    )
}

/// [`accounts`] as a file that is written before there are keys: `docker/nats/accounts-<machine>.conf`. The keys come from
/// `secrets/bus/<machine>/nkeys.conf`.
#[must_use]
pub fn accounts_file(machine: &NodeId, prefix: &Prefix) -> String {
    let accounts = accounts(machine, prefix, |user| format!("${}", key_variable(user)));
    format!("{HEAD}include ../../secrets/bus/{machine}/nkeys.conf\n{accounts}")
}

const HEAD: &str = "\
# Who may publish and subscribe to what on this machine's bus. Written by `hybridctl bus permissions` from the table in
# crates/wire/src/permission.rs, which tells why; change it there. The server's own subjects stay in SYS, to which nobody has
# credentials.
";

fn list(subjects: &[String]) -> String {
    let lines = subjects.iter().map(|subject| format!("\n      \"{subject}\""));
    lines.chain(["\n    ".to_owned()]).collect()
}
