//! The committed messages are what `proto/` says. `UPDATE_GENERATED=1 cargo test -p proto` rewrites them.

use std::{error::Error, fs, path::Path};

const PROTOS: [&str; 11] = [
    "common",
    "decision",
    "inference",
    "control",
    "usage",
    "lease",
    "provider_jobs",
    "budget",
    "policy",
    "model",
    "key",
];

#[test]
fn the_committed_messages_are_generated_from_proto() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = root;
    let files: Vec<String> = PROTOS.iter().map(|name| format!("llm/v1/{name}.proto")).collect();
    let on_disk = fs::read_dir(proto.join("llm/v1"))?.count();
    assert_eq!(on_disk, PROTOS.len(), "a file in proto/llm/v1 is not compiled");

    // For languages that load messages at run time (examples/ask.py): everything but comments.
    let mut compiler = protox::Compiler::new([proto])?;
    compiler.include_imports(true).include_source_info(false).open_files(&files)?;
    let fresh = compiler.encode_file_descriptor_set();
    let committed = root.join("llm.v1.binpb");
    if update() {
        fs::write(&committed, &fresh)?;
    }
    assert!(
        fs::read(&committed).unwrap_or_default() == fresh,
        "proto/llm.v1.binpb is stale: run `make proto`"
    );

    let out = tempfile::tempdir()?;
    prost_build::Config::new().out_dir(out.path()).compile_fds(protox::compile(&files, [proto])?)?;
    let fresh = fs::read_to_string(out.path().join("llm.v1.rs"))?;

    let committed = root.join("../crates/wire/src/generated/llm.v1.rs");
    if update() {
        fs::write(&committed, &fresh)?;
    }
    assert!(
        fs::read_to_string(&committed).unwrap_or_default() == fresh,
        "crates/wire/src/generated/llm.v1.rs is stale: run `make proto`"
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a developer's switch for this test alone")]
fn update() -> bool {
    std::env::var("UPDATE_GENERATED").is_ok()
}
