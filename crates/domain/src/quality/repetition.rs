//! Answers that go round in circles.
//!
//! The share of distinct four-word sequences is the usual measure of degenerate text (Welleck et al. 2019, "Neural text
//! generation with unlikelihood training", section 2: seq-rep-4 = 1 − distinct/all). Human text is near 0; a loop nears 1.

use std::collections::HashSet;

use super::{Answer, Checker, Finding, Question, Score};

/// Words of one sequence.
const WORDS: usize = 4;
/// Fewer words say nothing.
const WORDS_MIN: usize = 24;
/// So many times the same in a row is a loop, however short the text is.
const RUN_MAX: usize = 8;
/// Share of repeated sequences that is still fine: lists and code repeat themselves.
const FINE: f64 = 0.3;
/// Share from which the answer is useless.
const USELESS: f64 = 0.8;

/// An answer that repeats itself.
#[derive(Debug, Clone, Copy)]
pub struct Repetition;

impl Checker for Repetition {
    fn check(&self, _: &Question<'_>, answer: &Answer) -> Finding {
        let words: Vec<&str> = answer.text.split_whitespace().collect();
        if let Some(word) = loops(&words) {
            let start: String = word.chars().take(40).collect();
            return Finding::bad(format!("{start:?} comes more than {RUN_MAX} times in a row"));
        }
        if words.len() < WORDS_MIN {
            return Finding::not_applicable(format!("fewer than {WORDS_MIN} words"));
        }
        let distinct: HashSet<&[&str]> = words.windows(WORDS).collect();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 words")]
        let repeated = 1.0 - distinct.len() as f64 / (words.len() - WORDS + 1) as f64;
        if repeated <= FINE {
            return Finding::good();
        }
        let score = Score::share((USELESS - repeated) / (USELESS - FINE));
        Finding::Scored(score, format!("{:.0} % of its {WORDS}-word sequences come again", repeated * 100.0))
    }
}

/// A word that comes too often in a row. Rules of tables and borders are no words.
fn loops<'a>(words: &[&'a str]) -> Option<&'a str> {
    let is_word = |word: &str| word.chars().any(char::is_alphanumeric);
    words
        .windows(RUN_MAX + 1)
        .find(|run| run.iter().all(|word| Some(word) == run.first() && is_word(word)))
        .and_then(|run| run.first().copied())
}
