use proptest::prelude::*;

use super::{super::golden, *};
use crate::provider::golden::{split, text_of};

#[test]
fn a_stream_cut_after_any_byte_is_no_whole_answer() {
    for (name, bytes) in golden::GOLDEN.recorded("stream", "sse") {
        let whole = golden::read(&[&bytes]);
        for k in 0..bytes.len() {
            let (mut decoder, mut items) = (Decoder::new("acme", "r1"), Vec::new());
            if decoder.feed(&bytes[..k], &mut items).is_err() {
                continue;
            }
            // Google has no word for the end: where the connection broke, nothing counts
            assert!(!decoder.is_done(), "{name} cut after {k} bytes");
            // where the transport says that the body ended there, the answer must at least have its reason to end
            if decoder.end(&mut items).is_ok() {
                assert!(decoder.tally.is_whole(), "{name} cut after {k} bytes");
                assert_eq!(text_of(&items), text_of(&whole.0), "{name} cut after {k} bytes");
            }
        }
    }
}

#[test]
fn a_line_without_end_is_refused() {
    let (mut decoder, mut items) = (Decoder::new("acme", "r1"), Vec::new());
    let line = vec![b'x'; 10 * 1024 * 1024];
    assert_eq!(decoder.feed(&line, &mut items).unwrap_err().code, Code::Upstream);
}

#[test]
fn a_broken_chunk_does_not_repeat_what_was_said() {
    let stream = b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":{\"secret prompt\":1}}]}}]}\n\n";
    let fault = golden::read(&[stream]).1.unwrap_err();
    assert!(!fault.message.contains("secret"), "{fault}");
}

#[test]
fn an_answer_that_is_no_answer_is_a_fault() {
    for reason in ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER", "SOMETHING_NEW"] {
        let stream = format!("data: {{\"candidates\":[{{\"finishReason\":\"{reason}\"}}]}}\n\n");
        let fault = golden::read(&[stream.as_bytes()]).1.unwrap_err();
        assert_eq!(
            (fault.code, fault.provider_code.as_str(), fault.retryable),
            (Code::Upstream, reason, true)
        );
    }
}

#[test]
fn absurd_counts_do_not_overflow() {
    let most = u64::MAX;
    let stream = format!(
        "data: {{\"candidates\":[{{\"finishReason\":\"STOP\"}}],\"usageMetadata\":{{\"promptTokenCount\":{most},\
         \"toolUsePromptTokenCount\":{most},\"candidatesTokenCount\":{most},\"thoughtsTokenCount\":{most}}}}}\n\n"
    );
    let usage = golden::read(&[stream.as_bytes()]).1.unwrap().usage.unwrap();
    assert_eq!((usage.input.get(), usage.output.get()), (most, most));
}

#[test]
fn ids_of_calls_differ_between_requests_and_fit_other_providers() {
    let stream = b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"a\"}},{\"functionCall\":\
                   {\"name\":\"a\"}}]},\"finishReason\":\"STOP\"}]}\n\n";
    let mut ids = Vec::new();
    for request in ["r1", "r2"] {
        let (items, outcome) =
            crate::provider::golden::read(&mut Decoder::new("acme", request), &[stream.as_slice()]);
        assert_eq!(outcome.unwrap().finish_reason, v1::FinishReason::ToolCalls);
        ids.extend(items.into_iter().flat_map(|item| item.tool_calls).map(|call| call.id));
    }
    assert!(ids.iter().all(|id| id.len() <= 40), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{ids:?}");
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

    #[test]
    fn no_bytes_bring_the_reader_down(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let mut decoder = Decoder::new("acme", "r1");
        let _ = decoder.feed(&bytes, &mut Vec::new());
        let _ = decoder.whole(&bytes);
    }
}
