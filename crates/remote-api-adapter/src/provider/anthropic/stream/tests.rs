use super::{super::golden, *};
use crate::provider::{
    Reader,
    golden::{holds_streams, text_of},
};

const STOP: &str = r#"data: {"type":"message_stop"}"#;

#[test]
fn a_stream_is_whole_or_none_however_it_comes() {
    let stopped = |came: &[u8]| String::from_utf8_lossy(came).contains(STOP);
    holds_streams(&golden::GOLDEN.recorded("stream", "sse"), || Decoder::new("acme"), stopped);
}

#[test]
fn whole_streams_end_and_broken_ones_do_not() {
    for (name, bytes) in golden::GOLDEN.recorded("stream", "sse") {
        assert_eq!(golden::read(&[&bytes]).1.is_err(), name.starts_with("broken"), "{name}");
    }
}

#[test]
fn nothing_after_the_end_counts() {
    let stream = format!(
        "{}{STOP}\n\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"b\"}}}}\n\n\
         data: garbage\n\n",
        begun("text", "text_delta", "text", "a")
    );
    let (items, outcome) = golden::read(&[stream.as_bytes()]);
    assert_eq!(text_of(&items), "a");
    assert!(outcome.is_ok());
}

#[test]
fn a_broken_event_does_not_repeat_what_was_said() {
    let stream = b"data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":{\"secret prompt\":1}}}\n\n";
    let fault = golden::read(&[stream]).1.unwrap_err();
    assert!(!fault.message.contains("secret"), "{fault}");
}

/// The beginning of a block and one piece of it.
fn begun(block: &str, delta: &str, field: &str, value: &str) -> String {
    format!(
        "data: {{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{{\"type\":\"{block}\"}}}}\n\n\
         data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"{delta}\",\"{field}\":\"{value}\"}}}}\n\n"
    )
}

#[test]
fn what_is_held_until_the_end_of_its_block_is_bounded() {
    let piece = "x".repeat(1024 * 1024);
    for (block, delta, field) in [
        ("thinking", "thinking_delta", "thinking"),
        ("thinking", "signature_delta", "signature"),
        ("mcp_tool_use", "input_json_delta", "partial_json"),
    ] {
        let events = begun(block, delta, field, &piece);
        let (start, piece) = events.split_once("\n\n").unwrap();
        let (mut decoder, mut items) = (Decoder::new("acme"), Vec::new());
        decoder.feed(format!("{start}\n\n").as_bytes(), &mut items).unwrap();
        let fed = (0..9).try_for_each(|_| decoder.feed(piece.as_bytes(), &mut items));
        assert_eq!(fed.unwrap_err().code, Code::Upstream, "{delta}");
    }
    let starts =
        "data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\"}}\n\n".repeat(65);
    assert!(Decoder::new("acme").feed(starts.as_bytes(), &mut Vec::new()).is_err());
}

#[test]
fn a_block_that_the_provider_forgot_to_end_ends_with_the_message() {
    let stream = begun("thinking", "thinking_delta", "thinking", "hm") + STOP + "\n\n";
    let (items, _) = golden::read(&[stream.as_bytes()]);
    assert!(items.iter().any(|item| item.extra_json.contains("thinking_blocks")), "{items:?}");
}

#[test]
fn an_input_that_was_broken_off_leaves_the_answer_json() {
    let stream = begun("mcp_tool_use", "input_json_delta", "partial_json", r#"{\"q\": \"a"#) + STOP + "\n\n";
    let (items, _) = golden::read(&[stream.as_bytes()]);
    let extra: serde_json::Value = serde_json::from_str(&items[0].extra_json).unwrap();
    assert_eq!(extra["content_blocks"][0]["input"], r#"{"q": "a"#);
}
