//! Both sides' medians and their ratios.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Sample;

/// At least so much of llama-server's tokens a second.
const TOKENS_LEAST: f64 = 0.95;
/// At most so much of its time to the first token.
const FIRST_TOKEN_MOST: f64 = 1.1;

/// One figure of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What it is, with its unit.
    pub name: String,
    /// Median of the engine.
    pub ours: f64,
    /// Median of llama-server.
    pub theirs: f64,
    /// The engine by llama-server.
    pub ratio: f64,
    /// What the ratio should be, in words.
    pub goal: String,
    /// Whether it is.
    pub holds: bool,
}

/// The comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// All figures.
    pub rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(ours: &[Sample], theirs: &[Sample]) -> Self {
        let row = |name: &str, figure: fn(&Sample) -> f64, (least, most): (f64, f64), goal: String| {
            let of = |samples: &[Sample]| median(samples.iter().map(figure).collect());
            let (ours, theirs) = (of(ours), of(theirs));
            let ratio = ours / theirs;
            let holds = (least..=most).contains(&ratio);
            Row { name: name.to_owned(), ours, theirs, ratio, goal, holds }
        };
        let tokens = ((TOKENS_LEAST, f64::INFINITY), format!("at least {TOKENS_LEAST}"));
        let first = ((0.0, FIRST_TOKEN_MOST), format!("at most {FIRST_TOKEN_MOST}"));
        Self {
            rows: vec![
                row("one request, tokens/s", |sample| sample.single_tokens_per_s, tokens.0, tokens.1.clone()),
                row("eight at once, tokens/s", |sample| sample.eight_tokens_per_s, tokens.0, tokens.1),
                row("first token, ms", |sample| sample.first_token.as_secs_f64() * 1e3, first.0, first.1),
            ],
        }
    }

    /// Whether every goal holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24} {:>10} {:>13} {:>6}", "", "engine", "llama-server", "ratio")?;
        for row in &self.rows {
            let verdict = if row.holds { "holds" } else { "MISSED" };
            writeln!(
                f,
                "{:<24} {:>10.1} {:>13.1} {:>6.2}  ({}: {verdict})",
                row.name, row.ours, row.theirs, row.ratio, row.goal
            )?;
        }
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len().is_multiple_of(2) {
        f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
    } else {
        at(middle)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ratios_are_of_medians_and_judged_by_their_goals() {
        let sample = |tokens: f64, milliseconds: u64| Sample {
            single_tokens_per_s: tokens,
            eight_tokens_per_s: tokens,
            first_token: Duration::from_millis(milliseconds),
        };
        let ours = [sample(96.0, 10), sample(1.0, 12), sample(97.0, 12)];
        let theirs = [sample(100.0, 10), sample(100.0, 10)];
        let report = Report::new(&ours, &theirs);
        let held: Vec<bool> = report.rows.iter().map(|row| row.holds).collect();
        assert_eq!(held, [true, true, false], "{report}");
        assert!((report.rows[0].ratio - 0.96).abs() < 1e-9 && !report.holds());
    }
}
