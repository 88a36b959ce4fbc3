//! A suite of questions with checks of their answers, and what a model made of them. Pure: who asks is [`super::evaluate`].

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

/// Cases of a suite.
const CASES_MAX: usize = 1_000;
/// Part that has to pass where neither suite nor command line says, percent.
const THRESHOLD_PERCENT: u32 = 80;

/// A suite, as it stands in a TOML file; a JSONL file holds one case a line.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSuite {
    #[serde(default = "threshold_default")]
    threshold_percent: u32,
    case: Vec<RawCase>,
}

const fn threshold_default() -> u32 {
    THRESHOLD_PERCENT
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    #[serde(default)]
    system: Option<String>,
    prompt: String,
    #[serde(default)]
    max_tokens: Option<u32>,
    checks: Vec<RawCheck>,
}

/// One check of an answer, named by its key.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawCheck {
    /// This text is in the answer, in any case of letters.
    Contains(String),
    /// This text is not in the answer, in any case of letters.
    NotContains(String),
    /// This is the answer, white space around it aside.
    Exact(String),
    /// The expression matches somewhere in the answer.
    Regex(String),
    /// The answer is JSON, and at these pointers (RFC 6901) it has these values.
    Json(BTreeMap<String, Value>),
}

/// A suite that was read.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) threshold_percent: u32,
    pub(super) cases: Vec<Case>,
}

/// One question.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) system: Option<String>,
    pub(super) prompt: String,
    pub(super) max_tokens: Option<u32>,
    checks: Vec<Check>,
}

#[derive(Debug)]
enum Check {
    Contains(String),
    NotContains(String),
    Exact(String),
    Regex(Regex),
    Json(BTreeMap<String, Value>),
}

impl Suite {
    /// Reads a `.toml` or `.jsonl` file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines = path.extension().is_some_and(|extension| extension == "jsonl");
        Self::parse(&text, lines).with_context(|| format!("{} is no suite", path.display()))
    }

    fn parse(text: &str, lines: bool) -> anyhow::Result<Self> {
        let raw = if lines {
            let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let case = numbered.map(|(index, line)| {
                serde_json::from_str(line).with_context(|| format!("line {}", index + 1))
            });
            RawSuite { threshold_percent: THRESHOLD_PERCENT, case: case.collect::<anyhow::Result<_>>()? }
        } else {
            toml::from_str(text)?
        };
        ensure!(
            raw.threshold_percent <= 100,
            "threshold_percent is {}, expected 0 to 100",
            raw.threshold_percent
        );
        ensure!(
            (1..=CASES_MAX).contains(&raw.case.len()),
            "there are {} cases, expected 1 to {CASES_MAX}",
            raw.case.len()
        );
        let cases = raw.case.into_iter().map(Case::new).collect::<anyhow::Result<_>>()?;
        Ok(Self { threshold_percent: raw.threshold_percent, cases })
    }
}

impl Case {
    fn new(raw: RawCase) -> anyhow::Result<Self> {
        let RawCase { name, system, prompt, max_tokens, checks } = raw;
        if prompt.trim().is_empty() || checks.is_empty() {
            bail!("case {name:?} has no prompt or no checks, expected both");
        }
        let checks = checks.into_iter().map(Check::new).collect::<anyhow::Result<_>>();
        let checks = checks.with_context(|| format!("case {name:?}"))?;
        Ok(Self { name, system, prompt, max_tokens, checks })
    }

    /// The first check that the answer fails, in words; `None` = it passes.
    pub(super) fn fails(&self, answer: &str) -> Option<String> {
        self.checks.iter().find_map(|check| check.fails(answer))
    }
}

impl Check {
    fn new(raw: RawCheck) -> anyhow::Result<Self> {
        Ok(match raw {
            RawCheck::Contains(text) => Self::Contains(text.to_lowercase()),
            RawCheck::NotContains(text) => Self::NotContains(text.to_lowercase()),
            RawCheck::Exact(text) => Self::Exact(text.trim().to_owned()),
            RawCheck::Regex(text) => Self::Regex(Regex::new(&text)?),
            RawCheck::Json(values) => Self::Json(values),
        })
    }

