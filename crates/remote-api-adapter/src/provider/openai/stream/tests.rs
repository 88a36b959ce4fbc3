use super::{super::golden, *};
use crate::provider::golden::{holds_streams, text_of};

#[test]
fn a_stream_is_whole_or_none_however_it_comes() {
    let done = |came: &[u8]| String::from_utf8_lossy(came).contains("data: [DONE]");
    holds_streams(&golden::GOLDEN.recorded("stream", "sse"), || Decoder::new("acme"), done);
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
