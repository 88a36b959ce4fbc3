//! JSON Schemas of the owner's two files, for editors and for `hybridctl schema`. Made from the structs that read the files;
//! committed under `config/schema`, where a test compares them.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};

use super::{agents, policies};

/// `config/schema/agents.json`.
#[must_use]
pub fn agents() -> Schema {
    of::<agents::RawFile>("config/agents.toml")
}

/// `config/schema/policies.json`.
#[must_use]
pub fn policies() -> Schema {
    of::<policies::RawFile>("config/policies.toml")
}

fn of<T: JsonSchema>(title: &str) -> Schema {
    let mut schema = SchemaGenerator::new(SchemaSettings::draft2020_12()).into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schema
}
