//! Whether an answer is good enough to hand on.
//!
//! Each [`Checker`] looks at one aspect and says how well the answer does, or that it has nothing to say of this one (syntax of
//! an answer without code). The [`Verdict`] is the weighted geometric mean of what applied: an aspect that fails wholly cannot
//! be made up for by the others, as it could with a sum. An answer below the threshold is not handed on while a stronger
//! candidate is left ([`stronger`]).
//!
//! What needs no library is checked here ([`Empty`], [`Refusal`], [`Truncation`], [`Repetition`]); grammars, schemas and
//! models are the service's to ask.

mod code;
mod escalation;
mod refusal;
mod repetition;
mod truncation;

use std::fmt;

use crate::{id::ModelName, inference::ToolCall};

pub use code::{Fence, fences, has_open_fence};
pub use escalation::stronger;
pub use refusal::Refusal;
pub use repetition::Repetition;
pub use truncation::Truncation;

/// From 0 (useless) to 1 (nothing wrong), in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score(u16);

impl Score {
    /// Nothing wrong.
    pub const FULL: Self = Self(1_000);
    /// Useless.
    pub const ZERO: Self = Self(0);

    /// So many thousandths, at most the whole.
    #[must_use]
    pub const fn permille(count: u32) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "at most 1,000")]
        let count = if count > 1_000 { 1_000 } else { count as u16 };
        Self(count)
    }

    /// A share from 0 to 1, rounded; outside of it the nearer end, and 0 for what is no number.
    #[must_use]
    pub fn share(value: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000")]
        let count = (value.clamp(0.0, 1.0) * 1_000.0).round() as u32;
        Self::permille(count)
    }

    /// The count of thousandths.
    #[must_use]
    pub const fn as_permille(self) -> u32 {
        self.0 as u32
    }

    /// From 0 to 1.
    #[must_use]
    pub fn as_share(self) -> f64 {
        f64::from(self.0) / 1_000.0
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.as_share())
    }
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// By itself, or at a stop text.
    Stop,
    /// At the bound on its length.
    Length,
    /// To have tools called.
    ToolCalls,
    /// The provider held it back.
    ContentFilter,
}

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// All its text.
    pub text: String,
    /// Tools it wants called.
    pub calls: Vec<ToolCall>,
    /// Why it ended.
    pub finish: Finish,
    /// The provider marked it as a refusal.
    pub refused: bool,
}

/// What a check needs to know of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// The last text of the user; of a translation the text.
    pub text: &'a str,
    /// JSON Schema that the answer has to satisfy; `Some("")` where any JSON object will do.
    pub schema_json: Option<&'a str>,
    /// The caller's own bound on the answer.
    pub is_bounded: bool,
    /// BCP 47 tag that the answer has to be in, where the request says so.
    pub language: Option<&'a str>,
}

/// What a check has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// How well the answer does, and what is wrong.
    Scored(Score, String),
    /// Nothing, and why.
    NotApplicable(String),
}

impl Finding {
    /// Nothing is wrong.
    #[must_use]
    pub const fn good() -> Self {
        Self::Scored(Score::FULL, String::new())
    }

    /// It fails wholly.
    #[must_use]
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::Scored(Score::ZERO, detail.into())
    }

    /// It has nothing to say.
    #[must_use]
    pub fn not_applicable(why: impl Into<String>) -> Self {
        Self::NotApplicable(why.into())
    }
}

/// Judges one aspect of an answer. Pure: the same question and answer get the same finding.
pub trait Checker {
    /// What it finds.
    fn check(&self, question: &Question<'_>, answer: &Answer) -> Finding;
}

/// An answer says something, or calls a tool.
#[derive(Debug, Clone, Copy)]
pub struct Empty;

impl Checker for Empty {
    fn check(&self, _: &Question<'_>, answer: &Answer) -> Finding {
        if answer.text.trim().is_empty() && answer.calls.is_empty() {
            return Finding::bad("the answer is empty");
        }
        Finding::good()
    }
}

/// Texts that have to be, or must not be, in an answer. Regular expressions are the service's to match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextRule {
    /// Each has to be there.
    pub contains: Vec<String>,
    /// None may be there.
    pub lacks: Vec<String>,
    /// Regular expressions that have to match somewhere.
    pub matches: Vec<String>,
    /// Regular expressions that must not match anywhere.
    pub avoids: Vec<String>,
}

/// What a check looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// [`Empty`].
    Empty,
    /// [`Refusal`].
    Refusal,
    /// [`Truncation`].
    Truncation,
    /// [`Repetition`].
    Repetition,
    /// Code parses.
    Syntax {
        /// Of code that does not say its own language; then a whole answer without fences is code, too.
        language: Option<String>,
    },
    /// JSON satisfies a schema.
    Schema {
        /// The schema; `None` = the request's own.
        schema_json: Option<String>,
    },
    /// It is in the right language.
    Language {
        /// BCP 47 tag; `None` = the question's.
        wanted: Option<String>,
    },
    /// Texts and patterns.
    Text(TextRule),
    /// Another model judges it.
    Critique {
        /// Who; `None` = the owner's usual one.
        model: Option<ModelName>,
    },
    /// Whoever listens on the bus judges it.
    Ask {
        /// Last token of the subject.
        name: String,
    },
}

