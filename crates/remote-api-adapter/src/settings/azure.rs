//! What only Azure needs to know.

use serde::{Deserialize, Serialize};

/// What only Azure needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AzureSettings {
    /// Absent or `v1`: the v1 API; `preview` or `latest`: its previews; a date such as `2024-10-21`: the dated API, whose
    /// addresses name the deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// How `api_key` is shown.
    pub auth: AzureAuth,
}

/// How a key is shown to Azure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AzureAuth {
    /// The resource's key, in the header `api-key`.
    #[default]
    Key,
    /// A token of Microsoft Entra ID, in the header `authorization`. Something else has to renew the file it is read from.
    Bearer,
}
