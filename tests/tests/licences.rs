//! Every dependency comes under a licence that `deny.toml` allows: the part of `cargo deny` that needs no network.

use std::fs;

use cargo_metadata::MetadataCommand;
use serde::Deserialize;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

/// As published: crates of before 2019 write `MIT/Apache-2.0`.
fn parse(licence: &str) -> Result<Expression, spdx::ParseError> {
    Expression::parse_mode(licence, ParseMode::LAX)
}

#[test]
fn every_dependency_has_a_licence_that_we_allow() -> anyhow::Result<()> {
    let root = e2e::workspace::root();
    let deny: Deny = toml::from_str(&fs::read_to_string(root.join("deny.toml"))?)?;
    let allowed =
        deny.licenses.allow.iter().map(|name| Licensee::parse(name)).collect::<Result<Vec<_>, _>>()?;
    let is_allowed = |required: &LicenseReq| allowed.iter().any(|licence| licence.satisfies(required));
    assert!(!parse("GPL-3.0-only")?.evaluate(is_allowed), "a licence nobody allowed passes");

    // For one platform, because only its packages have been fetched by the time a test runs.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .other_options(["--locked", "--offline", "--filter-platform", &platform].map(str::to_owned))
        .exec()?;
    assert!(metadata.packages.len() > metadata.workspace_members.len(), "no dependency is looked at");
    let refused: Vec<String> = metadata
        .packages
        .iter()
        .filter(|package| {
            let licence = package.license.as_deref().unwrap_or_default();
            !parse(licence).is_ok_and(|expression| expression.evaluate(is_allowed))
        })
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect();
    assert!(refused.is_empty(), "not allowed by deny.toml: {refused:#?}");
    Ok(())
}
