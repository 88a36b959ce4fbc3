use domain::{
    fault::Code,
    inference::{Audio, Speak, SpeechFormat, Transcribe, TranscriptFormat},
    units::Tokens,
};
use proptest::prelude::*;

use super::{super::flavor::Flavor, *};
use crate::provider::{
    Completion, Reader, Target,
    golden::{Golden, envelope, read, split, text_of},
};

const GOLDEN: Golden = Golden("openai");

fn heard(format: TranscriptFormat) -> Transcribe {
    Transcribe {
        envelope: envelope(
            r#"{"include":["logprobs"],"chunking_strategy":{"type":"server_vad"},"user":"u-1"}"#,
        ),
        audio: Audio::Content(b"RIFF".to_vec()),
        file_name: "a.wav".to_owned(),
        media_type: Some("audio/wav".to_owned()),
        language: Some("de".to_owned()),
        prompt: "Hybrid LLM".to_owned(),
        format,
        temperature: Some(0.5),
        segments: true,
        words: format == TranscriptFormat::Verbose,
        to_english: false,
        stream: format == TranscriptFormat::Text,
    }
}

fn target(model: &str) -> Target {
    Target { upstream_model: model.to_owned(), ..Target::default() }
}

fn form(request: &Transcribe, target: &Target, flavor: Flavor) -> String {
    let written = transcribe(request, target, flavor).unwrap();
    let kind = written.content_type.to_str().unwrap();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    let body = String::from_utf8(written.body.to_vec()).unwrap().replace(boundary, "BOUNDARY");
    format!("POST {}\n{}", written.endpoint.path(), body.replace('\r', ""))
}

#[test]
fn a_transcription_is_a_form() {
    let text = form(&heard(TranscriptFormat::Text), &target("gpt-4o-transcribe"), Flavor::OpenAi);
    GOLDEN.compare("encode", "transcribe", &text);
    let verbose = form(&heard(TranscriptFormat::Verbose), &target("whisper-1"), Flavor::OpenAi);
    GOLDEN.compare("encode", "transcribe-verbose", &verbose);
}

#[test]
fn where_time_is_charged_the_duration_is_asked_for() {
    let by_time = Target { tells_duration: true, ..target("whisper-1") };
    let form = form(&heard(TranscriptFormat::Text), &by_time, Flavor::OpenAi);
    assert!(form.contains("verbose_json") && !form.contains("name=\"stream\""), "{form}");
}

#[test]
fn what_a_model_cannot_hear_is_refused_by_name() {
    let refused = |request: Transcribe, model: &str, flavor| {
        let fault = transcribe(&request, &target(model), flavor).err().unwrap();
        assert!(fault.code == Code::Unsupported && fault.retryable, "{fault:?}");
        fault.field
    };
    let english = Transcribe { to_english: true, language: None, ..heard(TranscriptFormat::Text) };
    assert_eq!(refused(heard(TranscriptFormat::Srt), "gpt-4o-transcribe", Flavor::OpenAi), "response_format");
    assert_eq!(refused(heard(TranscriptFormat::Diarized), "whisper-1", Flavor::Azure), "response_format");
    assert_eq!(refused(english.clone(), "gpt-4o-transcribe", Flavor::OpenAi), "model");
    assert_eq!(refused(english.clone(), "whisper-large-v3-turbo", Flavor::Groq), "model");
    assert!(transcribe(&english, &target("whisper-large-v3"), Flavor::Groq).is_ok());
    assert!(transcribe(&heard(TranscriptFormat::Diarized), &target("any"), Flavor::Compatible).is_ok());
}

