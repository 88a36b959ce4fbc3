//! How much the model is to think: OpenAI's `reasoning_effort` in the terms of the model's generation, or the API's own
//! `thinking` as the caller wrote it.
//!
//! | effort | Claude 4.6 and later | before: tokens of thinking |
//! | --- | --- | --- |
//! | `none` | off, where it can be | off |
//! | `minimal`, `low` | `low` | 1,024, the least the API takes |
//! | `medium` | `medium` | 4,096 |
//! | `high` | `high` | 16,384 |
//! | `xhigh`, `max` | the same, where the model knows it | refused |

use domain::fault::Fault;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{model::Model, unsupported};
use crate::provider::json::{Object, Text};

/// The least thinking that the API takes, tokens.
const BUDGET_MIN: u32 = 1_024;

/// What is sent under `thinking`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Thinking<'a> {
    /// Nothing: the model's own default.
    Unsaid,
    /// Least, by this name.
    Least(&'static str),
    /// At most so many tokens.
    Budget(u32),
    /// As much as the model sees fit at this effort.
    Effort(&'static str),
    /// The caller's own, which switches it on or off.
    Own(&'a RawValue, bool),
}

#[derive(Deserialize)]
struct Own<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    budget_tokens: Option<u32>,
}

impl<'a> Thinking<'a> {
    /// `effort` and `own` as the caller gave them, `max_tokens` of thinking and answer together.
    ///
    /// # Errors
    /// `InvalidArgument`: both are given, or one makes no sense; `Unsupported`: the model cannot, or the answer has no room.
    pub(super) fn decide(
        model: Model,
        effort: Option<&str>,
        own: Option<&'a RawValue>,
        max_tokens: u32,
    ) -> Result<Self, Fault> {
        match (effort, own) {
            (None, None) => Ok(Self::Unsaid),
            (Some(_), Some(_)) => {
                let message = "reasoning_effort is given beside thinking, expected only one of them";
                Err(Fault::invalid("reasoning_effort", message))
            }
            (Some(effort), None) => Self::of_effort(model, effort, max_tokens),
            (None, Some(own)) => Self::of_own(own, max_tokens),
        }
    }

    fn of_effort(model: Model, effort: &str, max_tokens: u32) -> Result<Self, Fault> {
        let refused = |expected: &str| unsupported("reasoning_effort", &format!("{effort:?}"), expected);
        let level = match effort {
            "none" => {
                let least = model.least_thinking();
                return least
                    .map(Self::Least)
                    .ok_or_else(|| refused("low or more: this model always thinks"));
            }
            "minimal" | "low" => "low",
            "medium" => "medium",
            "high" => "high",
            "xhigh" => "xhigh",
            "max" => "max",
            _ => {
                let start: String = effort.chars().take(40).collect();
                let message = format!(
                    "reasoning_effort is {start:?}, expected none, minimal, low, medium, high, xhigh or max"
                );
                return Err(Fault::invalid("reasoning_effort", message));
            }
        };
        if !model.thinks_by_budget() {
            return if model.knows_effort(level) {
                Ok(Self::Effort(level))
            } else {
                Err(refused("an effort that this model knows"))
            };
        }
        let budget = match level {
            "low" => BUDGET_MIN,
            "medium" => 4_096,
            "high" => 16_384,
            _ => return Err(refused("at most high: this model knows no more")),
        };
        if budget >= max_tokens {
            let expected =
                format!("less effort or more max_tokens: it takes {budget} of {max_tokens} tokens");
            return Err(refused(&expected));
        }
        Ok(Self::Budget(budget))
    }

    fn of_own(own: &'a RawValue, max_tokens: u32) -> Result<Self, Fault> {
        let Ok(Own { kind, budget_tokens }) = serde_json::from_str::<Own<'_>>(own.get()) else {
            let message = "thinking is no object with a type, expected one as Anthropic's API describes it";
            return Err(Fault::invalid("thinking", message));
        };
        if let Some(budget) = budget_tokens.filter(|budget| !(BUDGET_MIN..max_tokens).contains(budget)) {
            let message = format!(
                "thinking.budget_tokens is {budget}, expected {BUDGET_MIN} or more and less than max_tokens, {max_tokens}"
            );
            return Err(Fault::invalid("thinking.budget_tokens", message));
        }
        Ok(Self::Own(own, !matches!(&*kind, "disabled" | "between_tools")))
    }

    /// Whether it was switched on, which the API does not combine with everything.
    pub(super) const fn is_on(self) -> bool {
        matches!(self, Self::Budget(_) | Self::Effort(_) | Self::Own(_, true))
    }

    /// The effort to write beside it.
    pub(super) const fn effort(self) -> Option<&'static str> {
        match self {
            Self::Effort(level) => Some(level),
            _ => None,
        }
    }

    pub(super) fn write(self, root: &mut Object<'_>) {
        let kind = match self {
            Self::Unsaid => return,
            Self::Own(own, _) => return root.raw("thinking", own.get()),
            Self::Least(kind) => kind,
            Self::Budget(_) => "enabled",
            Self::Effort(_) => "adaptive",
        };
        let mut object = Object::begin(root.nested("thinking"));
        object.text("type", kind);
        match self {
            Self::Budget(tokens) => object.value("budget_tokens", &tokens),
            // from 4.7 on the text is left out unless asked for
            Self::Effort(_) => object.text("display", "summarized"),
            Self::Unsaid | Self::Least(_) | Self::Own(..) => {}
        }
        object.end();
    }
}
