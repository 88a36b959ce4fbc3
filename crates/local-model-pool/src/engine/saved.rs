//! Slots on disk: what the cache holds is written when a model is unloaded and read when it comes back, so that a
//! conversation that goes on is not computed again.
//!
//! The files hold conversations, as tokens and as keys and values: they are written for this user only, and read once. Some
//! damaged ones end the process inside of llama.cpp, so each carries its checksum in its name and is not shown to llama.cpp
//! unless it is whole. What is not read is removed, and nothing else happens.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use llama_cpp_2::LlamaStateSeqFlags;
use llama_cpp_2::context::LlamaContext;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::slot::Slot;

/// Shorter caches are computed again as quickly as they are read.
const TOKENS_MIN: usize = 16;
/// When no further slot is begun: the pool waits only so long for an engine to end.
const SAVE_TIME_MAX: Duration = Duration::from_millis(1_500);
const EXTENSION: &str = "slot";

/// What to do with which folder, and where to say how many slots it was.
pub(super) struct SlotsJob {
    pub(super) action: Action,
    pub(super) folder: PathBuf,
    pub(super) done: oneshot::Sender<usize>,
}

/// What to do with slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Writes those without a request, the last used first, up to so many bytes.
    Save {
        /// On disk, of all slots together.
        bytes_max: u64,
    },
    /// Reads what was written, and removes it.
    Restore,
}

impl SlotsJob {
    pub(super) fn run(self, context: &mut LlamaContext<'_>, slots: &mut [Slot], context_per_slot: usize) {
        let done = match self.action {
            Action::Save { bytes_max } => save(context, slots, &self.folder, bytes_max),
            Action::Restore => restore(context, slots, &self.folder, context_per_slot),
        };
        let count = done.unwrap_or_else(|error| {
            tracing::warn!(%error, folder = %self.folder.display(), "slots on disk cannot be used");
            0
        });
        let _asker_gone = self.done.send(count);
    }
}

fn save(context: &LlamaContext<'_>, slots: &[Slot], folder: &Path, bytes_max: u64) -> io::Result<usize> {
    let started = Instant::now();
    create(folder)?;
    let mut order: Vec<_> =
        (0_i32..).zip(slots).filter(|(_, slot)| slot.held().len() >= TOKENS_MIN).collect();
    order.sort_by_key(|(_, slot)| std::cmp::Reverse(slot.used_at()));
    let (mut left, mut saved) = (bytes_max, 0_usize);
    for (sequence, slot) in order {
        let size = context.state_seq_get_size_ext(sequence, LlamaStateSeqFlags::empty()) as u64;
        if size > left || started.elapsed() > SAVE_TIME_MAX {
            continue;
        }
        let unfinished = folder.join("unfinished");
        let written = context.state_seq_save_file(&unfinished, sequence, slot.held());
        let written = written.map_err(|error| io::Error::other(error.to_string()))?;
        fs::rename(&unfinished, folder.join(format!("{saved:02}-{}.{EXTENSION}", checksum(&unfinished)?)))?;
        left = left.saturating_sub(written as u64);
        saved = saved.saturating_add(1);
    }
    Ok(saved)
}

fn restore(
    context: &mut LlamaContext<'_>,
    slots: &mut [Slot],
    folder: &Path,
    context_per_slot: usize,
) -> io::Result<usize> {
    let mut paths = vec![];
    match fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                paths.push(entry?.path());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    paths.sort();
    let mut restored = 0;
    let mut free = (0_i32..).zip(slots);
    for path in paths {
        if let Some((sequence, slot)) = is_whole(&path)?.then(|| free.next()).flatten() {
            match context.state_seq_load_file(&path, sequence, context_per_slot) {
                Ok((tokens, _bytes)) => {
                    slot.hold(tokens);
                    restored += 1;
                }
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "a slot on disk does not fit and is dropped");
                    let sequence = u32::try_from(sequence).ok();
                    let _nothing_kept = context.clear_kv_cache_seq(sequence, None, None);
                }
            }
        }
        fs::remove_file(&path)?;
    }
    Ok(restored)
}

/// Whether this is a slot's file, and as it was written.
fn is_whole(path: &Path) -> io::Result<bool> {
    let slot = path.extension().is_some_and(|extension| extension == EXTENSION);
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let Some((_, expected)) = stem.split_once('-').filter(|_| slot) else { return Ok(false) };
    let found = checksum(path)?;
    if found != expected {
        tracing::warn!(path = %path.display(), found, "a slot on disk is damaged and is dropped");
    }
    Ok(found == expected)
}

/// The length and the CRC-32 of a file.
fn checksum(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let (mut hasher, mut piece, mut length) = (crc32fast::Hasher::new(), vec![0; 1 << 20], 0_u64);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(format!("{length}-{:08x}", hasher.finalize()));
        }
        hasher.update(piece.get(..read).unwrap_or_default());
        length = length.saturating_add(read as u64);
    }
}

/// The folder, empty and for this user only.
fn create(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
