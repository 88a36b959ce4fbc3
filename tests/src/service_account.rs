//! A service account of Google's, with a key that is made anew: the file that its owner gives to the adapter and to
//! [`crate::upstream`].

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::json;

/// Writes the key file of an account that gets its tokens at `token_uri`.
///
/// # Errors
/// There is no openssl, or the file cannot be written.
pub fn write(file: &Path, token_uri: &str) -> anyhow::Result<()> {
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output()
        .context("cannot start openssl")?;
    ensure!(made.status.success(), "openssl makes no key: {}", String::from_utf8_lossy(&made.stderr));
    let account = json!({
        "type": "service_account",
        "project_id": "fake-project",
        "client_email": "tester@fake-project.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": String::from_utf8(made.stdout).context("a key that is no text")?,
        "token_uri": token_uri,
    });
    std::fs::write(file, account.to_string()).with_context(|| format!("cannot write {}", file.display()))
}
