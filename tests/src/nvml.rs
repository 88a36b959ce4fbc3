//! A machine's NVML for one test: a copy of the stand-in library and the file that describes its GPUs.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a machine that cannot be described ends the test that wanted it"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// An idle card of 24 GiB.
pub const IDLE: &str = "Card A;GPU-aaaa;24576;576;3;1;41;25500;;";

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

/// A machine's NVML. Dropped, its folder goes too.
pub struct Card {
    folder: tempfile::TempDir,
}

impl Card {
    /// A machine with these devices, as `tests/nvml-stub` describes them.
    #[must_use]
    pub fn new(devices: &str) -> Self {
        let card = Self { folder: tempfile::tempdir().unwrap() };
        card.describe(devices);
        card.install();
        card
    }

    /// The library, for `nvml_library`.
    #[must_use]
    pub fn library(&self) -> PathBuf {
        self.folder.path().join("libnvidia-ml.so.1")
    }

    /// Changes the machine while it runs. A reader sees the old file or the new one.
    pub fn describe(&self, devices: &str) {
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, devices).unwrap();
        fs::rename(fresh, self.folder.path().join("libnvidia-ml.so.1.devices")).unwrap();
    }

    /// Puts the library into its place.
    pub fn install(&self) {
        fs::copy(library(), self.library()).unwrap();
    }

    /// Takes the driver away.
    pub fn uninstall(&self) {
        fs::remove_file(self.library()).unwrap();
    }
}
