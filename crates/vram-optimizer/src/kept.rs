//! Leases on disk, so that a restart of this service neither forgets who holds memory nor gives a fencing token twice.
//!
//! The file is rewritten whole, to a new file that takes the old one's place, at each grant and at each end of a lease;
//! renewals are not written, since every lease gets its full time to live after a restart anyway.
//!
//! A token is an epoch and a counter: the epoch grows with each start and is at least the Unix time in seconds, so that
//! tokens grow also when the file is lost, or when the clock goes back, but not both.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use domain::{
    units::Bytes,
    vram::{GpuId, Holder, Lease, Place, Priority, Token, Ttl, Worth},
};
use serde::{Deserialize, Serialize};

/// Bits of a token that count grants within one run.
const COUNTER_BITS: u32 = 28;
/// Epochs fit what is left, short of the sign bit that some languages would trip over.
const EPOCH_MAX: u64 = (1 << 35) - 1;

/// The state can't be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    /// The folder or a file in it.
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    /// Two owners would both lease the same memory.
    #[error("another vram-optimizer of this machine holds {path}")]
    Taken { path: String },
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    epoch: u64,
    leases: Vec<Record>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    token: u64,
    holder: String,
    bytes: u64,
    priority: String,
    /// UUID; none = system memory.
    gpu: Option<String>,
    ttl_ms: u64,
    pids: Vec<u32>,
    gives_way_to: Option<String>,
    /// Not written by versions before 0.2.
    #[serde(default)]
    pinned: bool,
    #[serde(default)]
    anytime: bool,
}

/// The file, locked.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    path: PathBuf,
    epoch: u64,
    _lock: Arc<File>,
}

impl Kept {
    /// Takes the folder and reads what the last run left there. Returns the first token of this run, and the leases. A file
    /// that does not parse is put aside and counts as empty.
    pub(crate) fn open(folder: PathBuf, now_unix_ms: u64) -> Result<(Self, Token, Vec<Lease>), KeptError> {
        let failed = |path: &PathBuf| {
            let path = path.display().to_string();
            move |source| KeptError::Io { path, source }
        };
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(KeptError::Taken { path: lock_path.display().to_string() });
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed(&lock_path)(source)),
        }
        let path = folder.join("leases.json");
        let state = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "kept leases do not parse and are put aside");
                // Best effort: the next save replaces the file in any case.
                let _ = fs::rename(&path, path.with_extension("json.unreadable"));
                State::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(source) => return Err(failed(&path)(source)),
        };
        let epoch = state.epoch.saturating_add(1).max(now_unix_ms / 1000).min(EPOCH_MAX);
        let leases: Vec<Lease> = state.leases.into_iter().filter_map(Record::revive).collect();
        let kept = Self { path, epoch, _lock: Arc::new(lock) };
        kept.save(&leases)?;
        Ok((kept, Token::new(epoch << COUNTER_BITS), leases))
    }

    /// Writes all leases; blocks until they are on disk.
    pub(crate) fn save(&self, leases: &[Lease]) -> Result<(), KeptError> {
        let failed = |source: io::Error| KeptError::Io { path: self.path.display().to_string(), source };
        let state = State { epoch: self.epoch, leases: leases.iter().map(Record::of).collect() };
        let text = serde_json::to_vec_pretty(&state).map_err(|error| failed(error.into()))?;
        let fresh = self.path.with_extension("json.new");
        let mut file = File::create(&fresh).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&fresh, &self.path).map_err(failed)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        Ok(())
    }
}

impl Record {
    fn of(lease: &Lease) -> Self {
        Self {
            token: lease.token.get(),
            holder: lease.holder.as_str().to_owned(),
            bytes: lease.bytes.get(),
            priority: lease.priority.as_str().to_owned(),
            gpu: match &lease.place {
                Place::System => None,
                Place::Gpu(id) => Some(id.as_str().to_owned()),
            },
            ttl_ms: u64::try_from(lease.ttl.get().as_millis()).unwrap_or(u64::MAX),
            pids: lease.pids.clone(),
            gives_way_to: lease.gives_way_to.clone(),
            pinned: lease.worth.pinned,
            anytime: lease.anytime,
        }
    }

    /// None for a record that no version of this service writes.
    fn revive(self) -> Option<Lease> {
        Some(Lease {
            token: Token::new(self.token),
            holder: Holder::new(self.holder).ok()?,
            bytes: Bytes::new(self.bytes),
            priority: Priority::ALL.into_iter().find(|priority| priority.as_str() == self.priority)?,
            place: self.gpu.map_or(Place::System, |uuid| Place::Gpu(GpuId::new(uuid))),
            ttl: Ttl::new(Duration::from_millis(self.ttl_ms))?,
            // Set when the leases come alive again.
            since: Duration::ZERO,
            expires_at: Duration::ZERO,
            pids: self.pids,
            // The rest is told with the next renewal.
            worth: Worth { pinned: self.pinned, ..Worth::default() },
            told_at: Duration::ZERO,
            anytime: self.anytime,
            gives_way_to: self.gives_way_to,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(token: Token) -> Lease {
        Lease {
            token,
            holder: Holder::new("pool/tiny").unwrap(),
            bytes: Bytes::mebibytes(7),
            priority: Priority::Speech,
            place: Place::Gpu(GpuId::new("GPU-1")),
            ttl: Ttl::default(),
            since: Duration::ZERO,
            expires_at: Duration::ZERO,
            pids: vec![12],
            worth: Worth { pinned: true, ..Worth::default() },
            told_at: Duration::ZERO,
            anytime: true,
            gives_way_to: Some("chat".to_owned()),
        }
    }

    #[test]
    fn leases_come_back_after_a_restart_and_tokens_go_on_growing() {
        let dir = tempfile::tempdir().unwrap();
        let open = |now| Kept::open(dir.path().join("vram"), now).unwrap();
        let (kept, first, none) = open(1_700_000_000_000);
        assert!(none.is_empty());
        kept.save(&[lease(first)]).unwrap();
        drop(kept);
        // The clock went back by years.
        let (kept, second, leases) = open(1_000);
        assert_eq!(leases, [lease(first)]);
        assert!(second > first);
        drop(kept);
        fs::remove_file(dir.path().join("vram/leases.json")).unwrap();
        let (_kept, third, leases) = open(1_700_000_060_000);
        assert!(leases.is_empty());
        assert!(third > second, "the file was lost, the clock was not");
    }

    #[test]
    fn a_second_owner_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Kept::open(dir.path().to_owned(), 0).unwrap();
        let second = Kept::open(dir.path().to_owned(), 0);
        assert!(matches!(second, Err(KeptError::Taken { .. })), "{second:?}");
        drop(first);
        assert!(Kept::open(dir.path().to_owned(), 0).is_ok());
    }

    #[test]
    fn a_file_cut_anywhere_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases.json");
        let (kept, first, _) = Kept::open(dir.path().to_owned(), 0).unwrap();
        kept.save(&[lease(first)]).unwrap();
        drop(kept);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (_kept, _, leases) = Kept::open(dir.path().to_owned(), 0).unwrap();
            assert!(leases.is_empty(), "cut to {length} bytes");
        }
    }
}
