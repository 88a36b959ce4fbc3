//! What the workspace has to keep: who may depend on whom, who may spell a subject, and how long a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use e2e::workspace;
use wire::subject::service;

/// Lines of a file that a person still wants to read as a whole.
const LINES_MAX: usize = 450;

fn metadata() -> anyhow::Result<Metadata> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    Ok(MetadataCommand::new()
        .manifest_path(workspace::root().join("Cargo.toml"))
        .other_options(["--locked", "--offline", "--filter-platform", &platform].map(str::to_owned))
        .exec()?)
}

/// What a package of ours needs to run (tests may need more).
fn needs(package: &Package) -> BTreeSet<&str> {
    let shipped = |kind| matches!(kind, DependencyKind::Normal | DependencyKind::Build);
    package
        .dependencies
        .iter()
        .filter(|dependency| shipped(dependency.kind))
        .map(|dependency| dependency.name.as_str())
        .collect()
}

fn ours(metadata: &Metadata) -> BTreeMap<&str, BTreeSet<&str>> {
    metadata.workspace_packages().into_iter().map(|package| (package.name.as_str(), needs(package))).collect()
}

#[test]
fn dependencies_point_from_services_to_the_core() -> anyhow::Result<()> {
    let metadata = metadata()?;
    let ours = ours(&metadata);
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("domain", &[][..]),
        ("wire", &["domain"]),
        ("bus", &["domain", "wire", "durable-log"]),
        ("durable-log", &[]),
        ("price-table", &["domain"]),
        ("service-runtime", &[]),
        ("proto", &[]),
        ("nvml-stub", &[]),
        ("e2e", &["domain", "wire"]),
        ("bench", &["e2e", "domain", "wire", "bus"]),
        // The decoders are inside the services.
        ("fuzz", &["wire", "domain", "remote-api-adapter"]),
    ]);
    let below_services: &[&str] = &["domain", "wire", "bus", "durable-log", "price-table", "service-runtime"];
    for (name, needs) in &ours {
        let is_service = service::ALL.contains(name) || *name == "hybridctl";
        let allowed = match allowed.get(name) {
            Some(allowed) => *allowed,
            None if is_service => below_services,
            None => panic!("{name} is new: say here what it may depend on"),
        };
        let taken: Vec<_> =
            needs.iter().filter(|need| ours.contains_key(*need) && !allowed.contains(need)).collect();
        assert!(taken.is_empty(), "{name} depends on {taken:?}, allowed is {allowed:?}");
    }
    for service in service::ALL {
        assert!(ours.contains_key(service), "{service} is no package of the workspace");
    }
    Ok(())
}

#[test]
fn the_domain_does_no_io() -> anyhow::Result<()> {
    // Derives of errors, and nothing that reads, writes, waits or looks at a clock.
    const PURE: [&str; 1] = ["thiserror"];
    let metadata = metadata()?;
    let ours = ours(&metadata);
    let others: Vec<_> = ours["domain"].iter().filter(|need| !PURE.contains(need)).collect();
    assert!(others.is_empty(), "domain depends on {others:?}");
    let forbidden =
        ["std::fs", "std::net", "std::process", "std::env", "SystemTime", "Instant::now", "println!"];
    for file in rust_files(&workspace::root().join("crates/domain/src"))? {
        let text = fs::read_to_string(&file)?;
        let found: Vec<_> = forbidden.iter().filter(|word| text.contains(**word)).collect();
        assert!(found.is_empty(), "{} speaks of {found:?}", file.display());
    }
    Ok(())
}

#[test]
fn what_is_hard_to_build_stays_in_one_place() -> anyhow::Result<()> {
    let metadata = metadata()?;
    let only = [
        ("llama-cpp-2", "local-model-pool"),
        ("llama-cpp-sys-2", "local-model-pool"),
        ("nvml-wrapper", "vram-optimizer"),
        ("nvml-wrapper-sys", "vram-optimizer"),
        ("rusqlite", "observability-hub"),
    ];
    for (name, needs) in ours(&metadata) {
        for (dependency, owner) in only {
            assert!(
                !needs.contains(dependency) || name == owner,
                "{name} depends on {dependency}, which is {owner}'s"
            );
        }
    }
    Ok(())
}

#[test]
fn subjects_are_spelled_in_one_crate() -> anyhow::Result<()> {
    let spelled = [
        ".v1.req",
        ".v1.agent",
        ".v1.exec",
        ".v1.cancel",
        ".v1.hb",
        ".v1.lease",
        ".v1.provider-job",
        "usage.v1",
        "\"ctl\"",
        "\"USAGE\"",
        ".route.snapshot",
    ];
    let root = workspace::root();
    let mut wrong = Vec::new();
    for file in rust_files(&root.join("crates"))? {
        if file.starts_with(root.join("crates/wire")) || is_test(&file) {
            continue;
        }
        for (number, line) in code(&fs::read_to_string(&file)?) {
            if let Some(word) = spelled.iter().find(|word| line.contains(**word)) {
                wrong.push(format!("{}:{number} spells {word}", file.strip_prefix(root)?.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "outside crates/wire: {wrong:#?}");
    Ok(())
}

#[test]
fn the_program_of_a_service_only_starts_it() -> anyhow::Result<()> {
    for service in service::ALL {
        let file = workspace::root().join(format!("crates/{service}/src/main.rs"));
        let lines = fs::read_to_string(&file)?.lines().count();
        assert!(lines <= 40, "{} has {lines} lines, at most 40 are wanted", file.display());
    }
    Ok(())
}

#[test]
fn files_are_short_enough_to_be_read() -> anyhow::Result<()> {
    let root = workspace::root();
    let mut long = Vec::new();
    for folder in ["crates", "proto", "tests", "bench"] {
        for file in rust_files(&root.join(folder))? {
            let lines = fs::read_to_string(&file)?.lines().count();
            if lines > LINES_MAX && !is_generated(&file) && !is_test(&file) {
                long.push(format!("{}: {lines}", file.strip_prefix(root)?.display()));
            }
        }
    }
    assert!(long.is_empty(), "more than {LINES_MAX} lines: {long:#?}");
    Ok(())
}

/// Lines of code with their numbers: no comments, and nothing from the unit tests at the end of a file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    (1..).zip(lines).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn is_generated(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "generated")
}

fn is_test(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "tests.rs")
        || file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches")
}

fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}
