//! Which files may be loaded: those below one folder, by names that cannot lead out of it.

use std::path::{Component, Path, PathBuf};

/// The name of a model file that passed the grammar: components of letters, digits, `.`, `_`, `-`, none starting with `.`,
/// at most 255 bytes together, ending in `.gguf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile(PathBuf);

/// Why a model file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The folder or the file is not there, or may not be read.
    #[error("{}: {source}", path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A link leads out of the folder.
    #[error("{} leads to {}, outside of {}", path.display(), target.display(), folder.display())]
    Outside {
        /// The name that was asked for.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
        /// Where it should have stayed.
        folder: PathBuf,
    },
    /// It is a folder, a device or the like.
    #[error("{} is no regular file", .0.display())]
    NoFile(PathBuf),
}

impl ModelFile {
    /// Checks the grammar; `None` where the name does not follow it.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let path = Path::new(text);
        let safe = |component: Component<'_>| {
            let Component::Normal(name) = component else { return false };
            let Some(name) = name.to_str() else { return false };
            !name.starts_with('.')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        let usable = text.len() <= 255
            && !text.contains("//")
            && path.components().all(safe)
            && path.extension().is_some_and(|extension| extension == "gguf");
        usable.then(|| Self(path.to_owned()))
    }

    /// The real file, below the real folder.
    ///
    /// # Errors
    /// [`FileError`]: it is not there, is no file, or a link leads out of the folder.
    pub fn resolve(&self, folder: &Path) -> Result<PathBuf, FileError> {
        let missing = |path: PathBuf| move |source| FileError::Missing { path, source };
        let folder = folder.canonicalize().map_err(missing(folder.to_owned()))?;
        let path = folder.join(&self.0);
        let target = path.canonicalize().map_err(missing(path.clone()))?;
        if !target.starts_with(&folder) {
            return Err(FileError::Outside { path, target, folder });
        }
        if !target.is_file() {
            return Err(FileError::NoFile(target));
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        let good = ["demo.gguf", "qwen/Qwen2.5-7B_Q4_K_M.gguf"];
        let bad = [
            "",
            ".",
            "..",
            "/etc/passwd.gguf",
            "../demo.gguf",
            "a/../demo.gguf",
            "a//demo.gguf",
            ".demo.gguf",
            "a/.b/c.gguf",
            "demo.gguf\0",
            "demo",
            "demo.bin",
            "a b.gguf",
            "ü.gguf",
            "a\\b.gguf",
            "./demo.gguf",
        ];
        for name in good {
            assert!(ModelFile::new(name).is_some(), "{name:?} was refused");
        }
        for name in bad {
            assert!(ModelFile::new(name).is_none(), "{name:?} was accepted");
        }
    }

    #[test]
    fn a_link_may_stay_inside_but_not_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.gguf"), "x").unwrap();
        fs::write(folder.path().join("real.gguf"), "x").unwrap();
        symlink(outside.path().join("secret.gguf"), folder.path().join("out.gguf")).unwrap();
        symlink(outside.path(), folder.path().join("dir")).unwrap();
        symlink("real.gguf", folder.path().join("in.gguf")).unwrap();
        let resolve = |name: &str| ModelFile::new(name).unwrap().resolve(folder.path());
        assert!(resolve("in.gguf").unwrap().ends_with("real.gguf"));
        assert!(matches!(resolve("out.gguf").unwrap_err(), FileError::Outside { .. }));
        assert!(matches!(resolve("dir/secret.gguf").unwrap_err(), FileError::Outside { .. }));
        assert!(matches!(resolve("none.gguf").unwrap_err(), FileError::Missing { .. }));
    }

    #[test]
    fn a_folder_is_no_model() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("folder.gguf")).unwrap();
        let error = ModelFile::new("folder.gguf").unwrap().resolve(folder.path()).unwrap_err();
        assert!(matches!(error, FileError::NoFile(_)), "{error:?}");
    }
}
