use domain::fault::Code;
use proptest::prelude::*;

use super::{super::golden, *};
use crate::provider::{Reader, golden::holds_streams};

#[test]
fn a_stream_is_whole_or_none_however_it_comes() {
    // Google has no word for the end
    holds_streams(&golden::GOLDEN.recorded("stream", "sse"), || decoder("acme", "r1"), |_| false);
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
            crate::provider::golden::read(&mut decoder("acme", request), &[stream.as_slice()]);
        assert_eq!(outcome.unwrap().finish_reason, v1::FinishReason::ToolCalls);
        ids.extend(items.into_iter().flat_map(|item| item.tool_calls).map(|call| call.id));
    }
    assert!(ids.iter().all(|id| id.len() <= 40), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{ids:?}");
}

proptest! {
    #[test]
    fn no_bytes_bring_the_reader_down(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let mut decoder = decoder("acme", "r1");
        let _ = decoder.feed(&bytes, &mut Vec::new());
        let _ = decoder.whole(&bytes);
    }
}