#[test]
fn a_carried_field_that_repeats_a_modelled_one_is_refused() {
    let request = Transcribe { envelope: envelope(r#"{"language":"en"}"#), ..heard(TranscriptFormat::Text) };
    let fault = transcribe(&request, &target("m"), Flavor::Compatible).err().unwrap();
    assert_eq!((fault.code, fault.field.as_str()), (Code::InvalidArgument, "extra_json.language"));
}

fn spoken() -> Speak {
    Speak {
        envelope: envelope(r#"{"language":"en"}"#),
        input: "Good \"morning\"".to_owned(),
        voice: "alloy".to_owned(),
        format: SpeechFormat::Wav,
        speed: Some(1.5),
        instructions: "whisper".to_owned(),
    }
}

#[test]
fn speech_is_asked_for_in_events_where_its_tokens_are_charged() {
    let body = |target: &Target| {
        String::from_utf8(speak(&spoken(), target, Flavor::OpenAi).unwrap().body.to_vec()).unwrap()
    };
    GOLDEN.compare("encode", "speak", &body(&target("gpt-4o-mini-tts")));
    let by_tokens = Target { tells_speech_tokens: true, ..target("gpt-4o-mini-tts") };
    assert!(body(&by_tokens).contains(r#""stream_format":"sse""#));
    let fault = speak(&spoken(), &target("tts-1"), Flavor::OpenAi).err().unwrap();
    assert_eq!((fault.code, fault.field.as_str()), (Code::Unsupported, "instructions"));
    let mp3 = Speak { format: SpeechFormat::Mp3, instructions: String::new(), speed: None, ..spoken() };
    let fault = speak(&mp3, &target("canopylabs/orpheus-v1-english"), Flavor::Groq).err().unwrap();
    assert_eq!(fault.field, "response_format");
}

fn hears(format: TranscriptFormat) -> Heard {
    Heard::new("acme", Wanted { format, by_time: format != TranscriptFormat::Diarized })
}

fn whole(format: TranscriptFormat) -> Completion {
    let (_, body) = GOLDEN.recorded("transcript", "json").remove(0);
    hears(format).whole(&body).unwrap()
}

#[test]
fn a_whole_transcript_comes_in_the_shape_that_was_wanted() {
    let verbose = whole(TranscriptFormat::Verbose);
    assert_eq!(text_of(&verbose.items), "Good morning.");
    let transcript = verbose.transcript.unwrap();
    assert_eq!((transcript.language.as_str(), transcript.duration_seconds), ("english", 2.5));
    assert_eq!((transcript.segments.len(), transcript.words.len()), (2, 1));
    assert!(transcript.segments[0].extra_json.contains("\"avg_logprob\":-0.25"), "{transcript:?}");
    assert_eq!(verbose.extra_json, r#"{"x_groq":{"id":"req_1"}}"#);
    // what is charged goes before what was measured
    assert_eq!(verbose.usage.unwrap().audio.as_millis(), 3_000);
    let srt = whole(TranscriptFormat::Srt);
    assert_eq!(
        text_of(&srt.items),
        "1\n00:00:00,000 --> 00:00:01,250\nGood\n\n2\n00:00:01,250 --> 00:00:02,500\nmorning.\n\n"
    );
    assert!(srt.transcript.is_none());
    assert!(text_of(&whole(TranscriptFormat::Vtt).items).starts_with("WEBVTT\n\n00:00:00.000 --> "));
}

#[test]
fn an_answer_without_a_text_is_an_error() {
    for body in [r#"{"error":{"message":"no","code":"server_error"}}"#, "{}", "<html>", r#"{"text":1}"#] {
        assert_eq!(
            hears(TranscriptFormat::Text).whole(body.as_bytes()).unwrap_err().code,
            Code::Upstream,
            "{body}"
        );
    }
}

#[test]
fn an_answer_that_does_not_say_what_is_charged_has_no_usage() {
    assert_eq!(hears(TranscriptFormat::Text).whole(br#"{"text":"a"}"#).unwrap().usage, None);
    let timed = hears(TranscriptFormat::Text).whole(br#"{"text":"a","duration":"1.5"}"#).unwrap();
    assert_eq!(timed.usage.unwrap().audio.as_millis(), 1_500);
    assert!(hears(TranscriptFormat::Text).whole(br#"{"text":"a","duration":-1}"#).is_err());
}

#[test]
fn a_streamed_transcript_ends_with_what_it_used() {
    for (name, bytes) in GOLDEN.recorded("transcript", "sse") {
        let (items, ended) = read(&mut hears(TranscriptFormat::Diarized), &[&bytes]);
        let completion = ended.unwrap();
        if name == "vllm" {
            assert_eq!((text_of(&items).as_str(), completion.usage), ("Good morning", None));
            continue;
        }
        assert_eq!(text_of(&items), "Good mörning");
        assert!(items[0].extra_json.starts_with("{\"logprobs\":["), "{items:?}");
        let usage = completion.usage.unwrap();
        assert_eq!(
            (usage.input, usage.audio_input, usage.output),
            (Tokens::new(14), Tokens::new(10), Tokens::new(3))
        );
        assert_eq!(completion.transcript.unwrap().segments[0].speaker, "A");
    }
}

fn speaks(by_tokens: bool) -> Speech {
    Speech::new("acme", 5, by_tokens)
}

#[test]
fn speech_comes_plain_or_in_events() {
    let (_, bytes) = GOLDEN.recorded("speech", "sse").remove(0);
    let (items, ended) = read(&mut speaks(true), &[&bytes]);
    let audio: Vec<u8> = items.into_iter().flat_map(|item| item.audio).collect();
    assert_eq!(audio, b"ID3abcdef");
    let usage = ended.unwrap().usage.unwrap();
    assert_eq!((usage.input, usage.audio_output, usage.characters), (Tokens::new(3), Tokens::new(40), 5));
    let (items, ended) = read(&mut speaks(false), &[b"ID3", b"abc"]);
    assert_eq!((items.len(), ended.unwrap().usage.unwrap().characters), (2, 5));
    assert_eq!(read(&mut speaks(false), &[]).1.unwrap_err().code, Code::Upstream, "no audio at all");
    let refused = speaks(false).whole(br#"{"error":{"message":"no voice","type":"invalid_request_error"}}"#);
    assert_eq!(refused.unwrap_err().code, Code::InvalidArgument);
}

#[test]
fn a_cut_stream_of_audio_never_ends_as_a_success() {
    let cut = |bytes: &[u8], make: &dyn Fn() -> Box<dyn Reader>| {
        let last = bytes.trim_ascii_end().len();
        for length in 0..last {
            let (_, ended) = read(&mut *make(), &[&bytes[..length]]);
            assert!(ended.is_err(), "whole after {length} of {last} bytes");
        }
    };
    for (name, bytes) in GOLDEN.recorded("transcript", "sse") {
        // what ends with [DONE] is whole when that has come
        if name != "vllm" {
            cut(&bytes, &|| Box::new(hears(TranscriptFormat::Diarized)));
        }
    }
    let (_, bytes) = GOLDEN.recorded("speech", "sse").remove(0);
    cut(&bytes, &|| Box::new(speaks(true)));
}

proptest! {
    #[test]
    fn where_a_stream_of_audio_is_split_does_not_matter(parts in proptest::collection::vec(0.0..1.0, 0..8)) {
        for (_, bytes) in GOLDEN.recorded("transcript", "sse") {
            let read = |pieces: &[&[u8]]| read(&mut hears(TranscriptFormat::Diarized), pieces);
            prop_assert_eq!(read(&split(&bytes, &parts)), read(&[&bytes]));
        }
        let (_, bytes) = GOLDEN.recorded("speech", "sse").remove(0);
        let read = |pieces: &[&[u8]]| read(&mut speaks(true), pieces);
        prop_assert_eq!(read(&split(&bytes, &parts)), read(&[&bytes]));
    }
}
