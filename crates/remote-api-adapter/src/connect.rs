//! How each kind of provider is reached: its dialect, and what it is shown.

use reqwest::header::HeaderMap;
use service_runtime::{Clock, Secret};

use crate::{
    config::{self, Speaks},
    credential::Credential,
    provider::{
        Dialect, Disabled, Provider,
        anthropic::Anthropic,
        azure::Azure,
        bedrock,
        exchange::Exchange,
        gemini::{Gemini, KeyFile, Tokens},
        http::Transport,
        ollama::{Ollama, Server, Side},
        openai::OpenAi,
    },
    settings::BedrockSettings,
};

/// What every call to a provider needs, whatever its dialect.
struct Way<'a> {
    name: &'a str,
    headers: HeaderMap,
    api_key: Option<Secret>,
    transport: Transport,
    clock: &'a Clock,
}

impl Way<'_> {
    fn exchange<D: Dialect>(self, dialect: D) -> Exchange<D> {
        self.exchange_with(dialect, Credential::new)
    }

    /// [`Way::exchange`] for a secret that is no plain key.
    fn exchange_with<D: Dialect>(
        self,
        dialect: D,
        credential: impl FnOnce(Secret) -> Credential,
    ) -> Exchange<D> {
        let Self { name, headers, api_key, transport, clock } = self;
        let (credential, clock) = (api_key.map(credential), clock.clone());
        Exchange { name: name.to_owned(), dialect, headers, credential, transport, clock }
    }

    /// For calls that answer no request.
    fn side(&self) -> Side {
        Side {
            name: self.name.to_owned(),
            transport: self.transport.clone(),
            headers: self.headers.clone(),
            credential: self.api_key.clone().map(Credential::new),
        }
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
    let config::Provider { name, speaks, base_url, api_key, allow_private, headers, timeouts, .. } = provider;
    let transport = match Transport::new(&name, timeouts, allow_private, base_url.scheme() == "https") {
        Ok(transport) => transport,
        Err(error) => {
            let reason = format!("{name}: no HTTPS client can be made: {:#}", anyhow::Error::new(error));
            return Ok(Box::new(Disabled { reason }));
        }
    };
    let mut way = Way { name: &name, headers, api_key, transport, clock };
    Ok(match speaks {
        Speaks::OpenAi(flavor) => Box::new(way.exchange(OpenAi::new(name.clone(), flavor, &base_url)?)),
        Speaks::Azure { addresses, auth } => {
            Box::new(way.exchange(Azure { name: name.clone(), addresses, auth }))
        }
        Speaks::Anthropic => Box::new(way.exchange(Anthropic::new(name.clone(), &base_url)?)),
        Speaks::Gemini => Box::new(way.exchange(Gemini::ai_studio(name.clone(), base_url))),
        Speaks::Vertex(place) => {
            let own = allow_private.then(|| base_url.clone());
            let tokens = Tokens::new(name.clone(), way.transport.clone(), clock.clone(), own.clone());
            let dialect = Gemini::vertex(name.clone(), base_url, place, tokens);
            let check = move |text: &str| KeyFile::check(text, own.as_ref());
            Box::new(way.exchange_with(dialect, |secret| Credential::key_file(secret, check)))
        }
        Speaks::Bedrock(settings) => {
            let (api_key, keys, region) = aws(way.api_key.take(), settings);
            way.api_key = api_key;
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
            Box::new(bedrock::Batched(way.exchange(dialect)))
        }
        Speaks::Ollama(settings) => {
            let dialect = Ollama::new(name.clone(), &base_url, settings.pull)?;
            let side = way.side();
            Box::new(Server::new(way.exchange(dialect), side, settings))
        }
    })
}

/// What Bedrock is shown: an API key or what signs, whichever is configured, else whichever the environment has.
fn aws(
    api_key: Option<Secret>,
    settings: BedrockSettings,
) -> (Option<Secret>, Option<bedrock::Keys>, String) {
    let BedrockSettings { region, access_key_id, secret_access_key, session_token } = settings;
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
