//! Transcriptions: a form with a file in, a transcript out. What is heard names the file's size and hash, so that it shows
//! whether all of it has arrived.

#![expect(clippy::indexing_slicing, reason = "a JSON object takes every name")]

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use futures::executor::block_on;
use hyper::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::super::Flavour;
use crate::upstream::Script;
use crate::upstream::asked::Transcribe;
use crate::upstream::format::{Call, Content};
use crate::upstream::problem::Problem;
use crate::upstream::stream::{Framing, Streamed, data};
use crate::upstream::vector::fnv1a;

/// Endings that OpenAI takes.
const ENDINGS: [&str; 9] = ["flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "ogg", "wav", "webm"];
/// 25 MB.
const FILE_BYTES_MAX: usize = 26_214_400;
/// Bytes of a second of what is no WAV.
const BYTES_PER_SECOND: f64 = 16_000.0;
const WAV_HEADER_BYTES: usize = 44;
const WORDS_PER_SEGMENT: usize = 4;

/// Reads the form.
///
/// # Errors
/// What OpenAI refuses.
pub(in super::super) fn asked(
    call: &Call<'_>,
    deployment: Option<&str>,
    flavour: Flavour,
    to_english: bool,
) -> Result<Transcribe, Problem> {
    let (file, mut fields) = block_on(read(call))?;
    let Some((file_name, media_type, content)) = file else {
        return Err(Problem::invalid_field("file", "you must provide a file"));
    };
    if content.len() > FILE_BYTES_MAX {
        let message = format!("Maximum content size limit ({FILE_BYTES_MAX}) exceeded");
        return Err(Problem::new(crate::upstream::Trouble::TooLarge, message));
    }
    let ending = file_name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    if !ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
        return Err(Problem::invalid_field(
            "file",
            "Invalid file format. Supported formats: flac, mp3, wav …",
        ));
    }
    let mut one = |name: &str| fields.remove(name).and_then(|mut texts| texts.pop());
    let number = one("temperature").map(|text| text.parse::<f64>()).transpose();
    let asked = Transcribe {
        model: deployment.map(str::to_owned).or_else(|| one("model")).unwrap_or_default(),
        file_name,
        media_type,
        audio: format!("{} B #{:016x}", content.len(), fnv1a(content.iter().copied())),
        seconds: seconds(&content),
        language: one("language"),
        prompt: one("prompt"),
        format: one("response_format").unwrap_or_else(|| "json".to_owned()),
        temperature: number.map_err(|_| Problem::invalid_field("temperature", "no number"))?,
        stream: one("stream").is_some_and(|text| text == "true"),
        to_english,
        granularities: fields.remove("timestamp_granularities[]").unwrap_or_default(),
        include: fields.remove("include[]").unwrap_or_default(),
        others: fields.into_keys().collect(),
    };
    check(&asked, flavour)?;
    Ok(asked)
}

fn check(asked: &Transcribe, flavour: Flavour) -> Result<(), Problem> {
    let formats: &[&str] = match (flavour, asked.model.starts_with("gpt-")) {
        (Flavour::Groq, _) => &["json", "text", "verbose_json"],
        (_, true) if asked.model.contains("diarize") => &["json", "text", "diarized_json"],
        (_, true) => &["json", "text"],
        (_, false) => &["json", "text", "srt", "verbose_json", "vtt"],
    };
    if !formats.contains(&asked.format.as_str()) {
        let message = format!("response_format '{}' is not compatible with this model", asked.format);
        return Err(Problem::invalid_field("response_format", message));
    }
    if !asked.granularities.is_empty() && asked.format != "verbose_json" {
        return Err(Problem::invalid_field("timestamp_granularities", "wants verbose_json"));
    }
    if flavour == Flavour::Groq && asked.stream {
        return Err(Problem::invalid_field("stream", "unknown field"));
    }
    let speaks_english = asked.to_english && (asked.language.is_some() || asked.model.starts_with("gpt-"));
    if speaks_english || (asked.to_english && asked.model.contains("turbo")) {
        return Err(Problem::invalid_field("model", "The model does not translate."));
    }
    Ok(())
}

type File = (String, String, Bytes);

async fn read(call: &Call<'_>) -> Result<(Option<File>, BTreeMap<String, Vec<String>>), Problem> {
    let broken = |error: multer::Error| Problem::invalid(format!("We could not parse your form: {error}"));
    let kind = call.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind).map_err(broken)?;
    let body = Bytes::copy_from_slice(call.body);
    let stream = futures::stream::once(async move { Ok::<_, Infallible>(body) });
    let mut form = multer::Multipart::new(stream, boundary);
    let (mut file, mut fields) = (None, BTreeMap::<String, Vec<String>>::new());
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            let file_name = field.file_name().unwrap_or_default().to_owned();
            let media_type = field.content_type().map(ToString::to_string).unwrap_or_default();
            file = Some((file_name, media_type, field.bytes().await.map_err(broken)?));
        } else {
            fields.entry(name).or_default().push(field.text().await.map_err(broken)?);
        }
    }
    Ok((file, fields))
}

