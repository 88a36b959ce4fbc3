//! Server-sent events, read as they come (WHATWG HTML, section 9.2.6).
//!
//! Fed with bytes cut anywhere; gives the data of each event. Lines that lie whole in one read are not copied. What may wait
//! for its rest is bounded by [`EVENT_BYTES_MAX`]. Two differences from the standard: a line ends with LF or CRLF, never with
//! CR alone (no provider sends that), and at the end of the stream a last event without its blank line still counts, since
//! several servers leave it out. Event names, ids and comments are skipped: the providers repeat in the data what matters.

mod reader;

use memchr::memchr;

pub(crate) use reader::{EventReader, Events};

/// Longest line and longest event. A picture in one event comes to a few megabytes.
pub(crate) const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A line or an event is longer than [`EVENT_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {EVENT_BYTES_MAX} bytes")]
pub(crate) struct TooLong;

/// The state between two reads.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    /// Data lines of an event whose blank line has not come.
    data: Vec<u8>,
    has_data: bool,
    started: bool,
}

impl Parser {
    /// Takes the next bytes and calls `event` with the data of each event that is complete.
    pub(crate) fn feed<E: From<TooLong>>(
        &mut self,
        mut bytes: &[u8],
        event: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                let skipped = self.line(line, bytes, event)?;
                bytes = bytes.get(skipped..).unwrap_or_default();
            } else {
                self.hold(line)?;
                let whole = std::mem::take(&mut self.line);
                let skipped = self.line(&whole, bytes, event)?;
                bytes = bytes.get(skipped..).unwrap_or_default();
                // the buffer serves the next cut line
                self.line = whole;
                self.line.clear();
            }
        }
        self.hold(bytes).map_err(E::from)
    }

    /// The stream has ended: a last line or event may wait for its line break.
    pub(crate) fn finish<E: From<TooLong>>(
        &mut self,
        event: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let last = std::mem::take(&mut self.line);
        if !last.is_empty() {
            self.line(&last, &[], event)?;
        }
        self.dispatch(event)
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// One line without its LF; `ahead` is what follows it in the same read. Returns how many bytes of `ahead` were used.
    fn line<E: From<TooLong>>(
        &mut self,
        line: &[u8],
        ahead: &[u8],
        event: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        if !self.started {
            self.started = true;
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(event)?;
            return Ok(0);
        }
        let Some(value) = line.strip_prefix(b"data") else { return Ok(0) };
        let value = match value.strip_prefix(b":") {
            Some(value) => value.strip_prefix(b" ").unwrap_or(value),
            None if value.is_empty() => value,
            // another field whose name begins alike
            None => return Ok(0),
        };
        if !self.has_data {
            // the common case: one data line and its blank line in the same read
            let blank = if ahead.starts_with(b"\n") { 1 } else { 2 };
            if blank == 1 || ahead.starts_with(b"\r\n") {
                event(value)?;
                return Ok(blank);
            }
        }
        if self.data.len() + value.len() >= EVENT_BYTES_MAX {
            return Err(TooLong.into());
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        self.has_data = true;
        Ok(0)
    }

    fn dispatch<E>(&mut self, event: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if !self.has_data {
            return Ok(());
        }
        self.has_data = false;
        let outcome = event(&self.data);
        self.data.clear();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(reads: &[&[u8]]) -> Result<Vec<String>, TooLong> {
        let (mut parser, mut seen) = (Parser::default(), Vec::new());
        let mut event = |data: &[u8]| -> Result<(), TooLong> {
            seen.push(String::from_utf8(data.to_vec()).unwrap());
            Ok(())
        };
        for read in reads {
            parser.feed(read, &mut event)?;
        }
        parser.finish(&mut event)?;
        Ok(seen)
    }

    #[test]
    fn only_data_counts() {
        let stream = b"\xef\xbb\xbfdata: one\n\n: comment\nevent: x\ndata: two\nid: 3\n\ndatabase: no\n\ndata:three\n\ndata\n\n";
        assert_eq!(events(&[stream]).unwrap(), ["one", "two", "three", ""]);
    }

    #[test]
    fn data_lines_of_one_event_are_joined() {
        assert_eq!(events(&[b"data: a\r\ndata: b\r\n\r\ndata: c\n\n"]).unwrap(), ["a\nb", "c"]);
    }

    #[test]
    fn a_last_event_needs_no_line_break() {
        assert_eq!(events(&[b"data: a\n\ndata: b"]).unwrap(), ["a", "b"]);
        assert_eq!(events(&[b"data: a\n\ndata: b\n"]).unwrap(), ["a", "b"]);
    }

    #[test]
    fn an_endless_line_is_refused_before_it_is_held() {
        let piece = vec![b'x'; 1024 * 1024];
        let (mut parser, mut fed) = (Parser::default(), 0);
        let refused = loop {
            match parser.feed(&piece, &mut |_: &[u8]| Ok::<(), TooLong>(())) {
                Ok(()) => fed += piece.len(),
                Err(TooLong) => break parser.line.capacity(),
            }
        };
        assert_eq!(fed, EVENT_BYTES_MAX);
        assert!(refused <= 2 * EVENT_BYTES_MAX, "{refused} bytes are held");
    }

    #[test]
    fn endless_data_lines_are_refused_too() {
        let line = [b"data: ".as_slice(), &vec![b'x'; 1024 * 1024], b"\n"].concat();
        let reads = vec![line.as_slice(); 9];
        assert_eq!(events(&reads), Err(TooLong));
    }

    proptest::proptest! {
        #[test]
        fn where_the_reads_are_cut_changes_nothing(
            cuts in proptest::collection::vec(0usize..90, 0..12),
        ) {
            let stream = "data: grüße\r\n\r\n: ping\ndata: 日本\ndata: two\n\nevent: z\ndata:x\n\n\ndata: [DONE]\r\n\r\n".as_bytes();
            let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let reads: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            proptest::prop_assert_eq!(events(&reads).unwrap(), ["grüße", "日本\ntwo", "x", "[DONE]"]);
        }
    }
}
