//! The children's lines in one log: `HH:MM:SS service | line`.
//!
//! A thread of its own writes, from a bounded queue: a terminal that is held up (Ctrl-S) or a slow pipe then costs lines,
//! which are counted, and never holds up a child. Below the log a board of lines can stand that is drawn anew each time.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use service_runtime::Clock;
use time::UtcOffset;

use super::OURSELVES;
use crate::output::{Output, Style};
use crate::table::printable;

/// Lines that may wait for the terminal.
const LINES_WAITING: usize = 8_192;
/// The board's lines are cut here: a line that wraps could not be drawn over.
const BOARD_WIDTH: usize = 79;

enum Entry {
    Line { time: u64, name: &'static str, text: String },
    Plain(String),
    Board(Vec<String>),
}

/// Takes lines; the clones are one.
#[derive(Clone)]
pub(super) struct Log {
    entries: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
    clock: Clock,
}

/// The thread that writes.
pub(super) struct Writer(JoinHandle<()>);

impl Writer {
    /// Waits until everything is written. All [`Log`]s must be gone.
    pub(super) fn finish(self) {
        let _ = self.0.join();
    }
}

impl Log {
    /// Starts the thread. `names` are those whose lines will come, in the order of their colours.
    pub(super) fn start(output: &Output, names: impl Iterator<Item = &'static str>) -> (Self, Writer) {
        let names: Vec<&'static str> = [OURSELVES, super::nats::NAME].into_iter().chain(names).collect();
        let layout = Layout::new(names, output.out, output.offset);
        let (entries, waiting) = sync_channel(LINES_WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let writer = std::thread::spawn(move || write(&layout, &waiting, &lost));
        (Self { entries, dropped, clock: Clock::system() }, Writer(writer))
    }

    /// A line of a child.
    pub(super) fn line(&self, name: &'static str, text: &str) {
        self.send(Entry::Line { time: self.clock.now_unix_ms(), name, text: text.to_owned() });
    }

    /// A line of our own.
    pub(super) fn say(&self, text: &str) {
        self.line(OURSELVES, text);
    }

    /// A line without anything before it.
    pub(super) fn plain(&self, text: &str) {
        self.send(Entry::Plain(text.to_owned()));
    }

    /// Puts other lines below the log; none takes the board away.
    pub(super) fn board(&self, lines: Vec<String>) {
        self.send(Entry::Board(lines));
    }

    fn send(&self, entry: Entry) {
        if self.entries.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Errors of writing are not reported: there is nobody left to tell.
fn write(layout: &Layout, waiting: &Receiver<Entry>, dropped: &AtomicU64) {
    let mut board: Vec<String> = Vec::new();
    let mut shown = 0;
    while let Ok(first) = waiting.recv() {
        let mut text = match shown {
            0 => String::new(),
            // up to the board's first line, and clear from there
            lines => format!("\x1b[{lines}A\x1b[J"),
        };
        // everything that waits is written in one go
        for entry in std::iter::once(first).chain(waiting.try_iter().take(LINES_WAITING)) {
            match entry {
                Entry::Board(lines) => board = lines,
                Entry::Plain(line) => text.push_str(&(line + "\n")),
                Entry::Line { time, name, text: line } => text.push_str(&layout.line(time, name, &line)),
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let note = format!("{lost} lines are left out: the terminal did not take them in time\n");
            text.push_str(&layout.style.yellow(&note));
        }
        for line in &board {
            text.push_str(&line.chars().take(BOARD_WIDTH).chain("\n".chars()).collect::<String>());
        }
        shown = board.len();
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// How a line looks.
struct Layout {
    names: Vec<&'static str>,
    width: usize,
    style: Style,
    offset: UtcOffset,
}

impl Layout {
    fn new(names: Vec<&'static str>, style: Style, offset: UtcOffset) -> Self {
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
        Self { names, width, style, offset }
    }

    fn line(&self, unix_ms: u64, name: &str, text: &str) -> String {
        let width = self.width;
        let name_text = format!("{name:<width$}");
        let name_text = match self.names.iter().position(|known| *known == name) {
            Some(0) | None => self.style.bold(&name_text),
            Some(index) => self.style.nth(index, &name_text),
        };
        let text = printable(text);
        let text = match text.split_whitespace().next() {
            Some("ERROR" | "[ERR]" | "[FTL]") => self.style.red(&text),
            Some("WARN" | "[WRN]") => self.style.yellow(&text),
            _ => text,
        };
        format!("{} {name_text} | {text}\n", self.style.dim(&time_of_day(unix_ms, self.offset)))
    }
}

/// `HH:MM:SS` in the operator's zone.
fn time_of_day(unix_ms: u64, offset: UtcOffset) -> String {
    let seconds = i64::try_from(unix_ms / 1_000).unwrap_or(0) + i64::from(offset.whole_seconds());
    let day = seconds.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", day / 3_600, day / 60 % 60, day % 60)
}

/// Takes off the time that a child has put before its line: an RFC 3339 one, or nats-server's `[pid] date time`.
pub(super) fn without_time(line: &str) -> &str {
    let starts_with_digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let after = |text: &'_ str, shape: fn(&str) -> bool| -> Option<usize> {
        let (token, rest) = text.split_once(' ')?;
        shape(token).then(|| text.len() - rest.len())
    };
    if let Some(at) = after(line, |token| token.ends_with('Z') && token.get(10..11) == Some("T")) {
        return line.get(at..).unwrap_or(line).trim_start();
    }
    let mut parts = line.splitn(4, ' ');
    if let (Some(pid), Some(date), Some(time), Some(rest)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
        && pid.starts_with('[')
        && starts_with_digit(date)
        && date.contains('/')
        && starts_with_digit(time)
        && time.contains(':')
    {
        return rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(style: Style) -> Layout {
        Layout::new(vec![OURSELVES, "local-model-pool"], style, UtcOffset::UTC)
    }

    #[test]
    fn prefixes_are_aligned_and_have_the_time_of_day() {
        let layout = layout(Style::PLAIN);
        assert_eq!(layout.line(3_661_000, OURSELVES, "hello"), "01:01:01 hybridctl        | hello\n");
        assert_eq!(
            layout.line(86_399_999, "local-model-pool", "hello"),
            "23:59:59 local-model-pool | hello\n"
        );
    }

    #[test]
    fn the_time_of_day_is_the_operators() {
        let offset = UtcOffset::from_hms(-3, -30, 0).unwrap();
        assert_eq!(time_of_day(0, offset), "20:30:00");
    }

    #[test]
    fn only_a_terminal_sees_colours_and_nothing_sees_a_childs_escape_sequences() {
        let line = layout(Style::PLAIN).line(0, "local-model-pool", "ERROR \x1b[2Jboom");
        assert!(!line.contains('\x1b'), "{line:?}");
        let line = layout(Style::COLOUR).line(0, "local-model-pool", "ERROR \x1b[2Jboom");
        assert!(line.contains("\x1b[31mERROR \u{fffd}[2Jboom\x1b[0m"), "{line:?}");
    }

    #[test]
    fn a_childs_own_time_is_taken_off() {
        for (line, rest) in [
            ("2026-01-02T03:04:05.678901Z  INFO bus: connected", "INFO bus: connected"),
            ("[7] 2026/01/02 03:04:05.678901 [INF] Server is ready", "[INF] Server is ready"),
            ("thread 'main' panicked at src/main.rs", "thread 'main' panicked at src/main.rs"),
            ("[7] not a time at all", "[7] not a time at all"),
            ("", ""),
        ] {
            assert_eq!(without_time(line), rest);
        }
    }
}
