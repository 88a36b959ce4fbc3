//! The configuration, checked whole before anything starts. Errors name the setting.

mod kinds;
mod resilience;

use std::{net::IpAddr, time::Duration};

use domain::{
    id::{DeploymentId, ModelName, NodeId},
    pricing::Price,
    resilience::{breaker, retry::Policy},
    routing::Capabilities,
    units::Money,
};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};

pub(crate) use self::{
    kinds::Speaks,
    resilience::{HealthCheck, Key},
};
pub use crate::price::Invalid;
use crate::{
    network,
    price::Prices,
    provider::{Api, MaxTokensField, Target, http::Timeouts, openai::Flavor},
    settings::{
        AdapterSettings, ApiSetting, Capability, DeploymentSettings, MaxTokens, ProviderSettings,
        TimeoutSettings,
    },
};

/// A day: longer limits are slips.
const LIMIT_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
const SLOTS_MAX: u32 = 10_000;
/// As for a caller's own bound.
const OUTPUT_TOKENS_MAX: u32 = 1_000_000;
const EXTRA_HEADERS_MAX: usize = 32;
/// Headers that the client itself writes.
const OWN_HEADERS: [&str; 7] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "te"];

/// A provider that can be called.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) speaks: Speaks,
    pub(crate) base_url: Url,
    /// None: the server wants no key.
    pub(crate) keys: Vec<Key>,
    pub(crate) allow_private: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Policy,
    pub(crate) retry_budget_percent: u32,
    pub(crate) breaker: breaker::Rules,
    /// Absent: no probes.
    pub(crate) health: Option<HealthCheck>,
    pub(crate) deployments: Vec<Deployment>,
}

/// A model of a provider.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) id: DeploymentId,
    pub(crate) model: ModelName,
    pub(crate) target: Target,
    pub(crate) context_length: u32,
    pub(crate) slots: u32,
    pub(crate) capabilities: Capabilities,
    pub(crate) embedding_dimensions: u32,
    pub(crate) free: bool,
    pub(crate) price: Price,
    /// In a batch; absent = no batches.
    pub(crate) batch_price: Option<Price>,
    /// Of a trained token; absent = not known.
    pub(crate) training_price: Option<Money>,
}

/// Checks the section.
///
/// # Errors
/// The first setting that makes no sense, or a deployment whose price is not known.
pub(crate) fn check(settings: &AdapterSettings, machine: &NodeId) -> Result<Vec<Provider>, Invalid> {
    let priced = |deployment: &DeploymentSettings| deployment.free || deployment.price.is_some();
    let all = settings.providers.iter().flat_map(|provider| &provider.deployments);
    let prices =
        if all.clone().all(priced) { Prices::default() } else { Prices::load(&settings.prices_file)? };
    let mut providers: Vec<Provider> = Vec::new();
    for (index, written) in settings.providers.iter().enumerate() {
        let field = format!("providers[{index}]");
        let checked = provider(written, machine, &prices).map_err(|error| error.within(&field))?;
        if providers.iter().any(|other| other.name == checked.name) {
            let problem = format!("is {:?}, which an earlier provider has", checked.name);
            return Err(Invalid::new(format!("{field}.name"), problem));
        }
        providers.push(checked);
    }
    Ok(providers)
}

fn provider(written: &ProviderSettings, machine: &NodeId, prices: &Prices) -> Result<Provider, Invalid> {
    let token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if written.name.is_empty() || written.name.len() > 32 || !written.name.chars().all(token) {
        let start: String = written.name.chars().take(40).collect();
        return Err(Invalid::new(
            "name",
            format!("is {start:?}, expected 1 to 32 letters, digits, `-` or `_`"),
        ));
    }
    let base_url = base_url(&kinds::address(written)?, written.allow_private)?;
    let speaks = kinds::speaks(written, &base_url)?;
    let discovers = matches!(&speaks, Speaks::Ollama(settings) if settings.discover);
    if written.deployments.is_empty() && !discovers {
        return Err(Invalid::new("deployments", "is empty, expected at least one"));
    }
    let mut deployments: Vec<Deployment> = Vec::new();
    for (index, model) in written.deployments.iter().enumerate() {
        let field = format!("deployments[{index}]");
        let checked = deployment(model, &written.name, &speaks, machine, prices)
            .map_err(|error| error.within(&field))?;
        if deployments.iter().any(|other| other.id == checked.id) {
            let problem = format!("is {:?}, which an earlier deployment of this provider has", model.model);
            return Err(Invalid::new(format!("{field}.model"), problem));
        }
        deployments.push(checked);
    }
    Ok(Provider {
        name: written.name.clone(),
        speaks,
        keys: resilience::keys(written)?,
        allow_private: written.allow_private,
        headers: headers(written)?,
        timeouts: timeouts(&written.timeouts)?,
        retry: resilience::retry(&written.retry)?,
        retry_budget_percent: written.retry.budget_percent,
        breaker: resilience::breaker(&written.breaker)?,
        health: resilience::health(written, &base_url)?,
        base_url,
        deployments,
    })
}

