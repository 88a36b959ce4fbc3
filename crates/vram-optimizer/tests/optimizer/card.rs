//! A machine's NVML for one test: a copy of the stand-in library and the file that describes its GPUs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// An idle card of 24 GiB.
pub(crate) const IDLE: &str = "Card A;GPU-aaaa;24576;576;3;1;41;25500;;";

/// Builds the library once; cargo says where it lies.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", "nvml-stub", "--message-format", "json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let messages = String::from_utf8(built.stdout).unwrap();
        let artifact = messages
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .find(|message| {
                message["reason"] == "compiler-artifact" && message["target"]["name"] == "nvml_stub"
            })
            .expect("cargo built nvml_stub");
        PathBuf::from(artifact["filenames"][0].as_str().unwrap())
    })
}

pub(crate) struct Card {
    folder: tempfile::TempDir,
}

impl Card {
    pub(crate) fn new(devices: &str) -> Self {
        let card = Self { folder: tempfile::tempdir().unwrap() };
        card.describe(devices);
        card.install();
        card
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.folder.path().join("libnvidia-ml.so.1")
    }

    /// Changes the machine while it runs. A reader sees the old file or the new one.
    pub(crate) fn describe(&self, devices: &str) {
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, devices).unwrap();
        fs::rename(fresh, self.folder.path().join("libnvidia-ml.so.1.devices")).unwrap();
    }

    pub(crate) fn install(&self) {
        fs::copy(library(), self.library()).unwrap();
    }

    pub(crate) fn uninstall(&self) {
        fs::remove_file(self.library()).unwrap();
    }
}
