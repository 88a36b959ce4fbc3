//! Decisions of the owner's documents, each with its source, on the shipped configuration.
//!
//! The cases are data (`decisions/*.toml`), one file for each document. `ask` is the request (200 tokens unless it says
//! otherwise), `world` what is unusual of the world in `world.rs`, `expect` what has to come of it. A case that expects nothing,
//! or a key that nobody reads, fails.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail as the tests do"
)]

#[path = "decisions/expect.rs"]
mod expect;
#[path = "decisions/world.rs"]
mod world;

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde::Deserialize;

use expect::Expect;
use world::{Ask, World};

/// Cases that have to be there (the owner's documents have more rules than this).
const CASES_MIN: usize = 150;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "case")]
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    source: String,
    ask: Ask,
    #[serde(default)]
    world: Vec<String>,
    expect: Expect,
}

fn cases() -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/decisions");
    ["s0", "s1", "s2", "s3", "s4"]
        .iter()
        .flat_map(|document| {
            let path = folder.join(document).with_extension("toml");
            let text = fs::read_to_string(&path).unwrap();
            toml::from_str::<File>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).cases
        })
        .collect()
}

#[test]
fn every_decision_of_the_owners_documents_is_made_as_they_say() {
    let cases = cases();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let mut wrong = Vec::new();
    for case in &cases {
        let mut world = World::of_the_owner();
        for change in &case.world {
            world.change(change);
        }
        let outcome = world.decide(&case.ask);
        for difference in case.expect.differences(&outcome, &world) {
            wrong.push(format!("{} ({}): {difference}", case.name, case.source));
        }
    }
    println!("{} decisions of the owner's documents, {} as they say", cases.len(), cases.len() - wrong.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
    assert!(cases.iter().all(|case| case.source.len() > 5), "a case without its source");
}
