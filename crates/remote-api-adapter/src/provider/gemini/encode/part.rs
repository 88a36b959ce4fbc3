//! One part of a message: text, pictures, files, and Google's own parts.

use domain::{
    fault::Fault,
    inference::{Part, PartContent},
};
use reqwest::Url;
use serde_json::value::RawValue;

use super::{Service, beside, camel, carry, contents::Rules, contents::signature, shown, unsupported};
use crate::provider::json::{Fields, Object, Text};

/// Writes the part.
///
/// # Errors
/// `InvalidArgument` and `Unsupported`, naming the field under `path`.
pub(super) fn write(out: &mut Vec<u8>, part: &Part, path: &str, rules: Rules) -> Result<(), Fault> {
    write_signed(out, part, path, rules, None)
}

/// As [`write`], with the signature of the thought behind it.
///
/// # Errors
/// As [`write`].
pub(super) fn write_signed(
    out: &mut Vec<u8>,
    part: &Part,
    path: &str,
    rules: Rules,
    signed: Option<&str>,
) -> Result<(), Fault> {
    let mut object = Object::begin(out);
    let mut theirs = Fields::default();
    match &part.content {
        PartContent::Text(text) => object.text("text", text),
        PartContent::ImageUrl { url, .. } => picture(&mut object, url, path, rules)?,
        PartContent::Json(json) => {
            theirs = Fields::parse(path, json)?;
            match theirs.iter().find(|(key, _)| *key == "type") {
                Some((_, kind)) => openai_part(&mut object, kind, &theirs, path, rules)?,
                None => native(&mut object, &theirs, path)?,
            }
        }
    }
    let mut own = Fields::default();
    let (mut from_part, extras) = (None, Fields::parse(path, &part.extra_json)?);
    for (key, value) in extras.into_entries() {
        match &*key {
            "extra_content" => from_part = signature(path, value)?,
            "cache_control" => {
                let expected = "none: Google caches by itself, or by the request's `cachedContent`";
                return Err(unsupported(format!("{path}.cache_control"), &shown(value.get()), expected));
            }
            key if object.has(&camel(key)) || theirs.iter().any(|(other, _)| camel(other) == camel(key)) => {
                return Err(beside(&format!("{path}.{key}")));
            }
            _ => own.keep(key, value),
        }
    }
    if let Some(signature) = from_part.as_deref().or(signed) {
        object.text("thoughtSignature", signature);
    }
    carry(&mut object, path, &own)?;
    object.end();
    Ok(())
}

/// Google's own part, as it stands.
fn native(object: &mut Object<'_>, fields: &Fields<'_>, path: &str) -> Result<(), Fault> {
    for (key, value) in fields.iter() {
        if matches!(camel(key).as_str(), "inlineData" | "fileData") {
            let inner = Fields::parse(&format!("{path}.{key}"), value.get())?;
            if let Some((kind, value)) = inner.iter().find(|(key, _)| camel(key) == "mimeType") {
                priced(&format!("{path}.{key}.{kind}"), value.get().trim_matches('"'))?;
            }
        }
    }
    object.carry(path, fields)
}

/// Sound costs more than other input, and the price table knows one price for all input.
fn priced(field: &str, media_type: &str) -> Result<(), Fault> {
    if media_type.to_ascii_lowercase().starts_with("audio/") {
        let expected = "no sound: no price is known for it";
        return Err(unsupported(field, &shown(media_type), expected));
    }
    Ok(())
}

