//! What the pool remembers over a restart: how long loads took, what was pinned, what was installed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::settings::RawModel;

/// Larger files are not read.
const BYTES_MAX: u64 = 8 << 20;

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// Milliseconds that a load takes, by model.
    pub(super) load_ms: BTreeMap<String, u64>,
    /// Models that somebody has pinned.
    pub(super) pinned: BTreeSet<String>,
    /// Models that are not in the configuration.
    pub(super) installed: Vec<RawModel>,
}

/// The file.
#[derive(Debug, Clone)]
pub(super) struct Store(PathBuf);

impl Store {
    /// `models.json` in the pool's own folder below the machine's data.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn open(data_dir: &Path, service: &str) -> anyhow::Result<Self> {
        let folder = data_dir.join(service);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder.join("models.json")))
    }

    /// What was kept; nothing where there is no file or it cannot be read, which is said.
    pub(super) fn load(&self) -> Kept {
        match std::fs::metadata(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Kept::default(),
            Ok(metadata) if metadata.len() > BYTES_MAX => {
                tracing::error!(file = %self.0.display(), bytes = metadata.len(), "too large, not read");
                return Kept::default();
            }
            _ => {}
        }
        let read = std::fs::read(&self.0).map_err(anyhow::Error::from);
        let parsed = read.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        parsed.unwrap_or_else(|error| {
            tracing::error!(file = %self.0.display(), %error, "cannot be read, nothing is remembered");
            Kept::default()
        })
    }

    /// Replaces the file whole, and returns when it is on the disk.
    pub(super) async fn save(&self, kept: &Kept) -> anyhow::Result<()> {
        let (path, bytes) = (self.0.clone(), serde_json::to_vec_pretty(kept)?);
        tokio::task::spawn_blocking(move || {
            let fresh = path.with_extension("json.new");
            let mut file = std::fs::File::create(&fresh)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
        })
        .await?
        .with_context(|| format!("cannot write {}", self.0.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_kept_is_there_again_and_a_damaged_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), "local-model-pool").unwrap();
        assert_eq!(store.load(), Kept::default());
        let kept = Kept {
            load_ms: BTreeMap::from([("demo".to_owned(), 120)]),
            pinned: BTreeSet::from(["demo".to_owned()]),
            installed: vec![RawModel { name: "new".to_owned(), ..RawModel::default() }],
        };
        store.save(&kept).await.unwrap();
        assert_eq!(store.load(), kept);
        std::fs::write(folder.path().join("local-model-pool/models.json"), "{").unwrap();
        assert_eq!(store.load(), Kept::default());
    }
}
