//! A chat that comes in lines.
//!
//! Pure: bytes in, pieces out. An answer is whole only once a line said `"done": true`.

use domain::fault::{Code, Fault, Origin};
use wire::v1;

use super::decode::Tally;
use crate::provider::{Completion, Reader, exchange::cut, lines::Lines, sse::TooLong};

/// Reads one answer.
#[derive(Debug)]
pub(super) struct Decoder {
    provider: String,
    lines: Lines,
    tally: Tally,
}

/// Why reading a line failed.
enum Broken {
    TooLong,
    Fault(Fault),
}

impl From<TooLong> for Broken {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

impl Decoder {
    pub(super) fn new(provider: &str) -> Self {
        Self { provider: provider.to_owned(), lines: Lines::default(), tally: Tally::default() }
    }

    fn read(
        &mut self,
        items: &mut Vec<v1::DeltaItem>,
        read: impl FnOnce(&mut Lines, &mut dyn FnMut(&[u8]) -> Result<(), Broken>) -> Result<(), Broken>,
    ) -> Result<(), Fault> {
        let Self { provider, lines, tally } = self;
        let mut take = |line: &[u8]| tally.absorb(provider, line, items).map_err(Broken::Fault);
        read(lines, &mut take).map_err(|broken| match broken {
            Broken::Fault(fault) => fault,
            Broken::TooLong => {
                Fault::new(Code::Upstream, Origin::Provider, true, format!("{provider}: {TooLong}"))
            }
        })
    }
}

impl Reader for Decoder {
    fn whole(&mut self, body: &[u8]) -> Result<Completion, Fault> {
        let mut items = Vec::new();
        self.tally.absorb(&self.provider, body, &mut items)?;
        if !self.tally.is_done() {
            return Err(cut(&self.provider));
        }
        Ok(self.completion(items))
    }

    fn feed(&mut self, bytes: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        self.read(items, |lines, mut take| lines.feed(bytes, &mut take))
    }

    fn is_done(&self) -> bool {
        self.tally.is_done()
    }

    fn end(&mut self, items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        self.read(items, |lines, mut take| lines.finish(&mut take))?;
        if self.tally.is_done() { Ok(()) } else { Err(cut(&self.provider)) }
    }

    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion {
        std::mem::take(&mut self.tally).into_completion(items)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::provider::{
        golden::{read, split},
        ollama::golden::GOLDEN,
    };

    #[test]
    fn a_stream_cut_after_any_byte_is_no_whole_answer() {
        for (name, bytes) in GOLDEN.recorded("stream", "ndjson") {
            for k in 0..bytes.len() {
                let (mut decoder, mut items) = (Decoder::new("acme"), Vec::new());
                if decoder.feed(&bytes[..k], &mut items).is_err() {
                    continue;
                }
                let said = String::from_utf8_lossy(&bytes[..k]).contains("\"done\":true");
                assert!(!decoder.is_done() || said, "{name} cut after {k} bytes");
                // the last line lacks only its line break
                let whole = bytes[k..].iter().all(u8::is_ascii_whitespace);
                assert!(decoder.end(&mut items).is_err() || whole || said, "{name} cut after {k} bytes");
            }
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let line = vec![b'x'; 10 * 1024 * 1024];
        assert_eq!(Decoder::new("acme").feed(&line, &mut Vec::new()).unwrap_err().code, Code::Upstream);
    }

    #[test]
    fn nothing_after_the_end_counts() {
        let stream =
            b"{\"message\":{\"content\":\"a\"},\"done\":true}\n{\"message\":{\"content\":\"b\"}}\ngarbage\n";
        let (items, outcome) = read(&mut Decoder::new("acme"), &[stream]);
        assert_eq!((items.len(), outcome.is_ok()), (1, true));
    }

    #[test]
    fn a_broken_line_does_not_repeat_what_was_said() {
        let stream = b"{\"message\":{\"content\":{\"secret prompt\":1}}}\n";
        let fault = read(&mut Decoder::new("acme"), &[stream]).1.unwrap_err();
        assert!(!fault.message.contains("secret"), "{fault}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn where_a_stream_is_split_changes_nothing(seed in proptest::collection::vec(0.0f64..1.0, 0..24)) {
            for (name, bytes) in GOLDEN.recorded("stream", "ndjson") {
                let once = read(&mut Decoder::new("acme"), &[&bytes]);
                prop_assert_eq!(read(&mut Decoder::new("acme"), &split(&bytes, &seed)), once, "{}", name);
            }
        }
    }
}
