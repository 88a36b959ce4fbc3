//! Pictures, documents and sound. Converse takes bytes (base64) or a place in S3, never an address on the web.

use domain::fault::Fault;
use serde::Deserialize;

use super::{Blocks, unsupported};
use crate::provider::json::{Fields, Object, Text};

/// A media type and the base64 text of a `data:` URL.
struct Data<'a> {
    media_type: &'a str,
    base64: &'a str,
}

/// # Errors
/// `Unsupported` for an address that is no `data:` URL, `InvalidArgument` for one that is not in base64.
fn data<'a>(url: &'a str, field: &str) -> Result<Data<'a>, Fault> {
    let Some(rest) = url.strip_prefix("data:") else {
        let problem = "is an address, but Bedrock takes bytes only; expected a data: URL in base64";
        return Err(unsupported(field, problem));
    };
    let wrong = || {
        Fault::invalid(field, format!("{field} is no data: URL in base64, expected `data:<type>;base64,…`"))
    };
    let (head, base64) = rest.split_once(',').ok_or_else(wrong)?;
    let media_type = head.strip_suffix(";base64").ok_or_else(wrong)?;
    let media_type = media_type.split(';').next().unwrap_or_default();
    if !is_base64(base64) {
        return Err(wrong());
    }
    Ok(Data { media_type, base64 })
}

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    !digits.is_empty() && text.len() - digits.len() <= 2 && digits.bytes().all(plain)
}

/// `{"<kind>": {"format": …, …, "source": {"bytes": …}}}`; `name` where the kind has one.
fn block(blocks: &mut Blocks<'_>, kind: &'static str, format: &str, name: Option<&str>, base64: &str) {
    let mut block = Object::begin(blocks.next());
    let mut media = Object::begin(block.nested(kind));
    media.text("format", format);
    if let Some(name) = name {
        media.text("name", name);
    }
    let mut source = Object::begin(media.nested("source"));
    source.text("bytes", base64);
    source.end();
    media.end();
    block.end();
}

/// A picture of the domain.
pub(super) fn picture(blocks: &mut Blocks<'_>, url: &str, detail: &str, path: &str) -> Result<(), Fault> {
    // pictures are read as they are
    if !matches!(detail, "" | "auto" | "high") {
        let field = format!("{path}.image_url.detail");
        return Err(unsupported(
            &field,
            &format!("is {detail:?}, but Converse has no such setting; expected auto or high"),
        ));
    }
    let field = format!("{path}.image_url.url");
    let data = data(url, &field)?;
    let format = match data.media_type {
        "image/png" => "png",
        "image/jpeg" | "image/jpg" => "jpeg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        other => {
            let problem =
                format!("holds {:?}, expected image/png, image/jpeg, image/gif or image/webp", start(other));
            return Err(unsupported(&field, &problem));
        }
    };
    block(blocks, "image", format, None, data.base64);
    Ok(())
}

/// OpenAI's part `file`.
pub(super) fn file(blocks: &mut Blocks<'_>, fields: &Fields<'_>, path: &str) -> Result<(), Fault> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File<'a> {
        #[serde(borrow, default)]
        file_data: Option<Text<'a>>,
        #[serde(borrow, default)]
        filename: Option<Text<'a>>,
    }
    let file: File<'_> = only(fields, "file", path, "file_data and filename: Bedrock keeps no files")?;
    let field = format!("{path}.file.file_data");
    let Some(url) = file.file_data else {
        return Err(unsupported(&field, "is missing, expected a data: URL in base64"));
    };
    let data = data(&url, &field)?;
    let format = match data.media_type {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        "text/html" => "html",
        "text/plain" => "txt",
        "text/markdown" => "md",
        other => {
            let expected = "expected a PDF, an office document or text";
            return Err(unsupported(&field, &format!("holds {:?}, {expected}", start(other))));
        }
    };
    let name = document_name(file.filename.as_deref().unwrap_or_default());
    block(blocks, "document", format, Some(&name), data.base64);
    Ok(())
}

/// A name that Converse accepts: letters, digits, single spaces, hyphens, parentheses and brackets, at most 200.
fn document_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '(' | ')' | '[' | ']');
    let replaced: String = name.chars().map(|c| if plain(c) { c } else { '-' }).collect();
    let words: Vec<&str> = replaced.split(' ').filter(|word| !word.is_empty()).collect();
    let name: String = words.join(" ").chars().take(200).collect();
    if name.is_empty() { "document".to_owned() } else { name }
}

/// OpenAI's part `input_audio`.
pub(super) fn audio(blocks: &mut Blocks<'_>, fields: &Fields<'_>, path: &str) -> Result<(), Fault> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Audio<'a> {
        #[serde(borrow)]
        data: Text<'a>,
        #[serde(borrow)]
        format: Text<'a>,
    }
    let audio: Audio<'_> = only(fields, "input_audio", path, "data and format")?;
    if !matches!(&*audio.format, "wav" | "mp3") {
        let field = format!("{path}.input_audio.format");
        return Err(unsupported(&field, &format!("is {:?}, expected wav or mp3", start(&audio.format))));
    }
    if !is_base64(&audio.data) {
        let field = format!("{path}.input_audio.data");
        let message = format!("{field} is no base64, expected some");
        return Err(Fault::invalid(field, message));
    }
    block(blocks, "audio", &audio.format, None, &audio.data);
    Ok(())
}

/// The value of the only field, which has to be `name`.
fn only<'a, T: Deserialize<'a>>(
    fields: &Fields<'a>,
    name: &str,
    path: &str,
    expected: &str,
) -> Result<T, Fault> {
    if let Some((other, _)) = fields.iter().find(|(key, _)| *key != name) {
        let problem = "is given, but Converse has no such field of a part; expected none";
        return Err(unsupported(&format!("{path}.{other}"), problem));
    }
    let read = fields.iter().next().and_then(|(_, value)| serde_json::from_str(value.get()).ok());
    read.ok_or_else(|| {
        unsupported(&format!("{path}.{name}"), &format!("is another object, expected {expected}"))
    })
}

fn start(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_documents_name_is_made_acceptable() {
        for (given, name) in [
            ("Q3 report (final).pdf", "Q3 report (final)-pdf"),
            ("", "document"),
            ("  two   spaces ", "two spaces"),
            ("übergröße.txt", "-bergr--e-txt"),
        ] {
            assert_eq!(document_name(given), name);
        }
        assert_eq!(document_name(&"x".repeat(500)).len(), 200);
    }

    #[test]
    fn only_base64_is_taken_for_it() {
        for text in ["AA==", "AAA=", "AAAA", "a+/9"] {
            assert!(is_base64(text), "{text}");
        }
        for text in ["", "=", "A A=", "A===", "a-_b", "é"] {
            assert!(!is_base64(text), "{text}");
        }
    }
}
