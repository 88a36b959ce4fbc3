//! Configuration in four layers: defaults, one TOML file for all services of a machine, environment, flags.
//!
//! A service sees the sections that its settings have as fields, and `[node]` and `[telemetry]`, which are read here.
//! Sections of other services are skipped, so that one file serves all; a section or a key that nobody knows is an error
//! that names where it stands, because a misspelt key that is ignored is a default nobody chose.

mod error;
mod layer;
mod redact;
mod section;
mod source;

use figment::value::{Dict, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use error::ConfigError;
pub use section::{LogFormat, NodeSettings, TelemetrySettings};
pub(crate) use source::Sources;

use crate::execute::CONFIG_VARIABLE;
use crate::process::Node;
use error::Key;
use layer::Stack;
use redact::redact;

/// Sections that every service's file may have, beside those of the services.
const COMMON: [&str; 3] = ["node", "telemetry", "bus"];

/// A configuration that was read whole and found valid.
#[derive(Debug)]
pub(crate) struct Loaded<S> {
    node: NodeSettings,
    pub(crate) telemetry: TelemetrySettings,
    pub(crate) settings: S,
    merged: Dict,
}

/// The sections read by this crate.
#[derive(Default, Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Common {
    node: NodeSettings,
    telemetry: TelemetrySettings,
}

/// Puts the layers on top of each other and reads the result. `sections` are those of all services.
pub(crate) fn load<S>(sections: &[&str], sources: &Sources) -> Result<Loaded<S>, ConfigError>
where
    S: Serialize + DeserializeOwned + Default,
{
    let defaults = [as_dict(&Common::default())?, as_dict(&S::default())?].concat_dicts();
    let own: BTreeSet<String> = defaults.keys().cloned().collect();
    let known: BTreeSet<String> =
        own.iter().cloned().chain(COMMON.iter().chain(sections).map(|name| (*name).to_owned())).collect();
    let mut stack = Stack::new(defaults, sources.layers(&known)?);
    stack.keep_sections(&own);
    let common: Common = stack.read(&["node", "telemetry"])?;
    let names: Vec<&str> = own.iter().map(String::as_str).filter(|name| !is_read_here(name)).collect();
    let settings: S = stack.read(&names)?;
    common.node.validate().map_err(|problem| stack.blame(&Key::of("node", problem.key), problem.message))?;
    common
        .telemetry
        .validate()
        .map_err(|problem| stack.blame(&Key::of("telemetry", problem.key), problem.message))?;
    let merged = stack.merged();
    Ok(Loaded { node: common.node, telemetry: common.telemetry, settings, merged })
}

fn is_read_here(section: &str) -> bool {
    section == "node" || section == "telemetry"
}

fn as_dict<T: Serialize>(settings: &T) -> Result<Dict, ConfigError> {
    match Value::serialize(settings) {
        Ok(Value::Dict(_, dict)) => Ok(dict),
        Ok(_) => Err(ConfigError::Defaults {
            message: "settings are expected to be a struct of sections".to_owned(),
        }),
        Err(error) => Err(ConfigError::Defaults { message: error.to_string() }),
    }
}

/// Reads the same layers for a program that is not a service: the command line, a test. `S` has the sections that it
/// needs; those that do not deny unknown keys may be a part of what the services see.
///
/// # Errors
/// [`ConfigError`], as a service would fail to start with it.
pub fn read<S>(sections: &[&str], file: Option<&Path>, set: &[String]) -> Result<(Node, S), ConfigError>
where
    S: Serialize + DeserializeOwned + Default,
{
    let loaded = load::<S>(sections, &Sources::gather(file, set)?)?;
    Ok((loaded.node(), loaded.settings))
}

/// The file that the environment variable HYBRID_CONFIG names.
#[must_use]
pub fn file_in_environment() -> Option<PathBuf> {
    std::env::var_os(CONFIG_VARIABLE).filter(|file| !file.is_empty()).map(PathBuf::from)
}

trait ConcatDicts {
    fn concat_dicts(self) -> Dict;
}

impl ConcatDicts for [Dict; 2] {
    fn concat_dicts(self) -> Dict {
        self.into_iter().flatten().collect()
    }
}

impl<S> Loaded<S> {
    pub(crate) fn node(&self) -> Node {
        Node { machine: self.node.machine.clone(), data_dir: self.node.data_dir.clone() }
    }
}

impl<S: Serialize> Loaded<S> {
    /// All sections that this service reads, as TOML, with the values in force. Secrets show where they are kept;
    /// credentials inside addresses are taken out.
    pub(crate) fn dump(&self) -> Result<String, ConfigError> {
        let unwritable = |error: toml::ser::Error| ConfigError::Dump { message: error.to_string() };
        let mut table = toml::Table::new();
        table.insert("node".to_owned(), toml::Value::try_from(&self.node).map_err(unwritable)?);
        table.insert("telemetry".to_owned(), toml::Value::try_from(&self.telemetry).map_err(unwritable)?);
        table.extend(toml::Table::try_from(&self.settings).map_err(unwritable)?);
        let mut root = toml::Value::Table(table);
        redact(&mut root);
        toml::to_string(&root).map_err(unwritable)
    }

    /// Where the running service answers: `admin_listen` of its own section.
    pub(crate) fn admin_listen(&self, service: &str) -> Result<SocketAddr, ConfigError> {
        let key = Key::of(service, "admin_listen");
        let text = match self.merged.get(service).and_then(|section| section.find_ref("admin_listen")) {
            Some(Value::String(_, text)) => text,
            _ => return Err(ConfigError::NoAdmin { key: key.to_string() }),
        };
        text.parse().map_err(|_| ConfigError::NoAdmin { key: key.to_string() })
    }
}

#[cfg(test)]
mod tests;
