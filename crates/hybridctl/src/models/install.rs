//! Copies a model file into the pool's folder, beside what is there, under a name that tells its content.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, ensure};
use ring::digest::{self, SHA256};

/// Folder below the models folder.
const FOLDER: &str = "installed";
/// Bytes copied at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Digits of the hash in the file's name.
const DIGITS: usize = 12;

/// A file that lies where the pool finds it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copied {
    /// Below the models folder.
    pub(super) file: String,
    /// Of the content, hexadecimal.
    pub(super) sha256: String,
}

/// Copies `source` below `models_dir`. The same content under the same name is there once.
pub(super) fn copy(source: &Path, models_dir: &Path, name: &str) -> anyhow::Result<Copied> {
    let mut from = File::open(source).with_context(|| format!("cannot read {}", source.display()))?;
    ensure!(from.metadata()?.is_file(), "{} is no regular file", source.display());
    ensure!(
        models_dir.is_dir(),
        "local-model-pool.models_dir is {}, which is no folder here",
        models_dir.display()
    );
    let folder = models_dir.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // the pool takes no name that begins with a point: half a copy is never loaded
    let half = folder.join(format!(".{}.half", std::process::id()));
    let copied = stream(&mut from, &half);
    let sha256 = copied.inspect_err(|_| drop(fs::remove_file(&half)))?;
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let stem: String = name.chars().map(safe).collect();
    let digits: String = sha256.chars().take(DIGITS).collect();
    let file = format!("{FOLDER}/{}-{digits}.gguf", stem.trim_start_matches('.'));
    let target = models_dir.join(&file);
    fs::rename(&half, &target).with_context(|| format!("cannot make {}", target.display()))?;
    File::open(&folder)?.sync_all()?;
    Ok(Copied { file, sha256 })
}

fn stream(from: &mut File, target: &Path) -> anyhow::Result<String> {
    let failed = || format!("cannot write {}", target.display());
    let mut to = File::create(target).with_context(failed)?;
    let mut hash = digest::Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk)?;
        match chunk.get(..read) {
            Some(bytes) if read > 0 => {
                hash.update(bytes);
                to.write_all(bytes).with_context(failed)?;
            }
            _ => break,
        }
    }
    to.sync_all().with_context(failed)?;
    Ok(hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_copied_under_a_name_that_tells_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.bin");
        fs::write(&source, "abc").unwrap();
        let models = folder.path().join("models");
        fs::create_dir(&models).unwrap();
        let copied = copy(&source, &models, "qwen/2.5:7b").unwrap();
        // FIPS 180-2, appendix B.1
        assert_eq!(copied.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(copied.file, "installed/qwen-2.5-7b-ba7816bf8f01.gguf");
        assert_eq!(fs::read(models.join(&copied.file)).unwrap(), b"abc");
        assert_eq!(copy(&source, &models, "qwen/2.5:7b").unwrap(), copied);
        assert_eq!(fs::read_dir(models.join(FOLDER)).unwrap().count(), 1, "half a copy was left");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert!(copy(&folder.path().join("none"), folder.path(), "a").is_err());
        assert!(copy(folder.path(), folder.path(), "a").is_err());
    }
}
