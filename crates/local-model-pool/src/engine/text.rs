//! From the bytes of tokens to the text that may be shown.
//!
//! Two things are held back: bytes that are the start of a character, since a token may end inside one, and characters that
//! may turn out to be the start of a stop text, which must never be shown. What is given out is never taken back.

/// Collects one answer.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    stops: Vec<String>,
    /// The start of a character.
    bytes: Vec<u8>,
    /// Whole characters that may belong to a stop text.
    held: String,
}

/// What a token added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Text to show, maybe none.
    Text(String),
    /// The last text to show: a stop text was met.
    Stopped(String),
}

impl Assembler {
    /// Stops at the first of these texts; empty ones are ignored.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, ..Self::default() }
    }

    /// Adds a token's bytes.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Step {
        self.bytes.extend_from_slice(piece);
        self.take_characters();
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(start) = found {
            self.held.truncate(start);
            return Step::Stopped(std::mem::take(&mut self.held));
        }
        let kept = self.possible_stop();
        let shown = self.held.len().saturating_sub(kept);
        let rest = self.held.split_off(shown);
        Step::Text(std::mem::replace(&mut self.held, rest))
    }

    /// What was held back, now that nothing follows. Half a character is dropped.
    pub(crate) fn finish(&mut self) -> String {
        self.bytes.clear();
        std::mem::take(&mut self.held)
    }

    /// Moves whole characters from `bytes` to `held`; bytes that can never become one turn into U+FFFD.
    fn take_characters(&mut self) {
        let mut rest = self.bytes.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.held.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.held.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(invalid) = error.error_len() else { break };
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    rest = rest.get(invalid..).unwrap_or_default();
                }
            }
        }
        self.bytes = rest.to_vec();
    }

    /// Length of the longest end of `held` that a stop text starts with.
    fn possible_stop(&self) -> usize {
        let starts = |stop: &String| {
            let longest = stop.len().saturating_sub(1).min(self.held.len());
            (1..=longest).rev().find(|length| {
                let start = stop.as_bytes().get(..*length).unwrap_or_default();
                self.held.as_bytes().ends_with(start)
            })
        };
        self.stops.iter().filter_map(starts).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything shown, and whether a stop text ended it.
    fn run(stops: &[&str], pieces: &[&[u8]]) -> (String, bool) {
        let mut assembler = Assembler::new(stops.iter().map(ToString::to_string).collect());
        let mut shown = String::new();
        for piece in pieces {
            match assembler.push(piece) {
                Step::Text(text) => shown += &text,
                Step::Stopped(text) => return (shown + &text, true),
            }
        }
        shown += &assembler.finish();
        (shown, false)
    }

    #[test]
    fn a_character_split_over_tokens_is_shown_whole() {
        let mut assembler = Assembler::new(vec![]);
        assert_eq!(assembler.push(&[0xf0, 0x9f]), Step::Text(String::new()));
        assert_eq!(assembler.push(&[0x98, 0x80, b'!']), Step::Text("😀!".to_owned()));
    }

    #[test]
    fn bytes_that_are_no_character_become_a_replacement() {
        assert_eq!(run(&[], &[&[b'a', 0xff, b'b']]), ("a\u{fffd}b".to_owned(), false));
        assert_eq!(run(&[], &[b"a", &[0xc3], b"b"]), ("a\u{fffd}b".to_owned(), false));
    }

    #[test]
    fn half_a_character_at_the_end_is_dropped() {
        assert_eq!(run(&[], &[b"ok", &[0xe2, 0x82]]), ("ok".to_owned(), false));
    }

    #[test]
    fn a_stop_text_over_several_tokens_is_never_shown() {
        assert_eq!(run(&["\n\nUser:"], &[b"yes\n", b"\nUs", b"er: no"]), ("yes".to_owned(), true));
    }

    #[test]
    fn what_only_looked_like_a_stop_text_is_shown() {
        assert_eq!(run(&["END"], &[b"the E", b"N", b"emy"]), ("the ENemy".to_owned(), false));
        assert_eq!(run(&["END"], &[b"almost EN"]), ("almost EN".to_owned(), false));
    }

    #[test]
    fn the_earliest_of_several_stop_texts_wins() {
        assert_eq!(run(&["three", "two"], &[b"one two three"]), ("one ".to_owned(), true));
    }

    #[test]
    fn a_stop_text_with_wide_characters_is_found() {
        assert_eq!(run(&["。终"], &["好。".as_bytes(), "终了".as_bytes()]), ("好".to_owned(), true));
    }

    proptest! {
        #[test]
        fn however_the_text_is_cut_the_same_is_shown(
            text in "[ab€]{0,30}", stop in "[ab€]{1,4}", cuts in prop::collection::vec(0usize..5, 0..60)
        ) {
            let mut pieces = vec![];
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let expected = text.find(&stop).map_or(text.as_str(), |start| &text[..start]);
            let (shown, stopped) = run(&[&stop], &pieces);
            prop_assert_eq!(shown, expected);
            prop_assert_eq!(stopped, text.contains(&stop));
        }
    }
}
