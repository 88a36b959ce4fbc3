//! The models that a server has, as it describes them.

use domain::routing::Capabilities;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::provider::Found;

/// Most models that are offered.
pub(crate) const FOUND_MAX: usize = 64;

/// What `/api/tags` says of one model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct Tag {
    pub(super) name: String,
    /// Changes whenever the model does.
    #[serde(default)]
    pub(super) digest: String,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    models: Vec<Tag>,
}

/// What `/api/show` says of a model.
#[derive(Deserialize)]
struct Shown {
    /// Absent on servers before 0.6.4.
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    model_info: Map<String, Value>,
}

/// The models in an answer of `/api/tags`, at most [`FOUND_MAX`].
///
/// # Errors
/// It is none.
pub(super) fn tags(body: &[u8]) -> Result<Vec<Tag>, serde_json::Error> {
    let mut tags = serde_json::from_slice::<Tags>(body)?.models;
    tags.sort_by(|a, b| a.name.cmp(&b.name));
    tags.truncate(FOUND_MAX);
    Ok(tags)
}

/// A model as an answer of `/api/show` describes it; `None` where it can neither generate nor embed.
///
/// # Errors
/// It is no such answer.
pub(super) fn shown(
    name: &str,
    body: &[u8],
    context_length_max: u32,
) -> Result<Option<Found>, serde_json::Error> {
    let shown: Shown = serde_json::from_slice(body)?;
    let says =
        |word: &str| shown.capabilities.as_ref().is_some_and(|words| words.iter().any(|said| said == word));
    // named after the architecture, as in `llama.context_length`
    let number = |ending: &str| {
        let mut fields = shown.model_info.iter().filter(|(name, _)| name.split('.').nth(1) == Some(ending));
        fields.find_map(|(_, value)| value.as_u64()).and_then(|number| u32::try_from(number).ok())
    };
    let generates = says("completion") || shown.capabilities.is_none();
    let capabilities = Capabilities {
        generate: generates,
        embed: says("embedding"),
        tools: says("tools"),
        vision: says("vision"),
        reasoning: says("thinking"),
        // every model's output can be held to a grammar
        json_schema: generates,
        ..Capabilities::default()
    };
    if !capabilities.generate && !capabilities.embed {
        return Ok(None);
    }
    let trained = number("context_length").filter(|length| *length > 0);
    Ok(Some(Found {
        upstream_model: name.to_owned(),
        // as people write it: this tag is understood where none is given
        model: name.strip_suffix(":latest").unwrap_or(name).to_owned(),
        context_length: trained.map_or(context_length_max, |length| length.min(context_length_max)),
        embedding_dimensions: if capabilities.embed { number("embedding_length").unwrap_or(0) } else { 0 },
        capabilities,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_offered_as_the_server_describes_it() {
        let body = br#"{"capabilities":["completion","tools","thinking"],"details":{"family":"qwen3"},
            "model_info":{"general.architecture":"qwen3","qwen3.context_length":40960,"qwen3.embedding_length":5120}}"#;
        let found = shown("qwen3:latest", body, 16_384).unwrap().unwrap();
        assert_eq!((found.model.as_str(), found.upstream_model.as_str()), ("qwen3", "qwen3:latest"));
        assert_eq!((found.context_length, found.embedding_dimensions), (16_384, 0));
        let can = found.capabilities;
        assert!(can.generate && can.tools && can.reasoning && can.json_schema && !can.vision && !can.embed);
        assert_eq!(shown("qwen3:latest", body, 1_000_000).unwrap().unwrap().context_length, 40_960);
    }

    #[test]
    fn an_embedding_model_only_embeds() {
        let body = br#"{"capabilities":["embedding"],"model_info":{"bert.context_length":512,"bert.embedding_length":384}}"#;
        let found = shown("minilm:v1", body, 16_384).unwrap().unwrap();
        assert_eq!(
            (found.model.as_str(), found.context_length, found.embedding_dimensions),
            ("minilm:v1", 512, 384)
        );
        assert!(found.capabilities.embed && !found.capabilities.generate);
    }

    #[test]
    fn an_older_server_says_less() {
        let found = shown("a", b"{}", 4_096).unwrap().unwrap();
        assert!(found.capabilities.generate && !found.capabilities.tools);
        assert_eq!(found.context_length, 4_096);
        assert!(shown("a", br#"{"capabilities":["insert"]}"#, 4_096).unwrap().is_none());
    }

    #[test]
    fn the_list_is_bounded() {
        let models: Vec<_> = (0..100).map(|n| format!(r#"{{"name":"m{n:03}"}}"#)).collect();
        let body = format!(r#"{{"models":[{}]}}"#, models.join(","));
        assert_eq!(tags(body.as_bytes()).unwrap().len(), FOUND_MAX);
        assert!(tags(b"<html>").is_err());
    }
}
