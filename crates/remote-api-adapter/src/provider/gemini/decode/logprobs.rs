//! Google's logprobs in OpenAI's form.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::provider::json::{Object, Text, array};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logprobs<'a> {
    #[serde(borrow, default)]
    chosen_candidates: Vec<Token<'a>>,
    /// The alternatives, one list for each token.
    #[serde(borrow, default)]
    top_candidates: Vec<Top<'a>>,
}

#[derive(Deserialize)]
struct Top<'a> {
    #[serde(borrow, default)]
    candidates: Vec<Token<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    #[serde(borrow, default)]
    token: Option<Text<'a>>,
    /// A number, kept as it was written.
    #[serde(borrow, default)]
    log_probability: Option<&'a RawValue>,
}

impl Token<'_> {
    fn write(&self, object: &mut Object<'_>) {
        let token = self.token.as_deref().unwrap_or_default();
        object.text("token", token);
        // Google leaves out what is zero
        object.raw("logprob", self.log_probability.map_or("0", RawValue::get));
        object.value("bytes", token.as_bytes());
    }
}

/// `{"content": [{"token", "logprob", "bytes", "top_logprobs"}], "refusal": null}`.
///
/// # Errors
/// It is none of Google's.
pub(super) fn openai(result: &RawValue) -> Result<Box<RawValue>, serde_json::Error> {
    let Logprobs { chosen_candidates, top_candidates } = serde_json::from_str(result.get())?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    let mut alternatives = top_candidates.iter();
    let written = array(object.nested("content"), &chosen_candidates, |out, chosen| {
        let mut entry = Object::begin(out);
        chosen.write(&mut entry);
        let top = alternatives.next().map(|top| top.candidates.as_slice()).unwrap_or_default();
        array(entry.nested("top_logprobs"), top, |out, token| {
            let mut entry = Object::begin(out);
            token.write(&mut entry);
            entry.end();
            Ok(())
        })?;
        entry.end();
        Ok(())
    });
    // none of the writers above can fail
    drop(written);
    object.raw("refusal", "null");
    object.end();
    serde_json::from_slice::<Box<RawValue>>(&out)
}
