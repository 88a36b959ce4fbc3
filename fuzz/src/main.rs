//! One target under libFuzzer, which brings `main` and its own arguments; see `scripts/fuzz.sh`.
//!
//! - `fuzzer --seeds=FOLDER` writes the seeds of every target to `FOLDER/<target>/` and ends;
//! - `fuzzer --target=NAME …` fuzzes that target.

#![no_main]

use std::path::Path;
use std::process::exit;
use std::sync::OnceLock;

use anyhow::Context as _;
use fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(init: start(), |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        target.run(data);
    }
});

fn start() {
    match choose() {
        Ok(Some(target)) => drop(TARGET.set(target)),
        Ok(None) => exit(0),
        Err(error) => {
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("fuzzer: {error:#}\n"));
            exit(2);
        }
    }
}

fn choose() -> anyhow::Result<Option<Target>> {
    let argument = |name: &str| std::env::args().find_map(|text| text.strip_prefix(name).map(str::to_owned));
    let mut targets = fuzz::targets()?;
    if let Some(folder) = argument("--seeds=") {
        targets.iter().try_for_each(|target| write(Path::new(&folder), target))?;
        return Ok(None);
    }
    let name = argument("--target=").context("expected --target=NAME or --seeds=FOLDER")?;
    let at = targets.iter().position(|target| target.name == name);
    Ok(Some(targets.swap_remove(at.with_context(|| format!("there is no target {name:?}"))?)))
}

fn write(folder: &Path, target: &Target) -> anyhow::Result<()> {
    let folder = folder.join(&target.name);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (number, seed) in target.seeds.iter().enumerate() {
        let file = folder.join(number.to_string());
        std::fs::write(&file, seed).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
