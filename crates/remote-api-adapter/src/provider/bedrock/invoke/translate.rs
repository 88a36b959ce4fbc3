//! NLLB-200 behind Bedrock: an imported model or a marketplace endpoint with the body of Hugging Face's translation task.
//!
//! ```json
//! {"inputs": "Guten Tag", "parameters": {"src_lang": "deu_Latn", "tgt_lang": "fra_Latn", "max_new_tokens": 512}}
//! [{"translation_text": "Bonjour"}]
//! ```
//! Reference: <https://huggingface.co/docs/inference-providers/tasks/translation>.

use domain::{fault::Fault, inference::Translate};
use serde::Deserialize;
use wire::v1;

use super::super::{encode::unsupported, error::broken, languages};
use crate::provider::{
    Completion,
    exchange::malformed,
    json::{Fields, Object, Text},
};

/// The model's longest answer, unless the caller says otherwise. Left to itself it stops after 200 tokens and does not say so.
const NEW_TOKENS_MAX: u32 = 512;
/// Bounds that a caller may have given.
const BOUNDS: [&str; 2] = ["max_new_tokens", "max_length"];

/// Writes the call. Carried fields are parameters of the model.
///
/// # Errors
/// `Unsupported` naming the language that the model does not have; also a source that is not said, since it cannot find out.
pub(in super::super) fn encode(request: &Translate) -> Result<Vec<u8>, Fault> {
    let Some(source) = &request.source_language else {
        let problem = "is missing, but NLLB-200 does not detect it; expected a BCP 47 tag as in `de`";
        return Err(unsupported("source_language", problem));
    };
    let source = languages::code("source_language", source)?;
    let target = languages::code("target_language", &request.target_language)?;
    let mut body = Vec::with_capacity(256 + request.text.len());
    let mut root = Object::begin(&mut body);
    root.text("inputs", &request.text);
    let mut parameters = Object::begin(root.nested("parameters"));
    parameters.text("src_lang", source);
    parameters.text("tgt_lang", target);
    let carried = Fields::parse("extra_json", &request.envelope.extra_json)?;
    if !BOUNDS.iter().any(|bound| carried.contains(bound)) {
        parameters.value("max_new_tokens", &NEW_TOKENS_MAX);
    }
    parameters.carry("extra_json", &carried)?;
    parameters.end();
    root.end();
    Ok(body)
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, alias = "generated_text")]
    translation_text: Text<'a>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reply<'a> {
    #[serde(borrow)]
    One(Said<'a>),
    #[serde(borrow)]
    List(Vec<Said<'a>>),
}

/// A whole answer.
///
/// # Errors
/// `Upstream` for what is none.
pub(in super::super) fn decode(provider: &str, body: &[u8]) -> Result<Completion, Fault> {
    let reply: Reply<'_> =
        serde_json::from_slice(body).map_err(|error| malformed(provider, "a translation", &error))?;
    let said = match reply {
        Reply::One(said) => vec![said],
        Reply::List(said) => said,
    };
    let count = said.len();
    let mut said = said.into_iter();
    let (Some(said), None) = (said.next(), said.next()) else {
        return Err(broken(format!("{provider} sent {count} translations, expected one")));
    };
    let item = v1::DeltaItem { text: said.translation_text.into_string(), ..v1::DeltaItem::default() };
    Ok(Completion { items: vec![item], finish_reason: v1::FinishReason::Stop, ..Completion::default() })
}
