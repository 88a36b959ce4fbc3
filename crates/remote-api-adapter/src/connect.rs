//! How each kind of provider is reached: its dialect, and what it is shown.

use reqwest::header::HeaderMap;
use service_runtime::{Clock, Secret};

use crate::{
    config,
    credential::Credential,
    provider::{
        Dialect, Disabled, Provider,
        anthropic::Anthropic,
        bedrock,
        exchange::Exchange,
        gemini::{Gemini, KeyFile, Tokens},
        http::Transport,
        openai::OpenAi,
    },
    settings::{BedrockSettings, Kind},
};

/// What a provider's client is made of, whatever it speaks.
struct Parts<'a> {
    name: &'a str,
    headers: HeaderMap,
    api_key: Option<Secret>,
    transport: Transport,
    clock: &'a Clock,
}

impl Parts<'_> {
    fn speaking(self, dialect: impl Dialect) -> Box<dyn Provider> {
        self.speaking_with(dialect, Credential::new)
    }

    /// [`Parts::speaking`] for a secret that is no plain key.
    fn speaking_with(
        self,
        dialect: impl Dialect,
        credential: impl FnOnce(Secret) -> Credential,
    ) -> Box<dyn Provider> {
        let Self { name, headers, api_key, transport, clock } = self;
        let (credential, clock) = (api_key.map(credential), clock.clone());
        Box::new(Exchange { name: name.to_owned(), dialect, headers, credential, transport, clock })
    }
}

/// Makes one provider's client.
///
/// # Errors
/// A setting that its dialect cannot use.
pub(crate) fn connect(
    provider: config::Provider,
    deployments: &[config::Deployment],
    clock: &Clock,
) -> Result<Box<dyn Provider>, config::Invalid> {
    let config::Provider {
        name,
        kind,
        base_url,
        api_key,
        place,
        bedrock,
        allow_private,
        headers,
        timeouts,
        ..
    } = provider;
    let transport = match Transport::new(&name, timeouts, allow_private, base_url.scheme() == "https") {
        Ok(transport) => transport,
        Err(error) => {
            let reason = format!("{name}: no HTTPS client can be made: {:#}", anyhow::Error::new(error));
            return Ok(Box::new(Disabled { reason }));
        }
    };
    let parts = Parts { name: &name, headers, api_key, transport, clock };
    Ok(match kind {
        Kind::OpenAi => parts.speaking(OpenAi::new(name.clone(), &base_url)?),
        Kind::Anthropic => parts.speaking(Anthropic::new(name.clone(), &base_url)?),
        Kind::Gemini => parts.speaking(Gemini::ai_studio(name.clone(), base_url)),
        Kind::Vertex => {
            let place = place.ok_or_else(|| config::Invalid::new("vertex", "is missing"))?;
            let own = allow_private.then(|| base_url.clone());
            let tokens = Tokens::new(name.clone(), parts.transport.clone(), clock.clone(), own.clone());
            let dialect = Gemini::vertex(name.clone(), base_url, place, tokens);
            let check = move |text: &str| KeyFile::check(text, own.as_ref());
            parts.speaking_with(dialect, |secret| Credential::key_file(secret, check))
        }
        Kind::Bedrock => {
            let Parts { headers, api_key, transport, .. } = parts;
            let (api_key, keys, region) = aws(api_key, bedrock);
            let translators =
                deployments.iter().filter(|it| it.capabilities.translate && !it.capabilities.generate);
            let dialect = bedrock::Bedrock {
                name: name.clone(),
                base_url: base_url.as_str().trim_end_matches('/').to_owned(),
                region,
                keys,
                translators: translators.map(|it| it.target.upstream_model.clone()).collect(),
                clock: clock.clone(),
            };
            let (credential, clock) = (api_key.map(Credential::new), clock.clone());
            Box::new(bedrock::Batched(Exchange { name, dialect, headers, credential, transport, clock }))
        }
    })
}

/// What Bedrock is shown: an API key or what signs, whichever is configured, else whichever the environment has.
fn aws(
    api_key: Option<Secret>,
    settings: Option<BedrockSettings>,
) -> (Option<Secret>, Option<bedrock::Keys>, String) {
    let Some(BedrockSettings { region, access_key_id, secret_access_key, session_token }) = settings else {
        return (api_key, None, String::new());
    };
    if api_key.is_some() {
        return (api_key, None, region);
    }
    if let Some((id, secret)) = access_key_id.zip(secret_access_key) {
        return (None, Some(bedrock::Keys::new(id, secret, session_token)), region);
    }
    let token = Secret::env("AWS_BEARER_TOKEN_BEDROCK");
    if token.resolve().is_ok() {
        return (Some(token), None, region);
    }
    (None, Some(bedrock::Keys::of_environment()), region)
}
