//! Where a model's slots wait on disk while it is not loaded.
//!
//! A folder for each model file and way of loading it, named by a digest, so that nothing is ever read into another model.
//! All folders together stay under the configured bound; the oldest go first.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ring::digest;

use crate::engine::Spec;

/// Bytes at the start of a model file that enter the digest: the header with names, shapes and vocabulary.
const HEAD_BYTES: u64 = 1 << 20;
/// Samples of the rest, evenly spread: reading a whole model would take as long as loading it.
const SAMPLES: u64 = 64;
const SAMPLE_BYTES: u64 = 16 << 10;
/// Format of what is kept; llama.cpp is pinned, and a new release of it may write another one.
const FORMAT: &str = "slots-1 llama-cpp-2-0.1.160";

/// A model's place among the others.
#[derive(Debug)]
pub(super) struct Shelf {
    root: PathBuf,
    folder: PathBuf,
    bytes_max: u64,
}

impl Shelf {
    /// The place of a model that is loaded like this; `None` where nothing may be kept.
    ///
    /// # Errors
    /// The model's file cannot be read.
    pub(super) fn new(data_dir: &Path, spec: &Spec, bytes_max: u64) -> io::Result<Option<Self>> {
        if bytes_max == 0 || !spec.generate {
            return Ok(None);
        }
        let root = data_dir.join("local-model-pool").join("slots");
        let folder = root.join(identity(spec)?);
        Ok(Some(Self { root, folder, bytes_max }))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes room beside the other models' folders, and says how much there is.
    ///
    /// # Errors
    /// A folder cannot be read or removed.
    pub(super) fn room(&self) -> io::Result<u64> {
        let mut others = vec![];
        match fs::read_dir(&self.root) {
            Ok(entries) => {
                for entry in entries {
                    let path = entry?.path();
                    if path != self.folder {
                        others.push((fs::metadata(&path)?.modified()?, path));
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        others.sort_by_key(|(modified, _): &(SystemTime, PathBuf)| *modified);
        // At least half is for the model that was used last: the others' conversations are older.
        let mut used = 0_u64;
        for (_, path) in others.iter().rev() {
            let with_this = used.saturating_add(size(path)?);
            if with_this > self.bytes_max / 2 {
                fs::remove_dir_all(path)?;
            } else {
                used = with_this;
            }
        }
        Ok(self.bytes_max.saturating_sub(used))
    }
}

fn size(folder: &Path) -> io::Result<u64> {
    fs::read_dir(folder)?.try_fold(0_u64, |sum, entry| Ok(sum.saturating_add(entry?.metadata()?.len())))
}

/// A digest of the model's file and of what shapes its cache.
fn identity(spec: &Spec) -> io::Result<String> {
    let mut file = File::open(&spec.path)?;
    let size = file.metadata()?.len();
    let mut digest = digest::Context::new(&digest::SHA256);
    digest.update(format!("{FORMAT} {size} {} {}", spec.context_per_slot, spec.gpu_layers).as_bytes());
    let mut piece = vec![];
    (&mut file).take(HEAD_BYTES).read_to_end(&mut piece)?;
    digest.update(&piece);
    for sample in 1..=SAMPLES {
        let at = size.saturating_sub(SAMPLE_BYTES) / SAMPLES * sample;
        piece.clear();
        file.seek(SeekFrom::Start(at))?;
        (&mut file).take(SAMPLE_BYTES).read_to_end(&mut piece)?;
        digest.update(&piece);
    }
    let bytes = digest.finish();
    Ok(bytes.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(folder: &Path, content: &[u8]) -> Spec {
        let path = folder.join("model.gguf");
        fs::write(&path, content).unwrap();
        Spec {
            path,
            context_per_slot: 512,
            slots: 1,
            threads: 1,
            gpu_layers: 0,
            mmap: true,
            generate: true,
            embed: false,
        }
    }

    fn shelf(data: &Path, spec: &Spec, bytes_max: u64) -> Shelf {
        Shelf::new(data, spec, bytes_max).unwrap().unwrap()
    }

    #[test]
    fn another_file_or_another_context_has_another_place() {
        let folder = tempfile::tempdir().unwrap();
        let one = spec(folder.path(), b"one");
        let place = |spec: &Spec| shelf(folder.path(), spec, 1).folder().to_owned();
        let first = place(&one);
        assert_eq!(place(&one), first);
        assert_ne!(place(&Spec { context_per_slot: 256, ..one.clone() }), first);
        assert_ne!(place(&spec(folder.path(), b"two")), first);
    }

    #[test]
    fn a_change_far_into_a_large_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut content = vec![7; 3 << 20];
        let before = identity(&spec(folder.path(), &content)).unwrap();
        let end = content.len() - 1;
        content[end] = 8;
        assert_ne!(identity(&spec(folder.path(), &content)).unwrap(), before);
    }

    #[test]
    fn the_oldest_models_make_room() {
        let data = tempfile::tempdir().unwrap();
        let mut shelves = vec![];
        for content in ["one", "two", "three"] {
            let shelf = shelf(data.path(), &spec(data.path(), content.as_bytes()), 1_000);
            fs::create_dir_all(shelf.folder()).unwrap();
            fs::write(shelf.folder().join("0.slot"), [0; 300]).unwrap();
            let age = std::time::Duration::from_secs(10 - shelves.len() as u64);
            let past = fs::metadata(shelf.folder()).unwrap().modified().unwrap() - age;
            File::open(shelf.folder()).unwrap().set_modified(past).unwrap();
            shelves.push(shelf);
        }
        let newest = shelf(data.path(), &spec(data.path(), b"four"), 1_000);
        assert_eq!(newest.room().unwrap(), 700);
        let there: Vec<bool> = shelves.iter().map(|shelf| shelf.folder().exists()).collect();
        assert_eq!(there, [false, false, true]);
    }

    #[test]
    fn nothing_is_kept_where_nothing_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(folder.path(), b"one");
        assert!(Shelf::new(folder.path(), &spec, 0).unwrap().is_none());
        assert!(Shelf::new(folder.path(), &Spec { generate: false, ..spec }, 1).unwrap().is_none());
    }
}
