//! Bodies of `multipart/form-data` (RFC 7578), written whole: a call that is tried again sends the same bytes.

use std::fmt::Write as _;

use bytes::Bytes;
use reqwest::header::HeaderValue;

/// A form under way.
pub(crate) struct Form {
    /// 128 random bits: no file holds it but by a chance that does not happen.
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    /// An empty one, with room for a file of `bytes`.
    pub(crate) fn with_room_for(bytes: usize) -> Self {
        let boundary = format!("hybrid-llm-{:032x}", fastrand::u128(..));
        Self { boundary, body: Vec::with_capacity(bytes + 2_048) }
    }

    fn part(&mut self, headers: &str, content: &[u8]) {
        self.body.extend_from_slice(b"--");
        self.body.extend_from_slice(self.boundary.as_bytes());
        self.body.extend_from_slice(b"\r\n");
        self.body.extend_from_slice(headers.as_bytes());
        self.body.extend_from_slice(b"\r\n\r\n");
        self.body.extend_from_slice(content);
        self.body.extend_from_slice(b"\r\n");
    }

    /// A field. Its name must have neither quotes nor line breaks.
    pub(crate) fn field(&mut self, name: &str, value: &str) {
        self.part(&format!("Content-Disposition: form-data; name=\"{name}\""), value.as_bytes());
    }

    /// A file. Names and type likewise.
    pub(crate) fn file(&mut self, name: &str, file_name: &str, media_type: Option<&str>, content: &[u8]) {
        let mut headers =
            format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"");
        // writing to a string cannot fail
        let _ = write!(headers, "\r\nContent-Type: {}", media_type.unwrap_or("application/octet-stream"));
        self.part(&headers, content);
    }

    /// The content type and the body.
    pub(crate) fn finish(mut self) -> (HeaderValue, Bytes) {
        self.body.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        let content_type = format!("multipart/form-data; boundary={}", self.boundary);
        // hexadecimal digits and dashes: always a header's value
        let content_type = HeaderValue::from_str(&content_type)
            .unwrap_or_else(|_| HeaderValue::from_static("multipart/form-data"));
        (content_type, self.body.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_its_fields_and_its_file() {
        let mut form = Form::with_room_for(3);
        form.field("model", "whisper-1");
        form.file("file", "a.wav", Some("audio/wav"), b"abc");
        let (content_type, body) = form.finish();
        let boundary = content_type.to_str().unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
        let expected = "--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
                        --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
                        Content-Type: audio/wav\r\n\r\nabc\r\n--B--\r\n";
        assert_eq!(String::from_utf8(body.to_vec()).unwrap().replace(boundary, "B"), expected);
    }
}
