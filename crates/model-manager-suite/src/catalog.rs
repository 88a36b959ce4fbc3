//! What the owner decided: the agent matrix, aliases, tier defaults, thresholds, budgets, modes and rules, from `config/agents.toml` and
//! `config/policies.toml`.
//!
//! Both files are checked whole; what is wrong is reported with file, row, field, value and expectation, and nothing of a wrong
//! file is used.

mod agents;
mod budgets;
mod error;
mod policies;
mod routing;
mod rules;
pub mod schema;
#[cfg(test)]
mod tests;

use std::path::Path;

use domain::{
    classification::Thresholds,
    id::ModelName,
    routing::{AgentPlacement, Alias, Policy, Tier},
};

pub use budgets::SharedBudget;
pub use error::CatalogError;

/// The two files, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// In the order of the file.
    pub agents: Vec<AgentPlacement>,
    /// In the order of the file.
    pub aliases: Vec<Alias>,
    /// In the order of [`Tier::ALL`].
    pub tier_defaults: Vec<(Tier, ModelName)>,
    /// Of rule R1.
    pub thresholds: Thresholds,
    /// In the order of the file.
    pub budgets: Vec<SharedBudget>,
    /// Modes, rules, models.
    pub policy: Policy,
}

impl Catalog {
    /// Reads and checks both files.
    ///
    /// # Errors
    /// [`CatalogError`] for the first mistake found.
    pub async fn load(agents: &Path, policies: &Path) -> Result<Self, CatalogError> {
        let (agents_text, policies_text) = tokio::join!(read(agents), read(policies));
        Self::parse(agents, &agents_text?, policies, &policies_text?)
    }

    /// Checks the texts of both files; the paths stand in the errors.
    ///
    /// # Errors
    /// [`CatalogError`] for the first mistake found.
    pub fn parse(
        agents: &Path,
        agents_text: &str,
        policies: &Path,
        policies_text: &str,
    ) -> Result<Self, CatalogError> {
        let agents = agents::parse(agents, agents_text)?;
        let policies::Policies { thresholds, aliases, tier_defaults, budgets, policy } =
            policies::parse(policies, policies_text)?;
        Ok(Self { agents, aliases, tier_defaults, thresholds, budgets, policy })
    }
}

async fn read(path: &Path) -> Result<String, CatalogError> {
    let unreadable = |source| CatalogError::Read { file: path.to_owned(), source };
    tokio::fs::read_to_string(path).await.map_err(unreadable)
}
