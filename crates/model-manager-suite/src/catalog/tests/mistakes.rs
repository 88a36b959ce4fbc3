//! A file with a mistake is refused, and the error says where and what.

use super::*;

const AGENTS: &str = "[[agent]]\nname = \"A\"\nclass = \"light\"\ntiers = [\"local-cpu\"]\n";

fn parse(agents: &str, policies: &str) -> Result<Catalog, CatalogError> {
    Catalog::parse(Path::new("agents.toml"), agents, Path::new("policies.toml"), policies)
}

/// The place, field and value of the error.
fn wrong(outcome: Result<Catalog, CatalogError>) -> (String, &'static str, String) {
    match outcome {
        Err(CatalogError::Value { row, field, value, .. }) => (row, field, value),
        other => panic!("expected a wrong value, got {other:?}"),
    }
}

#[test]
fn a_row_of_the_matrix_with_a_mistake_is_named() {
    let rows = |rows: &[&str]| rows.iter().map(|row| format!("[[agent]]\n{row}\n")).collect::<String>();
    let good = "name = \"A\"\nclass = \"light\"\ntiers = [\"local-cpu\"]";
    for (field, value, second) in [
        ("name", "\"a.b\"", "name = \"a.b\"\nclass = \"light\"\ntiers = [\"edge\"]"),
        ("name", "\"A\"", good),
        ("class", "\"huge\"", "name = \"B\"\nclass = \"huge\"\ntiers = [\"edge\"]"),
        ("tiers", "[]", "name = \"B\"\nclass = \"light\"\ntiers = []"),
        ("tiers", "\"moon\"", "name = \"B\"\nclass = \"light\"\ntiers = [\"edge\", \"moon\"]"),
        ("tiers", "\"edge\" twice", "name = \"B\"\nclass = \"light\"\ntiers = [\"edge\", \"edge\"]"),
        ("model", "\"g p t\"", "name = \"B\"\nclass = \"light\"\ntiers = [\"edge\"]\nmodel = \"g p t\""),
        (
            "replaced_by",
            "\"Nobody\"",
            "name = \"B\"\nclass = \"light\"\ntiers = [\"edge\"]\nreplaced_by = \"Nobody\"",
        ),
        ("replaced_by", "\"B\"", "name = \"B\"\nclass = \"light\"\ntiers = [\"edge\"]\nreplaced_by = \"B\""),
    ] {
        let (row, named, found) = wrong(parse(&rows(&[good, second]), ""));
        assert!(row.starts_with("agent 2"), "{field}: {row}");
        assert_eq!((named, found.as_str()), (field, value));
    }
    let long = format!("{good}\nnote = \"{}\"", "x".repeat(513));
    assert_eq!(wrong(parse(&rows(&[&long]), "")).1, "note");
    assert_eq!(wrong(parse("", "")).1, "agent");
}

#[test]
fn replacements_in_a_circle_are_refused_and_a_chain_is_not() {
    let chain = |last: &str| {
        let row = |name: &str, by: &str| {
            let by = if by.is_empty() { String::new() } else { format!("replaced_by = \"{by}\"\n") };
            format!("[[agent]]\nname = \"{name}\"\nclass = \"light\"\ntiers = [\"edge\"]\n{by}")
        };
        row("A", "B") + &row("B", "C") + &row("C", last)
    };
    assert_eq!(wrong(parse(&chain("A"), "")).1, "replaced_by");
    parse(&chain(""), "").unwrap();
}

#[test]
fn a_policy_with_a_mistake_is_named() {
    let alias = |name: &str, targets: &str| format!("[[alias]]\nname = \"{name}\"\ntargets = {targets}\n");
    for (row, field, text) in [
        ("[thresholds]", "heavy_tokens", "[thresholds]\nheavy_tokens = 0\n".to_owned()),
        ("[thresholds]", "expected_output_tokens", "[thresholds]\nexpected_output_tokens = 0\n".to_owned()),
        ("[tier_defaults]", "tier", "[tier_defaults]\nmoon = \"m\"\n".to_owned()),
        ("[tier_defaults]", "edge", "[tier_defaults]\nedge = \"m m\"\n".to_owned()),
        ("alias 1 (a b)", "name", alias("a b", "[\"m\"]")),
        ("alias 2 (a)", "name", alias("a", "[\"m\"]") + &alias("a", "[\"n\"]")),
        ("alias 1 (a)", "targets", alias("a", "[]")),
        ("alias 1 (a)", "targets", alias("a", "[\"m m\"]")),
        ("alias 1 (a)", "targets", alias("a", "[\"m\", \"m\"]")),
        ("alias 1 (a)", "targets", alias("a", "[\"b\"]") + &alias("b", "[\"m\"]")),
    ] {
        let (found_row, found, _) = wrong(parse(AGENTS, &text));
        assert_eq!((found_row.as_str(), found), (row, field), "{text}");
    }
}

#[test]
fn what_is_no_toml_or_has_unknown_keys_is_refused_with_its_place() {
    for agents in ["[[agent]", "[[agent]]\nname = \"A\"\nclas = \"light\"\n", "[[agent]]\nname = 7\n"] {
        let error = parse(agents, "").unwrap_err();
        assert!(matches!(&error, CatalogError::Syntax { .. }), "{error}");
        assert!(error.to_string().starts_with("agents.toml: "), "{error}");
    }
    let error = parse(AGENTS, "[thresholds]\nheavy = 1\n").unwrap_err().to_string();
    assert!(error.starts_with("policies.toml: ") && error.contains("heavy"), "{error}");
}

#[test]
fn an_error_names_file_row_field_value_and_expectation() {
    let agents = AGENTS.replace("light", "huge");
    assert_eq!(
        parse(&agents, "").unwrap_err().to_string(),
        "agents.toml: agent 1 (A): class is \"huge\", expected one of light, heavy, compute-heavy-local"
    );
}

#[test]
fn an_empty_policies_file_means_the_defaults() {
    let catalog = parse(AGENTS, "").unwrap();
    assert_eq!(catalog.thresholds, Thresholds::default());
    assert!(catalog.aliases.is_empty() && catalog.tier_defaults.is_empty());
}