fn base_url(text: &str, allow_private: bool) -> Result<Url, Invalid> {
    // a password in it would otherwise be repeated in the error
    let shown: String = if text.contains('@') { "…".to_owned() } else { text.chars().take(120).collect() };
    let refused = |expected: &str| Invalid::new("base_url", format!("is {shown:?}, expected {expected}"));
    let url = Url::parse(text).map_err(|_| refused("an address such as https://api.openai.com/v1"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("an address without user and password; a key goes to api_key"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("an address without query and fragment"));
    }
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => return Err(refused("https, or allow_private = true for a server of one's own")),
        _ => return Err(refused("an address that begins with https://")),
    }
    let Some(host) = url.host_str() else { return Err(refused("an address with a host")) };
    // an address in place of a name never meets the resolver's guard
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        network::check(host, address, allow_private)
            .map_err(|error| refused(&format!("a public address, but it is {}", error.kind)))?;
    }
    Ok(url)
}

fn headers(written: &ProviderSettings) -> Result<HeaderMap, Invalid> {
    let mut headers = HeaderMap::new();
    let mut add = |field: String, name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            Invalid::new(field.clone(), "is no header's name, expected letters, digits and `-`")
        })?;
        if OWN_HEADERS.contains(&name.as_str()) {
            return Err(Invalid::new(field, "is a header that the client writes itself"));
        }
        if name == "authorization" && (written.api_key.is_some() || !written.api_keys.is_empty()) {
            return Err(Invalid::new(field, "is given beside api_key, expected only one of them"));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            Invalid::new(field, "has a value that no header can carry, expected visible ASCII")
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    };
    if let Some(organization) = &written.organization {
        add("organization".to_owned(), "openai-organization", organization)?;
    }
    if let Some(project) = &written.project {
        add("project".to_owned(), "openai-project", project)?;
    }
    if written.extra_headers.len() > EXTRA_HEADERS_MAX {
        let problem =
            format!("has {} headers, expected at most {EXTRA_HEADERS_MAX}", written.extra_headers.len());
        return Err(Invalid::new("extra_headers", problem));
    }
    for (name, value) in &written.extra_headers {
        let start: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        add(format!("extra_headers.{start}"), name, value.expose())?;
    }
    Ok(headers)
}

/// A limit of at least one millisecond.
fn limit(field: &str, millis: u64) -> Result<Duration, Invalid> {
    if (1..=LIMIT_MS_MAX).contains(&millis) {
        return Ok(Duration::from_millis(millis));
    }
    Err(Invalid::new(field, format!("is {millis}, expected 1 to {LIMIT_MS_MAX}")))
}

fn timeouts(written: &TimeoutSettings) -> Result<Timeouts, Invalid> {
    Ok(Timeouts {
        connect: limit("timeouts.connect_ms", written.connect_ms)?,
        first_token: limit("timeouts.first_token_ms", written.first_token_ms)?,
        idle: limit("timeouts.idle_ms", written.idle_ms)?,
        total: limit("timeouts.total_ms", written.total_ms)?,
    })
}

