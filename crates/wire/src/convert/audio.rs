//! Requests for transcripts and speech.

use std::time::Duration;

use domain::{
    fault::{Code, Fault, Origin},
    id::{AgentName, ModelName, NodeId, RequestId},
    inference::{AUDIO_BYTES_MAX, Audio, Envelope, Speak, SpeechFormat, Transcribe, TranscriptFormat},
};

use super::{
    request::{Limits, envelope, expect, in_range, json_object, profile, tag},
    snapshot::optional,
};
use crate::v1;

/// Characters of a text to speak; providers take less.
const INPUT_CHARACTERS_MAX: usize = 65_536;
const NAME_MAX: usize = 128;
const VOICE_MAX: usize = 256;

impl TryFrom<v1::TranscribeRequest> for Transcribe {
    type Error = Fault;

    /// The request id must have been assigned.
    fn try_from(wire: v1::TranscribeRequest) -> Result<Self, Fault> {
        let envelope = envelope!(wire);
        let format = transcript_format(wire.format)?;
        let (segments, words) = granularities(&wire.timestamps, format)?;
        if wire.to_english && !wire.language.is_empty() {
            let value = shown(&wire.language);
            return Err(expect("language", value, "nothing beside a translation to English"));
        }
        let language = match wire.language {
            text if text.is_empty() => None,
            text if tag(&text) => Some(text),
            text => return Err(expect("language", shown(&text), "a BCP 47 tag such as `de`, or nothing")),
        };
        Ok(Self {
            envelope,
            audio: audio(wire.audio)?,
            file_name: file_name(wire.file_name)?,
            media_type: media_type(wire.media_type)?,
            language,
            prompt: wire.prompt,
            format,
            temperature: in_range("temperature", wire.temperature, 0.0, 1.0)?,
            segments,
            words,
            to_english: wire.to_english,
            stream: wire.stream,
        })
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

fn audio(wire: Option<v1::transcribe_request::Audio>) -> Result<Audio, Fault> {
    use v1::transcribe_request::Audio as Wire;
    let too_large = |bytes: u64| {
        let message = format!("file has {bytes} bytes, expected at most {AUDIO_BYTES_MAX}");
        Fault::new(Code::PayloadTooLarge, Origin::Caller, false, message).in_field("file")
    };
    match wire {
        Some(Wire::Content(content)) if content.len() > AUDIO_BYTES_MAX => {
            Err(too_large(content.len() as u64))
        }
        Some(Wire::Content(content)) if !content.is_empty() => Ok(Audio::Content(content)),
        Some(Wire::Stored(v1::StoredAudio { name, bytes, machine })) if bytes > 0 => {
            if bytes > AUDIO_BYTES_MAX as u64 {
                return Err(too_large(bytes));
            }
            if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(|c| c.is_ascii_graphic()) {
                let expected = "1 to 128 visible ASCII characters";
                return Err(expect("stored.name", shown(&name), expected));
            }
            let machine = optional(machine, NodeId::new)?.map(|machine| machine.to_string());
            let bytes = usize::try_from(bytes).unwrap_or(AUDIO_BYTES_MAX);
            Ok(Audio::Stored { name, bytes, machine: machine.unwrap_or_default() })
        }
        _ => Err(expect("file", "empty", "a file of audio")),
    }
}

fn file_name(name: String) -> Result<String, Fault> {
    let plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '/' | '\\');
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) {
        let expected = "1 to 128 visible ASCII characters without quotes and slashes, as in `meeting.mp3`";
        return Err(expect("file_name", shown(&name), expected));
    }
    Ok(name)
}

fn media_type(text: String) -> Result<Option<String>, Fault> {
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    match text {
        text if text.is_empty() => Ok(None),
        text if text.len() <= NAME_MAX && text.contains('/') && text.chars().all(plain) => Ok(Some(text)),
        text => Err(expect("media_type", shown(&text), "one such as audio/mpeg, or nothing")),
    }
}

fn transcript_format(value: i32) -> Result<TranscriptFormat, Fault> {
    use v1::TranscriptFormat as Wire;
    match Wire::try_from(value) {
        Ok(Wire::Unspecified | Wire::Text) => Ok(TranscriptFormat::Text),
        Ok(Wire::Verbose) => Ok(TranscriptFormat::Verbose),
        Ok(Wire::Srt) => Ok(TranscriptFormat::Srt),
        Ok(Wire::Vtt) => Ok(TranscriptFormat::Vtt),
        Ok(Wire::Diarized) => Ok(TranscriptFormat::Diarized),
        Err(_) => Err(expect("format", value, "a known format")),
    }
}

/// Whether segments, and whether words are wanted.
fn granularities(wire: &[i32], format: TranscriptFormat) -> Result<(bool, bool), Fault> {
    if !wire.is_empty() && format != TranscriptFormat::Verbose {
        return Err(expect("timestamp_granularities", "given", "them with the verbose format only"));
    }
    let (mut segments, mut words) = (wire.is_empty() && format == TranscriptFormat::Verbose, false);
    for value in wire {
        match v1::TimestampGranularity::try_from(*value) {
            Ok(v1::TimestampGranularity::Segment) => segments = true,
            Ok(v1::TimestampGranularity::Word) => words = true,
            Ok(v1::TimestampGranularity::Unspecified) | Err(_) => {
                return Err(expect("timestamp_granularities", value, "segment or word"));
            }
        }
    }
    Ok((segments, words))
}

