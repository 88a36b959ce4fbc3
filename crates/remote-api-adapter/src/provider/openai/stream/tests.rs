use proptest::prelude::*;

use super::{super::golden, *};
use crate::provider::golden::{split, text_of};

#[test]
fn a_stream_cut_after_any_byte_is_no_whole_answer() {
    for (name, bytes) in golden::GOLDEN.recorded("stream", "sse") {
        let whole = golden::read(&[&bytes]);
        for k in 0..bytes.len() {
            let (mut decoder, mut items) = (Decoder::new("acme"), Vec::new());
            if decoder.feed(&bytes[..k], &mut items).is_err() {
                continue;
            }
            // where the connection broke, only the server's own word counts
            assert!(
                !decoder.is_done() || String::from_utf8_lossy(&bytes[..k]).contains("data: [DONE]"),
                "{name} cut after {k} bytes"
            );
            // where the transport says that the body ended there, the answer must at least have its reason to end
            if decoder.end(&mut items).is_ok() {
                let reason = |tally: &Tally| tally.finish_reason;
                assert!(reason(&decoder.tally).is_some(), "{name} cut after {k} bytes");
                assert_eq!(text_of(&items), text_of(&whole.0), "{name} cut after {k} bytes");
            }
        }
    }
}

#[test]
fn a_line_without_end_is_refused() {
    let mut decoder = Decoder::new("acme");
    let mut items = Vec::new();
    let line = vec![b'x'; 10 * 1024 * 1024];
    assert_eq!(decoder.feed(&line, &mut items).unwrap_err().code, Code::Upstream);
}

#[test]
fn nothing_after_the_end_counts() {
    let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n\
                   data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\ndata: garbage\n\n";
    let (items, outcome) = golden::read(&[stream]);
    assert_eq!(text_of(&items), "a");
    assert!(outcome.is_ok());
}

#[test]
fn a_broken_chunk_does_not_repeat_what_was_said() {
    let stream = b"data: {\"choices\":[{\"delta\":{\"content\":{\"secret prompt\":1}}}]}\n\n";
    let fault = golden::read(&[stream]).1.unwrap_err();
    assert!(!fault.message.contains("secret"), "{fault}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn where_a_stream_is_split_changes_nothing(seed in proptest::collection::vec(0.0f64..1.0, 0..24)) {
        for (name, bytes) in golden::GOLDEN.recorded("stream", "sse") {
            let pieces = split(&bytes, &seed);
            prop_assert_eq!(golden::read(&pieces), golden::read(&[&bytes]), "{}", name);
        }
    }
}
