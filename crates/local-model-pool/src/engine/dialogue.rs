//! What is said to a model and by it beside plain text: tools and calls of them, and reasoning.
//!
//! Models write calls and reasoning as text, each family in a form of its own. The chat template shows which ([`Abilities`]),
//! [`Syntax`] knows the forms, and [`Reader`] takes the answer apart again.

mod abilities;
mod reader;
mod syntax;

pub use abilities::Abilities;
pub(crate) use reader::{Part, Reader};
pub use syntax::Syntax;
pub(in crate::engine) use syntax::template_id;

/// One message of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'static str,
    /// What was said.
    pub content: String,
    /// What the assistant thought before; empty when unknown.
    pub reasoning: String,
    /// Calls that the assistant made.
    pub calls: Vec<ToolCall>,
    /// The call that a tool answers; empty for other roles.
    pub call_id: String,
    /// The tool that answers; empty where not said.
    pub name: String,
}

impl Message {
    /// A message of text only.
    #[must_use]
    pub fn text(role: &'static str, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), ..Self::default() }
    }
}

/// Something that the model may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Letters, digits, `-`, `_`.
    pub name: String,
    /// What it is good for.
    pub description: String,
    /// JSON Schema of the arguments; empty = none.
    pub parameters_json: String,
}

/// A call of a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// Ties the answer of the tool to the call.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON text.
    pub arguments_json: String,
}

/// Whether the model has to call a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// Tools that are offered with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// All of them; none = the model is not told of tools.
    pub offered: Vec<Tool>,
    /// Whether one must be called.
    pub choice: ToolChoice,
    /// Whether an answer may hold several calls.
    pub parallel: bool,
}

impl Default for Tools {
    fn default() -> Self {
        Self { offered: vec![], choice: ToolChoice::Auto, parallel: true }
    }
}

impl Tools {
    /// Those that may be called.
    pub(crate) fn callable(&self) -> impl Iterator<Item = &Tool> {
        self.offered.iter().filter(|tool| match &self.choice {
            ToolChoice::Named(name) => tool.name == *name,
            ToolChoice::Auto | ToolChoice::Required => true,
        })
    }

    /// Whether the answer must be a call.
    pub(crate) const fn required(&self) -> bool {
        !self.offered.is_empty() && matches!(self.choice, ToolChoice::Required | ToolChoice::Named(_))
    }
}
