//! Transcripts, whole and in events.
//!
//! A whole one is JSON in one of three shapes (`json`, `verbose_json`, `diarized_json`), read by the same types. A stream is
//! whole when `transcript.text.done` has come; vLLM sends chunks as of a chat instead and ends with `[DONE]`.

use std::time::Duration;

use domain::{
    fault::{Code, Fault, Origin},
    inference::TranscriptFormat,
    pricing::TokenUsage,
    subtitles::{self, Cue},
    units::Tokens,
};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;
use wire::v1;

use super::super::error::Words;
use crate::provider::{
    Completion, Reader,
    exchange::{cut, malformed},
    json::{Fields, Text, fields_kept as object},
    sse::{Parser, TooLong},
};

/// Longest audio that is believed, seconds: a day.
const DURATION_SECONDS_MAX: f64 = 86_400.0;

/// What the caller wants, and what the price goes by.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Wanted {
    pub(in super::super) format: TranscriptFormat,
    /// Whether time is charged: without a duration the usage is not known.
    pub(in super::super) by_time: bool,
}

/// Reads one answer.
pub(in super::super) struct Heard {
    provider: String,
    wanted: Wanted,
    events: Parser,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    begun: bool,
    done: bool,
    usage: Option<Counted>,
    segments: Vec<v1::TranscriptSegment>,
    extra_json: String,
}

/// Seconds, as a number or as its text.
#[derive(Debug, Clone, Copy, Default)]
struct Seconds(f64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let seconds: f64 =
            raw.get().trim_matches('"').parse().map_err(|_| D::Error::custom("no number of seconds"))?;
        if (0.0..=DURATION_SECONDS_MAX).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(D::Error::custom("no length of audio"))
        }
    }
}

#[derive(Debug, Default)]
struct Segment<'a> {
    start: Seconds,
    end: Seconds,
    text: Option<Text<'a>>,
    speaker: Option<Text<'a>>,
    extra: Fields<'a>,
}

object!(Segment, "a segment of a transcript", |this, key, map| {
    "start" => this.start = map.next_value()?,
    "end" => this.end = map.next_value()?,
    "text" => this.text = map.next_value()?,
    "speaker" => this.speaker = map.next_value()?,
    "type" => drop(map.next_value::<&RawValue>()?),
});

#[derive(Debug, Default)]
struct Word<'a> {
    start: Seconds,
    end: Seconds,
    word: Option<Text<'a>>,
    extra: Fields<'a>,
}

object!(Word, "a word of a transcript", |this, key, map| {
    "start" => this.start = map.next_value()?,
    "end" => this.end = map.next_value()?,
    "word" => this.word = map.next_value()?,
});

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Counted {
    seconds: Option<Seconds>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_token_details: Option<Details>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Details {
    audio_tokens: Option<u64>,
}

/// A whole transcript, or an event that ends one.
#[derive(Debug, Default)]
struct Whole<'a> {
    text: Option<Text<'a>>,
    language: Option<Text<'a>>,
    duration: Option<Seconds>,
    segments: Option<Vec<Segment<'a>>>,
    words: Option<Vec<Word<'a>>>,
    usage: Option<Counted>,
    error: Option<&'a RawValue>,
    extra: Fields<'a>,
}

object!(Whole, "a transcript", |this, key, map| {
    "text" => this.text = map.next_value()?,
    "language" => this.language = map.next_value()?,
    "duration" => this.duration = map.next_value()?,
    "segments" => this.segments = map.next_value()?,
    "words" => this.words = map.next_value()?,
    "usage" => this.usage = map.next_value()?,
    "error" => this.error = map.next_value()?,
    "task" => drop(map.next_value::<&RawValue>()?),
});

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Said<'a>>,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
}

impl From<Segment<'_>> for v1::TranscriptSegment {
    fn from(segment: Segment<'_>) -> Self {
        Self {
            start_seconds: segment.start.0,
            end_seconds: segment.end.0,
            text: segment.text.map(Text::into_string).unwrap_or_default(),
            speaker: segment.speaker.map(Text::into_string).unwrap_or_default(),
            extra_json: segment.extra.into_json(),
        }
    }
}

