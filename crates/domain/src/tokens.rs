//! Token counts without a tokenizer.
//!
//! English averages four characters a token over the byte-pair vocabularies in use (OpenAI's own rule of thumb); scripts
//! outside ASCII come closer to one and a half characters a token. Each message costs about four tokens of its own
//! (role and separators, as OpenAI's cookbook counts them). Good enough wherever the count is far from a threshold.

use crate::{
    inference::{Message, PartContent, Tool},
    units::Tokens,
};

const ASCII_BYTES_PER_TOKEN: u64 = 4;
const MESSAGE_OVERHEAD: u64 = 4;
/// A picture at low detail costs 85 tokens with OpenAI; the floor of what providers charge.
const IMAGE: u64 = 85;

/// Tokens of a text, rounded up.
#[must_use]
pub fn of_text(text: &str) -> Tokens {
    let mut counter = Counter::default();
    counter.add(text);
    counter.tokens()
}

/// Counts a text that comes in pieces, as [`of_text`] would count it whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    ascii: u64,
    other: u64,
}

impl Counter {
    /// The next piece.
    pub fn add(&mut self, piece: &str) {
        let ascii = piece.bytes().filter(u8::is_ascii).count() as u64;
        self.ascii += ascii;
        self.other += piece.len() as u64 - ascii;
    }

    /// Tokens so far, rounded up.
    #[must_use]
    pub const fn tokens(&self) -> Tokens {
        // A character outside ASCII has two to four bytes in UTF-8; counting two bytes a token comes to 1 to 1.5 a character.
        Tokens::new(self.ascii.div_ceil(ASCII_BYTES_PER_TOKEN) + self.other.div_ceil(2))
    }
}

/// Tokens of a conversation with its tools.
#[must_use]
pub fn of_conversation(messages: &[Message], tools: &[Tool]) -> Tokens {
    let said = messages.iter().map(|message| {
        let parts: Tokens = message
            .content
            .iter()
            .map(|part| match &part.content {
                PartContent::Text(text) => of_text(text),
                PartContent::ImageUrl { .. } => Tokens::new(IMAGE),
                PartContent::Json(json) => of_text(json),
            })
            .sum();
        let calls: Tokens =
            message.tool_calls.iter().map(|call| of_text(&call.name) + of_text(&call.arguments_json)).sum();
        parts + calls + Tokens::new(MESSAGE_OVERHEAD)
    });
    let offered = tools
        .iter()
        .map(|tool| of_text(&tool.name) + of_text(&tool.description) + of_text(&tool.parameters_json));
    said.chain(offered).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_ascii_bytes_are_a_token() {
        assert_eq!(of_text(""), Tokens::ZERO);
        assert_eq!(of_text("abcd"), Tokens::new(1));
        assert_eq!(of_text("abcde"), Tokens::new(2));
        assert_eq!(of_text(&"word ".repeat(5_000)), Tokens::new(6_250));
    }

    #[test]
    fn pieces_count_as_their_whole() {
        let text = "three pieces, 日本語 too";
        let mut counter = Counter::default();
        for piece in text.split_inclusive(' ') {
            counter.add(piece);
        }
        assert_eq!(counter.tokens(), of_text(text));
    }

    #[test]
    fn other_scripts_cost_more_a_character() {
        assert!(of_text("日本語の文章です") >= Tokens::new(8));
    }
}
