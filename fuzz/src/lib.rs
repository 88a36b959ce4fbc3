//! Fuzz targets: everything that reads what somebody else has written.
//!
//! The targets themselves stand beside what they test, see `remote_api_adapter::fuzzing`; here are those of `wire`, what
//! they are fed with at the start, and [`targets`], the list. The program `fuzzer` runs one under libFuzzer, `make fuzz` all
//! of them in turn; `tests/seeds.rs` runs every seed without libFuzzer, so that each test run does. Inputs that once broke a
//! target are kept in `found/<target>/` and are seeds from then on.

pub mod requests;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use remote_api_adapter::fuzzing::{self, Seeds};

type Run = Box<dyn Fn(&[u8]) + Send + Sync>;

/// One decoder or encoder.
pub struct Target {
    /// Lower case, digits, `-`.
    pub name: String,
    /// Where it starts from.
    pub seeds: Vec<Vec<u8>>,
    run: Run,
}

impl Target {
    fn new(
        name: String,
        seeds: Vec<Vec<u8>>,
        run: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let found = folder().join("found").join(&name);
        let found = if found.is_dir() { files(&found)? } else { Vec::new() };
        Ok(Self { name, seeds: [seeds, found].concat(), run: Box::new(run) })
    }

    /// Takes one input.
    ///
    /// # Panics
    /// Something that has to hold does not.
    pub fn run(&self, data: &[u8]) {
        (self.run)(data);
    }
}

/// All targets.
///
/// # Errors
/// Seeds cannot be read.
pub fn targets() -> anyhow::Result<Vec<Target>> {
    let mut targets = vec![Target::new("wire-requests".to_owned(), requests::seeds(), requests::read)?];
    for target in fuzzing::targets() {
        let seeds = match target.seeds {
            Seeds::Folder(provider, kind) => files(&golden(provider, kind))?,
            Seeds::Requests => requests::seeds(),
            Seeds::Texts(texts) => texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
        };
        targets.push(Target::new(target.name.clone(), seeds, move |data| target.run(data))?);
    }
    Ok(targets)
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A provider's recordings.
fn golden(provider: &str, kind: &str) -> PathBuf {
    let golden = folder().join("../crates/remote-api-adapter/src/provider").join(provider).join("golden");
    golden.join(kind)
}

/// The files of a folder without the expected outcomes (`.txt`), in a stable order.
fn files(folder: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.is_file() && path.extension().is_none_or(|extension| extension != "txt"));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).with_context(|| path.display().to_string())).collect()
}
