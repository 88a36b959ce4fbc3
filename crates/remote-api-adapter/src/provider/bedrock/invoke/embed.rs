//! Embeddings: Amazon's Titan and Cohere's Embed.
//!
//! References: <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html>,
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed-v4.html>.

use domain::{fault::Fault, inference::Embed, pricing::TokenUsage, units::Tokens};
use serde::Deserialize;
use wire::v1;

use super::super::{encode::unsupported, error::broken};
use crate::provider::{
    Completion,
    exchange::malformed,
    json::{Fields, Object},
};

/// OpenAI's names that no model here has.
const REFUSED: [&str; 2] = ["user", "safety_identifier"];

/// A kind of model that embeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Embedder {
    /// One text a call, of a fixed length of vector.
    Titan1,
    /// One text a call.
    Titan2,
    /// Up to 96 texts a call, of a fixed length of vector.
    Cohere3,
    /// The same, of a length that is asked for.
    Cohere4,
}

impl Embedder {
    /// # Errors
    /// `Unsupported`: nothing is known of such a model.
    pub(in super::super) fn of(model: &str) -> Result<Self, Fault> {
        let has = |part: &str| model.contains(part);
        Ok(match () {
            () if has("amazon.titan-embed-text-v2") => Self::Titan2,
            () if has("amazon.titan-embed-text-v1") || has("amazon.titan-embed-g1-text") => Self::Titan1,
            () if has("cohere.embed-v4") => Self::Cohere4,
            () if has("cohere.embed-") => Self::Cohere3,
            () => {
                let shown: String = model.chars().take(80).collect();
                let problem = format!(
                    "is {shown:?}, expected amazon.titan-embed-text-… or cohere.embed-… to embed with"
                );
                return Err(unsupported("model", &problem));
            }
        })
    }

    /// Texts that fit into one call.
    pub(in super::super) const fn batch(self) -> usize {
        match self {
            Self::Titan1 | Self::Titan2 => 1,
            Self::Cohere3 | Self::Cohere4 => 96,
        }
    }

    /// Writes one call.
    ///
    /// # Errors
    /// `Unsupported` for a length of vector that the model does not have, for OpenAI's own fields and for more texts than one
    /// call takes; `InvalidArgument` for a carried field that repeats one of ours.
    pub(in super::super) fn encode(self, request: &Embed) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::with_capacity(1024);
        let mut root = Object::begin(&mut body);
        let carried = Fields::parse("extra_json", &request.envelope.extra_json)?;
        if let Some((name, _)) =
            carried.iter().find(|(key, value)| REFUSED.contains(key) && value.get() != "null")
        {
            return Err(unsupported(name, "is given, but the model has no such field; expected none"));
        }
        let dimensions = match (self, request.dimensions) {
            (Self::Titan1 | Self::Cohere3, Some(length)) => {
                let problem = format!("is {length}, but the model's vectors have one length; expected none");
                return Err(unsupported("dimensions", &problem));
            }
            (_, dimensions) => dimensions,
        };
        match (self, request.inputs.as_slice()) {
            (Self::Titan1 | Self::Titan2, [text]) => {
                root.text("inputText", text);
                root.optional("dimensions", dimensions);
                root.reserve("embeddingTypes");
            }
            (Self::Cohere3 | Self::Cohere4, texts) if texts.len() <= self.batch() => {
                root.value("texts", texts);
                root.optional("output_dimension", dimensions);
                root.raw("embedding_types", r#"["float"]"#);
                // both have to be said; a text that is too long is an error rather than cut
                if !carried.contains("input_type") {
                    root.text("input_type", "search_document");
                }
                if !carried.contains("truncate") {
                    root.text("truncate", "NONE");
                }
                root.reserve("inputs");
                root.reserve("images");
            }
            (_, texts) => {
                let problem = format!("holds {} texts, expected at most {}", texts.len(), self.batch());
                return Err(unsupported("inputs", &problem));
            }
        }
        root.carry("extra_json", &carried)?;
        root.end();
        Ok(body)
    }
}

/// A whole answer to `inputs` texts, of either kind of model.
///
/// # Errors
/// `Upstream` for what is none: another count than asked for, or vectors of several lengths.
pub(in super::super) fn decode(provider: &str, body: &[u8], inputs: usize) -> Result<Completion, Fault> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Cohere {
        ByType { float: Vec<Vec<f32>> },
        Plain(Vec<Vec<f32>>),
    }
    #[derive(Deserialize)]
    struct Reply {
        #[serde(default)]
        embedding: Option<Vec<f32>>,
        #[serde(default, rename = "inputTextTokenCount")]
        tokens: Option<u64>,
        #[serde(default)]
        embeddings: Option<Cohere>,
    }
    let reply: Reply =
        serde_json::from_slice(body).map_err(|error| malformed(provider, "embeddings", &error))?;
    let vectors = match (reply.embedding, reply.embeddings) {
        (Some(vector), _) => vec![vector],
        (None, Some(Cohere::ByType { float: vectors } | Cohere::Plain(vectors))) => vectors,
        (None, None) => Vec::new(),
    };
    let even = vectors.windows(2).all(|pair| matches!(pair, [a, b] if a.len() == b.len()));
    if vectors.len() != inputs || !even || vectors.iter().any(Vec::is_empty) {
        return Err(broken(format!(
            "{provider} sent {} embeddings for {inputs} texts, expected one of the same length for each",
            vectors.len()
        )));
    }
    let usage = reply.tokens.map(|input| TokenUsage { input: Tokens::new(input), ..TokenUsage::default() });
    let embeddings = vectors.into_iter().map(|values| v1::Embedding { values }).collect();
    Ok(Completion {
        finish_reason: v1::FinishReason::Stop,
        usage,
        embeddings: Some(v1::Embeddings { embeddings }),
        ..Completion::default()
    })
}
