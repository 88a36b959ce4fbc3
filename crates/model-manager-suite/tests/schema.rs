//! The committed JSON Schemas are those of the structs that read the files, and the shipped files satisfy them.
//! `UPDATE_GENERATED=1 cargo test -p model-manager-suite --test schema` rewrites them.

use std::{collections::BTreeSet, fs, path::PathBuf};

use model_manager_suite::catalog::schema;
use serde_json::Value;

fn config() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

#[test]
fn the_committed_schemas_are_those_of_the_code() {
    for (name, made) in [("policies", schema::policies()), ("agents", schema::agents())] {
        let path = config().join("schema").join(name).with_extension("json");
        let fresh = format!("{}\n", serde_json::to_string_pretty(&made).unwrap());
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&path, &fresh).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == fresh, "{} is stale: run this test with UPDATE_GENERATED=1", path.display());
    }
}

/// The names that a schema allows for an object, following one reference.
fn properties<'a>(root: &'a Value, schema: &'a Value) -> BTreeSet<&'a str> {
    let target = schema.get("$ref").and_then(Value::as_str);
    let target = target.and_then(|path| root.pointer(path.trim_start_matches('#'))).unwrap_or(schema);
    target["properties"].as_object().map(|all| all.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn every_key_of_the_shipped_files_stands_in_its_schema() {
    for (name, made) in [("policies", schema::policies()), ("agents", schema::agents())] {
        let root = serde_json::to_value(&made).unwrap();
        let text = fs::read_to_string(config().join(name).with_extension("toml")).unwrap();
        let file: toml::Table = toml::from_str(&text).unwrap();
        let known = properties(&root, &root);
        for (key, value) in &file {
            assert!(known.contains(key.as_str()), "{name}.toml: {key}");
            let Some(rows) = value.as_array() else { continue };
            let items = properties(&root, &root["properties"][key]["items"]);
            assert!(!items.is_empty(), "{name}.toml: {key} has no schema of its rows");
            for row in rows.iter().filter_map(toml::Value::as_table) {
                assert!(row.keys().all(|field| items.contains(field.as_str())), "{name}.toml: {key}: {row}");
            }
        }
    }
}
