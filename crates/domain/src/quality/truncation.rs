//! Answers that stop in the middle.

use super::{Answer, Checker, Finding, Finish, Question, Score, has_open_fence};

/// Shorter answers are words and numbers rather than sentences.
const SENTENCE_CHARACTERS_MIN: usize = 60;
/// Prose that ends without a sign may be somebody's style.
const NO_END_SIGN: Score = Score::permille(600);

/// An answer that was cut off: by its bound on length, inside of a code block, or in the middle of a sentence.
#[derive(Debug, Clone, Copy)]
pub struct Truncation;

impl Checker for Truncation {
    fn check(&self, question: &Question<'_>, answer: &Answer) -> Finding {
        if answer.finish == Finish::Length {
            // another model would be cut off at the same place
            return if question.is_bounded {
                Finding::not_applicable("the caller's own bound ended the answer")
            } else {
                Finding::bad("the model ran out of tokens")
            };
        }
        if has_open_fence(&answer.text) {
            return Finding::bad("a code block is not closed");
        }
        if !answer.calls.is_empty() || question.schema_json.is_some() {
            return Finding::not_applicable("the answer is no prose");
        }
        let text = answer.text.trim_end();
        let Some(last) = text.lines().next_back().map(str::trim) else {
            return Finding::not_applicable("the answer is empty");
        };
        if last.ends_with([',', '-', '–', '(', '&', '+', '=', '/', '\\']) && text.contains(' ') {
            return Finding::bad("the answer ends in the middle of a sentence");
        }
        let is_sentence = last.chars().count() >= SENTENCE_CHARACTERS_MIN
            && last.contains(' ')
            && !last.starts_with(['-', '*', '#', '|', '`', '>'])
            && !last.starts_with(|c: char| c.is_ascii_digit());
        let ends = |c: char| !c.is_alphanumeric() && c != '\'';
        if is_sentence
            && !last.ends_with(ends)
            && !last.rsplit(' ').next().is_some_and(|word| word.contains("://"))
        {
            return Finding::Scored(NO_END_SIGN, "the last sentence has no end".to_owned());
        }
        Finding::good()
    }
}
