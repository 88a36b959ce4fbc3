//! How each kind of provider is reached: its dialect, and what it is shown.

use domain::resilience::key_ring::KeyRules;
use reqwest::{Url, header::HeaderMap};
use service_runtime::{Clock, Secret};

use crate::{
    config::{self, Speaks},
    credential::Credential,
    keys::{self, Keys},
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
    keys: Vec<config::Key>,
    transport: Transport,
    clock: &'a Clock,
    /// What a probe asks for.
    health: Option<Url>,
}

impl Way<'_> {
    fn exchange<D: Dialect>(self, dialect: D) -> Exchange<D> {
        self.exchange_with(dialect, Credential::new)
    }

    /// [`Way::exchange`] for a secret that is no plain key.
    fn exchange_with<D: Dialect>(self, dialect: D, credential: impl Fn(Secret) -> Credential) -> Exchange<D> {
        let Self { name, headers, keys, transport, clock, health } = self;
        let (keys, clock) = (Keys::new(name, keys, credential), clock.clone());
        Exchange { name: name.to_owned(), dialect, headers, keys, transport, clock, health }
    }

    /// For calls that answer no request.
    fn side(&self) -> Side {
        let account = self.keys.get(keys::account(&self.keys));
        Side {
            name: self.name.to_owned(),
            transport: self.transport.clone(),
            headers: self.headers.clone(),
            credential: account.map(|key| Credential::new(key.secret.clone())),
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
    let config::Provider { name, speaks, base_url, keys, allow_private, headers, timeouts, health, .. } =
        provider;
    let transport = match Transport::new(&name, timeouts, allow_private, base_url.scheme() == "https") {
        Ok(transport) => transport,
        Err(error) => {
            let reason = format!("{name}: no HTTPS client can be made: {:#}", anyhow::Error::new(error));
            return Ok(Box::new(Disabled { reason }));
        }
    };
    let health = health.map(|health| health.url);
    let mut way = Way { name: &name, headers, keys, transport, clock, health };
    Ok(match speaks {
        Speaks::OpenAi(flavor) => Box::new(way.exchange(OpenAi::new(name.clone(), flavor, &base_url)?)),
        Speaks::Azure { addresses, auth } => {
            Box::new(way.exchange(Azure::new(name.clone(), addresses, auth)))
        }
        Speaks::Anthropic => Box::new(way.exchange(Anthropic::new(name.clone(), &base_url)?)),
        Speaks::Gemini => Box::new(way.exchange(Gemini::ai_studio(name.clone(), base_url))),
        Speaks::Vertex(place) => {
            let own = allow_private.then(|| base_url.clone());
            let tokens = Tokens::new(name.clone(), way.transport.clone(), clock.clone(), own.clone());
            let dialect = Gemini::vertex(name.clone(), base_url, place, tokens);
            let check = move |text: &str| KeyFile::check(text, own.as_ref());
            Box::new(way.exchange_with(dialect, |secret| Credential::key_file(secret, check.clone())))
        }
        Speaks::Bedrock(settings) => {
            let (api_keys, keys, region) = aws(way.keys, settings);
            way.keys = api_keys;
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

/// What Bedrock is shown: API keys or what signs, whichever is configured, else whichever the environment has.
fn aws(
    api_keys: Vec<config::Key>,
    settings: BedrockSettings,
) -> (Vec<config::Key>, Option<bedrock::Keys>, String) {
    let BedrockSettings { region, access_key_id, secret_access_key, session_token } = settings;
    if !api_keys.is_empty() {
        return (api_keys, None, region);
    }
    if let Some((id, secret)) = access_key_id.zip(secret_access_key) {
        return (Vec::new(), Some(bedrock::Keys::new(id, secret, session_token)), region);
    }
    let token = Secret::env("AWS_BEARER_TOKEN_BEDROCK");
    if token.resolve().is_ok() {
        return (vec![config::Key { secret: token, rules: KeyRules::default() }], None, region);
    }
    (Vec::new(), Some(bedrock::Keys::of_environment()), region)
}
