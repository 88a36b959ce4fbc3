//! Where jobs are kept: a folder for each, in a folder that one process has at a time.
//!
//! ```text
//! <data_dir>/remote-api-adapter/jobs/lock
//!                                    <job_id>/job.json         the record, replaced whole
//!                                             cancel           there: an end was asked for
//!                                             items, requests  of a batch: as received, as the provider wants them
//!                                             training, validation
//!                                             output-<n>       as the provider sent it
//!                                             results          what callers get
//! ```
//!
//! Files grow by parts; the record says how long each is, so that what a crash left behind its end is cut off.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::record::Job;

const RECORD: &str = "job.json";
const CANCEL: &str = "cancel";
pub(crate) const ITEMS: &str = "items";
pub(crate) const REQUESTS: &str = "requests";
pub(crate) const TRAINING: &str = "training";
pub(crate) const VALIDATION: &str = "validation";
pub(crate) const RESULTS: &str = "results";

/// The folder of all jobs.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    _lock: File,
}

impl Store {
    /// `None` while another process has it.
    ///
    /// # Errors
    /// The folder cannot be made or locked.
    pub(crate) fn open(root: &Path) -> io::Result<Option<Self>> {
        // requests and answers lie here: for nobody else to read
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(root.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { root: root.to_owned(), _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The folder of a job. Its id is a checked one: it cannot lead elsewhere.
    pub(crate) fn folder(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// All jobs. One whose record cannot be read is told and left alone.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub(crate) fn load(&self) -> io::Result<Vec<Job>> {
        let mut jobs = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let file = entry?.path().join(RECORD);
            let Ok(text) = fs::read(&file) else { continue };
            match serde_json::from_slice(&text) {
                Ok(job) => jobs.push(job),
                Err(error) => {
                    tracing::error!(file = %file.display(), %error, "the record of a job cannot be read");
                }
            }
        }
        Ok(jobs)
    }

    /// Replaces the record. When this returns it survives a loss of power.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn save(&self, job: &Job) -> io::Result<()> {
        let folder = self.folder(&job.id);
        let new = !folder.exists();
        fs::create_dir_all(&folder)?;
        if new {
            sync_folder(&self.root)?;
        }
        replace(&folder.join(RECORD), &serde_json::to_vec(job).map_err(io::Error::other)?)
    }

    /// Appends to a file of the job that has `length` bytes so far; gives back how many it has then.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn append(&self, id: &str, name: &str, length: u64, bytes: &[u8]) -> io::Result<u64> {
        if bytes.is_empty() {
            return Ok(length);
        }
        let folder = self.folder(id);
        fs::create_dir_all(&folder)?;
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(name))?;
        file.set_len(length)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(length + bytes.len() as u64)
    }

    /// Keeps that an end was asked for.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn ask_cancel(&self, id: &str) -> io::Result<()> {
        File::create(self.folder(id).join(CANCEL))?.sync_all()?;
        sync_folder(&self.folder(id))
    }

    pub(crate) fn is_cancelled(&self, id: &str) -> bool {
        self.folder(id).join(CANCEL).exists()
    }

    /// Removes a job. The record goes first: without it the rest is no job.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        fs::remove_file(self.folder(id).join(RECORD))?;
        fs::remove_dir_all(self.folder(id))
    }

    /// Removes files that are of no use after the end: what the provider was sent, and what it sent.
    pub(crate) fn tidy(&self, id: &str) {
        let Ok(entries) = fs::read_dir(self.folder(id)) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if [RECORD, RESULTS, CANCEL].contains(&&*name) {
                continue;
            }
            if let Err(error) = fs::remove_file(entry.path()) {
                tracing::warn!(job = id, file = %name, %error, "a file of an ended job was not removed");
            }
        }
    }
}

/// Writes a file beside, syncs it, and puts it in the place of the old one.
///
/// # Errors
/// The disk.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = file.with_extension("new");
    let mut new = File::create(&beside)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    publish(&beside, file)
}

/// Puts a synced file in its place, for good.
///
/// # Errors
/// The disk.
pub(crate) fn publish(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    to.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_has_to_wait_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path()).unwrap().unwrap();
        assert!(Store::open(folder.path()).unwrap().is_none());
        drop(first);
        assert!(Store::open(folder.path()).unwrap().is_some());
    }

    #[test]
    fn what_a_crash_left_behind_a_part_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap().unwrap();
        let first = store.append("j", ITEMS, 0, b"first").unwrap();
        store.append("j", ITEMS, first, b"half of the sec").unwrap();
        assert_eq!(store.append("j", ITEMS, first, b"second").unwrap(), 11);
        assert_eq!(fs::read(folder.path().join("j/items")).unwrap(), b"firstsecond");
    }
}
