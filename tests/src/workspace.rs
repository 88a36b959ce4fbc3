//! Where the workspace's files and freshly built programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The folder of the workspace's `Cargo.toml`.
#[must_use]
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A program of the workspace, built in the same profile as the running test: it lies beside the test's executable
/// (`target/<profile>/`) or one folder above it (`target/<profile>/deps/`).
///
/// # Errors
/// It has not been built; the message says how to.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find the running executable")?;
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    let Some(path) = found else {
        bail!(
            "{name} is not built beside {}; run `cargo build --workspace --bins` in this profile",
            this.display()
        );
    };
    Ok(path)
}

/// nats-server: `.tools/bin/nats-server` of the workspace, else the one on `PATH`.
#[must_use]
pub fn nats_server() -> PathBuf {
    let own = root().join(".tools/bin/nats-server");
    if own.is_file() { own } else { PathBuf::from("nats-server") }
}