fn deployment(
    written: &DeploymentSettings,
    provider: &str,
    speaks: &Speaks,
    machine: &NodeId,
    prices: &Prices,
) -> Result<Deployment, Invalid> {
    let model = ModelName::new(written.model.as_str()).map_err(|error| {
        Invalid::new("model", format!("is {:?}, expected {}", error.value, error.expected))
    })?;
    let id = DeploymentId::new(format!("{machine}/{provider}/{model}")).map_err(|error| {
        Invalid::new("model", format!("gives the id {:?}, expected {}", error.value, error.expected))
    })?;
    let upstream_model = written.upstream_model.clone().unwrap_or_else(|| model.to_string());
    if upstream_model.is_empty() || upstream_model.len() > 256 || upstream_model.chars().any(char::is_control)
    {
        let start: String = upstream_model.chars().take(40).collect();
        return Err(Invalid::new(
            "upstream_model",
            format!("is {start:?}, expected 1 to 256 visible characters"),
        ));
    }
    if written.context_length == 0 {
        return Err(Invalid::new("context_length", "is 0, expected a number of tokens"));
    }
    if !(1..=SLOTS_MAX).contains(&written.slots) {
        return Err(Invalid::new("slots", format!("is {}, expected 1 to {SLOTS_MAX}", written.slots)));
    }
    let capabilities = capabilities(&written.capabilities)?;
    let has_output = capabilities.generate || capabilities.translate;
    let (price, batch_price, training_price) = match (&written.price, written.free) {
        (Some(_), true) => {
            return Err(Invalid::new("price", "is given beside free = true, expected only one of them"));
        }
        (None, true) => (Price::FREE, Some(Price::FREE), Some(Money::ZERO)),
        (own, false) => {
            let Some(price) = own.as_ref().or_else(|| prices.get(provider, &upstream_model)) else {
                let problem = format!(
                    "is missing, and the price file has none for {upstream_model:?} of {provider:?}; expected prices, or \
                     free = true"
                );
                return Err(Invalid::new("price", problem));
            };
            let all = price.check("price", capabilities)?;
            (all, price.check_batch("price", has_output)?, price.check_training("price")?)
        }
    };
    let priced = |amount: Option<Money>| amount.is_some_and(|amount| amount > Money::ZERO);
    let (tells_duration, tells_speech_tokens) = (priced(price.audio_hour), priced(price.audio_output));
    let max_tokens_field = match written.max_tokens_field {
        Some(MaxTokens::MaxTokens) => MaxTokensField::MaxTokens,
        Some(MaxTokens::MaxCompletionTokens) => MaxTokensField::MaxCompletionTokens,
        None => match speaks {
            Speaks::OpenAi(Flavor::OpenAi | Flavor::Groq) | Speaks::Azure { .. } => {
                MaxTokensField::MaxCompletionTokens
            }
            // the others have a name of their own
            _ => MaxTokensField::MaxTokens,
        },
    };
    let api = match (written.api, speaks) {
        (ApiSetting::Chat, _) => Api::Chat,
        (ApiSetting::Responses, Speaks::OpenAi(_) | Speaks::Azure { .. }) => Api::Responses,
        (ApiSetting::Responses, _) => {
            return Err(Invalid::new(
                "api",
                "is \"responses\", which is of OpenAI's dialect, expected \"chat\"",
            ));
        }
    };
    let has_defaults = matches!(speaks, Speaks::OpenAi(_) | Speaks::Azure { .. } | Speaks::Ollama(_));
    if !written.defaults.is_empty() && !has_defaults {
        return Err(Invalid::new("defaults", "is given, expected it for OpenAI's dialect and Ollama only"));
    }
    let defaults = if written.defaults.is_empty() {
        String::new()
    } else {
        serde_json::Value::Object(written.defaults.clone()).to_string()
    };
    if let Some(count) = written.max_output_tokens.filter(|count| !(1..=OUTPUT_TOKENS_MAX).contains(count)) {
        let problem = format!("is {count}, expected 1 to {OUTPUT_TOKENS_MAX}");
        return Err(Invalid::new("max_output_tokens", problem));
    }
    Ok(Deployment {
        id,
        model,
        target: Target {
            upstream_model,
            max_tokens_field,
            api,
            defaults,
            context_length: written.context_length,
            max_output_tokens: written.max_output_tokens,
            tells_duration,
            tells_speech_tokens,
            prices_cache_hour: written.free || price.cache_write_hour.is_some(),
        },
        context_length: written.context_length,
        slots: written.slots,
        capabilities,
        embedding_dimensions: written.embedding_dimensions,
        free: written.free,
        price,
        batch_price,
        training_price,
    })
}

fn capabilities(written: &[Capability]) -> Result<Capabilities, Invalid> {
    let mut can = Capabilities::default();
    for capability in written {
        *match capability {
            Capability::Generate => &mut can.generate,
            Capability::Embed => &mut can.embed,
            Capability::Translate => &mut can.translate,
            Capability::Tools => &mut can.tools,
            Capability::Vision => &mut can.vision,
            Capability::JsonSchema => &mut can.json_schema,
            Capability::Reasoning => &mut can.reasoning,
            Capability::Transcribe => &mut can.transcribe,
            Capability::Speak => &mut can.speak,
        } = true;
    }
    if !(can.generate || can.embed || can.translate || can.transcribe || can.speak) {
        return Err(Invalid::new(
            "capabilities",
            "names nothing to do, expected generate, embed, translate, transcribe or speak",
        ));
    }
    Ok(can)
}

#[cfg(test)]
mod tests;
