//! The pieces of a turn, and how they are written.

use domain::{
    fault::Fault,
    inference::{Part, PartContent},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::unsupported;
use crate::provider::json::{self, Fields, Object, Text};

/// Pictures that the API reads.
const PICTURES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// How deep the API nests blocks: a text in a document's source in a tool's result, with room to spare.
const DEPTH_MAX: usize = 8;

/// One content block.
#[derive(Debug)]
pub(super) struct Block<'a> {
    /// Where it stands in the caller's request, for faults.
    pub(super) path: String,
    pub(super) content: Content<'a>,
    /// Fields to carry beside the content (`cache_control`).
    pub(super) extras: Fields<'a>,
}

#[derive(Debug)]
pub(super) enum Content<'a> {
    Text(Text<'a>),
    Image(Source<'a>),
    Document {
        source: Source<'a>,
        title: Option<Text<'a>>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        /// A JSON object.
        input: &'a str,
    },
    ToolResult {
        id: &'a str,
        content: Vec<Block<'a>>,
        is_error: Option<bool>,
    },
    /// A block in the API's own form, its fields in `extras`.
    Own,
}

/// Where a picture or document comes from: an address, or a checked data URL.
#[derive(Debug)]
pub(super) struct Source<'a>(Text<'a>);

/// Media type and base64 of a data URL.
fn inline(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}

impl<'a> Source<'a> {
    fn picture(url: &'a str, path: &str) -> Result<Self, Fault> {
        match inline(url) {
            Some((kind, _)) if PICTURES.contains(&kind) => {}
            None if url.starts_with("https://") => {}
            _ => {
                let shown: String = url.chars().take(40).collect();
                let expected = "an https URL, or base64 of JPEG, PNG, GIF or WebP";
                return Err(unsupported(format!("{path}.image_url.url"), &format!("{shown:?}"), expected));
            }
        }
        Ok(Self(Text::from(url)))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut source = Object::begin(out);
        match inline(&self.0) {
            Some((kind, data)) => {
                source.text("type", "base64");
                source.text("media_type", kind);
                source.text("data", data);
            }
            None => {
                source.text("type", "url");
                source.text("url", &self.0);
            }
        }
        source.end();
    }
}

impl<'a> Block<'a> {
    fn new(path: String, content: Content<'a>, extras: Fields<'a>) -> Self {
        Self { path, content, extras }
    }

    /// A block in the API's own form, as in `thinking_blocks`.
    ///
    /// # Errors
    /// `Unsupported`: something whose price is not known.
    pub(super) fn own(path: String, fields: Fields<'a>, hour: Hour) -> Result<Self, Fault> {
        hour.watch(&path, &fields, 0)?;
        Ok(Self::new(path, Content::Own, fields))
    }

    pub(super) fn text(path: String, text: Text<'a>) -> Self {
        Self::new(path, Content::Text(text), Fields::default())
    }

    /// A part of a message; `None` for an empty text, which says nothing and which the API refuses.
    ///
    /// # Errors
    /// `Unsupported`: a part that the API does not read, or whose price is not known; `InvalidArgument`: carried JSON that is
    /// none.
    pub(super) fn read(part: &'a Part, path: String, hour: Hour) -> Result<Option<Self>, Fault> {
        let extras = Fields::parse(&path, &part.extra_json)?;
        hour.watch(&path, &extras, 0)?;
        let content = match &part.content {
            PartContent::Text(text) if text.is_empty() && extras.iter().next().is_none() => return Ok(None),
            PartContent::Text(text) => Content::Text(Text::from(text.as_str())),
            PartContent::ImageUrl { url, detail } => {
                // a picture is always read in full
                if !matches!(detail.as_str(), "" | "auto" | "high") {
                    let field = format!("{path}.image_url.detail");
                    return Err(unsupported(field, &format!("{detail:?}"), "auto, high or nothing"));
                }
                Content::Image(Source::picture(url, &path)?)
            }
            PartContent::Json(json) => return Self::of_json(json, extras, path, hour).map(Some),
        };
        Ok(Some(Self::new(path, content, extras)))
    }

