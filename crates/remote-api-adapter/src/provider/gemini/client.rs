//! Addresses and headers of both services, and how their keys are shown.

use domain::{
    fault::{Code, Fault, Origin},
    inference::Request,
};
use futures::{FutureExt, future::BoxFuture};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use service_runtime::secret::ExposeSecret;

use super::{
    decode,
    encode::{self, Encoded, Method, Service},
    error::Words,
    stream::decoder,
    token::{KeyFile, Tokens},
};
use crate::{
    credential::Key,
    provider::{Call, Dialect, Failure, Once, Prepared, Reader, Refused, jobs::JobDialect},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// Where Vertex AI runs a model, and who pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) project: String,
    /// A region, `us`, `eu` or `global`.
    pub(crate) location: String,
}

impl Place {
    /// The public address of the location: <https://cloud.google.com/vertex-ai/docs/reference/rest#service-endpoint>.
    pub(crate) fn base_url(&self) -> String {
        match self.location.as_str() {
            "global" => "https://aiplatform.googleapis.com/v1".to_owned(),
            // the multi-regions
            area @ ("us" | "eu") => format!("https://aiplatform.{area}.rep.googleapis.com/v1"),
            region => format!("https://{region}-aiplatform.googleapis.com/v1"),
        }
    }
}

/// One configured service.
pub(crate) struct Gemini {
    name: String,
    base_url: Url,
    access: Access,
}

enum Access {
    AiStudio,
    Vertex { place: Place, tokens: Tokens },
}

impl Gemini {
    /// The Gemini API; keys go into a header, never into the address.
    pub(crate) const fn ai_studio(name: String, base_url: Url) -> Self {
        Self { name, base_url, access: Access::AiStudio }
    }

    /// Vertex AI.
    pub(crate) const fn vertex(name: String, base_url: Url, place: Place, tokens: Tokens) -> Self {
        Self { name, base_url, access: Access::Vertex { place, tokens } }
    }

    const fn service(&self) -> Service {
        match self.access {
            Access::AiStudio => Service::AiStudio,
            Access::Vertex { .. } => Service::Vertex,
        }
    }

    /// The address of a model's method. A model's name may hold its collection, as in `tunedModels/a` or `endpoints/1`.
    pub(super) fn url(&self, model: &str, method: Method) -> Result<Url, Fault> {
        let above: Vec<&str> = match &self.access {
            Access::AiStudio if model.contains('/') => Vec::new(),
            Access::AiStudio => vec!["models"],
            Access::Vertex { place, .. } => {
                let mut above = vec!["projects", &place.project, "locations", &place.location];
                if !model.contains('/') {
                    above.extend(["publishers", "google", "models"]);
                }
                above
            }
        };
        let mut url = self.base_url.clone();
        let named = format!("{model}:{}", method.name());
        let below = || Fault::internal(format!("{} has a base URL that nothing can stand below", self.name));
        url.path_segments_mut()
            .map_err(|()| below())?
            .pop_if_empty()
            .extend(above)
            .extend(named.split('/').filter(|segment| !segment.is_empty()));
        if method == Method::Stream {
            url.set_query(Some("alt=sse"));
        }
        Ok(url)
    }
}

impl Dialect for Gemini {
    fn prepare(&self, call: Call<'_>) -> Result<(Prepared, Box<dyn Reader>), Fault> {
        let Encoded { method, body } = encode::encode(call, self.service())?;
        let provider = self.name.clone();
        let reader: Box<dyn Reader> = match call.request {
            Request::Embed(request) => {
                let inputs = request.inputs.len();
                Box::new(Once(move |body: &[u8]| decode::embeddings(&provider, body, inputs)))
            }
            // the others were refused above
            _ => Box::new(decoder(&provider, call.request.envelope().id.as_str())),
        };
        let prepared = Prepared {
            url: self.url(&call.target.upstream_model, method)?,
            headers: HeaderMap::new(),
            content_type: JSON,
            accept: if method == Method::Stream { EVENT_STREAM } else { JSON },
            body: body.into(),
        };
        Ok((prepared, reader))
    }

    fn authorize<'a>(
        &'a self,
        request: &'a mut reqwest::Request,
        key: Option<&'a Key>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let Some(key) = key else { return Ok(()) };
            match &self.access {
                Access::AiStudio => {
                    let mut value = HeaderValue::from_str(key.expose()).map_err(|_| {
                        let message = format!("{} has a key that no header can carry", self.name);
                        Failure::permanent(Fault::new(Code::UpstreamAuth, Origin::Provider, true, message))
                    })?;
                    value.set_sensitive(true);
                    request.headers_mut().insert(API_KEY, value);
                }
                Access::Vertex { tokens, .. } => {
                    let value = tokens.header(key).await?;
                    request.headers_mut().insert(AUTHORIZATION, value);
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn jobs(&self) -> Result<&dyn JobDialect, &'static str> {
        Err("this adapter does not speak Google's batches, and Google tunes on Vertex AI's own storage only")
    }

    fn refusal(&self, provider: &str, refused: Refused<'_>, key: Option<&str>) -> Failure {
        let words = Words::of_body(refused.body);
        let refusal = words.refusal(Some(refused.status));
        let Access::Vertex { tokens, .. } = &self.access else {
            return refusal.into_failure(provider, key);
        };
        let token = key.and_then(|key| tokens.shown(key));
        let shown = token.as_ref().map(ExposeSecret::expose_secret).or(key);
        let mut failure = refusal.into_failure(provider, shown);
        if refused.status == 401 && key.is_some_and(|key| tokens.refused(key)) {
            // a token that was revoked: the next try gets a new one
            failure.transient = true;
        }
        failure
    }

    fn blames_key(&self, status: Option<u16>, key: Option<&str>) -> bool {
        // a token was refused, which is replaced; a key file is refused where tokens are granted
        let is_token = matches!(self.access, Access::Vertex { .. }) && key.is_some_and(KeyFile::is_one);
        !(status == Some(401) && is_token)
    }
}

#[cfg(test)]
mod tests;
