//! What embeddings do not tell apart.
//!
//! Vectors of "the capital of France" and "the capital of Spain", of "is it safe" and "is it not safe", of 41 and 42 are nearly
//! parallel: a high cosine alone would answer one question with the other's answer. So two questions are only compared when
//! their [`Landmarks`] are the same: numbers, names, quoted texts and identifiers in the same order, the same words that turn or
//! limit a meaning, and, unless the owner has it otherwise, the same words altogether but for those that carry none.

use std::collections::BTreeSet;

use super::Words;
use crate::inference::{Request, Role};

/// Longer questions are texts to work on, where one word makes the difference.
const QUESTION_BYTES_MAX: usize = 2_000;

/// Words that turn a meaning round, limit it, or say what kind of question it is; English and German.
const TURNING: &[&str] = &[
    "not",
    "no",
    "never",
    "none",
    "nobody",
    "nothing",
    "nor",
    "without",
    "neither",
    "cannot",
    "nicht",
    "kein",
    "keine",
    "keinen",
    "nie",
    "niemals",
    "ohne",
    "except",
    "only",
    "unless",
    "before",
    "after",
    "more",
    "less",
    "most",
    "least",
    "minimum",
    "maximum",
    "above",
    "below",
    "over",
    "under",
    "up",
    "down",
    "on",
    "off",
    "add",
    "remove",
    "start",
    "stop",
    "enable",
    "disable",
    "increase",
    "decrease",
    "allow",
    "deny",
    "open",
    "close",
    "true",
    "false",
    "first",
    "last",
    "old",
    "new",
    "yes",
    "today",
    "tomorrow",
    "yesterday",
    "or",
    "vor",
    "nach",
    "mehr",
    "weniger",
    "who",
    "whom",
    "whose",
    "when",
    "where",
    "why",
    "which",
    "how",
    "many",
    "much",
    "wer",
    "wen",
    "wem",
    "wann",
    "wo",
    "warum",
    "wie",
    "welche",
    "welcher",
    "welches",
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "twenty",
    "thirty",
    "hundred",
    "thousand",
    "million",
    "half",
    "double",
    "eins",
    "zwei",
    "drei",
    "vier",
    "zehn",
    "hundert",
];

/// Words that carry no meaning of their own in a question: articles, forms of *be* and *do*, pronouns, courtesies, openings.
const FILLING: &[&str] = &[
    "a",
    "an",
    "the",
    "is",
    "are",
    "was",
    "be",
    "am",
    "do",
    "does",
    "did",
    "of",
    "to",
    "in",
    "at",
    "for",
    "and",
    "that",
    "this",
    "it",
    "its",
    "i",
    "i'm",
    "i'd",
    "me",
    "my",
    "we",
    "us",
    "our",
    "you",
    "your",
    "please",
    "kindly",
    "thanks",
    "thank",
    "hi",
    "hello",
    "hey",
    "can",
    "could",
    "would",
    "will",
    "shall",
    "should",
    "may",
    "might",
    "what",
    "what's",
    "tell",
    "say",
    "know",
    "want",
    "like",
    "need",
    "give",
    "let",
    "there",
    "so",
    "now",
    "just",
    "really",
    "also",
    "ok",
    "okay",
    "der",
    "die",
    "das",
    "den",
    "dem",
    "des",
    "ein",
    "eine",
    "einen",
    "ist",
    "sind",
    "war",
    "bitte",
    "danke",
    "mir",
    "mich",
    "ich",
    "du",
    "sie",
    "wir",
    "uns",
    "was",
    "sag",
    "sage",
    "nenne",
    "kannst",
    "könntest",
    "können",
    "und",
    "zu",
    "für",
    "hallo",
];

/// The words of a question that have to be the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Landmarks {
    /// Numbers, names, quoted texts and identifiers, in order: "from 3 to 5" is not "from 5 to 3".
    ordered: Vec<String>,
    /// What turns or limits the meaning.
    turning: BTreeSet<String>,
    /// The stems of all words that carry meaning; empty with [`Words::Free`].
    words: BTreeSet<String>,
}

/// The question that may be compared by meaning: the last text of the user. `None` where the request is of another kind, is long,
/// carries pictures, or may call tools, whose results depend on when they are called.
#[must_use]
pub fn question(request: &Request) -> Option<String> {
    let Request::Generate(asked) = request else { return None };
    let last = asked.messages.iter().rev().find(|message| message.role == Role::User)?;
    let texts: Vec<&str> = last.text_parts().collect();
    let text = texts.join("\n");
    let plain = asked.tools.is_empty() && texts.len() == last.content.len();
    (plain && !text.trim().is_empty() && text.len() <= QUESTION_BYTES_MAX).then_some(text)
}

/// The landmarks of a question.
#[must_use]
pub fn landmarks(text: &str, words: Words) -> Landmarks {
    let mut found = Landmarks::default();
    found.ordered.extend(quoted(text).map(|inside| format!("\"{inside}\"")));
    for token in text.split_whitespace() {
        let word =
            token.trim_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '+' | '$' | '€' | '%'));
        let lower = word.to_lowercase().replace('’', "'");
        let (turns, fills) =
            (lower.ends_with("n't") || TURNING.contains(&lower.as_str()), FILLING.contains(&lower.as_str()));
        if !turns && !fills && stands_out(word) {
            found.ordered.push(stem(&lower));
        }
        if words == Words::Same && !turns && !fills && !lower.is_empty() {
            found.words.insert(stem(&lower));
        }
        if turns {
            found.turning.insert(lower);
        }
    }
    found
}

/// A number, a name, a path or an identifier.
fn stands_out(word: &str) -> bool {
    let marks = |c: char| {
        c.is_numeric() || matches!(c, '_' | '/' | '\\' | '=' | '<' | '>' | '@' | '%' | '$' | '€' | '-' | '+')
    };
    word.chars().any(marks) || word.chars().next().is_some_and(char::is_uppercase)
}

/// Without the usual endings, so that "sorting lists" is "sort list"; two words that become one by mistake still have to be
/// near each other by their vectors.
fn stem(lower: &str) -> String {
    let word = lower.strip_suffix("'s").unwrap_or(lower);
    let cut =
        |ending: &str, left: usize| word.strip_suffix(ending).filter(|rest| rest.chars().count() >= left);
    cut("ing", 4)
        .or_else(|| cut("ed", 4))
        .or_else(|| cut("s", 3).filter(|rest| !rest.ends_with('s')))
        .unwrap_or(word)
        .to_owned()
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let inside = |mark: char| text.split(mark).skip(1).step_by(2);
    inside('"').chain(inside('`'))
}
