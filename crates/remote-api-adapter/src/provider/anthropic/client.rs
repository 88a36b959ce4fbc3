//! The API's address and headers, and how its key is shown.

use domain::fault::{Code, Fault, Origin};
use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};

use super::{encode, error::Words, jobs::JobClient, stream::Decoder};
use crate::{
    config::Invalid,
    credential::Key,
    provider::{Call, Dialect, Failure, Prepared, Reader, Refused, jobs::JobDialect},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));

/// One configured server of the API.
pub(crate) struct Anthropic {
    name: String,
    messages: Url,
    jobs: JobClient,
}

impl Anthropic {
    /// # Errors
    /// The base URL cannot have a path below it.
    pub(crate) fn new(name: String, base_url: &Url) -> Result<Self, Invalid> {
        let url = format!("{}/messages", base_url.as_str().trim_end_matches('/'));
        let messages =
            Url::parse(&url).map_err(|error| Invalid::new("base_url", format!("gives {url:?}: {error}")))?;
        Ok(Self { name, jobs: JobClient::new(&messages), messages })
    }
}

impl Dialect for Anthropic {
    fn prepare(&self, call: Call<'_>) -> Result<(Prepared, Box<dyn Reader>), Fault> {
        let body = encode::encode(call)?;
        let prepared = Prepared {
            url: self.messages.clone(),
            headers: HeaderMap::new(),
            content_type: JSON,
            accept: if call.request.streams() { EVENT_STREAM } else { JSON },
            body: body.into(),
        };
        Ok((prepared, Box::new(Decoder::new(&self.name))))
    }

    fn authorize<'a>(
        &'a self,
        request: &'a mut reqwest::Request,
        key: Option<&'a Key>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        request.headers_mut().insert(VERSION.0, VERSION.1);
        let shown = key.map_or(Ok(()), |key| {
            let mut value = HeaderValue::from_str(key.expose()).map_err(|_| {
                let message = format!("the key of {} holds characters that no header can carry", self.name);
                Failure::permanent(Fault::new(Code::UpstreamAuth, Origin::Provider, true, message))
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(API_KEY, value);
            Ok(())
        });
        futures::future::ready(shown).boxed()
    }

    fn refusal(&self, provider: &str, refused: Refused<'_>, key: Option<&str>) -> Failure {
        Words::of_body(refused.body).into_failure(Some(refused.status), provider, key)
    }

    fn jobs(&self) -> Result<&dyn JobDialect, &'static str> {
        Ok(&self.jobs)
    }
}
