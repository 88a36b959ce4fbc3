//! The form of a transcription: one file and named texts.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    extract::multipart::{Field, Multipart, MultipartError, MultipartRejection},
    http::StatusCode,
};
use domain::{fault::Fault, inference::AUDIO_BYTES_MAX};
use serde_json::{Map, Value};

use super::too_large;

/// Fields of one form.
const FIELDS_MAX: usize = 128;
const NAME_MAX: usize = 128;

/// A form that was read.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// The file, its name and its type.
    file: Option<(Bytes, String, String)>,
    /// By name, in the order of their coming.
    fields: BTreeMap<String, Vec<String>>,
}

impl Form {
    /// Reads all of it.
    ///
    /// # Errors
    /// It is no form, too large, or has two files.
    pub(super) async fn read(form: Result<Multipart, MultipartRejection>) -> Result<Self, Fault> {
        let mut form = form.map_err(|rejection| {
            Fault::invalid("body", format!("the body is no multipart/form-data: {}", rejection.body_text()))
        })?;
        let (mut read, mut count) = (Self::default(), 0);
        while let Some(field) = form.next_field().await.map_err(|error| broken(&error))? {
            count += 1;
            if count > FIELDS_MAX {
                return Err(Fault::invalid("body", format!("the form has more than {FIELDS_MAX} fields")));
            }
            read.take(field).await?;
        }
        Ok(read)
    }

    async fn take(&mut self, field: Field<'_>) -> Result<(), Fault> {
        let name = field.name().unwrap_or_default().to_owned();
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Fault::invalid("body", "a field of the form has no name, or one that is too long"));
        }
        if name == "file" {
            if self.file.is_some() {
                return Err(Fault::invalid("file", "file is given twice, expected one file"));
            }
            let file_name = plain_name(field.file_name().unwrap_or_default());
            let media_type = field.content_type().unwrap_or_default().to_owned();
            let content = field.bytes().await.map_err(|error| broken(&error))?;
            if content.len() > AUDIO_BYTES_MAX {
                return Err(too_large());
            }
            self.file = Some((content, file_name, media_type));
            return Ok(());
        }
        let text = field.text().await.map_err(|error| broken(&error))?;
        self.fields.entry(name).or_default().push(text);
        Ok(())
    }

    /// The file, its name and its type.
    pub(super) fn file(&mut self) -> Result<(Bytes, String, String), Fault> {
        self.file.take().ok_or_else(|| Fault::invalid("file", "file is missing, expected a file of audio"))
    }

    /// The one text of a field; empty where there is none.
    pub(super) fn text(&mut self, name: &str) -> Result<String, Fault> {
        let mut texts = self.fields.remove(name).unwrap_or_default();
        if texts.len() > 1 {
            return Err(Fault::invalid(
                name,
                format!("{name} is given {} times, expected once", texts.len()),
            ));
        }
        Ok(texts.pop().unwrap_or_default())
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<f32>, Fault> {
        let text = self.text(name)?;
        let number = (!text.is_empty()).then(|| text.trim().parse::<f32>());
        number.transpose().ok().filter(|number| number.is_none_or(f32::is_finite)).ok_or_else(|| {
            let start: String = text.chars().take(40).collect();
            Fault::invalid(name, format!("{name} is {start:?}, expected a number"))
        })
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Fault> {
        match self.text(name)?.as_str() {
            "" | "false" | "False" | "0" => Ok(false),
            "true" | "True" | "1" => Ok(true),
            other => {
                let start: String = other.chars().take(40).collect();
                Err(Fault::invalid(name, format!("{name} is {start:?}, expected true or false")))
            }
        }
    }

    /// All texts of a field that SDKs send as `name[]`.
    pub(super) fn list(&mut self, name: &str) -> Vec<String> {
        let mut texts = self.fields.remove(name).unwrap_or_default();
        texts.extend(self.fields.remove(&format!("{name}[]")).unwrap_or_default());
        texts
    }

    /// What is left, as JSON to be carried: `name[]` and what comes twice as a list, everything else as a text.
    pub(super) fn rest(self) -> Map<String, Value> {
        let json = |(name, mut texts): (String, Vec<String>)| match name.strip_suffix("[]") {
            Some(list) => (list.to_owned(), Value::from(texts)),
            None if texts.len() == 1 => (name, Value::from(texts.remove(0))),
            None => (name, Value::from(texts)),
        };
        self.fields.into_iter().map(json).collect()
    }
}

/// The name as far as a header can carry it; its ending, which tells the format, stays.
fn plain_name(name: &str) -> String {
    let plain =
        |c: char| if (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '/' | '\\') { c } else { '_' };
    let skipped = name.chars().count().saturating_sub(NAME_MAX);
    let name: String = name.chars().skip(skipped).map(plain).collect();
    if name.trim().is_empty() { "audio".to_owned() } else { name }
}

fn broken(error: &MultipartError) -> Fault {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large();
    }
    Fault::invalid("body", format!("the form could not be read: {}", error.body_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_the_ending_of_its_name() {
        assert_eq!(plain_name("Gespräch \"1\".mp3"), "Gespr_ch _1_.mp3");
        assert_eq!(plain_name("../../etc/x.wav"), ".._.._etc_x.wav");
        assert_eq!(plain_name(&format!("{}.flac", "x".repeat(500))).len(), 128);
        assert!(plain_name(&format!("{}.flac", "x".repeat(500))).ends_with(".flac"));
        assert_eq!(plain_name(""), "audio");
    }

    #[test]
    fn fields_that_are_not_known_are_carried() {
        let mut form = Form::default();
        for (name, text) in
            [("model", "m"), ("include[]", "logprobs"), ("chunking_strategy", "auto"), ("x", "1"), ("x", "2")]
        {
            form.fields.entry(name.to_owned()).or_default().push(text.to_owned());
        }
        assert_eq!(form.text("model").unwrap(), "m");
        let expected =
            serde_json::json!({"include": ["logprobs"], "chunking_strategy": "auto", "x": ["1", "2"]});
        assert_eq!(Value::Object(form.rest()), expected);
    }
}
