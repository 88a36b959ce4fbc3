//! OpenAI's `reasoning_effort` in the words of each maker's models.
//!
//! - Claude from 4.6 decides itself how long to think (`adaptive`) and takes an effort; from 3.7 to 4.5 it takes a budget of
//!   tokens, at least 1,024 and below the bound of the answer.
//!   <https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.html>
//! - Nova 2 has `reasoningConfig`. <https://docs.aws.amazon.com/nova/latest/nova2-userguide/using-converse-api.html>
//! - gpt-oss has the field as it stands.

use domain::fault::Fault;
use serde_json::value::RawValue;

use super::{super::super::family::Family, start, unsupported};

/// Smallest budget that Claude accepts.
const BUDGET_MIN: u32 = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    ExtraHigh,
    Max,
}

/// The model's fields for an effort: names and JSON.
///
/// # Errors
/// `Unsupported`: no such effort, or the model has no such setting.
pub(super) fn effort(
    value: &RawValue,
    family: Family,
    max_tokens: Option<u32>,
) -> Result<Vec<(&'static str, String)>, Fault> {
    let refused = |expected: &str| {
        Err(unsupported("reasoning_effort", &format!("is {}, expected {expected}", start(value))))
    };
    let effort = match value.get() {
        "\"none\"" => Effort::None,
        "\"minimal\"" => Effort::Minimal,
        "\"low\"" => Effort::Low,
        "\"medium\"" => Effort::Medium,
        "\"high\"" => Effort::High,
        "\"xhigh\"" => Effort::ExtraHigh,
        "\"max\"" => Effort::Max,
        _ => return refused("none, minimal, low, medium, high, xhigh or max"),
    };
    let low_to_high = match effort {
        Effort::Minimal | Effort::Low => Some("low"),
        Effort::Medium => Some("medium"),
        Effort::High => Some("high"),
        Effort::None | Effort::ExtraHigh | Effort::Max => None,
    };
    match family {
        Family::Claude(major, minor) if (major, minor) >= (4, 6) => match (effort, low_to_high) {
            (_, Some(level)) => Ok(adaptive(level, (major, minor))),
            (Effort::Max, _) => Ok(adaptive("max", (major, minor))),
            (Effort::ExtraHigh, _) if (major, minor) >= (4, 7) => Ok(adaptive("xhigh", (major, minor))),
            (Effort::ExtraHigh, _) => refused("high or max: the model has nothing between them"),
            // up to 4.8 nothing is thought unless it is asked for
            _ if major == 4 => Ok(Vec::new()),
            _ => refused("an effort: the model cannot be kept from thinking"),
        },
        Family::Claude(major, minor) if (major, minor) >= (3, 7) => match effort {
            Effort::ExtraHigh | Effort::Max => refused("at most high: the model has no more"),
            effort => budget(effort, max_tokens),
        },
        Family::Nova2 => match (effort, low_to_high) {
            (Effort::None, _) => Ok(vec![("reasoningConfig", r#"{"type":"disabled"}"#.to_owned())]),
            (_, Some(level)) => {
                let config = format!(r#"{{"type":"enabled","maxReasoningEffort":"{level}"}}"#);
                Ok(vec![("reasoningConfig", config)])
            }
            _ => refused("at most high: the model has no more"),
        },
        Family::GptOss => match low_to_high {
            Some(level) => Ok(vec![("reasoning_effort", format!("\"{level}\""))]),
            None => refused("low, medium or high"),
        },
        _ if effort == Effort::None => Ok(Vec::new()),
        _ => refused("none: the model is not known to have such a setting"),
    }
}

/// From 4.7 on the thinking is shown only where that is asked for.
fn adaptive(level: &str, version: (u32, u32)) -> Vec<(&'static str, String)> {
    let shown = if version >= (4, 7) { r#","display":"summarized""# } else { "" };
    vec![
        ("thinking", format!(r#"{{"type":"adaptive"{shown}}}"#)),
        ("output_config", format!(r#"{{"effort":"{level}"}}"#)),
    ]
}

/// A share of what such an answer may have; half of the bound where that is less.
fn budget(effort: Effort, max_tokens: Option<u32>) -> Result<Vec<(&'static str, String)>, Fault> {
    let wanted = match effort {
        Effort::None => return Ok(Vec::new()),
        Effort::Minimal | Effort::Low => BUDGET_MIN,
        Effort::Medium => 4_096,
        Effort::High | Effort::ExtraHigh | Effort::Max => 16_384,
    };
    let budget = match max_tokens {
        Some(bound) if bound <= BUDGET_MIN => {
            let problem = format!("is {bound}, expected more than {BUDGET_MIN} where the model shall reason");
            return Err(unsupported("max_tokens", &problem));
        }
        Some(bound) if bound <= wanted => (bound / 2).max(BUDGET_MIN),
        _ => wanted,
    };
    Ok(vec![("thinking", format!(r#"{{"type":"enabled","budget_tokens":{budget}}}"#))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(effort: &str, family: Family, max_tokens: Option<u32>) -> Result<String, String> {
        let value = RawValue::from_string(format!("\"{effort}\"")).unwrap();
        let fields = super::effort(&value, family, max_tokens).map_err(|fault| fault.field)?;
        Ok(fields.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn an_effort_becomes_the_models_own_setting() {
        let cases = [
            (
                "high",
                Family::Claude(4, 6),
                None,
                r#"thinking={"type":"adaptive"} output_config={"effort":"high"}"#,
            ),
            (
                "xhigh",
                Family::Claude(5, 0),
                None,
                r#"thinking={"type":"adaptive","display":"summarized"} output_config={"effort":"xhigh"}"#,
            ),
            ("none", Family::Claude(4, 7), None, ""),
            ("medium", Family::Claude(4, 5), None, r#"thinking={"type":"enabled","budget_tokens":4096}"#),
            (
                "high",
                Family::Claude(3, 7),
                Some(4_096),
                r#"thinking={"type":"enabled","budget_tokens":2048}"#,
            ),
            ("low", Family::Claude(4, 0), Some(1_025), r#"thinking={"type":"enabled","budget_tokens":1024}"#),
            ("low", Family::Nova2, None, r#"reasoningConfig={"type":"enabled","maxReasoningEffort":"low"}"#),
            ("medium", Family::GptOss, None, r#"reasoning_effort="medium""#),
            ("none", Family::Other, None, ""),
        ];
        for (effort, family, max_tokens, expected) in cases {
            assert_eq!(fields(effort, family, max_tokens).as_deref(), Ok(expected), "{effort} {family:?}");
        }
    }

    #[test]
    fn an_effort_that_the_model_does_not_have_is_refused_by_name() {
        for (effort, family, max_tokens, field) in [
            ("high", Family::Claude(3, 5), None, "reasoning_effort"),
            ("none", Family::Claude(5, 0), None, "reasoning_effort"),
            ("xhigh", Family::Claude(4, 6), None, "reasoning_effort"),
            ("xhigh", Family::Claude(4, 5), None, "reasoning_effort"),
            ("max", Family::Nova2, None, "reasoning_effort"),
            ("none", Family::GptOss, None, "reasoning_effort"),
            ("low", Family::Other, None, "reasoning_effort"),
            ("lots", Family::Claude(4, 6), None, "reasoning_effort"),
            ("low", Family::Claude(4, 5), Some(1_024), "max_tokens"),
        ] {
            assert_eq!(fields(effort, family, max_tokens), Err(field.to_owned()), "{effort} {family:?}");
        }
    }
}
