//! The dialect's addresses and headers, and how its key is shown.

use domain::{fault::Fault, inference::Request};
use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};

use super::{
    audio, decode,
    encode::{self, Encoded, Endpoint},
    error::Words,
    flavor::Flavor,
    jobs::JobClient,
    responses,
    stream::Decoder,
};
use crate::{
    config::Invalid,
    credential::Key,
    provider::{Api, Call, Dialect, Failure, Once, Prepared, Reader, Refused, jobs::JobDialect},
};

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const ANY: HeaderValue = HeaderValue::from_static("*/*");

/// One configured server of the dialect.
pub(crate) struct OpenAi {
    name: String,
    flavor: Flavor,
    chat_completions: Url,
    responses: Url,
    embeddings: Url,
    transcriptions: Url,
    translations: Url,
    speech: Url,
    jobs: JobClient,
}

impl OpenAi {
    /// # Errors
    /// The base URL cannot have a path below it.
    pub(crate) fn new(name: String, flavor: Flavor, base_url: &Url) -> Result<Self, Invalid> {
        let below = |endpoint: Endpoint| {
            let url = format!("{}/{}", base_url.as_str().trim_end_matches('/'), endpoint.path());
            Url::parse(&url).map_err(|error| Invalid::new("base_url", format!("gives {url:?}: {error}")))
        };
        Ok(Self {
            name,
            flavor,
            chat_completions: below(Endpoint::ChatCompletions)?,
            responses: below(Endpoint::Responses)?,
            embeddings: below(Endpoint::Embeddings)?,
            transcriptions: below(Endpoint::Transcriptions)?,
            translations: below(Endpoint::Translations)?,
            speech: below(Endpoint::Speech)?,
            jobs: JobClient::new(base_url, "/v1"),
        })
    }
}

/// Writes a call for a server of the dialect, wherever its endpoints are.
///
/// # Errors
/// What the server cannot do, by the name of the field.
pub(crate) fn prepare(
    provider: &str,
    flavor: Flavor,
    call: Call<'_>,
    address: impl FnOnce(Endpoint) -> Url,
) -> Result<(Prepared, Box<dyn Reader>), Fault> {
    let name = provider.to_owned();
    let target = call.target;
    match call.request {
        Request::Transcribe(request) => {
            let wanted = audio::Wanted { format: request.format, by_time: target.tells_duration };
            let reader = Box::new(audio::Heard::new(provider, wanted));
            return Ok((sent(audio::transcribe(request, target, flavor)?, ANY, address), reader));
        }
        Request::Speak(request) => {
            let by_tokens = target.tells_speech_tokens;
            let reader = Box::new(audio::Speech::new(provider, request.characters(), by_tokens));
            let accept = if by_tokens { EVENT_STREAM } else { ANY };
            return Ok((sent(audio::speak(request, target, flavor)?, accept, address), reader));
        }
        Request::Generate(_) | Request::Translate(_) | Request::Embed(_) => {}
    }
    let Encoded { endpoint, body } = encode::encode(call, flavor)?;
    let reader: Box<dyn Reader> = match (call.request, call.target.api) {
        (Request::Embed(request), _) => {
            let inputs = request.inputs.len();
            Box::new(Once(move |body: &[u8]| decode::embeddings(&name, body, inputs)))
        }
        (_, Api::Chat) => Box::new(Decoder::new(provider)),
        (_, Api::Responses) => Box::new(responses::stream::Decoder::new(provider)),
    };
    let prepared = Prepared {
        url: address(endpoint),
        headers: HeaderMap::new(),
        content_type: JSON,
        accept: if call.request.streams() { EVENT_STREAM } else { JSON },
        body: body.into(),
    };
    Ok((prepared, reader))
}

fn sent(written: audio::Written, accept: HeaderValue, address: impl FnOnce(Endpoint) -> Url) -> Prepared {
    Prepared {
        url: address(written.endpoint),
        headers: HeaderMap::new(),
        content_type: written.content_type,
        accept,
        body: written.body,
    }
}

/// What a response without success means in the dialect.
pub(crate) fn refusal(provider: &str, refused: Refused<'_>, key: Option<&str>) -> Failure {
    Words::of_body(refused.body).refusal(Some(refused.status)).into_failure(provider, key)
}

impl Dialect for OpenAi {
    fn prepare(&self, call: Call<'_>) -> Result<(Prepared, Box<dyn Reader>), Fault> {
        let address = |endpoint| match endpoint {
            Endpoint::ChatCompletions => self.chat_completions.clone(),
            Endpoint::Responses => self.responses.clone(),
            Endpoint::Embeddings => self.embeddings.clone(),
            Endpoint::Transcriptions => self.transcriptions.clone(),
            Endpoint::Translations => self.translations.clone(),
            Endpoint::Speech => self.speech.clone(),
        };
        prepare(&self.name, self.flavor, call, address)
    }

    fn authorize<'a>(
        &'a self,
        request: &'a mut reqwest::Request,
        key: Option<&'a Key>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        if let Some(key) = key {
            request.headers_mut().insert(AUTHORIZATION, key.bearer.clone());
        }
        futures::future::ready(Ok(())).boxed()
    }

    fn refusal(&self, provider: &str, refused: Refused<'_>, key: Option<&str>) -> Failure {
        self::refusal(provider, refused, key)
    }

    fn jobs(&self) -> Result<&dyn JobDialect, &'static str> {
        Ok(&self.jobs)
    }
}