    /// A part that the domain does not model: OpenAI's are translated, Anthropic's own stay.
    fn of_json(json: &'a str, extras: Fields<'a>, path: String, hour: Hour) -> Result<Self, Fault> {
        let mut own = Fields::parse(&path, json)?;
        let kind = own.iter().find(|(key, _)| *key == "type").map(|(_, value)| value.get());
        match kind {
            Some("\"input_audio\"") => {
                return Err(unsupported(path, "input_audio", "text, a picture or a document"));
            }
            Some("\"file\"") => {
                let OpenAiFile { file } = parse(&path, json)?;
                let Some(data) = file.file_data else {
                    let expected = "file_data: a file of another provider cannot be read";
                    return Err(unsupported(format!("{path}.file"), "without file_data", expected));
                };
                if inline(&data).is_none_or(|(kind, _)| kind != "application/pdf") {
                    let field = format!("{path}.file.file_data");
                    return Err(unsupported(field, "of another kind", "a data URL of a PDF in base64"));
                }
                let content = Content::Document { source: Source(data), title: file.filename };
                return Ok(Self::new(path, content, extras));
            }
            Some("\"refusal\"") => {
                let OpenAiRefusal { refusal } = parse(&path, json)?;
                return Ok(Self::new(path, Content::Text(refusal), extras));
            }
            _ => {}
        }
        for (key, value) in extras.into_entries() {
            if own.contains(&key) {
                let field = format!("{path}.{}", &*key);
                let message = format!("{field} is given twice, expected once");
                return Err(Fault::invalid(field, message));
            }
            own.keep(key, value);
        }
        Self::own(path, own, hour)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut object = Object::begin(out);
        match &self.content {
            Content::Text(text) => {
                object.text("type", "text");
                object.text("text", text);
            }
            Content::Image(source) => {
                object.text("type", "image");
                source.write(object.nested("source"));
            }
            Content::Document { source, title } => {
                object.text("type", "document");
                source.write(object.nested("source"));
                if let Some(title) = title {
                    object.text("title", title);
                }
            }
            Content::ToolUse { id, name, input } => {
                object.text("type", "tool_use");
                object.text("id", id);
                object.text("name", name);
                object.raw("input", input);
            }
            Content::ToolResult { id, content, is_error } => {
                object.text("type", "tool_result");
                object.text("tool_use_id", id);
                match content.as_slice() {
                    [] => {}
                    [Self { content: Content::Text(text), extras, .. }] if extras.iter().next().is_none() => {
                        object.text("content", text);
                    }
                    blocks => json::array(object.nested("content"), blocks, |out, block| block.write(out))?,
                }
                object.optional("is_error", *is_error);
            }
            Content::Own => {}
        }
        object.carry(&self.path, &self.extras)?;
        object.end();
        Ok(())
    }
}

#[derive(Deserialize)]
struct OpenAiFile<'a> {
    #[serde(borrow)]
    file: OpenAiFileContent<'a>,
}

#[derive(Deserialize)]
struct OpenAiFileContent<'a> {
    #[serde(borrow, default)]
    file_data: Option<Text<'a>>,
    #[serde(borrow, default)]
    filename: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct OpenAiRefusal<'a> {
    #[serde(borrow)]
    refusal: Text<'a>,
}

fn parse<'a, T: Deserialize<'a>>(path: &str, json: &'a str) -> Result<T, Fault> {
    serde_json::from_str(json).map_err(|error| {
        let message = format!("{path} is not what its type says ({error}), expected OpenAI's form of it");
        Fault::invalid(path, message)
    })
}

/// Whether the price of what is kept in the cache for an hour is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hour {
    pub(super) is_priced: bool,
}

impl Hour {
    /// Finds the `cache_control` of a block and of the blocks inside it; `depth` is how deep it lies itself.
    ///
    /// # Errors
    /// As [`Hour::check`].
    fn watch(self, path: &str, fields: &Fields<'_>, depth: usize) -> Result<(), Fault> {
        for (key, value) in fields.iter() {
            match key {
                "cache_control" => self.check(&format!("{path}.{key}"), value)?,
                // blocks nest at these two; anything that is no list of objects holds none
                "content" | "source" if depth < DEPTH_MAX => {
                    let inside: Vec<Fields<'_>> = if value.get().starts_with('[') {
                        serde_json::from_str(value.get()).unwrap_or_default()
                    } else {
                        serde_json::from_str(value.get()).into_iter().collect()
                    };
                    let path = format!("{path}.{key}");
                    inside.iter().try_for_each(|fields| self.watch(&path, fields, depth + 1))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// # Errors
    /// `Unsupported`: the text is to be kept for a time of which no price is known.
    pub(super) fn check(self, field: &str, value: &RawValue) -> Result<(), Fault> {
        #[derive(Deserialize)]
        struct CacheControl<'a> {
            #[serde(borrow, default)]
            ttl: Option<Text<'a>>,
        }
        match serde_json::from_str::<CacheControl<'_>>(value.get()) {
            Ok(CacheControl { ttl: Some(ttl) }) if &*ttl != "5m" && !(self.is_priced && &*ttl == "1h") => {
                let shown: String = ttl.chars().take(40).collect();
                let expected = if self.is_priced {
                    "5m or 1h: no other price is known"
                } else {
                    "5m: no other price is known, see cache_write_hour_per_million"
                };
                Err(unsupported(format!("{field}.ttl"), &format!("{shown:?}"), expected))
            }
            _ => Ok(()),
        }
    }
}
