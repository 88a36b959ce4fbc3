//! The flags that every service has.

use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches};

use crate::config;

/// Names the configuration file when no flag does.
pub(crate) const CONFIG_VARIABLE: &str = "HYBRID_CONFIG";

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Configuration file (TOML); without it the environment variable HYBRID_CONFIG names one, else there is none
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Set one key, above the file and the environment; the value is TOML, or else taken as a string; repeatable
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,

    /// Write the configuration this service would run with, defaults filled in, and exit
    #[arg(long, conflicts_with = "health_check")]
    pub(crate) dump_config: bool,

    /// Ask the running service whether it is ready, and exit with 0 or 1
    #[arg(long)]
    pub(crate) health_check: bool,
}

impl Flags {
    /// Reads the command line. `--help`, `--version` and mistakes end the process here, with clap's own words.
    pub(crate) fn from_command_line(service: &'static str) -> Self {
        let command = Self::augment_args(Command::new(service).version(crate::VERSION));
        let mut flags = Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
        if flags.config.is_none() {
            flags.config = config::file_in_environment();
        }
        flags
    }
}
