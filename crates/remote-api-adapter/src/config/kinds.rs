//! Settings that belong to one kind of provider.

use std::borrow::Cow;

use reqwest::Url;

use super::Invalid;
use crate::{
    provider::{azure::Addresses, gemini::Place, openai::Flavor},
    settings::{
        AzureAuth, AzureSettings, BedrockSettings, Kind, OllamaSettings, ProviderSettings, VertexSettings,
    },
};

const SLOTS_MAX: u32 = 64;

/// A dialect with what only it needs to know.
#[derive(Debug, Clone)]
pub(crate) enum Speaks {
    OpenAi(Flavor),
    Azure { addresses: Addresses, auth: AzureAuth },
    Anthropic,
    Gemini,
    Vertex(Place),
    Bedrock(BedrockSettings),
    Ollama(OllamaSettings),
}

/// The configured address, else the dialect's own public one.
///
/// # Errors
/// There is neither, or a part of the address makes no sense.
pub(super) fn address(written: &ProviderSettings) -> Result<Cow<'_, str>, Invalid> {
    if let Some(address) = written.base_url.as_deref().or(written.kind.public_base_url()) {
        return Ok(Cow::Borrowed(address));
    }
    match written.kind {
        Kind::Vertex => Ok(Cow::Owned(place(written)?.base_url())),
        Kind::Bedrock => {
            Ok(Cow::Owned(format!("https://bedrock-runtime.{}.amazonaws.com", bedrock(written)?.region)))
        }
        _ => {
            Err(Invalid::new("base_url", "is missing, expected an address such as https://api.openai.com/v1"))
        }
    }
}

/// Checks the settings that belong to the provider's kind.
///
/// # Errors
/// One that makes no sense, or that belongs to another kind.
pub(super) fn speaks(written: &ProviderSettings, base_url: &Url) -> Result<Speaks, Invalid> {
    let foreign = |field: &str, kind: &str| {
        Invalid::new(field, format!("is given for another kind of provider, expected kind = {kind:?}"))
    };
    if written.azure.is_some() && written.kind != Kind::Azure {
        return Err(foreign("azure", "azure"));
    }
    if written.ollama.is_some() && written.kind != Kind::Ollama {
        return Err(foreign("ollama", "ollama"));
    }
    if written.vertex.is_some() && written.kind != Kind::Vertex {
        return Err(foreign("vertex", "vertex"));
    }
    if written.bedrock.is_some() && written.kind != Kind::Bedrock {
        return Err(foreign("bedrock", "bedrock"));
    }
    Ok(match written.kind {
        Kind::OpenAi if is_openais(base_url) => Speaks::OpenAi(Flavor::OpenAi),
        Kind::OpenAi => Speaks::OpenAi(Flavor::Compatible),
        Kind::Groq => Speaks::OpenAi(Flavor::Groq),
        Kind::Azure => {
            let AzureSettings { api_version, auth } = written.azure.clone().unwrap_or_default();
            Speaks::Azure { addresses: Addresses::new(base_url, api_version.as_deref())?, auth }
        }
        Kind::Anthropic => Speaks::Anthropic,
        Kind::Gemini => Speaks::Gemini,
        Kind::Vertex => Speaks::Vertex(place(written)?),
        Kind::Bedrock => Speaks::Bedrock(bedrock(written)?.clone()),
        Kind::Ollama => Speaks::Ollama(ollama(written.ollama.unwrap_or_default())?),
    })
}

/// OpenAI's own host, or one of its regions'.
fn is_openais(base_url: &Url) -> bool {
    let host = base_url.host_str().unwrap_or_default();
    host == "api.openai.com" || host.ends_with(".api.openai.com")
}

fn ollama(written: OllamaSettings) -> Result<OllamaSettings, Invalid> {
    if written.context_length_max == 0 {
        return Err(Invalid::new("ollama.context_length_max", "is 0, expected a number of tokens"));
    }
    if !(1..=SLOTS_MAX).contains(&written.slots) {
        let problem = format!("is {}, expected 1 to {SLOTS_MAX}", written.slots);
        return Err(Invalid::new("ollama.slots", problem));
    }
    Ok(written)
}

/// Where Vertex AI runs; the parts become parts of an address.
fn place(written: &ProviderSettings) -> Result<Place, Invalid> {
    let Some(VertexSettings { project, location }) = &written.vertex else {
        return Err(Invalid::new("vertex", "is missing, expected project and location"));
    };
    if written.api_key.is_none() && written.api_keys.is_empty() {
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
    Ok(Place {
        // older projects stand under a domain: `example.com:name`
        project: named("vertex.project", project, &['.', ':'], "the id of a project")?,
        location: named("vertex.location", location, &[], "a region, us, eu or global")?,
    })
}

/// Region and access key of Bedrock.
fn bedrock(written: &ProviderSettings) -> Result<&BedrockSettings, Invalid> {
    let Some(bedrock) = &written.bedrock else {
        return Err(Invalid::new("bedrock.region", "is missing, expected a region such as eu-central-1"));
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
        (Some(_), Some(_), _) if written.api_key.is_some() || !written.api_keys.is_empty() => {
            Err(Invalid::new("bedrock.access_key_id", "is given beside api_key, expected only one of them"))
        }
        (Some(_), Some(_), _) | (None, None, None) => Ok(bedrock),
        (None, _, _) => missing("bedrock.access_key_id"),
        (_, None, _) => missing("bedrock.secret_access_key"),
    }
}
