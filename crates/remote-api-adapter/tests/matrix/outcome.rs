//! What a question came to, and the table of all.

use std::fmt;

use domain::fault::{Code, Fault};

/// What a question came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    /// It passes, but for something that the provider has no way to do or to tell.
    PassBut(String),
    /// Refused by name before the call.
    Refused(String),
    /// The provider has no such thing, and says nothing wrong.
    NotOffered(String),
    /// Anything else: a defect.
    Failed(String),
}

/// What a row expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Pass,
    /// The reason has this in it.
    PassBut(&'static str),
    /// The reason has this in it.
    Refused(&'static str),
    /// The reason has this in it.
    NotOffered(&'static str),
}

impl Expected {
    pub(crate) fn is(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Pass, Outcome::Pass) => true,
            (Self::PassBut(part), Outcome::PassBut(reason))
            | (Self::Refused(part), Outcome::Refused(reason))
            | (Self::NotOffered(part), Outcome::NotOffered(reason)) => reason.contains(part),
            _ => false,
        }
    }
}

impl Outcome {
    /// What a fault means where an answer was expected: a refusal by name is none of the far side's.
    pub(crate) fn of_fault(fault: &Fault) -> Self {
        if fault.code == Code::Unsupported && !fault.field.is_empty() && fault.retryable {
            Self::Refused(format!("{}: {}", fault.field, fault.message))
        } else {
            Self::Failed(format!("{fault:?}"))
        }
    }
}

/// The table, as Markdown, with the reasons below.
pub(crate) struct Table {
    lines: Vec<String>,
    reasons: Vec<String>,
}

impl Table {
    pub(crate) fn new<const N: usize>(columns: [&str; N]) -> Self {
        let lines =
            vec![format!("| provider | {} |", columns.join(" | ")), format!("|---{}|", "|---".repeat(N))];
        Self { lines, reasons: Vec::new() }
    }

    pub(crate) fn row<'a>(&mut self, name: &str, outcomes: impl Iterator<Item = &'a Outcome>) {
        let cells: Vec<String> = outcomes.map(|outcome| self.cell(outcome)).collect();
        self.lines.push(format!("| {name} | {} |", cells.join(" | ")));
    }

    fn cell(&mut self, outcome: &Outcome) -> String {
        let (word, reason) = match outcome {
            Outcome::Pass => return "pass".to_owned(),
            Outcome::PassBut(reason) => ("pass, but", reason),
            Outcome::Refused(reason) => ("refused", reason),
            Outcome::NotOffered(reason) => ("not offered", reason),
            Outcome::Failed(reason) => ("FAILED", reason),
        };
        let known = self.reasons.iter().position(|known| known == reason);
        let number = known.unwrap_or_else(|| {
            self.reasons.push(reason.clone());
            self.reasons.len() - 1
        });
        format!("{word} [{}]", number + 1)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.lines.join("\n"))?;
        for (index, reason) in self.reasons.iter().enumerate() {
            writeln!(f, "[{}] {reason}", index + 1)?;
        }
        Ok(())
    }
}
