//! Settings that belong to one kind of provider.

use reqwest::Url;

use super::Invalid;
use crate::{
    provider::{azure::Addresses, openai::Flavor},
    settings::{AzureAuth, AzureSettings, Kind, OllamaSettings, ProviderSettings},
};

const SLOTS_MAX: u32 = 64;

/// A dialect with what only it needs to know.
#[derive(Debug, Clone)]
pub(crate) enum Speaks {
    OpenAi(Flavor),
    Azure { addresses: Addresses, auth: AzureAuth },
    Ollama(OllamaSettings),
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
    Ok(match written.kind {
        Kind::OpenAi if is_openais(base_url) => Speaks::OpenAi(Flavor::OpenAi),
        Kind::OpenAi => Speaks::OpenAi(Flavor::Compatible),
        Kind::Groq => Speaks::OpenAi(Flavor::Groq),
        Kind::Azure => {
            let AzureSettings { api_version, auth } = written.azure.clone().unwrap_or_default();
            Speaks::Azure { addresses: Addresses::new(base_url, api_version.as_deref())?, auth }
        }
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