impl CheckKind {
    /// The checks that every answer can be put to without settings and without a call.
    pub const DEFAULT: [Self; 6] = [
        Self::Empty,
        Self::Refusal,
        Self::Truncation,
        Self::Repetition,
        Self::Syntax { language: None },
        Self::Schema { schema_json: None },
    ];

    /// Names of checks that need no settings.
    pub const PLAIN: [&'static str; 8] =
        ["empty", "refusal", "truncation", "repetition", "syntax", "schema", "language", "critique"];

    /// A check without settings, by name.
    #[must_use]
    pub fn plain(name: &str) -> Option<Self> {
        Some(match name {
            "empty" => Self::Empty,
            "refusal" => Self::Refusal,
            "truncation" => Self::Truncation,
            "repetition" => Self::Repetition,
            "syntax" => Self::Syntax { language: None },
            "schema" => Self::Schema { schema_json: None },
            "language" => Self::Language { wanted: None },
            "critique" => Self::Critique { model: None },
            _ => return None,
        })
    }

    /// The name in configuration, reports and the ledger.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Refusal => "refusal",
            Self::Truncation => "truncation",
            Self::Repetition => "repetition",
            Self::Syntax { .. } => "syntax",
            Self::Schema { .. } => "schema",
            Self::Language { .. } => "language",
            Self::Text(_) => "text",
            Self::Critique { .. } => "critique",
            Self::Ask { .. } => "ask",
        }
    }
}

/// A check and how much it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it looks at.
    pub kind: CheckKind,
    /// 1 to [`Check::WEIGHT_MAX`].
    pub weight: u32,
}

impl Check {
    /// The most that one check may count.
    pub const WEIGHT_MAX: u32 = 100;

    /// One that counts once.
    #[must_use]
    pub const fn once(kind: CheckKind) -> Self {
        Self { kind, weight: 1 }
    }
}

/// What becomes of a request whose answers were all found wanting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhenFailed {
    /// The best is handed on, marked.
    Best,
    /// An error.
    Error,
}

/// How answers are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// At most [`Policy::CHECKS_MAX`].
    pub checks: Vec<Check>,
    /// Scores from here on pass.
    pub threshold: Score,
    /// Answers that are checked at most, the first included; 1 to [`Policy::ATTEMPTS_MAX`].
    pub attempts_max: u32,
    /// Who is asked next, in this order; empty = the stronger candidates of the decision.
    pub escalate: Vec<ModelName>,
    /// When none passes.
    pub when_failed: WhenFailed,
}

impl Policy {
    /// Checks of one answer.
    pub const CHECKS_MAX: usize = 32;
    /// Answers to one request.
    pub const ATTEMPTS_MAX: u32 = 8;
}

impl Default for Policy {
    /// `quality_threshold: 0.7` and `max_fallback_attempts=2` after the first, as the owner's document has them (S1, "Adjust
    /// Quality Threshold" and "Pattern 4").
    fn default() -> Self {
        Self {
            checks: CheckKind::DEFAULT.into_iter().map(Check::once).collect(),
            threshold: Score::permille(700),
            attempts_max: 3,
            escalate: Vec::new(),
            when_failed: WhenFailed::Best,
        }
    }
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its name; `ask:<name>` of the owner's own.
    pub name: String,
    /// How much it counts.
    pub weight: u32,
    /// What it found.
    pub finding: Finding,
}

/// What all checks came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Of those that had something to say; full where none had.
    pub score: Score,
    /// Not below the threshold.
    pub passed: bool,
    /// Each of them.
    pub checks: Vec<Checked>,
    /// Below this none passes.
    pub threshold: Score,
}

impl Verdict {
    /// Puts findings together: the weighted geometric mean, exp(Σ wᵢ ln sᵢ / Σ wᵢ).
    #[must_use]
    pub fn of(checks: Vec<Checked>, threshold: Score) -> Self {
        let (mut sum, mut weights) = (0.0_f64, 0.0_f64);
        for checked in &checks {
            if let Finding::Scored(score, _) = checked.finding {
                // the logarithm of 0 makes the mean 0
                sum += f64::from(checked.weight) * score.as_share().ln();
                weights += f64::from(checked.weight);
            }
        }
        let score = if weights > 0.0 { Score::share((sum / weights).exp()) } else { Score::FULL };
        Self { score, passed: score >= threshold, checks, threshold }
    }

    /// Names of the checks that found something below the threshold.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        let low = |checked: &&Checked| matches!(checked.finding, Finding::Scored(score, _) if score < self.threshold);
        self.checks.iter().filter(low).map(|checked| checked.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