/// A part of OpenAI's that the domain does not model.
fn openai_part(
    object: &mut Object<'_>,
    kind: &RawValue,
    fields: &Fields<'_>,
    path: &str,
    rules: Rules,
) -> Result<(), Fault> {
    if kind.get() != "\"file\"" {
        let expected = "text, image_url or file, or a part in Google's own words";
        return Err(unsupported(format!("{path}.type"), &shown(kind.get()), expected));
    }
    let (mut data, mut name) = (None, None);
    for (key, value) in fields.iter().filter(|(key, _)| *key != "type") {
        let path = format!("{path}.{key}");
        let unknown = |field: String, value: &RawValue| {
            Err(unsupported(field, &shown(value.get()), "file_data: Google cannot read OpenAI's files"))
        };
        if key != "file" {
            return unknown(path, value);
        }
        for (key, value) in Fields::parse(&path, value.get())?.iter() {
            match (key, serde_json::from_str::<Text<'_>>(value.get())) {
                (_, Err(_)) if value.get() == "null" => {}
                ("file_data", Ok(text)) => data = Some(text),
                ("filename", Ok(text)) => name = Some(text),
                _ => return unknown(format!("{path}.{key}"), value),
            }
        }
    }
    let path = format!("{path}.file");
    let Some(data) = data else {
        let field = format!("{path}.file_data");
        let message = format!("{field} is missing, expected a data: address");
        return Err(Fault::invalid(field, message));
    };
    let field = format!("{path}.file_data");
    if !data.starts_with("data:") {
        let expected = "a data: address with a media type";
        return Err(unsupported(field, &shown(&data), expected));
    }
    if let Some(name) = name.as_deref().filter(|_| rules.service == Service::AiStudio) {
        let expected = "none: the Gemini API takes no names of files";
        return Err(unsupported(format!("{path}.filename"), &shown(name), expected));
    }
    inline(object, &field, &data, name.as_deref())
}

/// A picture by address.
fn picture(object: &mut Object<'_>, url: &str, path: &str, rules: Rules) -> Result<(), Fault> {
    let field = format!("{path}.image_url.url");
    if url.starts_with("data:") {
        return inline(object, &field, url, None);
    }
    if url.starts_with("gs://") && rules.service == Service::AiStudio {
        let expected = "https: or data:, since only Vertex AI reads Cloud Storage";
        return Err(unsupported(field, &shown(url), expected));
    }
    if url.starts_with("https://") && !rules.generation.fetches_addresses() {
        let expected = "a data: address, since this model takes only bytes";
        return Err(unsupported(field, &shown(url), expected));
    }
    let Some(media_type) = media_type_of(url) else {
        let expected = "an address whose path ends in .png, .jpg, .jpeg, .webp, .heic or .heif: Google wants to know the \
                        media type";
        return Err(unsupported(field, &shown(url), expected));
    };
    let mut file = Object::begin(object.nested("fileData"));
    file.text("mimeType", media_type);
    file.text("fileUri", url);
    file.end();
    Ok(())
}

/// Bytes in the request itself: `data:<media type>;base64,<data>` (RFC 2397).
fn inline(object: &mut Object<'_>, field: &str, url: &str, name: Option<&str>) -> Result<(), Fault> {
    let split = url.strip_prefix("data:").and_then(|rest| rest.split_once(','));
    let Some((kind, data)) = split.and_then(|(head, data)| Some((head.strip_suffix(";base64")?, data)))
    else {
        let message = format!("{field} is {}, expected data:<media type>;base64,<data>", shown(url));
        return Err(Fault::invalid(field, message));
    };
    let media_type = kind.split(';').next().unwrap_or_default();
    if media_type.is_empty() {
        let message = format!("{field} is {}, expected a media type after data:", shown(url));
        return Err(Fault::invalid(field, message));
    }
    priced(field, media_type)?;
    let mut blob = Object::begin(object.nested("inlineData"));
    blob.text("mimeType", media_type);
    if let Some(name) = name {
        blob.text("displayName", name);
    }
    blob.text("data", data);
    blob.end();
    Ok(())
}

fn media_type_of(url: &str) -> Option<&'static str> {
    let url = Url::parse(url).ok()?;
    let (_, ending) = url.path().rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "heif" => "image/heif",
        _ => return None,
    })
}
