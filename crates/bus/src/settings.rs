//! The `[bus]` section of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How to reach the machine's own NATS server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address of the server, `nats://host:port`.
    pub url: String,
    /// First token of the product's subjects.
    pub prefix: String,
    /// Folder with the nkey seeds (`SU…`) to authenticate with, `<user>.seed`, where each process reads its own; none = no
    /// authentication, for a server that lets everybody in.
    pub credentials_dir: Option<PathBuf>,
    /// Other machines whose control keys and ledger this machine's JetStream takes over, by their JetStream domain.
    pub peers: Vec<String>,
    /// How long a call waits for its answer, milliseconds.
    pub request_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            prefix: "llm".to_owned(),
            credentials_dir: None,
            peers: Vec::new(),
            request_timeout_ms: 5_000,
        }
    }
}
