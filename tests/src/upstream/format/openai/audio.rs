//! `POST …/audio/transcriptions`, `…/audio/translations` and `…/audio/speech`.

mod heard;
mod spoken;

pub(super) use heard::{answer as transcript, asked as transcription};
pub(super) use spoken::{answer as speech, asked as speaking};
