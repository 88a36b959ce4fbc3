//! Speech into text and text into speech.

use std::time::Duration;

use super::Envelope;
use crate::units::Tokens;

/// Largest file of audio, bytes: what OpenAI takes (25 MiB).
pub const AUDIO_BYTES_MAX: usize = 25 * 1024 * 1024;

/// Bytes of a second of audio as it is mostly sent: 128 kbit/s.
const BYTES_PER_SECOND: u64 = 16_000;
/// Bytes of a second at the least: Opus begins at 6 kbit/s (RFC 6716, section 2.1.1). Silence may take less.
const BYTES_PER_SECOND_MIN: u64 = 750;
/// Tokens of a second of audio that is listened to: OpenAI's models make one of each 100 ms.
const TOKENS_PER_SECOND_HEARD: u64 = 10;
/// Tokens of a second of speech at the most: OpenAI's speak 1,250 tokens a minute ($0.015 of $12 per million).
const TOKENS_PER_SECOND_SPOKEN: u64 = 25;
/// Characters of a second of speech; people speak three to four times as many.
const CHARACTERS_PER_SECOND_MIN: u64 = 4;
/// Characters of a second of speech as people mostly speak.
const CHARACTERS_PER_SECOND: u64 = 15;
/// Tokens of text that a second of speech gives at most; people speak a third of it.
const TOKENS_PER_SECOND_WRITTEN: u64 = 10;

/// A file of audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audio {
    /// The file itself; not empty.
    Content(Vec<u8>),
    /// Where it lies, since it is too large for a message.
    Stored {
        /// Name of the object.
        name: String,
        /// Its size, 1 to [`AUDIO_BYTES_MAX`].
        bytes: usize,
        /// Machine whose object store has it; empty = the reader's own.
        machine: String,
    },
}

impl Audio {
    /// Its size.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Content(content) => content.len(),
            Self::Stored { bytes, .. } => *bytes,
        }
    }

    /// How long it lasts, estimated from its size.
    #[must_use]
    pub const fn expected(&self) -> Duration {
        lasting(self.bytes(), BYTES_PER_SECOND)
    }

    /// How long it may last, by its size.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        lasting(self.bytes(), BYTES_PER_SECOND_MIN)
    }
}

const fn lasting(bytes: usize, bytes_per_second: u64) -> Duration {
    Duration::from_millis((bytes as u64).saturating_mul(1_000).div_ceil(bytes_per_second))
}

/// The shape of a transcript.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TranscriptFormat {
    /// The text.
    #[default]
    Text,
    /// The text with its language, its duration and timed segments or words.
    Verbose,
    /// Subtitles, `SubRip`.
    Srt,
    /// Subtitles, `WebVTT`.
    Vtt,
    /// The text with segments that say who speaks.
    Diarized,
}

impl TranscriptFormat {
    /// Whether it is made of timed segments.
    #[must_use]
    pub const fn is_timed(self) -> bool {
        matches!(self, Self::Verbose | Self::Srt | Self::Vtt)
    }
}

/// Text from speech.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcribe {
    /// What every request says.
    pub envelope: Envelope,
    /// What is listened to.
    pub audio: Audio,
    /// The file's name, whose ending tells the format: visible ASCII without quotes and slashes.
    pub file_name: String,
    /// As in `audio/mpeg`; absent = by the file's name.
    pub media_type: Option<String>,
    /// BCP 47 tag; detected when absent.
    pub language: Option<String>,
    /// Style and spelling to go on with; empty when none.
    pub prompt: String,
    /// Shape of the transcript.
    pub format: TranscriptFormat,
    /// 0 to 1.
    pub temperature: Option<f32>,
    /// Segments are wanted, in the verbose format.
    pub segments: bool,
    /// Words are wanted, in the verbose format.
    pub words: bool,
    /// English text, whatever is spoken.
    pub to_english: bool,
    /// Whether the text comes in pieces.
    pub stream: bool,
}

impl Transcribe {
    /// The most tokens that the audio and what stands beside it can have.
    pub(super) fn input_tokens_max(&self) -> usize {
        let heard = self.audio.longest().as_secs().saturating_add(1).saturating_mul(TOKENS_PER_SECOND_HEARD);
        usize::try_from(heard).unwrap_or(usize::MAX).saturating_add(self.prompt.len())
    }

    /// Tokens of the audio, estimated.
    #[must_use]
    pub const fn audio_tokens(&self) -> Tokens {
        Tokens::new(self.audio.expected().as_millis() as u64 * TOKENS_PER_SECOND_HEARD / 1_000)
    }

    pub(super) const fn output_tokens_max(&self) -> Tokens {
        Tokens::new((self.audio.longest().as_secs() + 1).saturating_mul(TOKENS_PER_SECOND_WRITTEN))
    }
}

/// The container and codec of speech.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SpeechFormat {
    /// MP3.
    #[default]
    Mp3,
    /// Opus in Ogg.
    Opus,
    /// AAC.
    Aac,
    /// FLAC.
    Flac,
    /// WAV.
    Wav,
    /// Signed 16 bits, little-endian, 24,000 a second, one channel.
    Pcm,
}

impl SpeechFormat {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Mp3, Self::Opus, Self::Aac, Self::Flac, Self::Wav, Self::Pcm];

    /// The name in OpenAI's dialect, and the ending of a file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mp3 => "mp3",
            Self::Opus => "opus",
            Self::Aac => "aac",
            Self::Flac => "flac",
            Self::Wav => "wav",
            Self::Pcm => "pcm",
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// As OpenAI names it in `content-type`.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Mp3 => "audio/mpeg",
            Self::Opus => "audio/opus",
            Self::Aac => "audio/aac",
            Self::Flac => "audio/flac",
            Self::Wav => "audio/wav",
            Self::Pcm => "audio/pcm",
        }
    }
}

/// Speech from text.
#[derive(Debug, Clone, PartialEq)]
pub struct Speak {
    /// What every request says.
    pub envelope: Envelope,
    /// Not empty.
    pub input: String,
    /// By the model's name for it.
    pub voice: String,
    /// Of the audio.
    pub format: SpeechFormat,
    /// 0.25 to 4.
    pub speed: Option<f32>,
    /// How to speak; empty when none.
    pub instructions: String,
}

impl Speak {
    /// What is charged by the character.
    #[must_use]
    pub fn characters(&self) -> u64 {
        self.input.chars().count() as u64
    }

    /// The most tokens of audio that it can come to.
    pub(super) fn output_tokens_max(&self) -> Tokens {
        // a quarter of the speed is the slowest that may be asked for
        let slower = if self.speed.is_some_and(|speed| speed < 1.0) { 4 } else { 1 };
        let seconds = self.characters().div_ceil(CHARACTERS_PER_SECOND_MIN).saturating_add(1);
        Tokens::new(seconds.saturating_mul(TOKENS_PER_SECOND_SPOKEN).saturating_mul(slower))
    }
}

/// Tokens of audio that so many characters come to, estimated.
pub(super) const fn spoken(characters: u64) -> Tokens {
    Tokens::new(characters.saturating_mul(TOKENS_PER_SECOND_SPOKEN).div_ceil(CHARACTERS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_is_expected_to_be_shorter_than_it_may_be() {
        let minute = Audio::Stored { name: String::new(), bytes: 960_000, machine: String::new() };
        assert_eq!(minute.expected(), Duration::from_secs(60));
        assert_eq!(minute.longest(), Duration::from_secs(1_280));
        assert_eq!(Audio::Content(vec![0]).expected(), Duration::from_millis(1));
    }
}
