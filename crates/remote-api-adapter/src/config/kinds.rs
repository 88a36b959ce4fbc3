//! What only some kinds of provider have: where Vertex AI runs, Bedrock's region and access key, an address that follows from them.

use std::borrow::Cow;

use super::Invalid;
use crate::{
    provider::gemini::Place,
    settings::{BedrockSettings, Kind, ProviderSettings, VertexSettings},
};

/// Where Vertex AI runs; the parts become parts of an address.
pub(super) fn place(written: &ProviderSettings) -> Result<Option<Place>, Invalid> {
    let VertexSettings { project, location } = match (&written.vertex, written.kind) {
        (Some(vertex), Kind::Vertex) => vertex,
        (None, Kind::Vertex) => {
            return Err(Invalid::new("vertex", "is missing, expected project and location"));
        }
        (Some(_), _) => return Err(Invalid::new("vertex", "is given, expected it for the kind vertex only")),
        (None, _) => return Ok(None),
    };
    if written.api_key.is_none() {
        let problem = "is missing, expected a service account's key file or an access token";
        return Err(Invalid::new("api_key", problem));
    }
    let named = |field: &str, text: &str, more: &[char], expected: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || more.contains(&c);
        if (1..=63).contains(&text.len()) && text.chars().all(plain) {
            return Ok(text.to_owned());
        }
        let start: String = text.chars().take(40).collect();
        Err(Invalid::new(field, format!("is {start:?}, expected {expected}")))
    };
    Ok(Some(Place {
        // older projects stand under a domain: `example.com:name`
        project: named("vertex.project", project, &['.', ':'], "the id of a project")?,
        location: named("vertex.location", location, &[], "a region, us, eu or global")?,
    }))
}

/// The configured address, else the dialect's own public one.
pub(super) fn address<'a>(
    written: &'a ProviderSettings,
    place: Option<&Place>,
    bedrock: Option<&BedrockSettings>,
) -> Result<Cow<'a, str>, Invalid> {
    if let Some(address) = written.base_url.as_deref().or(written.kind.public_base_url()) {
        return Ok(Cow::Borrowed(address));
    }
    if let Some(place) = place {
        return Ok(Cow::Owned(place.base_url()));
    }
    if let Some(bedrock) = bedrock {
        return Ok(Cow::Owned(format!("https://bedrock-runtime.{}.amazonaws.com", bedrock.region)));
    }
    Err(Invalid::new("base_url", "is missing, expected an address such as https://api.openai.com/v1"))
}

/// Bedrock's own settings, where the provider is Bedrock.
pub(super) fn bedrock(written: &ProviderSettings) -> Result<Option<&BedrockSettings>, Invalid> {
    let bedrock = match (written.kind, &written.bedrock) {
        (Kind::Bedrock, Some(bedrock)) => bedrock,
        (Kind::Bedrock, None) => {
            return Err(Invalid::new("bedrock.region", "is missing, expected a region such as eu-central-1"));
        }
        (_, Some(_)) => {
            return Err(Invalid::new("bedrock", "is given, expected it with kind = \"bedrock\" only"));
        }
        (_, None) => return Ok(None),
    };
    let region = &bedrock.region;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !(1..=32).contains(&region.len()) || !region.chars().all(plain) {
        let start: String = region.chars().take(40).collect();
        return Err(Invalid::new(
            "bedrock.region",
            format!("is {start:?}, expected one such as eu-central-1"),
        ));
    }
    let missing = |name: &str| Err(Invalid::new(name, "is missing, expected all parts of the access key"));
    match (&bedrock.access_key_id, &bedrock.secret_access_key, &bedrock.session_token) {
        (Some(_), Some(_), _) if written.api_key.is_some() => {
            Err(Invalid::new("bedrock.access_key_id", "is given beside api_key, expected only one of them"))
        }
        (Some(_), Some(_), _) | (None, None, None) => Ok(Some(bedrock)),
        (None, _, _) => missing("bedrock.access_key_id"),
        (_, None, _) => missing("bedrock.secret_access_key"),
    }
}
