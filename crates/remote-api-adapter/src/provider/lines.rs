//! Newline-delimited JSON, read as it comes.
//!
//! Fed with bytes cut anywhere; gives each line that is not blank. Lines that lie whole in one read are not copied.

use memchr::memchr;

use super::sse::{EVENT_BYTES_MAX, TooLong};

/// The state between two reads.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The start of a line whose end has not come.
    held: Vec<u8>,
}

impl Lines {
    /// Takes the next bytes and calls `line` with each line that is complete.
    pub(crate) fn feed<E: From<TooLong>>(
        &mut self,
        mut bytes: &[u8],
        line: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = memchr(b'\n', bytes) {
            let (start, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.held.is_empty() {
                whole(start, line)?;
            } else {
                self.hold(start)?;
                let held = std::mem::take(&mut self.held);
                whole(&held, line)?;
                // the buffer serves the next cut line
                self.held = held;
                self.held.clear();
            }
        }
        self.hold(bytes).map_err(E::from)
    }

    /// The stream has ended: a last line may wait for its line break.
    pub(crate) fn finish<E: From<TooLong>>(
        &mut self,
        line: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        whole(&std::mem::take(&mut self.held), line)
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.held.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(TooLong);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }
}

fn whole<E>(text: &[u8], line: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let text = text.trim_ascii();
    if text.is_empty() { Ok(()) } else { line(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(reads: &[&[u8]]) -> Result<Vec<String>, TooLong> {
        let (mut parser, mut seen) = (Lines::default(), Vec::new());
        let mut line = |line: &[u8]| -> Result<(), TooLong> {
            seen.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        };
        for read in reads {
            parser.feed(read, &mut line)?;
        }
        parser.finish(&mut line)?;
        Ok(seen)
    }

    #[test]
    fn blank_lines_and_the_last_line_break_do_not_count() {
        assert_eq!(lines(&[b"a\r\n\n  \nb\nc"]).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn an_endless_line_is_refused_before_it_is_held() {
        let piece = vec![b'x'; 1024 * 1024];
        assert_eq!(lines(&[piece.as_slice(); 9]), Err(TooLong));
    }

    proptest::proptest! {
        #[test]
        fn where_the_reads_are_cut_changes_nothing(cuts in proptest::collection::vec(0usize..24, 0..8)) {
            let stream = "grüße\r\n\n日本\n{\"a\":1}".as_bytes();
            let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let reads: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            proptest::prop_assert_eq!(lines(&reads).unwrap(), ["grüße", "日本", "{\"a\":1}"]);
        }
    }
}
