//! Parts of messages as Converse's content blocks: objects with one field, which says what they are.

use domain::{
    fault::Fault,
    inference::{Part, PartContent},
};
use serde::Deserialize;

use super::unsupported;
use crate::provider::json::{Fields, Object, Text};

mod media;

/// Converse's blocks that may come with a `type` that repeats their name.
const KINDS: [&str; 11] = [
    "image",
    "document",
    "video",
    "audio",
    "guardContent",
    "cachePoint",
    "searchResult",
    "citationsContent",
    "reasoningContent",
    "toolResult",
    "json",
];

/// Where a block stands, which decides what it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    System,
    User,
    Assistant,
    ToolResult,
}

/// Writes an array of blocks.
pub(super) struct Blocks<'o> {
    out: &'o mut Vec<u8>,
    count: usize,
}

impl<'o> Blocks<'o> {
    pub(super) fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'[');
        Self { out, count: 0 }
    }

    /// The caller writes the next block.
    pub(super) fn next(&mut self) -> &mut Vec<u8> {
        if self.count > 0 {
            self.out.push(b',');
        }
        self.count += 1;
        self.out
    }

    pub(super) fn text(&mut self, text: &str) {
        let mut block = Object::begin(self.next());
        block.text("text", text);
        block.end();
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn end(self) {
        self.out.push(b']');
    }
}

/// A place up to which the provider may keep the prompt.
#[derive(Debug)]
pub(super) struct CachePoint<'a> {
    ttl: Option<Text<'a>>,
}

impl CachePoint<'_> {
    pub(super) fn write(&self, blocks: &mut Blocks<'_>) {
        self.write_to(blocks.next());
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let mut block = Object::begin(out);
        let mut point = Object::begin(block.nested("cachePoint"));
        point.text("type", "default");
        if let Some(ttl) = &self.ttl {
            point.text("ttl", ttl);
        }
        point.end();
        block.end();
    }
}

/// Anthropic's `cache_control`.
///
/// # Errors
/// `Unsupported`: another than `{"type": "ephemeral"}` with or without `ttl`.
pub(super) fn cache_point<'a>(control: &'a str, path: &str) -> Result<CachePoint<'a>, Fault> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Control<'a> {
        #[serde(borrow, rename = "type")]
        kind: Text<'a>,
        #[serde(borrow, default)]
        ttl: Option<Text<'a>>,
    }
    match serde_json::from_str::<Control<'a>>(control) {
        Ok(control) if &*control.kind == "ephemeral" => Ok(CachePoint { ttl: control.ttl }),
        _ => {
            let field = format!("{path}.cache_control");
            Err(unsupported(
                &field,
                "is of another kind, expected `{\"type\": \"ephemeral\"}`, with ttl or without",
            ))
        }
    }
}

/// Writes parts. A tool's result cannot hold its cache point, which is given back to stand after it.
pub(super) fn parts<'a>(
    blocks: &mut Blocks<'_>,
    parts: &'a [Part],
    path: &str,
    place: Place,
) -> Result<Option<CachePoint<'a>>, Fault> {
    let mut pending = None;
    for (at, part) in parts.iter().enumerate() {
        let path = format!("{path}.content[{at}]");
        let extras = Fields::parse(&path, &part.extra_json)?;
        let mut cached = None;
        for (key, value) in extras.into_entries().filter(|(_, value)| value.get() != "null") {
            match &*key {
                "cache_control" => cached = Some(value.get()),
                other => {
                    let problem = "is given, but Converse has no such field of a part; expected none";
                    return Err(unsupported(&format!("{path}.{other}"), problem));
                }
            }
        }
        match &part.content {
            // Converse refuses texts that are empty, which clients send beside tool calls
            PartContent::Text(text) if text.is_empty() => {}
            PartContent::Text(text) => blocks.text(text),
            PartContent::ImageUrl { .. } if place == Place::System => {
                return Err(unsupported(&path, "is a picture in an instruction, expected text"));
            }
            PartContent::ImageUrl { url, detail } => media::picture(blocks, url, detail, &path)?,
            PartContent::Json(json) => cached = native(blocks, json, &path)?.or(cached),
        }
        if let Some(control) = cached {
            let point = cache_point(control, &path)?;
            if place == Place::ToolResult {
                pending = Some(point);
            } else {
                point.write(blocks);
            }
        }
    }
    Ok(pending)
}

/// A part that is not modelled: Converse's own blocks as they stand, with or without a `type` that repeats their name, and
/// those of OpenAI's that have their like. Gives back its `cache_control`.
fn native<'a>(blocks: &mut Blocks<'_>, json: &'a str, path: &str) -> Result<Option<&'a str>, Fault> {
    let (kinds, fields) = Fields::parse(path, json)?.split("type");
    let (controls, fields) = fields.split("cache_control");
    let control =
        controls.into_iter().map(serde_json::value::RawValue::get).find(|control| *control != "null");
    let kind = match kinds.as_slice() {
        [] => None,
        [kind] => serde_json::from_str::<Text<'_>>(kind.get()).ok(),
        _ => None,
    };
    match kind.as_deref() {
        Some("file") => media::file(blocks, &fields, path)?,
        Some("input_audio") => media::audio(blocks, &fields, path)?,
        Some(kind) if !(KINDS.contains(&kind) && fields.contains(kind)) => {
            let kind: String = kind.chars().take(40).collect();
            let field = format!("{path}.type");
            return Err(unsupported(
                &field,
                &format!("is {kind:?}, expected a kind of part that Converse has"),
            ));
        }
        _ => {
            if fields.iter().count() != 1 {
                let problem = "is no block of Converse, expected one field that says what it is";
                return Err(Fault::invalid(path, format!("{path} {problem}")));
            }
            let mut block = Object::begin(blocks.next());
            block.carry(path, &fields)?;
            block.end();
        }
    }
    Ok(control)
}
