//! Which system a command talks to.

use std::path::PathBuf;

/// Read when no flag and no variable names a file and it is there.
pub(crate) const CONFIG_FILE: &str = "config/hybrid.toml";

/// The configuration file: the flag's, HYBRID_CONFIG's, the repository's if it is there.
pub(crate) fn config_file(flag: Option<&PathBuf>) -> Option<PathBuf> {
    flag.cloned()
        .or_else(service_runtime::config::file_in_environment)
        .or_else(|| Some(PathBuf::from(CONFIG_FILE)).filter(|file| file.is_file()))
}
