//! Speech: JSON in, audio out. The audio is noise that follows from what is asked, in pieces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::super::Flavour;
use crate::upstream::Script;
use crate::upstream::asked::Speak;
use crate::upstream::body::Piece;
use crate::upstream::format::Content;
use crate::upstream::problem::Problem;
use crate::upstream::read::Fields;
use crate::upstream::stream::{Framing, Streamed, data};
use crate::upstream::vector::fnv1a;

const CHARACTERS_MAX: usize = 4_096;
/// Bytes of speech for each character.
const BYTES_PER_CHARACTER: usize = 200;
const FORMATS: [(&str, &str); 6] = [
    ("mp3", "audio/mpeg"),
    ("opus", "audio/opus"),
    ("aac", "audio/aac"),
    ("flac", "audio/flac"),
    ("wav", "audio/wav"),
    ("pcm", "audio/pcm"),
];

/// Reads the request.
///
/// # Errors
/// What OpenAI or Groq refuse.
pub(in super::super) fn asked(
    fields: &Fields<'_>,
    deployment: Option<&str>,
    flavour: Flavour,
) -> Result<Speak, Problem> {
    let model = match deployment {
        Some(deployment) => deployment,
        None => fields.must_text("model")?,
    };
    let input = fields.must_text("input")?;
    if input.is_empty() || input.chars().count() > CHARACTERS_MAX {
        return Err(fields.wrong("input", "a string of 1 to 4096 characters"));
    }
    let format = fields.text("response_format")?.unwrap_or("mp3");
    let speaks = |(name, _): &(&str, &str)| *name == format && (flavour != Flavour::Groq || format == "wav");
    if !FORMATS.iter().any(speaks) {
        return Err(fields.wrong("response_format", "a format of the model"));
    }
    let speed = fields.number("speed")?;
    if speed.is_some_and(|speed| !(0.25..=4.0).contains(&speed)) {
        return Err(fields.wrong("speed", "0.25 to 4"));
    }
    let events = match fields.text("stream_format")? {
        None | Some("audio") => false,
        Some("sse") if !model.starts_with("tts-1") => true,
        _ => return Err(fields.wrong("stream_format", "`audio`, or `sse` of a newer model")),
    };
    Ok(Speak {
        model: model.to_owned(),
        input: input.to_owned(),
        voice: fields.must_text("voice")?.to_owned(),
        format: format.to_owned(),
        speed,
        instructions: fields.text("instructions")?.map(str::to_owned),
        events,
    })
}

/// The audio that a request comes to.
#[must_use]
pub(crate) fn audio(asked: &Speak) -> Vec<u8> {
    let seed = fnv1a(format!("{}|{}|{}", asked.voice, asked.format, asked.input).bytes());
    let length = asked.input.chars().count() * BYTES_PER_CHARACTER;
    let noise = (0..length as u64).map(|at| (seed.wrapping_mul(at.wrapping_add(1)) >> 32) as u8);
    let magic: &[u8] = match asked.format.as_str() {
        "mp3" => b"ID3",
        "opus" => b"OggS",
        "flac" => b"fLaC",
        "wav" => b"RIFF",
        _ => b"",
    };
    magic.iter().copied().chain(noise).collect()
}

pub(in super::super) fn answer(asked: &Speak, script: &Script) -> Content {
    let audio = audio(asked);
    let chunk = audio.len().div_ceil(script.chunks.max(1)).max(1);
    let error = json!({"error": {"message": "The server had an error.", "type": "server_error", "param": null, "code": null}});
    if !asked.events {
        let kind = FORMATS.iter().find(|(name, _)| *name == asked.format);
        let framing = Framing::Raw(kind.map_or("application/octet-stream", |(_, kind)| kind));
        let pieces = audio.chunks(chunk).map(|piece| Piece::sealed(piece.to_vec())).collect();
        let error = Piece::sealed(error.to_string());
        return Content::Stream(Streamed { framing, pieces, ending: 1, accent: Piece::sealed("é"), error });
    }
    let delta = |piece: &[u8]| data(&json!({"type": "speech.audio.delta", "audio": STANDARD.encode(piece)}));
    let mut pieces: Vec<_> = audio.chunks(chunk).map(delta).collect();
    let (input, output) = (asked.input.len().div_ceil(4), pieces.len());
    let usage = json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output});
    pieces.push(data(&json!({"type": "speech.audio.done", "usage": usage})));
    let framing = Framing::Sse;
    Content::Stream(Streamed {
        framing,
        pieces,
        ending: 1,
        accent: delta("é".as_bytes()),
        error: data(&error),
    })
}
