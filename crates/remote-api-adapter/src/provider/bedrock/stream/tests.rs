use proptest::prelude::*;

use super::{super::golden, *};
use crate::provider::golden::{split, text_of};

#[test]
fn a_stream_cut_after_any_byte_is_no_whole_answer() {
    for (name, bytes) in golden::streams() {
        let whole = golden::read(&[&bytes]);
        for k in 0..bytes.len() {
            let (mut decoder, mut items) = (Decoder::new("acme"), Vec::new());
            if decoder.feed(&bytes[..k], &mut items).is_err() {
                continue;
            }
            assert!(!decoder.is_done(), "{name} cut after {k} bytes");
            // where the transport says that the body ended there, the message at least must have ended
            if decoder.end(&mut items).is_ok() {
                assert!(decoder.tally.finish_reason.is_some(), "{name} cut after {k} bytes");
                assert_eq!(items, whole.0, "{name} cut after {k} bytes");
            }
        }
    }
}

#[test]
fn a_stream_with_any_damaged_byte_is_no_whole_answer() {
    for (name, bytes) in golden::streams().into_iter().filter(|(name, _)| !name.contains("broken")) {
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            let (_, outcome) = golden::read(&[&damaged]);
            assert!(outcome.is_err(), "{name} damaged at {at}");
        }
    }
}

#[test]
fn nothing_after_the_end_counts() {
    let mut stream = golden::framed(
        "event contentBlockDelta {\"contentBlockIndex\":0,\"delta\":{\"text\":\"a\"}}\n\
         event messageStop {\"stopReason\":\"end_turn\"}\nevent metadata {}\n\
         event contentBlockDelta {\"contentBlockIndex\":1,\"delta\":{\"text\":\"b\"}}",
    );
    stream.extend(b"garbage that is no frame at all");
    let (items, outcome) = golden::read(&[&stream]);
    assert_eq!(text_of(&items), "a");
    assert!(outcome.is_ok());
}

#[test]
fn blocks_that_never_end_are_bounded() {
    let lines: String = (0..=BLOCKS_MAX)
        .map(|at| format!("event contentBlockStart {{\"contentBlockIndex\":{at},\"start\":{{}}}}\n"))
        .collect();
    assert!(golden::read(&[&golden::framed(&lines)]).1.is_err());
}

#[test]
fn reasoning_that_never_ends_is_bounded() {
    let text = "x".repeat(64 * 1024);
    let line =
        format!("event contentBlockDelta {{\"delta\":{{\"reasoningContent\":{{\"text\":\"{text}\"}}}}}}\n");
    let frame = golden::framed(&line);
    let (mut decoder, mut items) = (Decoder::new("acme"), Vec::new());
    let fed = (0..200).try_for_each(|_| decoder.feed(&frame, &mut items));
    assert!(fed.unwrap_err().message.contains("reasoning"));
}

#[test]
fn a_broken_event_does_not_repeat_what_was_said() {
    let stream = golden::framed("event contentBlockDelta {\"delta\":{\"text\":{\"secret prompt\":1}}}");
    let fault = golden::read(&[&stream]).1.unwrap_err();
    assert!(!fault.message.contains("secret"), "{fault}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn where_a_stream_is_split_changes_nothing(seed in proptest::collection::vec(0.0f64..1.0, 0..24)) {
        for (name, bytes) in golden::streams() {
            let pieces = split(&bytes, &seed);
            prop_assert_eq!(golden::read(&pieces), golden::read(&[&bytes]), "{}", name);
        }
    }

    #[test]
    fn no_bytes_whatever_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(golden::read(&[&bytes]).1.is_err());
    }
}