/// How long the audio lasts: by its header where it is a WAV.
fn seconds(content: &[u8]) -> f64 {
    let rate = content.get(28..32).and_then(|rate| Some(u32::from_le_bytes(rate.try_into().ok()?)));
    match rate.filter(|rate| content.starts_with(b"RIFF") && *rate > 0) {
        Some(rate) => content.len().saturating_sub(WAV_HEADER_BYTES) as f64 / f64::from(rate),
        None => content.len() as f64 / BYTES_PER_SECOND,
    }
}

/// What is heard, in pieces.
fn pieces(asked: &Transcribe, script: &Script) -> Vec<String> {
    let said = script.say.as_ref().and_then(|say| say.text.clone());
    let text = said.unwrap_or_else(|| {
        let words: String = (1..script.chunks).map(|number| format!(" word{number}")).collect();
        format!("heard {}{words}", asked.audio)
    });
    text.split_inclusive(' ').map(str::to_owned).collect()
}

pub(in super::super) fn answer(asked: &Transcribe, script: &Script, flavour: Flavour) -> Content {
    let pieces = pieces(asked, script);
    let text: String = pieces.concat();
    let by_tokens = asked.model.starts_with("gpt-");
    let usage = usage(asked, pieces.len(), by_tokens);
    if asked.stream && by_tokens {
        return Content::Stream(stream(asked, &pieces, &text, &usage));
    }
    if matches!(asked.format.as_str(), "text" | "srt" | "vtt") {
        return Content::Text(format!("{text}\n"));
    }
    let mut answer = json!({"text": text});
    if asked.format != "json" {
        details(&mut answer, asked, &pieces);
    }
    match flavour {
        Flavour::Groq => answer["x_groq"] = json!({"id": "req_fake"}),
        // as Azure's whisper answers: without it
        Flavour::Azure if !by_tokens => {}
        Flavour::OpenAi | Flavour::Azure => answer["usage"] = usage,
    }
    if asked.include.iter().any(|field| field == "logprobs") {
        answer["logprobs"] = json!([{"token": "heard", "logprob": -0.5, "bytes": [104]}]);
    }
    Content::Whole(answer)
}

fn usage(asked: &Transcribe, output: usize, by_tokens: bool) -> Value {
    if !by_tokens {
        return json!({"type": "duration", "seconds": asked.seconds.ceil()});
    }
    let audio = (asked.seconds * 10.0).ceil() as u64;
    let text = asked.prompt.as_ref().map_or(0, |prompt| prompt.len().div_ceil(4) as u64);
    json!({
        "type": "tokens",
        "input_tokens": audio + text,
        "input_token_details": {"text_tokens": text, "audio_tokens": audio},
        "output_tokens": output,
        "total_tokens": audio + text + output as u64,
    })
}

fn details(answer: &mut Value, asked: &Transcribe, pieces: &[String]) {
    let step = asked.seconds / pieces.len().max(1) as f64;
    let at = |index: usize| (index as f64 * step * 1_000.0).round() / 1_000.0;
    let is_diarized = asked.format == "diarized_json";
    answer["task"] = if asked.to_english { "translate" } else { "transcribe" }.into();
    answer["duration"] = json!(asked.seconds);
    if !is_diarized {
        answer["language"] = "english".into();
    }
    let wants = |what: &str| asked.granularities.iter().any(|granularity| granularity == what);
    if asked.granularities.is_empty() || wants("segment") {
        let segments = pieces.chunks(WORDS_PER_SEGMENT).enumerate().map(|(index, words)| {
            let first = index * WORDS_PER_SEGMENT;
            let (start, end) = (at(first), at(first + words.len()));
            if is_diarized {
                let (id, speaker) = (format!("seg_{index:03}"), if index % 2 == 0 { "A" } else { "B" });
                return json!({"type": "transcript.text.segment", "id": id, "start": start, "end": end, "text": words.concat(), "speaker": speaker});
            }
            json!({
                "id": index, "seek": 0, "start": start, "end": end, "text": words.concat(), "tokens": [1, 2],
                "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.5, "no_speech_prob": 0.01,
            })
        });
        answer["segments"] = segments.collect();
    }
    if wants("word") {
        let words = pieces.iter().enumerate();
        let words =
            words.map(|(index, word)| json!({"word": word.trim(), "start": at(index), "end": at(index + 1)}));
        answer["words"] = words.collect();
    }
}

fn stream(asked: &Transcribe, pieces: &[String], text: &str, usage: &Value) -> Streamed {
    let delta = |text: &str| {
        let mut event = json!({"type": "transcript.text.delta", "delta": text});
        if asked.include.iter().any(|field| field == "logprobs") {
            event["logprobs"] = json!([{"token": text, "logprob": -0.5, "bytes": [104]}]);
        }
        data(&event)
    };
    let mut events: Vec<_> = pieces.iter().map(|piece| delta(piece)).collect();
    events.push(data(&json!({"type": "transcript.text.done", "text": text, "usage": usage})));
    let error = json!({"error": {"message": "The server had an error.", "type": "server_error", "param": null, "code": null}});
    Streamed { framing: Framing::Sse, pieces: events, ending: 1, accent: delta("é"), error: data(&error) }
}
