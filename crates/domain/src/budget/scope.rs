//! Whose spending is bounded.

use super::Spender;

/// Whose spending a budget bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    All,
    /// What goes to this provider.
    Provider(String),
    /// What this agent asks for.
    Agent(String),
    /// What is asked for with this virtual key.
    Key(String),
}

impl std::fmt::Display for Scope {
    /// As it stands in the configuration: `all`, `provider:openai`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Provider(name) => write!(f, "provider:{name}"),
            Self::Agent(name) => write!(f, "agent:{name}"),
            Self::Key(id) => write!(f, "key:{id}"),
        }
    }
}

impl Scope {
    pub(super) fn covers(&self, spender: &Spender) -> bool {
        match self {
            Self::Key(id) => spender.key == *id,
            _ => self.covers_call(&spender.provider, &spender.agent),
        }
    }

    /// Of its text form; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None => (text == "all").then_some(Self::All),
            Some(("provider", name)) => Some(Self::Provider(name.to_owned())),
            Some(("agent", name)) => Some(Self::Agent(name.to_owned())),
            Some(("key", id)) => Some(Self::Key(id.to_owned())),
            Some(_) => None,
        }
    }

    /// Whether it covers what `agent` asks of `provider`, whatever key it shows; empty = not known.
    #[must_use]
    pub fn covers_call(&self, provider: &str, agent: &str) -> bool {
        match self {
            Self::All => true,
            Self::Provider(name) => provider == name,
            Self::Agent(name) => agent == name,
            Self::Key(_) => false,
        }
    }
}