impl From<Word<'_>> for v1::TranscriptWord {
    fn from(word: Word<'_>) -> Self {
        Self {
            start_seconds: word.start.0,
            end_seconds: word.end.0,
            word: word.word.map(Text::into_string).unwrap_or_default(),
            extra_json: word.extra.into_json(),
        }
    }
}

/// Seconds of audio, to the millisecond. They were checked when they were read.
fn lasting(seconds: f64) -> Duration {
    Duration::try_from_secs_f64((seconds * 1_000.0).round() / 1_000.0).unwrap_or_default()
}

/// What was used; `None` where the server does not say what is charged.
fn usage(counted: Option<Counted>, duration: Option<Seconds>, by_time: bool) -> Option<TokenUsage> {
    let counted = counted.unwrap_or_default();
    let seconds = counted.seconds.or(duration);
    let tells = if by_time { seconds.is_some() } else { counted.input_tokens.is_some() };
    let input = Tokens::new(counted.input_tokens.unwrap_or(0));
    let audio = counted.input_token_details.and_then(|details| details.audio_tokens);
    tells.then(|| TokenUsage {
        input,
        output: Tokens::new(counted.output_tokens.unwrap_or(0)),
        // without details the prompt's few tokens are taken for audio, which is the dearer kind
        audio_input: audio.map_or(input, |audio| Tokens::new(audio).min(input)),
        audio: seconds.map(|seconds| lasting(seconds.0)).unwrap_or_default(),
        ..TokenUsage::default()
    })
}

/// A whole transcript in the shape that was wanted.
fn whole(provider: &str, wanted: Wanted, body: &[u8]) -> Result<Completion, Fault> {
    let heard: Whole<'_> =
        serde_json::from_slice(body).map_err(|error| malformed(provider, "a transcript", &error))?;
    let Some(text) = heard.text.filter(|_| heard.error.is_none()) else {
        return Err(Words::of_body(body).refusal(None).into_failure(provider, None).fault);
    };
    let usage = usage(heard.usage, heard.duration, wanted.by_time);
    let segments = heard.segments.unwrap_or_default().into_iter().map(Into::into).collect();
    let transcript = v1::Transcript {
        language: heard.language.map(Text::into_string).unwrap_or_default(),
        duration_seconds: heard.duration.unwrap_or_default().0,
        segments,
        words: heard.words.unwrap_or_default().into_iter().map(Into::into).collect(),
    };
    let text = match wanted.format {
        TranscriptFormat::Srt => subtitles::srt(&cues(&transcript, &text)),
        TranscriptFormat::Vtt => subtitles::vtt(&cues(&transcript, &text)),
        _ => text.into_string(),
    };
    let is_shown = matches!(wanted.format, TranscriptFormat::Verbose | TranscriptFormat::Diarized);
    Ok(Completion {
        items: vec![v1::DeltaItem { text, ..v1::DeltaItem::default() }],
        finish_reason: v1::FinishReason::Stop,
        usage,
        transcript: is_shown.then_some(transcript),
        extra_json: heard.extra.into_json(),
        ..Completion::default()
    })
}

/// The segments, or all of the text where there are none.
fn cues(transcript: &v1::Transcript, text: &str) -> Vec<Cue> {
    let cue = |start: f64, end: f64, text: &str| Cue {
        start: lasting(start),
        end: lasting(end),
        text: text.trim().to_owned(),
    };
    let segments = &transcript.segments;
    let cues: Vec<Cue> =
        segments.iter().map(|part| cue(part.start_seconds, part.end_seconds, &part.text)).collect();
    if cues.is_empty() && !text.trim().is_empty() {
        return vec![cue(0.0, transcript.duration_seconds, text)];
    }
    cues
}

enum Broken {
    TooLong(TooLong),
    Fault(Fault),
}

