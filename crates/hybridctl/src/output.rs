//! Where words go: answers to stdout, everything about them to stderr; colours only where a person looks.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use time::UtcOffset;

/// Stdout and stderr, and what they can show. A reader that is gone is no error: there is nobody left to tell.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// Colours on stdout.
    pub(crate) out: Style,
    /// Colours on stderr.
    pub(crate) err: Style,
    /// Whether a person looks at stdout.
    pub(crate) out_is_terminal: bool,
    /// Whether a person looks at stderr.
    pub(crate) err_is_terminal: bool,
    /// Of the operator's zone.
    pub(crate) offset: UtcOffset,
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colour: false };
    #[cfg(test)]
    pub(crate) const COLOUR: Self = Self { colour: true };

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// One of a few colours that are told apart on dark and light grounds.
    pub(crate) fn nth(self, index: usize, text: &str) -> String {
        const COLOURS: [&str; 6] = ["36", "35", "34", "32", "33", "96"];
        self.paint(COLOURS.get(index % COLOURS.len()).copied().unwrap_or("0"), text)
    }
}

impl Output {
    /// `NO_COLOR` is heeded (<https://no-color.org>): set to anything, it means no colours.
    pub(crate) fn detect(offset: UtcOffset) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let out_is_terminal = std::io::stdout().is_terminal();
        let err_is_terminal = std::io::stderr().is_terminal();
        Self {
            out: Style { colour: out_is_terminal && !plain },
            err: Style { colour: err_is_terminal && !plain },
            out_is_terminal,
            err_is_terminal,
            offset,
        }
    }

    /// A line of the answer.
    pub(crate) fn line(&self, text: &str) {
        let _ = self.write(&format!("{text}\n"));
    }

    /// A piece of the answer, shown at once. False when nobody reads any more.
    pub(crate) fn write(&self, text: &str) -> bool {
        self.bytes(text.as_bytes())
    }

    /// [`Self::write`] for what is no text of ours.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> bool {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).is_ok()
    }

    /// The answer for a program.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(&serde_json::to_string_pretty(value)?);
        Ok(())
    }

    /// A line about the answer.
    pub(crate) fn note(&self, text: &str) {
        self.note_piece(&format!("{text}\n"));
    }

    /// A piece of a line about the answer.
    pub(crate) fn note_piece(&self, text: &str) {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Why there is no answer.
    pub(crate) fn error(&self, text: &str) {
        self.note(&format!("{} {text}", self.err.red("error:")));
    }
}
