//! Answers that decline to answer.

use super::{Answer, Checker, Finding, Finish, Question};

/// A refusal comes at the beginning: so many characters are looked at.
const OPENING_CHARACTERS: usize = 240;

/// How models decline, in lower case with straight apostrophes: English and German, the languages of the owner's documents and
/// of most callers; a provider's own mark counts in any language.
const PHRASES: [&str; 32] = [
    "i can't assist",
    "i can't help",
    "i can't provide",
    "i can't answer",
    "i can't do that",
    "i can't comply",
    "i cannot assist",
    "i cannot help",
    "i cannot provide",
    "i cannot answer",
    "i cannot do that",
    "i cannot comply",
    "i cannot fulfill",
    "i can't fulfill",
    "i'm not able to",
    "i am not able to",
    "i'm unable to",
    "i am unable to",
    "i won't be able to",
    "i must decline",
    "i have to decline",
    "as an ai language model, i",
    "as an ai, i can",
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "sorry, i can't",
    "ich kann dabei nicht helfen",
    "ich kann ihnen dabei nicht",
    "ich kann dir dabei nicht",
    "das kann ich nicht beantworten",
    "ich bin nicht in der lage",
    "es tut mir leid, aber ich kann",
];

/// An answer that declines: marked so by the provider, or opening with the usual words.
#[derive(Debug, Clone, Copy)]
pub struct Refusal;

impl Checker for Refusal {
    fn check(&self, _: &Question<'_>, answer: &Answer) -> Finding {
        if answer.refused {
            return Finding::bad("the provider marked the answer as a refusal");
        }
        if answer.finish == Finish::ContentFilter {
            return Finding::bad("the provider's content filter ended the answer");
        }
        let opening: String = answer.text.trim_start().chars().take(OPENING_CHARACTERS).collect();
        let opening = opening.to_lowercase().replace('’', "'");
        match PHRASES.iter().find(|phrase| opening.contains(*phrase)) {
            Some(phrase) => Finding::bad(format!("the answer opens with {phrase:?}")),
            None => Finding::good(),
        }
    }
}