impl From<TooLong> for Broken {
    fn from(error: TooLong) -> Self {
        Self::TooLong(error)
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Broken {
    fn into_fault(self, provider: &str) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::TooLong(error) => {
                Fault::new(Code::Upstream, Origin::Provider, true, format!("{provider}: {error}"))
            }
        }
    }
}

impl Heard {
    pub(in super::super) fn new(provider: &str, wanted: Wanted) -> Self {
        Self { provider: provider.to_owned(), wanted, events: Parser::default(), tally: Tally::default() }
    }
}

impl Tally {
    fn say(&mut self, text: String, extra_json: String, items: &mut Vec<v1::DeltaItem>) {
        if !text.is_empty() || !extra_json.is_empty() {
            self.begun |= !text.is_empty();
            items.push(v1::DeltaItem { text, extra_json, ..v1::DeltaItem::default() });
        }
    }

    fn take(&mut self, provider: &str, data: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Broken> {
        if self.done || data.is_empty() {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.done = self.begun;
            return Ok(());
        }
        let parse = |error| malformed(provider, "an event", &error);
        let event: Event<'_> = serde_json::from_slice(data).map_err(parse)?;
        if let Some(error) = event.error {
            return Err(Words::of_error(error.get()).refusal(None).into_failure(provider, None).fault.into());
        }
        match event.kind.as_deref() {
            Some("transcript.text.delta") => {
                let text = event.delta.map(|delta| serde_json::from_str::<Text<'_>>(delta.get()));
                let text = text.transpose().map_err(parse)?.map(Text::into_string).unwrap_or_default();
                let logprobs = event.logprobs.map(|list| list.get()).filter(|list| *list != "null");
                let extra = logprobs.map(|list| format!("{{\"logprobs\":{list}}}"));
                self.say(text, extra.unwrap_or_default(), items);
            }
            Some("transcript.text.segment") => {
                let segment: Segment<'_> = serde_json::from_slice(data).map_err(parse)?;
                self.segments.push(segment.into());
            }
            Some("transcript.text.done") => {
                let mut whole: Whole<'_> = serde_json::from_slice(data).map_err(parse)?;
                whole.extra.retain(|key| key != "type" && key != "logprobs");
                if let Some(text) = whole.text.filter(|_| !self.begun) {
                    self.say(text.into_string(), String::new(), items);
                }
                self.usage = whole.usage;
                self.extra_json = whole.extra.into_json();
                self.done = true;
            }
            _ => {
                for said in event.choices.into_iter().filter_map(|choice| choice.delta) {
                    self.say(said.content.map(Text::into_string).unwrap_or_default(), String::new(), items);
                }
            }
        }
        Ok(())
    }
}

impl Reader for Heard {
    fn whole(&mut self, body: &[u8]) -> Result<Completion, Fault> {
        whole(&self.provider, self.wanted, body)
    }

    fn feed(&mut self, bytes: &[u8], items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let Self { provider, events, tally, .. } = self;
        let fed = events.feed(bytes, &mut |data: &[u8]| tally.take(provider, data, items));
        fed.map_err(|broken: Broken| broken.into_fault(provider))
    }

    fn is_done(&self) -> bool {
        self.tally.done
    }

    fn end(&mut self, items: &mut Vec<v1::DeltaItem>) -> Result<(), Fault> {
        let Self { provider, events, tally, .. } = self;
        let fed = events.finish(&mut |data: &[u8]| tally.take(provider, data, items));
        fed.map_err(|broken: Broken| broken.into_fault(provider))?;
        if self.tally.done { Ok(()) } else { Err(cut(&self.provider)) }
    }

    fn completion(&mut self, items: Vec<v1::DeltaItem>) -> Completion {
        let tally = std::mem::take(&mut self.tally);
        let is_diarized = self.wanted.format == TranscriptFormat::Diarized;
        let transcript =
            is_diarized.then(|| v1::Transcript { segments: tally.segments, ..v1::Transcript::default() });
        Completion {
            items,
            finish_reason: v1::FinishReason::Stop,
            usage: usage(tally.usage, None, self.wanted.by_time),
            transcript,
            extra_json: tally.extra_json,
            ..Completion::default()
        }
    }
}