impl From<SpeechFormat> for v1::SpeechFormat {
    fn from(format: SpeechFormat) -> Self {
        match format {
            SpeechFormat::Mp3 => Self::Mp3,
            SpeechFormat::Opus => Self::Opus,
            SpeechFormat::Aac => Self::Aac,
            SpeechFormat::Flac => Self::Flac,
            SpeechFormat::Wav => Self::Wav,
            SpeechFormat::Pcm => Self::Pcm,
        }
    }
}

fn speech_format(value: i32) -> Result<SpeechFormat, Fault> {
    use v1::SpeechFormat as Wire;
    match Wire::try_from(value) {
        Ok(Wire::Unspecified | Wire::Mp3) => Ok(SpeechFormat::Mp3),
        Ok(Wire::Opus) => Ok(SpeechFormat::Opus),
        Ok(Wire::Aac) => Ok(SpeechFormat::Aac),
        Ok(Wire::Flac) => Ok(SpeechFormat::Flac),
        Ok(Wire::Wav) => Ok(SpeechFormat::Wav),
        Ok(Wire::Pcm) => Ok(SpeechFormat::Pcm),
        Err(_) => Err(expect("format", value, "mp3, opus, aac, flac, wav or pcm")),
    }
}

impl TryFrom<v1::SpeakRequest> for Speak {
    type Error = Fault;

    /// The request id must have been assigned.
    fn try_from(wire: v1::SpeakRequest) -> Result<Self, Fault> {
        let envelope = envelope!(wire);
        let characters = wire.input.chars().count();
        if !(1..=INPUT_CHARACTERS_MAX).contains(&characters) {
            let value = format!("{characters} characters long");
            return Err(expect("input", value, "1 to 65536 characters"));
        }
        let voice = wire.voice;
        if voice.is_empty() || voice.len() > VOICE_MAX || voice.chars().any(char::is_control) {
            return Err(expect("voice", shown(&voice), "1 to 256 characters, as in `alloy`"));
        }
        Ok(Self {
            envelope,
            input: wire.input,
            voice,
            format: speech_format(wire.format)?,
            speed: in_range("speed", wire.speed, 0.25, 4.0)?,
            instructions: wire.instructions,
        })
    }
}

#[cfg(test)]
mod tests {
    use v1::transcribe_request::Audio as Wire;

    use super::*;

    fn asked() -> v1::TranscribeRequest {
        v1::TranscribeRequest {
            request_id: "r1".to_owned(),
            audio: Some(Wire::Content(vec![1, 2, 3])),
            file_name: "a.wav".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn a_transcription_says_what_is_wrong_with_it() {
        assert!(Transcribe::try_from(asked()).is_ok());
        let stored = |name: &str, bytes| {
            let (name, machine) = (name.to_owned(), String::new());
            Some(Wire::Stored(v1::StoredAudio { name, bytes, machine }))
        };
        let wrong: [(&str, v1::TranscribeRequest); 8] = [
            ("file", v1::TranscribeRequest { audio: None, ..asked() }),
            ("file", v1::TranscribeRequest { audio: Some(Wire::Content(Vec::new())), ..asked() }),
            ("file", v1::TranscribeRequest { audio: stored("a", 26_214_401), ..asked() }),
            ("stored.name", v1::TranscribeRequest { audio: stored("a b", 1), ..asked() }),
            ("file_name", v1::TranscribeRequest { file_name: "a\"b".to_owned(), ..asked() }),
            ("media_type", v1::TranscribeRequest { media_type: "a/b\r\nc".to_owned(), ..asked() }),
            ("temperature", v1::TranscribeRequest { temperature: Some(1.5), ..asked() }),
            ("timestamp_granularities", v1::TranscribeRequest { timestamps: vec![2], ..asked() }),
        ];
        for (field, request) in wrong {
            assert_eq!(Transcribe::try_from(request).unwrap_err().field, field);
        }
    }

    #[test]
    fn a_translation_to_english_has_no_language_of_its_own() {
        let request = v1::TranscribeRequest { to_english: true, language: "de".to_owned(), ..asked() };
        assert_eq!(Transcribe::try_from(request).unwrap_err().field, "language");
    }

    #[test]
    fn speech_has_a_text_a_voice_and_a_speed_within_bounds() {
        let asked = || v1::SpeakRequest {
            request_id: "r1".to_owned(),
            input: "hello".to_owned(),
            voice: "alloy".to_owned(),
            ..Default::default()
        };
        assert_eq!(Speak::try_from(asked()).unwrap().format, SpeechFormat::Mp3);
        let wrong = [
            ("input", v1::SpeakRequest { input: String::new(), ..asked() }),
            ("voice", v1::SpeakRequest { voice: String::new(), ..asked() }),
            ("speed", v1::SpeakRequest { speed: Some(9.0), ..asked() }),
            ("format", v1::SpeakRequest { format: 99, ..asked() }),
        ];
        for (field, request) in wrong {
            assert_eq!(Speak::try_from(request).unwrap_err().field, field);
        }
    }
}
