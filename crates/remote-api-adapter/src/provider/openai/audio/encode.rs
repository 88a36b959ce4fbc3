//! Requests as forms and JSON.

use bytes::Bytes;
use domain::{
    fault::Fault,
    inference::{Audio, Speak, Transcribe, TranscriptFormat},
};
use reqwest::header::HeaderValue;
use serde_json::value::RawValue;

use super::super::{
    client::JSON,
    encode::{Endpoint, defaults},
    flavor::Flavor,
};
use crate::provider::{
    Target,
    form::Form,
    json::{Fields, Object, Text},
};

/// A request ready to send.
pub(in super::super) struct Written {
    pub(in super::super) endpoint: Endpoint,
    pub(in super::super) content_type: HeaderValue,
    pub(in super::super) body: Bytes,
}

/// Fields of the form that the domain models.
const MODELLED: [&str; 9] = [
    "file",
    "model",
    "language",
    "prompt",
    "response_format",
    "temperature",
    "timestamp_granularities",
    "timestamp_granularities[]",
    "stream",
];

/// Writes a transcription or a translation.
///
/// # Errors
/// `Unsupported` for what the server or the model cannot do, `InvalidArgument` for carried fields that no form can hold; both
/// name the field.
pub(in super::super) fn transcribe(
    request: &Transcribe,
    target: &Target,
    flavor: Flavor,
) -> Result<Written, Fault> {
    flavor.transcribes(request, &target.upstream_model)?;
    let Audio::Content(content) = &request.audio else {
        return Err(Fault::internal("audio was not fetched before its call"));
    };
    let carried = Fields::parse("extra_json", &request.envelope.extra_json)?;
    let mut form = Form::with_room_for(content.len());
    form.field("model", &target.upstream_model);
    if let Some(language) = &request.language {
        form.field("language", language);
    }
    if !request.prompt.is_empty() {
        form.field("prompt", &request.prompt);
    }
    form.field("response_format", response_format(request.format, target));
    if let Some(temperature) = request.temperature {
        form.field("temperature", &temperature.to_string());
    }
    if request.words {
        for (_, granularity) in [(request.segments, "segment"), (true, "word")].iter().filter(|(on, _)| *on) {
            form.field("timestamp_granularities[]", granularity);
        }
    }
    if streams(request, target, flavor) {
        form.field("stream", "true");
    }
    for (key, value) in carried.iter() {
        if MODELLED.contains(&key) {
            let field = format!("extra_json.{key}");
            let message = format!("{field} is given beside the modelled field, expected only one of them");
            return Err(Fault::invalid(field, message));
        }
        field(&mut form, "extra_json", key, value)?;
    }
    for (key, value) in defaults(target)?.iter() {
        if !MODELLED.contains(&key) && !carried.contains(key) {
            field(&mut form, "defaults", key, value)?;
        }
    }
    // last, where a server that reads as it comes expects it
    form.file("file", &request.file_name, request.media_type.as_deref(), content);
    let (content_type, body) = form.finish();
    let endpoint = if request.to_english { Endpoint::Translations } else { Endpoint::Transcriptions };
    Ok(Written { endpoint, content_type, body })
}

/// The shape that holds what the caller wants and what the ledger needs.
fn response_format(format: TranscriptFormat, target: &Target) -> &'static str {
    match format {
        TranscriptFormat::Diarized => "diarized_json",
        format if format.is_timed() || target.tells_duration => "verbose_json",
        _ => "json",
    }
}

/// Whether the server is asked for pieces; a shape that has to be whole has none.
fn streams(request: &Transcribe, target: &Target, flavor: Flavor) -> bool {
    request.stream && !request.format.is_timed() && !target.tells_duration && flavor != Flavor::Groq
}

/// A carried value as fields: text as it is, a list as `name[]` each, everything else as its JSON.
fn field(form: &mut Form, path: &str, key: &str, value: &RawValue) -> Result<(), Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']');
    if key.is_empty() || !key.chars().all(plain) {
        let message =
            format!("{path} has a key that no form can hold, expected letters, digits, `_`, `-`, `.`");
        return Err(Fault::invalid(path, message));
    }
    if let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(value.get()) {
        let name = if key.ends_with("[]") { key.to_owned() } else { format!("{key}[]") };
        for one in list {
            form.field(&name, &word(one));
        }
        return Ok(());
    }
    if value.get() != "null" {
        form.field(key, &word(value));
    }
    Ok(())
}

fn word(value: &RawValue) -> String {
    match serde_json::from_str::<Text<'_>>(value.get()) {
        Ok(text) => text.into_string(),
        Err(_) => value.get().to_owned(),
    }
}

/// Writes a request for speech.
///
/// # Errors
/// As [`transcribe`].
pub(in super::super) fn speak(request: &Speak, target: &Target, flavor: Flavor) -> Result<Written, Fault> {
    flavor.speaks(request, &target.upstream_model)?;
    let mut body = Vec::with_capacity(request.input.len() + 256);
    let mut root = Object::begin(&mut body);
    root.text("model", &target.upstream_model);
    root.text("input", &request.input);
    root.text("voice", &request.voice);
    root.text("response_format", request.format.as_str());
    root.optional("speed", request.speed);
    if !request.instructions.is_empty() {
        root.text("instructions", &request.instructions);
    }
    if target.tells_speech_tokens {
        root.text("stream_format", "sse");
    } else {
        root.reserve("stream_format");
    }
    let carried = Fields::parse("extra_json", &request.envelope.extra_json)?;
    root.carry("extra_json", &carried)?;
    root.complete(&defaults(target)?, &carried);
    root.end();
    Ok(Written { endpoint: Endpoint::Speech, content_type: JSON, body: body.into() })
}