    fn fails(&self, answer: &str) -> Option<String> {
        match self {
            Self::Contains(text) => {
                (!answer.to_lowercase().contains(text)).then(|| format!("does not contain {text:?}"))
            }
            Self::NotContains(text) => {
                answer.to_lowercase().contains(text).then(|| format!("contains {text:?}"))
            }
            Self::Exact(text) => (answer.trim() != text).then(|| format!("is not {text:?}")),
            Self::Regex(regex) => {
                (!regex.is_match(answer)).then(|| format!("does not match {:?}", regex.as_str()))
            }
            Self::Json(values) => json_fails(values, answer),
        }
    }
}

fn json_fails(values: &BTreeMap<String, Value>, answer: &str) -> Option<String> {
    let Ok(json) = serde_json::from_str::<Value>(answer.trim()) else {
        return Some("is no JSON".to_owned());
    };
    values.iter().find_map(|(pointer, expected)| {
        let found = json.pointer(pointer);
        (found != Some(expected))
            .then(|| format!("has {} at {pointer:?}, not {expected}", found.unwrap_or(&Value::Null)))
    })
}

/// Whether so many of all are at least the threshold.
pub(super) fn passes(passed: usize, all: usize, threshold_percent: u32) -> bool {
    passed.saturating_mul(100) >= all.saturating_mul(threshold_percent as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(checks: &str) -> Case {
        let text = format!("[[case]]\nname = \"c\"\nprompt = \"p\"\nchecks = [{checks}]");
        Suite::parse(&text, false).unwrap().cases.pop().unwrap()
    }

    #[test]
    fn each_check_passes_and_fails_as_it_says() {
        let cases = [
            ("{ contains = \"Four\" }", "It is four.", "It is five."),
            ("{ not_contains = \"sorry\" }", "4", "I am Sorry"),
            ("{ exact = \"4\" }", " 4\n", "4."),
            ("{ regex = '^\\d+$' }", "42", "42 of them"),
            ("{ json = { \"/a/0\" = 1 } }", "{\"a\": [1]}", "{\"a\": [2]}"),
            ("{ json = {} }", "[]", "a list"),
        ];
        for (check, good, bad) in cases {
            let case = one(check);
            assert_eq!(case.fails(good), None, "{check} on {good:?}");
            assert!(case.fails(bad).is_some(), "{check} on {bad:?}");
        }
    }

    #[test]
    fn a_suite_of_lines_says_which_line_is_wrong() {
        let good = r#"{"name": "a", "prompt": "p", "checks": [{"contains": "x"}]}"#;
        assert_eq!(Suite::parse(&format!("{good}\n\n{good}\n"), true).unwrap().cases.len(), 2);
        let error = Suite::parse(&format!("{good}\n{{}}\n"), true).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error:#}");
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for text in [
            "case = []",
            "[[case]]\nname = \"c\"\nprompt = \"\"\nchecks = [{ contains = \"x\" }]",
            "[[case]]\nname = \"c\"\nprompt = \"p\"\nchecks = []",
            "[[case]]\nname = \"c\"\nprompt = \"p\"\nchecks = [{ regex = \"(\" }]",
            "[[case]]\nname = \"c\"\nprompt = \"p\"\nchecks = [{ nothing = \"x\" }]",
            "threshold_percent = 101\n[[case]]\nname = \"c\"\nprompt = \"p\"\nchecks = [{ contains = \"x\" }]",
        ] {
            assert!(Suite::parse(text, false).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn the_threshold_is_the_least_that_passes() {
        assert!(passes(8, 10, 80) && !passes(7, 10, 80));
        assert!(passes(0, 10, 0) && passes(10, 10, 100) && !passes(9, 10, 100));
    }

    #[test]
    fn the_shipped_suite_is_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/evaluations/demo.toml");
        assert!(Suite::read(&path).unwrap().cases.len() >= 8);
    }
}
