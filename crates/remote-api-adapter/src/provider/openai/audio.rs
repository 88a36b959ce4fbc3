//! The dialect's audio: transcriptions and translations (a form with a file), and speech (JSON in, audio out).
//!
//! What is charged by time or by tokens has to be told by the server, so the shape that tells is asked for whatever the
//! caller wants: `verbose_json` where an hour has a price (only that has the duration everywhere), events where tokens of
//! speech have one. Subtitles are made here from the timed segments: not every server makes them, and theirs would tell no
//! duration.
//!
//! Reference: <https://platform.openai.com/docs/api-reference/audio>, <https://console.groq.com/docs/speech-to-text>.

mod encode;
mod speech;
mod transcript;

pub(super) use encode::{Written, speak, transcribe};
pub(super) use speech::Speech;
pub(super) use transcript::{Heard, Wanted};

#[cfg(test)]
mod tests;
